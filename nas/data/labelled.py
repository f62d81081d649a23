"""One split of a dataset before it is decoded: its labels, its classes' names, its encoded images by their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.decoding import Source

Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
NO_TEST = "no test images"
UNEQUAL = 10  # times as many images of one class as of another


@dataclass(frozen=True, slots=True)
class Labelled:
    """`named` where labels are more than numbers; `notes` are sentences for who reads what was found.

    Labels are numbers of `classes`, and -1 where an image has none.
    """

    labels: Labels
    classes: tuple[str, ...]
    images: Callable[[Rows], Source]
    named: bool = True
    notes: tuple[str, ...] = ()


def count_of(number: int, thing: str) -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def inequality(labels: Labels, classes: Sequence[str], advice: str = "") -> tuple[str, ...]:
    """A word where one class has so many more images than another that a share of images says little of the latter,
    and the advice then."""
    counts = np.bincount(labels, minlength=len(classes))[: len(classes)]
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < UNEQUAL * max(1, counts[least]):
        return ()
    unequal = f"{classes[most]!r} has {count_of(int(counts[most]), 'image')}, {classes[least]!r} {counts[least]:,}"
    return (f"classes are unequal ({unequal}){advice}",)


def purposes(images: dict[str, int]) -> tuple[str, ...]:
    """What splits other than the training images are used for, by how many images each has."""
    test, validation = images.get("test", 0), images.get("validation", 0)
    notes = [f"{count_of(test, 'test image')}, which nas.train tests on once, at its end"] if test else []
    if validation and test:
        notes.append(f"{count_of(validation, 'validation image')}, not used: training images are held out to score on")
    elif validation:
        those = count_of(validation, "validation image")
        notes.append(f"{those}, which nas.train tests on once, at its end: there are no others")
    elif images and not test:
        notes.append(NO_TEST)
    return tuple(notes)
