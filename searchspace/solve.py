"""Solving for a width: the multiplier at which a network uses the budget, by its cost alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C")

FIT_EVALUATIONS = 20
JUMP = 1e-3


def bisect(
    spend: Callable[[float], tuple[float, C]], floor: float, low: float, high: float
) -> tuple[C | None, float, float]:
    """The candidate that uses floor…1 of the budget, or None and the two multipliers between which its cost jumps.

    False position on log cost against log width, with a bisection every third time, so that no side stalls.
    """
    (least, first), (most, last) = spend(low), spend(high)
    for share, found in ((least, first), (most, last)):
        if floor <= share <= 1:
            return found, low, high
    if least > 1 or most < floor:
        return None, low, high
    target = math.log((floor + 1) / 2)
    a, b, at_a, at_b = math.log(low), math.log(high), math.log(least), math.log(most)
    for step in range(FIT_EVALUATIONS - 2):
        middle = (a + b) / 2
        if step % 3 < 2:
            middle = min(max(a + (target - at_a) * (b - a) / (at_b - at_a), a + (b - a) / 50), b - (b - a) / 50)
        share, found = spend(math.exp(middle))
        if floor <= share <= 1:
            return found, low, high
        if share < floor:
            a, at_a = middle, math.log(share)
        else:
            b, at_b = middle, math.log(share)
        if b - a < JUMP:
            break
    return None, math.exp(a), math.exp(b)
