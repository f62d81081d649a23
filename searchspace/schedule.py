"""Channel schedules: how wide every block is, and how widths are rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

from searchspace.document import value


@value
class Schedule:
    """The output width of block i of d, before the width multiplier and rounding.

    * `linear`: from `start` to `end`, or by `increment` a block: ReXNet's c_i = start + i · increment.
    * `piecewise`: c_i = a · f(i) + b from `start` to `end`, f piecewise linear with the given `slopes` over equal parts
      of the depth, so never decreasing (ReXNet, section 4).
    * `stagewise`: one width a stage: `widths`, or the piecewise curve at each stage's middle.
    * `explicit`: `widths`, one a block.

    `divisor` rounds to multiples, up where rounding would lose more than 10 % (MobileNetV2's rule); 1 rounds to the
    nearest integer, halves to even, as ReXNet does.
    """

    kind: Literal["linear", "piecewise", "stagewise", "explicit"] = "linear"
    start: float = 16.0
    end: float | None = None
    increment: float | None = None
    slopes: tuple[float, ...] = (1.0,)
    widths: tuple[float, ...] = ()
    divisor: int = 1

    def __post_init__(self) -> None:
        if self.divisor < 1:
            raise ValueError(f"divisor: at least 1, not {self.divisor}")
        if self.start <= 0 or any(width <= 0 for width in self.widths):
            raise ValueError("start and widths: above 0")
        if self.widths:
            return
        if self.kind == "explicit":
            raise ValueError("widths: an explicit schedule lists one a block")
        if (self.end is None) == (self.increment is None):
            raise ValueError("give one of end and increment (or widths, to a stagewise or explicit schedule)")
        if (self.end is not None and self.end < self.start) or (self.increment is not None and self.increment < 0):
            raise ValueError("end and increment: widths may not decrease")
        if not self.slopes or min(self.slopes) < 0:
            raise ValueError("slopes: numbers of 0 or more, at least one")


def channels(schedule: Schedule, depths: Sequence[int], multiplier: float = 1.0, shift: float = 0.0) -> list[int]:
    """The width of every block, for stages of these depths, multiplied, shifted and rounded."""
    return [round_channels(width * multiplier + shift, schedule.divisor) for width in _raw(schedule, depths)]


def _raw(schedule: Schedule, depths: Sequence[int]) -> list[float]:
    total = sum(depths)
    if schedule.kind == "explicit" or (schedule.kind == "stagewise" and schedule.widths):
        expected = total if schedule.kind == "explicit" else len(depths)
        if len(schedule.widths) != expected:
            unit = "block" if schedule.kind == "explicit" else "stage"
            raise ValueError(f"schedule.widths: one a {unit}, {expected} in all, not {len(schedule.widths)}")
        if schedule.kind == "explicit":
            return list(schedule.widths)
        return [width for width, depth in zip(schedule.widths, depths, strict=True) for _ in range(depth)]
    if schedule.increment is not None:
        end = schedule.start + (total - 1) * schedule.increment
    else:
        end = schedule.end if schedule.end is not None else schedule.start
    at: list[float] = [float(index) for index in range(total)]
    if schedule.kind == "stagewise":
        bounds = pairwise(accumulate(depths, initial=0))
        at = [(first + after - 1) / 2 for first, after in bounds for _ in range(after - first)]
    if schedule.kind == "linear":
        return [schedule.start + (end - schedule.start) * index / max(1, total - 1) for index in at]
    shape = [_risen(schedule.slopes, index / max(1, total - 1)) for index in at]
    return [schedule.start + (end - schedule.start) * risen for risen in shape]


def _risen(slopes: Sequence[float], share: float) -> float:
    """How much of its rise (0 to 1) a curve with these slopes over equal parts has made at a share of its length."""
    total = sum(slopes)
    if total == 0:
        return 0.0
    position = share * len(slopes)
    return sum(slope * min(1.0, max(0.0, position - part)) for part, slope in enumerate(slopes)) / total


def round_channels(width: float, divisor: int = 1) -> int:
    """A width as a positive multiple of the divisor; see `Schedule`."""
    if divisor == 1:
        return max(1, round(width))
    rounded = max(divisor, math.floor(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
