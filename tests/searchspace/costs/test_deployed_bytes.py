"""What an int8 network takes on a microcontroller, against counts made by hand."""

from __future__ import annotations

import random

import pytest

from searchspace import Arch, Space, cost
from searchspace.blocks.blocks import Block
from searchspace.blocks.stem_head import Head, Stem
from searchspace.costs.network_cost import (
    ARENA_AT_LEAST,
    ARENA_PER_OPERATOR,
    FLASH_AT_LEAST,
    FLASH_PER_OPERATOR,
    section_costs,
)
from searchspace.space.space import ARENA_BAND


def network(shortcut: str = "identity") -> Arch:
    """At 8 px: a stem of 4 channels that halves it, an mbconv of 4 → 8 → 4 channels with a shortcut, a classifier."""
    block = Block("mbconv", 4, 8, 4, kernel=3, groups=8, shortcut=shortcut)
    return Arch(Stem(4, stride=2), (block,), Head(width=0), resolution=8, in_channels=1, num_classes=3)


def test_the_maps_alive_at_one_time() -> None:
    stem, block, head = section_costs(network())
    assert stem.arena == 8 * 8 + 4 * 4 * 4
    assert block.arena == 4 * 4 * (4 + 8 + 8)  # the shortcut's map is kept while the depthwise convolution runs
    assert head.arena == 4 * 4 * 4 + 4


def test_an_addition_has_a_map_of_its_own() -> None:
    """Three narrow maps are alive while two are added up, which here is more than any convolution has."""
    block = Block("bottleneck", 8, 1, 8, kernel=1, shortcut="identity")
    arch = Arch(Stem(8, stride=1), (block,), Head(width=0), resolution=8, in_channels=1, num_classes=3)
    assert section_costs(arch)[1].arena == 3 * 8 * 8 * 8
    assert section_costs(arch)[1].peak == (8 + 8 + 1) * 8 * 8  # in place, the last convolution decides


def test_weights_biases_and_operators() -> None:
    parts = section_costs(network())
    weights = [9 * 1 * 4, 4 * 8 + 9 * 8 + 8 * 4, 4 * 3]
    assert [part.weights for part in parts] == weights
    assert [part.channels for part in parts] == [4, 8 + 8 + 4, 3]
    assert [part.operators for part in parts] == [1, 3 + 1, 2]  # with the addition; the mean and the classifier
    spent = cost(network())
    assert spent.flash_bytes == 4 * (sum(weights) + 27)
    assert spent.int8_flash_bytes == sum(weights) + 16 * 27 + 7 * FLASH_PER_OPERATOR + FLASH_AT_LEAST
    assert spent.int8_arena_bytes == 320 + 8 * 27 + 7 * ARENA_PER_OPERATOR + ARENA_AT_LEAST


@pytest.mark.parametrize("budget", [["64kB int8", "256kBFlash int8"], ["300kB int8", "950kBFlash int8"]])
@pytest.mark.parametrize("pixels", [32, 64, 96])
def test_networks_of_mcu_are_brought_within(budget: list[str], pixels: int) -> None:
    """At least 95 %, as a microcontroller's space has to."""

    space, rng = Space.load("mcu").fix([f"resolution={pixels}"]), random.Random(1)
    fitted = [space.fit(space.random_point(rng), budget, ARENA_BAND) for _ in range(40)]
    assert sum(found is not None for found in fitted) >= 0.95 * len(fitted)
