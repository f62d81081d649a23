"""Images that are there more than once, pixel by pixel."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from nas.data.decoding import Images
from nas.data.labelled import Labels, count_of

LOOKED_THROUGH_BYTES = 1 << 30  # of more images none is looked for: to read them all takes minutes


def digests(images: Images) -> Iterator[bytes]:
    """What tells every image from all that show something else."""
    for index in range(len(images)):
        yield hashlib.blake2b(np.asarray(images[index]).tobytes(), digest_size=16).digest()


def count_shared(tests: Images, *training: Images) -> int:
    """How many test images are training images too."""
    known = {digest for images in training for digest in digests(images)}
    return sum(digest in known for digest in digests(tests))


def repetitions(images: Images, labels: Labels, classes: Sequence[str]) -> tuple[str, ...]:
    """Words where images repeat others: what scores a network may then be what trained it, and of one image in two
    classes a label is wrong."""
    if images.nbytes > LOOKED_THROUGH_BYTES:
        return ()
    places = defaultdict(list)
    for digest, label in zip(digests(images), labels, strict=True):
        places[digest].append(int(label))
    again = sum(len(found) - 1 for found in places.values())
    if not again:
        return ()
    verb = "repeats" if again == 1 else "repeat"
    said = [f"{count_of(again, 'image')} {verb} others: what scores may have been trained on"]
    torn = [sorted(set(found)) for found in places.values() if len(set(found)) > 1]
    if torn:
        which = " and ".join(repr(classes[label]) for label in torn[0][:2])
        verb, such = ("is", "in") if len(torn) == 1 else ("are", "one in")
        said.append(f"{count_of(len(torn), 'picture')} {verb} in several classes: {such} {which}")
    return tuple(said)
