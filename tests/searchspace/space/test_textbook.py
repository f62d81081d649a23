"""Textbook networks at a budget: of every family one, scaled, deployed like the space's own."""

from __future__ import annotations

import pytest

from searchspace import Budget, Space, build, cost
from searchspace.space.textbook import FAMILIES, order, textbook

SMALL = ["resolution=32", "num_classes=10"]


@pytest.mark.parametrize(
    ("budget", "fixed"), [("8MFLOPs", SMALL), ("300MFLOPs", []), ("2MParams", []), ("4GFLOPs", [])]
)
def test_every_family_is_there_within_the_budget(budget: str, fixed: list[str]) -> None:
    space, limits = Space.load("regnet" if budget == "4GFLOPs" else "mobile").fix(fixed), Budget.parse(budget)
    found = dict(textbook(space, limits))
    families = {name for name, names in FAMILIES.items() if found.keys() & set(names)}
    own = {name for name, names in FAMILIES.items() if space.known.keys() & set(names)}
    assert families | own >= FAMILIES.keys() - {"regnet_y"}
    assert not families & own
    for candidate in found.values():
        assert limits.admits(candidate.cost)
        assert limits.share_used(candidate.cost) >= 0.85
        assert candidate.cost == cost(candidate.arch)
        assert (candidate.arch.resolution, candidate.arch.num_classes) == (
            space.resolutions[-1],
            space.network.num_classes,
        )


def test_the_nearest_variant_is_taken() -> None:
    space = Space.load("regnet")
    assert "mobilenet_v3_small" in dict(textbook(space, Budget.parse("50MFLOPs")))
    found = dict(textbook(space, Budget.parse("300MFLOPs")))
    assert {"mobilenet_v3_large", "efficientnet_b0", "rexnet_090"} <= found.keys()
    assert found["mobilenet_v2"].width_mult == pytest.approx(1, abs=0.05)


def test_resnets_come_first_where_the_budget_is_large() -> None:
    assert order(Budget.parse("4GFLOPs"))[0] == "resnet"
    assert order(Budget.parse("300MFLOPs"))[0] == order(Budget.parse("2MParams"))[0] == "rexnet"


def test_small_images_and_few_channels_are_the_spaces() -> None:
    space = Space.load("mobile").fix([*SMALL, "in_channels=1"])
    for _, candidate in textbook(space, Budget.parse("8MFLOPs")):
        arch = candidate.arch
        assert arch.in_channels == 1
        assert arch.total_stride <= 16  # 32 px by 32 would leave one pixel
        assert sum(p.numel() for p in build(arch).parameters()) == candidate.cost.params


def test_a_budget_that_is_too_small_has_few_or_none() -> None:
    assert dict(textbook(Space.load("mobile"), Budget.parse("10kParams"))) == {}


def test_a_network_with_too_many_strides_for_the_pixels_is_left_out() -> None:
    """Space without `smallest_map`: EfficientNet's strides of 32 leave nothing of 16 px, which was a traceback."""
    stages = [{"depth": 1}, {"depth": {"choice": [1, 2]}, "stride": 2}, {"depth": 1, "stride": 2}]
    data = {"width_mult": {"fit": [0.1, 4.0]}, "stem": {"width": 16}, "schedule": {"start": 16, "end": 64}}
    space = Space({**data, "defaults": {"block": "mbconv"}, "stages": stages, "resolution": 16, "num_classes": 10})
    assert list(textbook(space, Budget.parse("1MFLOPs"))) == []
