"""A width that is written is that width: rounding is for what a multiplier or a curve makes."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from searchspace import Space, zoo
from searchspace.format.schedule import Schedule, channels
from searchspace.networks.regnet import X, Y

REGNETS = {**X, **Y}


def written(name: str) -> dict[str, Any]:
    """A RegNet as a person writes it down from the paper's table: the generator's numbers, its depths, a stem of 32."""
    _, start, increment, ratio, group_width = REGNETS[name]
    schedule = {"kind": "quantised", "start": start, "increment": increment, "ratio": ratio, "divisor": group_width}
    line = channels(Schedule(**{**schedule, "divisor": 1}), [REGNETS[name][0]])  # type: ignore[arg-type]
    block = {"block": "bottleneck", "stride": 2, "expansion": 1.0, "group_width": group_width}
    squeeze = {"se": 0.25, "se_from": "input"} if name in Y else {}
    stages = [{**block, **squeeze, "depth": len(list(run))} for _, run in groupby(line)]
    return {"stem": {"width": 32}, "schedule": schedule, "stages": stages}


@pytest.mark.parametrize("name", REGNETS)
def test_a_regnet_written_from_the_paper_is_the_zoo_s(name: str) -> None:
    assert Space(written(name), name).arch().digest == zoo(name).digest


@pytest.mark.parametrize("kind", ["stagewise", "explicit", "geometric"])
@pytest.mark.parametrize("end", ["stem", "head"])
def test_no_written_width_is_rounded(kind: str, end: str) -> None:
    data: dict[str, Any] = {
        "stem": {"width": 30},
        "head": {"width": 100},
        "schedule": {"kind": kind, "widths": [20, 50], "divisor": 24, "min_width": 24},
        "stages": [{"block": "mbconv"}, {"block": "mbconv"}],
        "width_mult": {"choice": [1.0, 0.5, 2.0]},
    }
    space = Space(data)
    once, half, twice = (space.arch({"width_mult": factor}) for factor in (1.0, 0.5, 2.0))
    assert [once.stem.width, *(block.out_channels for block in once.blocks), once.head.width] == [30, 20, 50, 100]
    assert [half.stem.width, *(block.out_channels for block in half.blocks), half.head.width] == [24, 24, 24, 48]
    assert [twice.stem.width, *(block.out_channels for block in twice.blocks), twice.head.width] == [72, 48, 96, 192]
    kept = Space({**data, "width_mult": 2.0, f"scale_{end}": "none"}).arch()
    assert getattr(kept, end).width == {"stem": 30, "head": 100}[end]


def test_a_curve_is_rounded_also_where_nothing_multiplies_it() -> None:
    assert channels(Schedule("stagewise", start=10, end=50, divisor=8), [1, 1, 1]) == [16, 32, 48]
