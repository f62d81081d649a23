"""No network is shrunk to a few channels: floors of widths, hidden widths and squeezes, and what takes their place."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from searchspace import Budget, Space, cost, zoo
from searchspace.arch import Arch
from searchspace.space.space import Candidate

SPACES = {name: Space.load(name) for name in ("mobile", "mobile_wide", "all", "mobile_small", "resnet", "regnet")}


def drawn(space: Space, text: str, points: int) -> list[Candidate]:
    """What random points become within a budget, those that fit."""
    rng, budget = random.Random(1), Budget.parse(text)
    found = [space.fit(space.random_point(rng), budget, seed=seed) for seed in range(points)]
    return [candidate for candidate in found if candidate is not None]


def narrowest(arch: Arch) -> tuple[int, int]:
    """The least width of stem, blocks and insides of blocks; and the least squeeze, at most 4 counting as 4."""
    widths = [arch.stem.width, *(min(block.hidden, block.out_channels) for block in arch.blocks)]
    squeezes = [block.se.channels for block in arch.blocks if block.se]
    return min(widths), min(squeezes, default=8)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("text", ["40MFLOPs", "300MFLOPs"])
def test_no_network_is_narrower_than_8_channels(name: str, text: str) -> None:
    for candidate in drawn(SPACES[name], text, 25):
        width, squeeze = narrowest(candidate.arch)
        assert width >= 8
        assert squeeze >= 4


@pytest.mark.parametrize("text", ["20MFLOPs", "40MFLOPs"])
def test_nearly_every_point_fits_a_small_budget_and_keeps_what_differs(text: str) -> None:
    found = drawn(SPACES["mobile_wide"], text, 100)
    assert len(found) >= 95
    assert all(0.97 <= candidate.cost.macs / Budget.parse(text).limits[0].high <= 1 for candidate in found)
    assert len({candidate.arch.digest for candidate in found}) == len(found)
    assert sorted(candidate.width_mult for candidate in found)[len(found) // 2] >= 0.25
    for stage in (1, 3, 6):
        for field in ("block", "expansion", "kernel"):
            counts = Counter(candidate.point[f"stage{stage}.{field}"] for candidate in found)
            assert min(counts[option] for option in SPACES["mobile_wide"].choices[f"stage{stage}.{field}"]) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("text", ["20MFLOPs", "30MFLOPs", "40MFLOPs", "100MFLOPs", "300MFLOPs", "1GFLOPs"])
def test_nearly_every_point_fits_at_length(text: str) -> None:
    assert len(drawn(SPACES["mobile"], text, 500)) >= 475


def test_the_small_space_has_networks_as_wide_as_the_papers() -> None:
    space = SPACES["mobile_small"]
    assert space.arch(space.known["mobilenet_v3_small"]).digest == zoo("mobilenet_v3_small").digest
    for text, least in (("20MFLOPs", 0.35), ("40MFLOPs", 0.55)):
        found = drawn(space, text, 60)
        assert len(found) >= 45
        assert sorted(candidate.width_mult for candidate in found)[len(found) // 2] >= least


def stage(**changes: Any) -> Space:
    stages = [{"block": "mbconv", "expansion": 2.0, "se": 0.1, **changes}]
    return Space({"stem": {"width": 8}, "schedule": {"start": 8, "end": 8}, "stages": stages, "resolution": 32})


@pytest.mark.parametrize(
    ("changes", "hidden", "squeezed"),
    [
        ({}, 16, 1),
        ({"se_min": 4}, 16, 4),
        ({"se_min": 40}, 16, 16),  # no squeeze is wider than what it squeezes, for its floor
        ({"se_min": 4, "se": 0.0}, 16, 0),
        ({"se_min": 4, "se": 0.5}, 16, 8),
        ({"hidden_min": 24}, 24, 2),
        ({"block": "bottleneck", "expansion": 6.0}, 1, 1),
        ({"block": "bottleneck", "expansion": 6.0, "hidden_min": 8}, 8, 1),
        ({"block": "bottleneck", "expansion": 6.0, "hidden_min": 6, "group_width": 4}, 8, 1),
    ],
)
def test_floors_of_a_stage(changes: dict[str, Any], hidden: int, squeezed: int) -> None:
    space = stage(**changes)
    block = space.arch().blocks[0]
    assert (block.hidden, block.se.channels if block.se else 0) == (hidden, squeezed)
    assert space.cost({}) == cost(space.arch())
