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

from searchspace.outline import Outline
from searchspace.schedule import channels

EVALUATIONS = 30
JUMP = 2e-2
GROWTH = 2.0


def solve(outline: Outline, share: Callable[[Outline], float], floor: float, low: float, high: float) -> bool:
    """Give the outline widths at which floor ≤ share ≤ 1, its multiplier between `low` and `high`; False where none
    was found. Widths never decrease for it; stages, and a stage's steps of a quantised line, keep one each."""
    cuts = list(accumulate(_runs(outline), initial=1))
    left = EVALUATIONS

    def at(settled: Sequence[int], width_mult: float) -> float:
        nonlocal left
        left -= 1
        outline.width_mult, outline.settled = width_mult, tuple(settled)
        return share(outline)

    settled: list[int] = []
    while cuts and left > 0:
        found, below, above = bisect(partial(at, settled), floor, low, high)
        if found or not below < above:
            return found
        at(settled, below)
        widths = outline.widths()
        few, many = -1, len(cuts) - 1
        while many - few > 1:
            middle = (few + many) // 2
            spent = at(widths[: cuts[middle]], above)
            if floor <= spent <= 1:
                return True
            few, many = (middle, many) if spent > 1 else (few, middle)
        settled, cuts = widths[: cuts[many]], cuts[many + 1 :]
        low, high = above, min(high, GROWTH * above)
    return False


def _runs(outline: Outline) -> list[int]:
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


def bisect(at: Callable[[float], float], floor: float, low: float, high: float) -> tuple[bool, float, float]:
    """Whether floor ≤ at(x) ≤ 1 was met at the last x tried; if not, the two x between which it jumps over that, or
    twice the same where all of low…high is on one side.

    False position on log share against log x, with a bisection every third time, so that no side stalls.
    """
    least = at(low)
    if floor <= least <= 1:
        return True, low, low
    most = at(high) if least < floor else least
    if floor <= most <= 1:
        return True, high, high
    if least > 1 or most < floor:
        return False, low, low
    target = math.log((floor + 1) / 2)
    a, b, at_a, at_b = math.log(low), math.log(high), math.log(least), math.log(most)
    for step in range(EVALUATIONS):
        middle = (a + b) / 2
        if step % 3 < 2:
            middle = min(max(a + (target - at_a) * (b - a) / (at_b - at_a), a + (b - a) / 50), b - (b - a) / 50)
        spent = at(math.exp(middle))
        if floor <= spent <= 1:
            return True, low, high
        if spent < floor:
            a, at_a = middle, math.log(spent)
        else:
            b, at_b = middle, math.log(spent)
        if b - a < JUMP:
            break
    return False, math.exp(a), math.exp(b)
