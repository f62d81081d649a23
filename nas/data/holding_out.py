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


def name_unscored(labels: Labels, classes: Sequence[str]) -> tuple[str, ...]:
    """A word where some classes have no image among those that score."""
    without = [classes[int(label)] for label in np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)]
    if not without:
        return ()
    have = "1 class has" if len(without) == 1 else f"{len(without)} classes have"
    more = f" and {len(without) - SHOWN} more" if len(without) > SHOWN else ""
    return (f"{have} too few images for one to score: {', '.join(map(repr, without[:SHOWN]))}{more}",)
