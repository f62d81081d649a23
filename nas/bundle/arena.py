"""Where the maps of a network lie in one arena of memory, which a runtime of a microcontroller reads from the file.

A map may lie where another lay whose last reader has run. TensorFlow Lite Micro's own planner places the largest map
first, and needed up to a third more than the maps that are alive at one time; a file may bring a better plan along
(https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/docs/memory_management.md).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ALIGNMENT = 16
TRIES = 500


class Lifetime(NamedTuple):
    """A map's bytes, and the steps by which it is written first and read last."""

    size: int
    first: int
    last: int

    @property
    def span(self) -> int:
        """Its bytes in the arena, in which every map begins at a multiple of 16."""
        return -(-self.size // ALIGNMENT) * ALIGNMENT


def alive(maps: Sequence[Lifetime]) -> list[int]:
    """The bytes alive at each step."""
    steps = range(max(one.last for one in maps) + 1)
    return [sum(one.span for one in maps if one.first <= step <= one.last) for step in steps]


def least(maps: Sequence[Lifetime]) -> int:
    """The bytes that no plan is below."""
    return max(alive(maps))


def size_of(maps: Sequence[Lifetime], offsets: Sequence[int]) -> int:
    return max(offset + one.span for one, offset in zip(maps, offsets, strict=True))


def plan(maps: Sequence[Lifetime]) -> list[int]:
    """An offset for every map, such that no two overlap while both are alive; as little memory as was found.

    Maps are placed one by one as low as they can: the largest first, then those of the widest step first (Pisarchyk
    and Lee 2020, https://arxiv.org/abs/2001.03288), then with the first few exchanged at random, until no plan can be
    smaller.
    """
    rng, steps = random.Random(0), alive(maps)
    indices = range(len(maps))
    by_size = sorted(indices, key=lambda i: -maps[i].span)
    by_step = sorted(indices, key=lambda i: (-max(steps[maps[i].first : maps[i].last + 1]), -maps[i].span))
    best = min((place(maps, order) for order in (by_size, by_step)), key=lambda offsets: size_of(maps, offsets))
    for _ in range(TRIES):
        if size_of(maps, best) <= max(steps):
            break
        spread = rng.choice((2, 4, 8))
        order = sorted(by_step, key=lambda i: by_step.index(i) + rng.random() * spread)
        best = min(best, place(maps, order), key=lambda offsets: size_of(maps, offsets))
    return best


def place(maps: Sequence[Lifetime], order: Iterable[int]) -> list[int]:
    """The lowest free offset for each map, in this order."""
    offsets, placed = [0] * len(maps), list[int]()
    for index in order:
        own, low = maps[index], 0
        beside = sorted(
            (offsets[i], offsets[i] + maps[i].span)
            for i in placed
            if maps[i].first <= own.last and own.first <= maps[i].last
        )
        for start, end in beside:
            if start - low >= own.span:
                break
            low = max(low, end)
        offsets[index] = low
        placed.append(index)
    return offsets
