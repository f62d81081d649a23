"""Free values in a network file: where they stand, what they may be, their names; places in plain data and values."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

from searchspace import limits
from searchspace.document import Location
from searchspace.errors import InputError

Scalar = bool | int | float | str | None
BESIDE = ("known", "deploy")  # parts of a space's file that are no part of a network


def with_defaults(data: Any, source: str) -> Any:
    """The file with its `defaults` written into every stage that does not say otherwise."""
    if not isinstance(data, dict):
        raise InputError(f"{source}: a mapping with stages and a schedule is accepted, not {type(data).__name__}")
    data = copy.deepcopy(data)
    defaults, stages = data.pop("defaults", {}), data.get("stages")
    if not isinstance(defaults, dict):
        raise InputError(f"{source}: defaults: a mapping of stage fields is accepted")
    if isinstance(stages, list):
        data["stages"] = [{**copy.deepcopy(defaults), **s} if isinstance(s, dict) else s for s in stages]
    return data


class Options(tuple[Any, ...]):
    """What a free value may be. With `weights` random networks have some of it more often than others."""

    weights: tuple[float, ...] | None

    def __new__(cls, values: Iterable[Any], weights: Iterable[float] | None = None) -> Options:
        made = super().__new__(cls, values)
        made.weights = getattr(values, "weights", None) if weights is None else tuple(weights)
        return made

    def __reduce__(self) -> tuple[type[Options], tuple[tuple[Any, ...], tuple[float, ...] | None]]:
        return Options, (tuple(self), self.weights)

    def draw(self, rng: random.Random) -> Any:
        """One of them."""
        return rng.choice(self) if self.weights is None else rng.choices(self, self.weights)[0]


def split(data: Any, source: str, lines: Mapping[Location, int]) -> tuple[Any, dict[str, Location], dict[str, Options]]:
    """The file with every free value at its first choice; where the free values stand; what they may be."""
    locations: dict[str, Location] = {}
    choices: dict[str, Options] = {}

    def walk(node: Any, at: Location) -> Any:
        if isinstance(node, dict) and "choice" in node:
            options, place = node["choice"], f"{source}:{lines.get(at, '')}".rstrip(":")
            if node.keys() - {"choice", "weights"} or not isinstance(options, list) or not options:
                raise InputError(f"{place}: {name(at)}: {{choice: [...]}} with at least one value is accepted")
            weights = _weights(node, f"{place}: {name(at)}")
            if not all(option is None or isinstance(option, (bool, int, float, str)) for option in options):
                raise InputError(f"{place}: {name(at)}: choices are single values, not lists or mappings")
            if any(option != option for option in options):
                raise InputError(f"{place}: {name(at)}: only plain data and finite numbers are accepted")
            if len(set(options)) < len(options):  # 6 and 6.0 are one value, and so are 1 and true
                first, other = next((a, b) for i, b in enumerate(options) for a in options[:i] if a == b)
                one = " and ".join(dict.fromkeys((json.dumps(first), json.dumps(other))))
                said = "is listed twice" if first is other or repr(first) == repr(other) else "are one value"
                raise InputError(f"{place}: {name(at)}: {one} {said}")
            locations[name(at)], choices[name(at)] = at, Options(options, weights)
            return options[0]
        if isinstance(node, dict):
            return {key: walk(child, (*at, key)) for key, child in node.items()}
        if isinstance(node, list):
            return [walk(child, (*at, index)) for index, child in enumerate(node)]
        return node

    return walk(data, ()), locations, choices


def _weights(node: Mapping[str, Any], place: str) -> list[float] | None:
    """The weights of a choice, one per value; None where it has none."""
    if "weights" not in node:
        return None
    weights = node["weights"] if isinstance(node["weights"], list) else []
    positive = all(type(one) in (int, float) and 0 < one < math.inf for one in weights)
    if len(weights) != len(node["choice"]) or not positive:
        accepted = "a number above 0 per choice, as in {choice: [3, 5], weights: [2, 1]}"
        raise InputError(f"{place}: weights: {accepted}, is accepted")
    return [float(one) for one in weights]


def name(location: Location) -> str:
    """A free value's name: list items lose the plural and count from 1, as in `stage3.expansion`."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            parts[-1] = f"{parts[-1].removesuffix('s')}{part + 1}"
        else:
            parts.append(part)
    return ".".join(parts)


def fit_range(node: Mapping[str, Any], source: str) -> tuple[float, float]:
    bounds = node.get("fit")
    if len(node) == 1 and isinstance(bounds, list) and len(bounds) == 2:
        numbers = all(type(bound) in (int, float) for bound in bounds)
        if numbers and 0 < bounds[0] < bounds[1] <= limits.FACTOR:
            return float(bounds[0]), float(bounds[1])
    accepted = f"{{fit: [low, high]}} with 0 < low < high ≤ {limits.FACTOR:,.0f}"
    raise InputError(f"{source}: width_mult: a number, a choice or {accepted} is accepted")


def same(option: Scalar, wanted: Scalar) -> bool:
    """Whether two single values are one: numbers by their size, but true is not 1."""
    return option == wanted and isinstance(option, bool) == isinstance(wanted, bool)


def get(thing: Any, location: Location) -> Any:
    for part in location:
        thing = thing[part] if isinstance(part, int) else getattr(thing, part)
    return thing


def replace_at(thing: Any, location: Location, new: Any) -> Any:
    """A frozen value with one place in it changed."""
    if not location:
        return new
    part, rest = location[0], location[1:]
    if isinstance(part, int):
        return (*thing[:part], replace_at(thing[part], rest, new), *thing[part + 1 :])
    return replace(thing, **{part: replace_at(getattr(thing, part), rest, new)})


class Slots:
    """Where free values go in one part of a network: the names of a point, and the places that they stand for."""

    def __init__(self, places: Mapping[str, Location]) -> None:
        self.places = places
        self.names = tuple(places)
        self.fields = tuple(str(location[0]) for location in places.values())
        self.flat = all(len(location) == 1 for location in places.values())
        self._read = itemgetter(*self.names) if len(self.names) > 1 else None

    def values(self, point: Mapping[str, Scalar]) -> tuple[Scalar, ...]:
        return self._read(point) if self._read else tuple([point[name] for name in self.names])

    def changes(self, current: Callable[[str], Any], point: Mapping[str, Scalar]) -> dict[str, Any]:
        """The fields that a point changes, with their new values; `current` gives a field's old one."""
        if self.flat:
            return dict(zip(self.fields, self.values(point), strict=True))
        changed: dict[str, Any] = {}
        for name, (field, *rest) in self.places.items():
            if not rest:  # the field itself: a stage that may leave it out (null) has no old one
                changed[str(field)] = point[name]
                continue
            old = changed[str(field)] if field in changed else current(str(field))
            changed[str(field)] = replace_at(old, tuple(rest), point[name])
        return changed


def at(data: Any, location: Location) -> Any:
    for part in location:
        data = data[part]
    return data


def set_at(data: Any, location: Location, new: Any) -> Any:
    """Plain data with one place in it changed, in place; a section that is not there yet is made."""
    parent = data
    for part in location[:-1]:
        parent = parent.setdefault(part, {}) if isinstance(parent, dict) else parent[part]
    parent[location[-1]] = new
    return data


def keep_at(data: Any, location: Location, places: Iterable[int]) -> None:
    """Leave of the choice at a location the options at these places, with their weights. The choice of another location
    may be the same object, as with YAML's anchors, and stays as it is."""
    kept, node = list(places), at(data, location)
    set_at(data, location, {part: [values[place] for place in kept] for part, values in node.items()})


def scalars(node: Any, at: Location = ()) -> Iterable[tuple[Location, Any]]:
    """Every fixed value of a file with its place."""
    if isinstance(node, dict) and "choice" in node:
        return
    if isinstance(node, (dict, list)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from scalars(child, (*at, key))
    else:
        yield at, node
