"""`preflight(space, budget)`: what a budget leaves of a space, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from searchspace.arch import Arch
from searchspace.budget import Budget, Cost, amount
from searchspace.choices import Scalar
from searchspace.errors import InputError
from searchspace.space import FIT_BAND, Point, Space

SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Preflight:
    """`points` counts choices (several may give one network). Quantiles are of random networks, where the width
    multiplier is free at multiplier 1; `smallest` and `largest` were found by descent over single choices."""

    points: int
    smallest: Cost
    lower: Cost
    median: Cost
    upper: Cost
    largest: Cost
    fits: float
    sampled: int


def preflight(space: Space, budget: Budget, band: float = FIT_BAND, seed: int = 0, sample: int = SAMPLE) -> Preflight:
    """The space's costs and the share of random points that can be brought inside the budget.

    Raises `InputError` where no network fits: it says what the smallest or the largest costs.
    """
    rng = random.Random(seed)
    low, high = space.fit_range or (None, None)
    smallest = _extreme(space, lambda arch: budget.used(space.cost(arch)), low, rng)
    largest = _extreme(space, lambda arch: -budget.used(space.cost(arch)), high, rng)
    if budget.used(smallest) > 1:
        raise InputError(
            f"budget {budget} cannot be met: the smallest network of {space.source} costs {_said(smallest, budget)}"
        )
    if any(limit.of(largest) < limit.low for limit in budget.limits) or (
        space.fit_range is not None and budget.used(largest) < band
    ):
        raise InputError(
            f"budget {budget} is not reached: the largest network of {space.source} costs {_said(largest, budget)}"
        )
    points = [space.random_point(rng) for _ in range(sample)]
    costs = sorted((space.cost(space.arch(point)) for point in points), key=lambda c: budget.limits[0].of(c))
    fitted = [space.fit(point, budget, band, seed) for point in points]
    if not any(fitted):
        space.sample_point(rng, budget, band)
    quartiles = (costs[len(costs) // 10], costs[len(costs) // 2], costs[len(costs) * 9 // 10])
    return Preflight(space.size, smallest, *quartiles, largest, sum(c is not None for c in fitted) / sample, sample)


def _said(found: Cost, budget: Budget) -> str:
    return " and ".join(amount(limit.of(found), limit.currency) for limit in budget.limits)


def _extreme(space: Space, key: Callable[[Arch], float], width_mult: float | None, rng: random.Random) -> Cost:
    """The cost of the network with the least key, by coordinate descent from a random point."""

    def value(at: Point) -> float:
        return key(space.arch(at, width_mult))

    point: dict[str, Scalar] = space.random_point(rng)
    least, improved = value(point), True
    while improved:
        improved = False
        for name, options in space.choices.items():
            for option in options:
                changed = {**point, name: option}
                if option != point[name] and (tried := value(changed)) < least:
                    point, least, improved = changed, tried, True
    return space.cost(space.arch(point, width_mult))
