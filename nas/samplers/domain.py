"""`Domain`: the points that may be proposed. Choices, what a point costs, how it is brought inside the budget."""

from __future__ import annotations

import itertools
import math
import operator
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from searchspace.errors import InputError
from searchspace.space.choices import Options
from searchspace.space.repair import least, repair

Choices = Mapping[str, Sequence[Any]]
Point = dict[str, Any]
Key = tuple[Any, ...]
CostOf = Callable[[Mapping[str, Any]], float]

ENUMERABLE = 20_000
REMEMBERED = 200_000
TRIES = 40


def _options(name: str, values: Sequence[Any]) -> Options:
    """The values of a choice, those of NumPy as Python's, which Optuna's TPE and databases take.

    Raises `InputError` where they are not distinct.
    """
    found = Options(value.item() if isinstance(value, np.generic) else value for value in values)
    found.weights = getattr(values, "weights", None)
    try:
        distinct = len(set(found)) == len(found) > 0
    except TypeError:
        raise InputError(f"choices: {name}: values with a hash are accepted, such as tuples, not {values}") from None
    if not distinct:
        raise InputError(f"choices: {name}: one or more distinct values are accepted, not {list(found)}")
    return found


class ExhaustedError(RuntimeError):
    """The space has nothing left inside the budget that was not tried."""


class OutOfReachError(ExhaustedError):
    """Not even the cheapest point of the space is inside the budget."""


class Domain:
    """Every combination of `choices` that costs at most `budget`; without a cost, every combination.

    Points that use at least `low` of the budget come first. Costs are remembered: a proposal asks for hundreds.
    """

    def __init__(
        self, choices: Choices, cost: CostOf | None = None, budget: float | None = None, low: float = 0.85
    ) -> None:
        self.choices = {name: _options(name, values) for name, values in choices.items()}
        if (cost is None) != (budget is None) or not 0 <= low <= 1:
            raise ValueError("a cost and a budget together, or neither, with 0 <= low <= 1, are accepted")
        if budget is not None and math.isnan(float(budget)):
            raise ValueError("budget: a number is accepted, not nan")
        self.cost_of, self.low = cost, low
        self.budget = math.inf if budget is None else float(budget)
        # What proposals cost at least; a budget below zero is one of a logarithm, or of a difference.
        self.floor = low * self.budget if self.budget >= 0 else self.budget + (1 - low) * self.budget
        self.size = math.prod(len(values) for values in self.choices.values())
        self._costs: dict[Key, float] = {}
        self._values = [frozenset(values) for values in self.choices.values()]

    def key(self, point: Mapping[str, Any]) -> Key:
        return tuple([point[name] for name in self.choices])

    def holds(self, key: Key) -> bool:
        """Whether recorded values are a point of this space."""
        return all(map(operator.contains, self._values, key))

    def cost(self, point: Mapping[str, Any]) -> float:
        if self.cost_of is None:
            return 0.0
        key = self.key(point)
        found = self._costs.get(key)
        if found is None:
            if len(self._costs) >= REMEMBERED:
                self._costs.clear()
            found = self._costs[key] = self._asked_cost(point)
        return found

    def _asked_cost(self, point: Mapping[str, Any]) -> float:
        assert self.cost_of is not None
        found = self.cost_of(point)
        try:
            number = float(found)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise InputError(f"cost: a number is accepted, not {found!r}, which is that of {dict(point)}")
        return number

    def inside(self, point: Mapping[str, Any]) -> bool:
        return self.cost_of is None or self.floor <= self.cost(point) <= self.budget

    def draw(self, rng: random.Random) -> Point:
        return {name: values.draw(rng) for name, values in self.choices.items()}

    def repair(self, point: Mapping[str, Any], rng: random.Random) -> Point | None:
        """The point itself, or one near it that uses `low` to all of the budget; None where none was found."""
        if self.inside(point):
            return dict(point)
        return repair(point, self.choices, self.cost, self.floor, self.budget, rng)

    def fresh(self, point: Mapping[str, Any], taken: Collection[Key], rng: random.Random) -> Point:
        """The point repaired and, where that was proposed before, changed a little: always new.

        Raises `ExhaustedError` where nothing new is left, `OutOfReachError` where nothing ever was.
        """
        for attempt in range(TRIES):
            found = self.repair(self.mutate(point, attempt // 4, rng), rng)
            if found is not None and self.key(found) not in taken:
                return found
        return self._anything_new(taken, rng)

    def mutate(self, point: Mapping[str, Any], count: int, rng: random.Random) -> Point:
        names = rng.sample(list(self.choices), min(count, len(self.choices)))
        return {**point, **{name: self.choices[name].draw(rng) for name in names}}

    def _anything_new(self, taken: Collection[Key], rng: random.Random) -> Point:
        """Exactly what is left of a small space, nearest to the budget first; of a large one, what climbing finds.

        What `taken` holds beside its own points comes last: it may be the same trials again, and need not be.
        """
        points = frozenset(taken)
        if self.size <= ENUMERABLE:
            left = [(cost, key) for cost, key in self._affordable if key not in points]
            left = [pair for pair in left if pair[1] not in taken] or left
            best = [key for cost, key in left if cost >= self.floor] if self.cost_of else []
            chosen = rng.choice(best) if best else left[0][1] if left else None
            if chosen is not None:
                return dict(zip(self.choices, chosen, strict=True))
        else:
            found = [self._climb(self.draw(rng), rng) for _ in range(TRIES)]
            new = [point for point in found if point is not None and self.key(point) not in points]
            if new or (new := self._beside(points, rng)):
                return max(new, key=self.cost)
        self._check_reach(rng)
        raise ExhaustedError(f"nothing new is left within the budget {self.budget:g} among {self.size} points")

    def _beside(self, points: Collection[Key], rng: random.Random) -> list[Point]:
        """New points that differ from one of these in one choice, or in two, until some use `low` of the budget.

        Where few of many points are affordable, climbing ends in the same ones.
        """
        known = sorted(filter(self.holds, points), key=repr)
        moves = [(name, value) for name, values in self.choices.items() for value in values]
        changes = itertools.chain(((move,) for move in moves), itertools.combinations(moves, 2))
        found: list[Point] = []
        for number, (change, key) in enumerate(
            itertools.product(changes, rng.sample(known, len(known))),
        ):
            point = {**dict(zip(self.choices, key, strict=True)), **dict(change)}
            if self.key(point) not in points and self.cost(point) <= self.budget:
                found.append(point)
            if number >= ENUMERABLE or (found and self.inside(found[-1])):
                break
        return found

    def _check_reach(self, rng: random.Random) -> None:
        """`OutOfReachError` where the cheapest point, by descent, is not within the budget."""
        cheapest = least(self.choices, self.cost, lambda: self.draw(rng))
        if self.cost(cheapest) > self.budget:
            named = f"the cheapest point costs {self.cost(cheapest):g}: {cheapest}"
            raise OutOfReachError(f"the budget {self.budget:g} is out of reach: {named}")

    @cached_property
    def _affordable(self) -> list[tuple[float, Key]]:
        """Every point of a small space within the budget, the dearest first."""
        points = (dict(zip(self.choices, key, strict=True)) for key in itertools.product(*self.choices.values()))
        costed = ((self.cost(point), self.key(point)) for point in points)
        return sorted((pair for pair in costed if pair[0] <= self.budget), key=lambda pair: -pair[0])

    def _climb(self, point: Point, rng: random.Random) -> Point | None:
        """Where no point is known to use `low` of the budget: one below it that no single change brings nearer."""
        found = repair(point, self.choices, self.cost, -math.inf, self.budget, rng)
        while found is not None:
            near = [{**found, name: value} for name, values in self.choices.items() for value in values]
            best = max((p for p in near if self.cost(p) <= self.budget), key=self.cost, default=found)
            if self.cost(best) <= self.cost(found):
                break
            found = best
        return found
