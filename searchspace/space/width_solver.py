"""Solving for widths: the multiplier at which a network uses the budget, by its cost alone.

Rounded widths make the cost jump. Where it jumps over what is wanted, the first widths are settled below the jump and
the later ones grow on; that is repeated with what is left, so that a coarse part (a stem of few channels, a stage of
large kernels) does not decide for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, groupby

from searchspace.format.resolve import OpenNetwork
from searchspace.format.schedule import channels

EVALUATIONS = 20
JUMP = 2e-2
GROWTH = 2.0


class OutOfEvaluationsError(Exception):
    """A point was given up: its cost has been asked for often enough."""


def solve(outline: OpenNetwork, share: Callable[[OpenNetwork], float], floor: float, low: float, high: float) -> bool:
    """Give the outline widths at which floor ≤ share ≤ 1, its multiplier between `low` and `high`; False where none
    was found in `EVALUATIONS` calls of `share`. Widths never decrease for it; stages, and a stage's steps of a
    quantised line, keep one each. Where `share` raises `ValueError` above `low`, a network is too wide."""
    left = EVALUATIONS

    def at(settled: Sequence[int], width_mult: float) -> float:
        nonlocal left
        if not left:
            raise OutOfEvaluationsError
        left -= 1
        outline.width_mult, outline.settled = width_mult, tuple(settled)
        try:
            return share(outline)
        except ValueError:
            if width_mult == low:
                raise
            return math.inf

    try:
        return _solve(outline, at, floor, low, high)
    except OutOfEvaluationsError:
        return False


def _solve(
    outline: OpenNetwork, at: Callable[[Sequence[int], float], float], floor: float, low: float, high: float
) -> bool:
    """Whether floor ≤ share ≤ 1 for the outline as the last call of `at` left it."""
    cuts = list(accumulate(_runs(outline), initial=1))
    settled: list[int] = []
    least = at(settled, low)
    if floor <= least <= 1:
        return True
    while cuts and least < floor:
        found, below, above = bisect(partial(at, settled), floor, low, least, high)
        if found or not below < above:
            return found
        outline.width_mult = below
        widths = outline.widths()
        few, many = -1, len(cuts) - 1
        while many - few > 1:
            middle = (few + many) // 2
            spent = at(widths[: cuts[middle]], above)
            if floor <= spent <= 1:
                return True
            if spent > 1:
                few = middle
            else:
                many, least = middle, spent
        settled, cuts = widths[: cuts[many]], cuts[many + 1 :]
        low, high = above, min(high, GROWTH * above)
    return False


def _runs(outline: OpenNetwork) -> list[int]:
    """How many blocks in a row keep one width: a stage's, or a stage's on one step of a quantised line."""
    depths = outline.depths
    match outline.schedule.kind:
        case "stagewise" | "geometric":
            return depths
        case "quantised":
            stages = [stage for stage, depth in enumerate(depths) for _ in range(depth)]
            steps = zip(stages, channels(outline.schedule, depths), strict=True)
            return [len(list(run)) for _, run in groupby(steps)]
        case _:
            return [1] * sum(depths)


def bisect(
    at: Callable[[float], float], floor: float, low: float, least: float, high: float
) -> tuple[bool, float, float]:
    """Whether floor ≤ at(x) ≤ 1 was met at the last x tried; if not, the two x between which it jumps over that, or
    twice the same where all of low…high is below. `least` is at(low), and below.

    The Illinois method (Dowell and Jarratt 1971) on log share against log x: false position, in which an end that
    stays counts half. An end that is infinite is halved away.
    """
    most = at(high)
    if most <= 1:
        return floor <= most, high, high
    target = math.log((floor + 1) / 2)
    a, b, at_a, at_b = math.log(low), math.log(high), math.log(least) - target, math.log(most) - target
    side = 0
    while b - a >= JUMP:
        middle = (a + b) / 2 if at_b == math.inf else a - at_a * (b - a) / (at_b - at_a)
        spent = at(math.exp(middle))
        if floor <= spent <= 1:
            return True, low, high
        if spent < floor:
            a, at_a = middle, math.log(spent) - target
            at_b /= 2 if side < 0 else 1
            side = -1
        else:
            b, at_b = middle, math.log(spent) - target
            at_a /= 2 if side > 0 else 1
            side = 1
    return False, math.exp(a), math.exp(b)
