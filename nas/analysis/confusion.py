"""Which classes a trained network takes for which, on validation and test images, as `confusion.json` keeps it.

Knows no torch: whoever has a network's answers counts them with `count`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.metric import DEFAULT_METRIC
from searchspace.document import parse, plain, value
from searchspace.errors import InputError

FILE = "confusion.json"
MOST = 50  # classes that a table lists and a matrix shows
FEW = 25  # how many of more than those
PAIRS = 3

Counts = tuple[tuple[int, int, int], ...]


@value
class Confusion:
    """How often each class was given each answer: (class, answer, images) by their places in `classes`, where not 0.

    `test` is empty where the dataset has no test images.
    """

    classes: tuple[str, ...]
    validation: Counts
    test: Counts = ()

    def __post_init__(self) -> None:
        for truth, answer, images in (*self.validation, *self.test):
            if not (0 <= truth < len(self.classes) and 0 <= answer < len(self.classes) and images > 0):
                raise ValueError(f"counts: ({truth}, {answer}, {images}) of {len(self.classes)} classes")

    @property
    def counts(self) -> Counts:
        """The test images', which chose nothing, else the validation images'."""
        return self.test or self.validation

    @property
    def of(self) -> str:
        return "test" if self.test else "validation"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: of its `images` `right` were recognised, which is `answered` times the answer; most of the others went
    to the class `taken_for`."""

    name: str
    images: int
    right: int
    answered: int
    taken_for: str = ""
    times: int = 0

    @property
    def recall(self) -> float:
        return self.right / self.images

    @property
    def precision(self) -> float | None:
        return self.right / self.answered if self.answered else None

    @property
    def interval(self) -> tuple[float, float]:
        found = DEFAULT_METRIC.scores_within(self.recall, self.images)  # a share of the images of the class
        assert found
        return found


def count(labels: Any, answers: Any) -> Counts:
    """The counts of two equally long lists or arrays of classes by number."""
    pairs = np.stack([np.asarray(labels, np.int64), np.asarray(answers, np.int64)])
    found, times = np.unique(pairs, axis=1, return_counts=True)
    return tuple((int(a), int(b), int(n)) for (a, b), n in zip(found.T, times, strict=True))


def scores(found: Confusion) -> list[ClassScore]:
    """Every class that has images, in the order of the classes."""
    images, right, answered, mistaken = Counter[int](), Counter[int](), Counter[int](), dict[int, tuple[int, int]]()
    for truth, answer, n in found.counts:
        images[truth] += n
        answered[answer] += n
        if truth == answer:
            right[truth] += n
        elif n > mistaken.get(truth, (0, 0))[0]:
            mistaken[truth] = (n, answer)
    names = found.classes
    return [
        ClassScore(
            names[c],
            images[c],
            right[c],
            answered[c],
            names[mistaken[c][1]] if c in mistaken else "",
            mistaken.get(c, (0, 0))[0],
        )
        for c in sorted(images)
    ]


def compare_with_chance(found: Confusion) -> str:
    """A word where a network is not shown to be better than always answering the commonest class; "" where it is."""
    classes = scores(found)
    images, right = sum(one.images for one in classes), sum(one.right for one in classes)
    commonest = max(classes, key=lambda one: one.images)
    share = commonest.images / images
    low, _ = DEFAULT_METRIC.scores_within(right / images, images) or (0.0, 1.0)
    if low > share:
        return ""
    return (
        f"Always answering {commonest.name!r} would be right for {share:.4f} of the {found.of} images: the network "
        "is not shown to be better than that."
    )


def classes_to_list(found: Confusion) -> list[ClassScore]:
    """The classes that a table lists: all of them, of many those that are recognised worst, the worst first."""
    everything = scores(found)
    if len(everything) <= MOST:
        return everything
    return sorted(everything, key=lambda one: (one.recall, -one.images))[:FEW]


def rows(found: Confusion) -> list[dict[str, str]]:
    """The classes that `listed` names as rows of a table."""
    made = []
    for one in classes_to_list(found):
        low, high = one.interval
        cells = {"class": one.name, "images": f"{one.images:,}", "recall": f"{one.recall:.4f}"}
        cells |= {"90 % interval": f"[{low:.4f}, {high:.4f}]"}
        cells |= {"precision": "" if one.precision is None else f"{one.precision:.4f}"}
        made.append(cells | {"most often taken for": f"{one.taken_for} ({one.times})" if one.times else ""})
    return made


def meaning(found: Confusion) -> str:
    """What the table and the drawing show."""
    number = len(scores(found))
    some = (
        f"Of {number:,} classes the table has the {FEW} that are recognised worst, the drawing those of the most "
        f"frequent mistakes; {FILE} has all. "
    )
    all_ = "Rows of the drawing are true classes, columns are answers; a cell is as dark as its share of its row."
    return (some if number > MOST else "") + all_


def pairs(found: Confusion, most: int = PAIRS) -> list[tuple[str, str, int, int]]:
    """The mistakes made most often: class, answer, how many images, and of how many of the class."""
    images = Counter[int]()
    for truth, _, n in found.counts:
        images[truth] += n
    wrong = sorted(((n, a, b) for a, b, n in found.counts if a != b), key=lambda one: (-one[0], *one[1:]))
    return [(found.classes[a], found.classes[b], n, images[a]) for n, a, b in wrong[:most]]


def sentences(found: Confusion) -> list[str]:
    """How the classes do, in words."""
    every = scores(found)
    total, right = sum(one.images for one in every), sum(one.right for one in every)
    said = [f"Of {total:,} {found.of} images of {len(every)} classes {right:,} were recognised ({right / total:.1%})."]
    mistakes = pairs(found)
    if not mistakes:
        return said
    worst, best = (f(every, key=lambda one: one.recall) for f in (min, max))
    if worst.recall < best.recall:
        said.append(
            f"By class from {worst.recall:.1%} ({worst.name}, {worst.images} images) to {best.recall:.1%} "
            f"({best.name}, {best.images} images)."
        )
    taken = [f"{a} taken for {b} ({n} of {images})" for a, b, n, images in mistakes]
    return [*said, f"Most confused: {'; '.join(taken)}."]


def classes_to_show(found: Confusion) -> list[int]:
    """The classes that a matrix shows, in their order: all, of many those of the mistakes made most often, or the first
    where no mistake was made."""
    present = sorted({c for truth, answer, _ in found.counts for c in (truth, answer)})
    if len(present) <= MOST:
        return present
    chosen: dict[int, None] = {}
    for _, truth, answer in sorted(((n, a, b) for a, b, n in found.counts if a != b), key=lambda one: -one[0]):
        for one in (truth, answer):
            if len(chosen) < FEW:
                chosen[one] = None
    return sorted(chosen) or present[:FEW]


def text(found: Confusion) -> str:
    """What confusion.json holds."""
    return json.dumps(plain(found), ensure_ascii=False, separators=(",", ":")) + "\n"


def load(folder: Path) -> Confusion | None:
    """What a folder's training found; None where it is of a version that did not keep it."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    return parse(Confusion, data, str(path))
