"""Some images of every class held out: as scikit-learn stratifies, and where classes are too small for that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.data.labelled import Labels, Rows

SHOWN = 5


def hold_out(labels: Labels, share: float, seed: int, least: int = 1) -> tuple[Rows, Rows]:
    """The rows that are kept and those that are held out, a share of them or a whole number, of every class its part.

    The same for the same seed. Every class keeps `least` images, or all that it has, and where fewer images are held
    out than there are classes, some classes have none among them: the smallest ones.
    """
    number = math.ceil(share * len(labels)) if share < 1 else int(share)
    counts = np.bincount(labels)
    classes = np.count_nonzero(counts)
    if 1 not in counts and min(number, len(labels) - number) >= classes:
        from sklearn.model_selection import train_test_split

        kept, held = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
        if np.bincount(labels[kept], minlength=len(counts))[counts > 0].min() >= least:
            return np.sort(kept), np.sort(held)
    mixed = np.random.default_rng(seed).permutation(len(labels))
    held = np.concatenate(
        [mixed[labels[mixed] == label][:quota] for label, quota in enumerate(_quotas(counts, number, least))]
    )
    return np.setdiff1d(np.arange(len(labels)), held), np.sort(held)


def _quotas(counts: NDArray[np.int64], number: int, least: int) -> Labels:
    """How many of each class are held out: its part of `number`, rounded so that they add up to it."""
    exact, most = number * counts / counts.sum(), np.maximum(counts - least, 0)
    quotas: Labels = np.minimum(exact.astype(np.int64), most)
    while quotas.sum() < min(number, most.sum()):
        missing = np.where(quotas < most, exact - quotas, -np.inf)
        quotas[np.lexsort((-counts, -missing))[0]] += 1
    return quotas


def name_unscored(scored: Labels, labels: Labels, classes: Sequence[str]) -> tuple[str, ...]:
    """A word where some classes have no image among those that score; classes of as few images are named too, since
    only rounding has told which of them have one."""
    counts, among = (np.bincount(given, minlength=len(classes)) for given in (labels, scored))
    without = np.flatnonzero(among == 0)
    if not len(without):
        return ()
    few = np.flatnonzero(counts <= counts[without].max())
    if len(few) == len(without):
        have = "1 class has" if len(few) == 1 else f"{len(few)} classes have"
        return (f"{have} too few images for one to score: {list_names(few, classes)}",)
    none = f"{list_names(without, classes)} {'has' if len(without) == 1 else 'have'} none"
    return (f"{len(few)} classes have too few images for one of each to score: {list_names(few, classes)}; {none}",)


def list_names(numbers: Labels, classes: Sequence[str]) -> str:
    """The names of classes, of many the first."""
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(repr(classes[int(number)]) for number in numbers[:SHOWN]) + more
