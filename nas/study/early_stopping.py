"""Early stopping: after a third of its epochs a trial goes on only where it may be among the best third.

This is asynchronous successive halving (arXiv 1810.05934) with one rung. The rule has no memory: it is given the scores
that other trials had at the rung, so it is the same for a run that is carried on and for several drivers of one study.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

REDUCTION = 3
FIRST_EPOCH = 2  # one epoch ranks networks hardly better than their cost does (experiments/search/proxy_rank.py)
FEWEST_EPOCHS = 4  # of three, a stop after the second would save one
FEWEST_SCORES = 6  # of fewer, one lucky network would decide: a third of six is two


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """The rule for trials of so many epochs, and whether it `stops` any."""

    epochs: int
    stops: bool = True

    @property
    def rung(self) -> int:
        """The epoch after which trials are compared; 0 where none is stopped early."""
        if not self.stops or self.epochs < FEWEST_EPOCHS:
            return 0
        return max(FIRST_EPOCH, math.ceil(self.epochs / REDUCTION))

    def behind(self, gain: float, others: Sequence[float], standard_error: Callable[[float], float]) -> bool:
        """Whether a trial with this gain (of which more is better) is to be stopped at the rung, given those of others.

        It is where the gain is below that of the best third by more than one standard error of such a gain. That margin
        halves how often the best network of a run is stopped, and costs 3 to 8 % more epochs (simulated in the tests).
        """
        if len(others) < FEWEST_SCORES:
            return False
        cutoff = float(np.quantile(others, 1 - 1 / REDUCTION))
        return gain < cutoff - standard_error(cutoff)

    def expected(self, trials: int, scored: int, stopped: float = 1 - 1 / REDUCTION) -> float:
        """How many epochs so many new trials will take where `scored` have been at the rung: an estimate, with the
        share that is `stopped` of those that are compared with enough others."""
        if not self.rung:
            return float(trials * self.epochs)
        compared = trials - min(trials, max(0, FEWEST_SCORES - scored))
        return trials * self.epochs - compared * stopped * (self.epochs - self.rung)
