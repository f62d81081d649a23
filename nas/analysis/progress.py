"""How far a search has come by every trial, beside what as many random networks reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.analysis.results import LEVEL, common_epochs, expected_best, scores
from nas.trial import Outcome


@dataclass(frozen=True, slots=True)
class Progress:
    """Accuracies after `epochs`, which all trials had; entry n - 1 of each is of n networks.

    `search` is the best of the first n networks that the sampler proposed. `control` is the mean best of n of the
    random networks, `low` to `high` hold the best of n in 90 % of draws. `known` are the known networks by name.
    """

    epochs: int
    search: list[float]
    control: list[float]
    low: list[float]
    high: list[float]
    known: dict[str, float]


def progress(trials: Sequence[Outcome]) -> Progress | None:
    """None where the search or its control has no outcome yet."""
    epochs = common_epochs(trials)
    search, control = scores(trials, "search", epochs), scores(trials, "control", epochs)
    if not len(search) or not len(control):
        return None
    counts = range(1, len(control) + 1)
    known = {t.measured["baseline"]: t.curve[epochs] for t in trials if t.role == "baseline" and epochs in t.curve}
    return Progress(
        epochs,
        np.maximum.accumulate(search).tolist(),
        [expected_best(control, n) for n in counts],
        [_quantile(control, n, (1 - LEVEL) / 2) for n in counts],
        [_quantile(control, n, (1 + LEVEL) / 2) for n in counts],
        known,
    )


def _quantile(of: NDArray[np.float64], n: int, share: float) -> float:
    """What the best of n draws with replacement stays at or below with this probability: (i/N)^n for the i-th score."""
    below = (np.arange(1, len(of) + 1) / len(of)) ** n
    return float(np.sort(of)[int(np.argmax(below >= share - 1e-12))])
