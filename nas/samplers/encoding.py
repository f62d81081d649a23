"""Points as rows of numbers, so that all distances between two sets of points are one matrix product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.samplers.domain import Domain

Array = NDArray[np.float64]
DEAREST = 1e30  # of what is impossible, and costs infinitely much


class Encoding:
    """Rows of zeros and ones whose weighted number of differences is the distance between two points.

    Two categories are 1 apart. Values that are numbers are as far apart as their ranks, the least and the greatest 1.
    `weights[f]` is what a difference in feature f counts.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.names = [name for name, values in domain.choices.items() if len(values) > 1]
        tables = [_table(domain.choices[name]) for name in self.names]
        self._rows = [
            dict(zip(domain.choices[name], rows, strict=True))
            for name, (rows, _) in zip(self.names, tables, strict=True)
        ]
        self.weights = np.concatenate([np.full(rows.shape[1], weight) for rows, weight in tables] or [np.zeros(0)])

    def __call__(self, points: Sequence[Mapping[str, Any]]) -> Array:
        if not self.names:
            return np.zeros((len(points), 0))
        named = list(zip(self.names, self._rows, strict=True))
        return np.array([np.concatenate([rows[point[name]] for name, rows in named]) for point in points])

    def log_costs(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """The logarithm of what each point costs, also where that is nothing or infinite; zeros where nothing costs."""
        costs = [self.domain.cost(point) if self.domain.cost_of else 1.0 for point in points]
        return np.asarray(np.log(np.clip(costs, 1e-9, DEAREST)), dtype=np.float64)


def _table(values: Sequence[Any]) -> tuple[Array, float]:
    """A row for each value, and what one difference counts."""
    if len(values) > 2 and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        ranks = np.argsort(np.argsort(values))
        return (ranks[:, None] > np.arange(len(values) - 1)[None, :]).astype(float), 1 / (len(values) - 1)
    if len(values) == 2:
        return np.array([[0.0], [1.0]]), 1.0
    return np.eye(len(values)), 0.5


def distances(a: Array, b: Array, weights: Array) -> Array:
    """The weighted number of differences between every row of a and every row of b."""
    weighted = a * weights
    apart: Array = weighted.sum(1)[:, None] + (b @ weights)[None, :] - 2 * weighted @ b.T
    return np.maximum(apart, 0.0)
