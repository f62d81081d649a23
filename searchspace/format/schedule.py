"""Channel schedules: how wide every block is, and how widths are rounded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Literal

from searchspace import limits
from searchspace.document import value
from searchspace.limits import check_int

Rounding = Literal["mobilenet", "twice", "nearest"]

QUANTUM = 8  # RegNet's q
LISTED = ("stagewise", "geometric", "explicit")  # the kinds that read `widths`


@value
class Schedule:
    """The output width of block i of d, before the width multiplier and rounding.

    * `linear`: from `start` to `end`, or by `increment` a block: ReXNet's c_i = start + i · increment.
    * `piecewise`: c_i = a · f(i) + b from `start` to `end`, f piecewise linear with the given `slopes` over equal parts
      of the depth, so never decreasing (ReXNet, section 4).
    * `stagewise`: one width a stage: `widths`, or the piecewise curve at each stage's middle.
    * `geometric`: one width a stage, from `start` to `end` by the same factor each (ResNet and ConvNeXt: doubling).
    * `explicit`: `widths`, one a block.
    * `quantised`: RegNet's (Radosavovic et al. 2020, equations 2 to 4): the line u_j = start + j · increment, w_0 and
      w_a in the paper, taken to the nearest start · ratio^s with a whole s (ratio is w_m), and that to a multiple of 8.
      Its `divisor` is the group width; a width below it stays as it is, one group.

    `divisor` rounds to multiples; 1 rounds to the nearest integer, halves to even, as ReXNet does. `rounding` goes up
    where that would lose more than 10 % (`mobilenet`: MobileNetV2's rule, torchvision's for RegNet too), or does so
    after a first rounding to integers (`twice`: ReXNet-lite), or never (`nearest`: pycls's and timm's for RegNet).
    No width is rounded to less than `min_width` (the divisor, where that is more). What is written in `widths` is not
    rounded where nothing multiplies it.
    """

    kind: Literal["linear", "piecewise", "stagewise", "geometric", "explicit", "quantised"] = "linear"
    start: float = 16.0
    end: float | None = None
    increment: float | None = None
    slopes: tuple[float, ...] = (1.0,)
    widths: tuple[float, ...] = ()
    ratio: float = 2.0
    divisor: int = 1
    rounding: Rounding = "mobilenet"
    min_width: int = 1

    def __post_init__(self) -> None:
        check_int(self, "divisor", "min_width")
        if not all(0 < width <= limits.WIDTH for width in (self.start, *self.widths)):
            raise ValueError(f"start and widths: above 0 and at most {limits.WIDTH:,}")
        if max(self.end or 0.0, self.increment or 0.0) > limits.WIDTH:
            raise ValueError(f"end and increment: at most {limits.WIDTH:,}")
        if not self.ratio > 1:
            raise ValueError(f"ratio: above 1, not {self.ratio}")
        if self.kind == "quantised" and (self.increment is None or self.start < QUANTUM):
            raise ValueError(f"increment: a quantised schedule has one, and a start of {QUANTUM} or more")
        if self.widths and self.kind in LISTED:
            return
        if self.kind == "explicit":
            raise ValueError("widths: an explicit schedule lists one a block")
        if (self.end is None) == (self.increment is None):
            unread = f"; a {self.kind} one reads no widths" if self.widths else ""
            raise ValueError(f"give one of end and increment (or widths, to a stagewise or explicit schedule){unread}")
        if (self.end is not None and self.end < self.start) or (self.increment is not None and self.increment < 0):
            raise ValueError("end and increment: widths may not decrease")
        if not self.slopes or not all(0 <= slope <= limits.FACTOR for slope in self.slopes):
            raise ValueError(f"slopes: numbers from 0 to {limits.FACTOR:,.0f}, at least one")


def channels(schedule: Schedule, depths: Sequence[int], multiplier: float = 1.0) -> list[int]:
    """The width of every block, for stages of these depths, multiplied and rounded."""
    staged = schedule.kind in ("stagewise", "geometric", "explicit")
    curve = _stage_widths(schedule, tuple(depths)) if staged else _curve(schedule, sum(depths))
    if staged and schedule.widths and multiplier == 1:
        return [round(width) for width in curve]
    widths = [width * multiplier for width in curve]
    if schedule.divisor == 1:
        return [max(schedule.min_width, round(width)) for width in widths]
    divisors = [schedule.divisor] * len(widths)
    if schedule.kind == "quantised":
        divisors = [min(schedule.divisor, round_channels(width)) for width in widths]
    rounding, least = schedule.rounding, schedule.min_width
    return [round_channels(width, divisor, rounding, least) for width, divisor in zip(widths, divisors, strict=True)]


@lru_cache(1 << 14)
def _stage_widths(schedule: Schedule, depths: tuple[int, ...]) -> list[float]:
    """The widths of the blocks of stages, before anything is multiplied or rounded."""
    total = sum(depths)
    if schedule.kind == "explicit":
        if len(schedule.widths) != total:
            raise ValueError(f"schedule.widths: one a block, {total} in all, not {len(schedule.widths)}")
        return list(schedule.widths)
    widths: Sequence[float] = schedule.widths
    if schedule.kind == "geometric" and not widths:
        factor, steps = _end(schedule, total) / schedule.start, max(1, len(depths) - 1)
        widths = [schedule.start * factor ** (stage / steps) for stage in range(len(depths))]
    if not widths:
        bounds = pairwise(accumulate(depths, initial=0))
        middles = [(first + after - 1) / 2 for first, after in bounds]
        widths = _bent(schedule, middles, total)
    if len(widths) != len(depths):
        raise ValueError(f"schedule.widths: one a stage, {len(depths)} in all, not {len(widths)}")
    return [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]


@lru_cache(1 << 14)
def _curve(schedule: Schedule, total: int) -> list[float]:
    """The widths of so many blocks in a row, before anything is multiplied or rounded."""
    if schedule.kind == "quantised":
        return [_quantise(schedule, index) for index in range(total)]
    if schedule.kind == "linear" and schedule.increment is not None:
        # one addition a block, as in ReXNet's code: at x0.6 widths end in a half but for the error that so adds up
        return list(accumulate([schedule.increment] * (total - 1), initial=schedule.start))
    if schedule.kind == "linear":
        return [schedule.start + (_end(schedule, total) - schedule.start) * i / max(1, total - 1) for i in range(total)]
    return _bent(schedule, range(total), total)


def _bent(schedule: Schedule, at: Iterable[float], total: int) -> list[float]:
    """The piecewise linear curve at these blocks of so many."""
    rise = _end(schedule, total) - schedule.start
    return [schedule.start + rise * _risen(schedule.slopes, index / max(1, total - 1)) for index in at]


def _end(schedule: Schedule, total: int) -> float:
    if schedule.increment is not None:
        return schedule.start + (total - 1) * schedule.increment
    return schedule.start if schedule.end is None else schedule.end


def _quantise(schedule: Schedule, index: int) -> float:
    line = schedule.start + index * (schedule.increment or 0.0)
    power = round(math.log(line / schedule.start) / math.log(schedule.ratio))
    return float(round(schedule.start * schedule.ratio**power / QUANTUM) * QUANTUM)


def _risen(slopes: Sequence[float], share: float) -> float:
    """How much of its rise (0 to 1) a curve with these slopes over equal parts has made at a share of its length."""
    total = sum(slopes)
    if total == 0:
        return 0.0
    position = share * len(slopes)
    return sum(slope * min(1.0, max(0.0, position - part)) for part, slope in enumerate(slopes)) / total


def round_channels(width: float, divisor: int = 1, rounding: Rounding = "mobilenet", least: int = 1) -> int:
    """A width as a positive multiple of the divisor, or `least` where that is more; see `Schedule`."""
    least = max(least, divisor)
    if divisor == 1 or rounding == "nearest":
        return max(least, round(width / divisor) * divisor)
    width = round(width) if rounding == "twice" else width
    rounded = max(least, math.floor(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
