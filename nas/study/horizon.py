"""The horizon: what brief trainings do not show of networks, and is known before they are trained.

Of networks of equal multiply-adds those that put out more activations are the better, and gain more by longer training.
Given the brief score, e times as many of them were worth .02 to .05 at the end, about a standard deviation of brief
scores, in each of three sets of trainings (experiments/search/results/changes.md, longer.md, longer-imagenette64.md).
So a search judges networks by both; what it prints of them, and what finals measure, are scores alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from searchspace.budget import Budget, Cost
from searchspace.errors import InputError
from searchspace.space.space import REMEMBERED, Point, Space

IQR = 1.349  # of a normal distribution, in standard deviations
STEPS, NEAR = 3, 0.1  # widths that are tried, and a width that is near enough
LEAST = 1e-9  # share of a budget
PER_E_FOLD = 1.0  # standard deviations of brief scores that e times as many activations are worth


def worth(activations: float) -> float:
    """What so many activations promise beside the score of a network that uses the budget, in standard deviations of
    scores. Only differences mean something."""
    return PER_E_FOLD * math.log(max(activations, 1.0))


def promises(gains: Sequence[float], activations: Sequence[float]) -> list[float]:
    """What networks promise: the gains of their brief scores, with what their activations are worth beside them, more
    or less than the mean. The deviation is that of the middle half, which failures do not widen."""
    if not len(gains):
        return []
    low, high = np.percentile(gains, [25, 75])
    beside = np.array([worth(of) for of in activations])
    found: list[float] = (np.asarray(gains) + (high - low) / IQR * (beside - beside.mean())).tolist()
    return found


class Foresight:
    """What the activations of a point's network are worth, remembered: a proposal asks for hundreds.

    Where the width is solved for, the network is not made: from what it costs at the least width follows about which
    width uses the budget, from that a better one, and what it costs there is scaled by the rest. Multiply-adds and
    parameters grow about as the square of the width, activations as the width.
    """

    def __init__(self, space: Space, budget: Budget) -> None:
        if not budget.counts_macs:
            raise InputError(f"budget {budget}: activations tell something within a limit of multiply-adds alone")
        self.space, self.budget = space, budget
        self._known: dict[tuple[Any, ...], float] = {}

    def __call__(self, point: Point) -> float:
        key = tuple(point[name] for name in self.space.choices)
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = worth(self.activations(point))
        return self._known[key]

    def activations(self, point: Point) -> float:
        """About how many the network of a point puts out within the budget."""
        if self.space.fit_range is None:
            return self.space.cost(point).activations
        width, high = self.space.fit_range
        spent = self.space.cost(point, width)
        for _ in range(STEPS):
            wider = self._wider(spent)
            if abs(wider - 1) < NEAR or wider * width > high or (wider < 1 and width == self.space.fit_range[0]):
                break
            width *= wider
            spent = self.space.cost(point, width)
        return spent.activations * self._wider(spent)

    def _wider(self, spent: Cost) -> float:
        """By how much wider a network may about be that costs so much."""
        return 1 / math.sqrt(max(self.budget.share_used(spent), LEAST))
