"""Points of a space changed, one choice at a time, until their cost lies between two bounds."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

V = TypeVar("V")
KICKS = 8
STARTS = 5
FEW_PAIRS = 8_000


def repair(
    point: Mapping[str, V],
    choices: Mapping[str, Sequence[V]],
    cost: Callable[[Mapping[str, V]], float],
    low: float,
    high: float,
    rng: random.Random,
) -> dict[str, V] | None:
    """A point near the given one with low ≤ cost ≤ high, or None where none was found.

    First one random choice after another, to the value that comes nearest. A choice with weights changes to one that is
    drawn by them, where that is in the right direction, so that what comes out is as likely as what went in and not the
    cheapest of everything. Where that makes no progress, the change that comes nearest of all, and a random one out of
    a dead end.
    """
    current, spent, kicks = dict(point), cost(point), KICKS
    names = [name for name, values in choices.items() if len(values) > 1]
    for step in range(20 * len(names) + 20):
        if low <= spent <= high:
            return current
        one = rng.choice(names) if names and step < 4 * len(names) else None
        offered = {name: choices[name] for name in names} if one is None else {one: _draw(choices[one], rng)}
        changed = [(name, v) for name, values in offered.items() for v in values if v != current[name]]
        costed = [(cost({**current, name: v}), name, v) for name, v in changed]
        wanted = [move for move in costed if (move[0] < spent if spent > high else spent < move[0] <= high)]
        if wanted:
            spent, name, value = min(wanted, key=lambda move: max(move[0] - high, low - move[0], 0.0))
        elif one is not None:
            continue
        elif costed and kicks:  # every single change overshoots: leave the dead end by any one of them
            kicks, (spent, name, value) = kicks - 1, rng.choice(costed)
        else:
            break
        current[name] = value
    return current if low <= spent <= high else None


def _draw(values: Sequence[V], rng: random.Random) -> Sequence[V]:
    """All values of a choice; of one with weights a single one, drawn by them."""
    weights = getattr(values, "weights", None)
    return rng.choices(values, weights) if weights else values


def least(
    choices: Mapping[str, Sequence[V]],
    cost: Callable[[Mapping[str, V]], float],
    drawn: Callable[[], dict[str, V]],
) -> dict[str, V]:
    """The point of least cost, by descent from some that are drawn: one choice at a time, and then two that belong
    together, as a stage's block and its expansion, of which neither alone may make it cheaper."""
    ends, felt = list[tuple[float, dict[str, V]]](), set[str]()
    for _ in range(STARTS):
        point = drawn()
        ends.append(_descend(cost(point), point, choices, cost, felt))
    spent, point = min(ends, key=lambda end: end[0])
    few = sum(map(len, choices.values())) ** 2 <= FEW_PAIRS
    pairs = [
        (one, other)
        for one, other in itertools.combinations(choices, 2)
        if (few or _group(one) == _group(other)) and not felt.isdisjoint((one, other))
    ]
    before = math.inf
    while spent < before:
        before = spent
        for one, other in pairs:
            for first, second in itertools.product(choices[one], choices[other]):
                changed = {**point, one: first, other: second}
                if changed != point and (tried := cost(changed)) < spent:
                    spent, point = tried, changed
        if spent < before:
            spent, point = _descend(spent, point, choices, cost, felt)
    return point


def _descend(
    spent: float,
    point: dict[str, V],
    choices: Mapping[str, Sequence[V]],
    cost: Callable[[Mapping[str, V]], float],
    felt: set[str],
) -> tuple[float, dict[str, V]]:
    """The cheapest point by single changes, and its cost; into `felt` go the choices that change any."""
    improved = True
    while improved:
        improved = False
        for name, options in choices.items():
            for option in options:
                if option == point[name]:
                    continue
                changed = {**point, name: option}
                tried = cost(changed)
                if tried != spent:
                    felt.add(name)
                if tried < spent:
                    point, spent, improved = changed, tried, True
    return spent, point


def _group(name: str) -> str:
    """`stage3` of `stage3.block`; a name without a dot is a group of its own."""
    group, dot, _ = name.partition(".")
    return group if dot else f".{name}"
