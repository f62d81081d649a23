"""`Space`: a network file in which some values are free. What is free and what is fixed; points; fitting to a budget.

Anywhere in the file `{choice: [...]}` frees a value, and `width_mult: {fit: [low, high]}` leaves the width multiplier
to be solved so that a network costs what the budget allows. A point gives every free value; it has a name that reads
well in a table: `stage3.expansion`, `schedule.slope2`.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from searchspace.arch import Arch
from searchspace.budget import Budget, Cost
from searchspace.costs import cost
from searchspace.document import Location, parse, read_yaml
from searchspace.errors import InputError
from searchspace.network import Network
from searchspace.repair import repair

Scalar = bool | int | float | str | None
Point = Mapping[str, Scalar]

FIT_BAND = 0.97
REPAIR_BAND = 0.85
LOOSER_BANDS = (1.0, 0.85, 0.5, 0.0)
FIT_EVALUATIONS = 20
FIT_SHIFTS = (0.0, 0.3, -0.3, 0.15, -0.15, 0.45, -0.45)
JUMP = 1e-3
SAMPLE_TRIES = 1000


class Candidate(NamedTuple):
    """A point with the network that it stands for; `width_mult` was solved where the space leaves it open."""

    point: dict[str, Scalar]
    arch: Arch
    cost: Cost
    width_mult: float


class Space:
    """A set of networks: `choices` names every free value, `arch` makes the network of a point."""

    def __init__(self, data: Any, source: str = "space", lines: Mapping[Location, int] | None = None) -> None:
        self.source = source
        self.data = _with_defaults(data, source)
        self.fit_range: tuple[float, float] | None = None
        fixed, self._locations, choices = _split(self.data, source, lines or {})
        if isinstance(fixed, dict) and isinstance(fixed.get("width_mult"), dict):
            self.fit_range = _fit_range(fixed["width_mult"], source)
            fixed["width_mult"] = 1.0
        self.network = parse(Network, fixed, source, lines)
        for name, location in self._locations.items():
            for option in choices[name]:
                parse(Network, _put(copy.deepcopy(fixed), location, option), source, lines)
        self.choices: dict[str, tuple[Scalar, ...]] = {name: tuple(options) for name, options in choices.items()}
        self.arch({name: options[0] for name, options in self.choices.items()})

    @classmethod
    def load(cls, name: str | Path) -> Space:
        """A ready space by its name, or any space or network file; `InputError` where there is none or it is wrong."""
        path = Path(name)
        if str(name) in ready():
            path = Path(str(resources.files("searchspace") / "spaces" / f"{name}.yaml"))
        elif not path.is_file():
            raise InputError(f"space {str(name)!r}: a file, or one of {', '.join(ready())} is accepted")
        data, lines = read_yaml(path)
        return cls(data, path.name, lines)

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(len(options) for options in self.choices.values())

    def arch(self, point: Point | None = None, width_mult: float | None = None) -> Arch:
        """The network of a point (which names every free value) at a width multiplier where that is open."""
        network = self._place({} if point is None else point)
        if width_mult is not None:
            network = replace(network, width_mult=width_mult)
        try:
            return network.arch()
        except ValueError as error:
            raise InputError(f"{self.source}: {error}") from None

    def random_point(self, rng: random.Random) -> dict[str, Scalar]:
        return {name: rng.choice(options) for name, options in self.choices.items()}

    def fit(self, point: Point, budget: Budget, band: float = FIT_BAND, seed: int = 0) -> Candidate | None:
        """The point's network brought inside the budget, or None where that cannot be.

        With a free width multiplier it is solved so that the tightest limit is used to at least `band`. Without one,
        choices are changed until 85 % is used (or `band`, where that is less; see `repair`). A range given as budget
        takes the place of the band.
        """
        if self.fit_range is not None:
            return self._solve(dict(point), budget, band, *self.fit_range)
        low = max([min(band, REPAIR_BAND), *(limit.low / limit.high for limit in budget.limits)])
        rng = random.Random(seed)
        changed = repair(point, self.choices, lambda p: budget.used(cost(self.arch(p))), low, 1.0, rng)
        if changed is None:
            return None
        arch = self.arch(changed)
        spent = cost(arch)
        return Candidate(changed, arch, spent, self.network.width_mult) if budget.admits(spent) else None

    def sample_point(self, rng: random.Random, budget: Budget, band: float = FIT_BAND) -> Candidate:
        """A random candidate inside the budget; `InputError` where none was found in 1,000 tries.

        Where tries in the band fail, less of the budget may be used: first 85 %, then any share.
        """
        for attempt in range(SAMPLE_TRIES):
            wanted = min(band, LOOSER_BANDS[attempt * len(LOOSER_BANDS) // SAMPLE_TRIES])
            candidate = self.fit(self.random_point(rng), budget, wanted, seed=rng.getrandbits(32))
            if candidate is not None:
                return candidate
        raise InputError(f"budget {budget}: none of {SAMPLE_TRIES} random networks of {self.source} could be fitted")

    def sample(self, seed: int, budget: Budget, band: float = FIT_BAND) -> Arch:
        """A random network, always inside the budget; the same for the same seed."""
        return self.sample_point(random.Random(seed), budget, band).arch

    def fix(self, assignments: Iterable[str]) -> Space:
        """The space with values fixed: `stage3.block=mbconv`, or for all stages `stage*.block=mbconv`."""
        data = copy.deepcopy(self.data)
        for assignment in assignments:
            name, separator, text = assignment.partition("=")
            if not separator:
                raise InputError(f"fix {assignment!r}: NAME=VALUE is accepted, as in stage3.block=mbconv")
            names = [name]
            if name.startswith("stage*."):
                names = [f"stage{i + 1}.{name[7:]}" for i in range(len(self.network.stages))]
            for one in names:
                _put(data, self._location(one), _scalar(text))
        return Space(data, self.source)

    def without(self, words: Iterable[str]) -> Space:
        """The space without some options: a value (`silu`) wherever it may be chosen, or a field (`se`) switched on."""
        data = copy.deepcopy(self.data)
        for word in words:
            before = json.dumps(data)
            for name, options in self.choices.items():
                field = name.rpartition(".")[2]
                kept = [option for option in _at(data, self._locations[name])["choice"] if option != word]
                if field == word:
                    kept = [option for option in options if option in (0, None, "none", False)]
                if not kept:
                    raise InputError(f"without {word!r}: nothing would be left to choose for {name}")
                _at(data, self._locations[name])["choice"] = kept
            left = [name for name, fixed in _scalars(data) if fixed == word or (name[-1] == word and fixed)]
            if left:
                place = ".".join(str(part) for part in left[0])
                raise InputError(
                    f"without {word!r}: {place} is fixed to it in {self.source}; change the file or --fix it"
                )
            if json.dumps(data) == before:
                known = sorted({str(option) for options in self.choices.values() for option in options})
                raise InputError(f"without {word!r}: no free value has it; there are {', '.join(known)}, and se")
        return Space(data, self.source)

    def _location(self, name: str) -> Location:
        """Where a value stands in the file, by its name, free or fixed."""
        if name in self._locations:
            return self._locations[name]
        section, _, field = name.rpartition(".")
        if section.startswith("stage") and section[5:].isdigit() and 0 < int(section[5:]) <= len(self.network.stages):
            return ("stages", int(section[5:]) - 1, field)
        if section in ("stem", "head", "schedule") or (not section and hasattr(self.network, field)):
            return (section, field) if section else (field,)
        near = difflib.get_close_matches(name, self._locations, 1, 0.0)
        raise InputError(
            f"fix {name!r}: no such value in {self.source}; did you mean {', '.join(near) or 'stage1.depth'}?"
        )

    @cached_property
    def _plan(self) -> dict[Location, list[tuple[str, Location]]]:
        """The free values by the part of the network that they stand in."""
        plan: dict[Location, list[tuple[str, Location]]] = {}
        for name, location in self._locations.items():
            cut = 0 if len(location) == 1 else 2 if location[0] == "stages" else 1
            plan.setdefault(location[:cut], []).append((name, location[cut:]))
        return plan

    def _place(self, point: Point) -> Network:
        missing = self.choices.keys() ^ point.keys()
        if missing:
            raise InputError(f"point: has to name every free value and no other; wrong at {sorted(missing)[0]}")
        network = self.network
        for section, entries in self._plan.items():
            part = _get(network, section)
            flat = {str(tail[0]): point[name] for name, tail in entries if len(tail) == 1}
            part = replace(part, **flat)
            for name, tail in entries:
                if len(tail) > 1:
                    part = _replaced(part, tail, point[name])
            network = _replaced(network, section, part)
        return network

    def _solve(
        self, point: dict[str, Scalar], budget: Budget, band: float, low: float, high: float
    ) -> Candidate | None:
        """The width multiplier that uses the budget to `band`, or None where none between low and high does.

        Rounded widths make the cost jump. Where it jumps over the band, all widths are shifted by part of a channel
        (c_i = a · f(i) + b with another b), which moves the jumps apart, and it is solved again nearby.
        """
        floor = max(limit.low / limit.high for limit in budget.limits) or band
        network = self._place(point)

        def spend(width_mult: float) -> tuple[float, Candidate]:
            arch = replace(network, width_mult=width_mult).arch()
            spent = cost(arch)
            return budget.used(spent), Candidate(point, arch, spent, width_mult)

        for shift in FIT_SHIFTS:
            network = replace(network, width_shift=shift)
            found, low, high = _bisect(spend, floor, low, high)
            if found is not None and budget.admits(found.cost):
                return found
            if high / low > 2:
                return None
            low, high = max(low / 1.2, self.fit_range[0] if self.fit_range else 0), high * 1.2
        return None


def _bisect(
    spend: Callable[[float], tuple[float, Candidate]], floor: float, low: float, high: float
) -> tuple[Candidate | None, float, float]:
    """The candidate that uses floor…1 of the budget, or None and the two multipliers between which its cost jumps.

    False position on log cost against log width, with a bisection every third time, so that no side stalls.
    """
    (least, first), (most, last) = spend(low), spend(high)
    for share, found in ((least, first), (most, last)):
        if floor <= share <= 1:
            return found, low, high
    if least > 1 or most < floor:
        return None, low, high
    target = math.log((floor + 1) / 2)
    a, b, at_a, at_b = math.log(low), math.log(high), math.log(least), math.log(most)
    for step in range(FIT_EVALUATIONS - 2):
        middle = (a + b) / 2
        if step % 3 < 2:
            middle = min(max(a + (target - at_a) * (b - a) / (at_b - at_a), a + (b - a) / 50), b - (b - a) / 50)
        share, found = spend(math.exp(middle))
        if floor <= share <= 1:
            return found, low, high
        if share < floor:
            a, at_a = middle, math.log(share)
        else:
            b, at_b = middle, math.log(share)
        if b - a < JUMP:
            break
    return None, math.exp(a), math.exp(b)


def ready() -> list[str]:
    """The names of the ready spaces."""
    folder = resources.files("searchspace") / "spaces"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _with_defaults(data: Any, source: str) -> Any:
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


def _split(
    data: Any, source: str, lines: Mapping[Location, int]
) -> tuple[Any, dict[str, Location], dict[str, list[Scalar]]]:
    """The file with every free value at its first choice; where the free values stand; what they may be."""
    locations: dict[str, Location] = {}
    choices: dict[str, list[Scalar]] = {}

    def walk(node: Any, at: Location) -> Any:
        if isinstance(node, dict) and "choice" in node:
            options, place = node["choice"], f"{source}:{lines.get(at, '')}".rstrip(":")
            if len(node) > 1 or not isinstance(options, list) or not options:
                raise InputError(f"{place}: {_name(at)}: {{choice: [...]}} with at least one value is accepted")
            if not all(option is None or isinstance(option, (bool, int, float, str)) for option in options):
                raise InputError(f"{place}: {_name(at)}: choices are single values, not lists or mappings")
            if len({json.dumps(option) for option in options}) < len(options):
                raise InputError(f"{place}: {_name(at)}: a choice is listed twice")
            locations[_name(at)], choices[_name(at)] = at, list(options)
            return options[0]
        if isinstance(node, dict):
            return {key: walk(child, (*at, key)) for key, child in node.items()}
        if isinstance(node, list):
            return [walk(child, (*at, index)) for index, child in enumerate(node)]
        return node

    return walk(data, ()), locations, choices


def _name(location: Location) -> str:
    """A free value's name: list items lose the plural and count from 1, as in `stage3.expansion`."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            parts[-1] = f"{parts[-1].removesuffix('s')}{part + 1}"
        else:
            parts.append(part)
    return ".".join(parts)


def _fit_range(node: Mapping[str, Any], source: str) -> tuple[float, float]:
    bounds = node.get("fit")
    if len(node) == 1 and isinstance(bounds, list) and len(bounds) == 2:
        numbers = all(isinstance(bound, (int, float)) and math.isfinite(bound) for bound in bounds)
        if numbers and 0 < bounds[0] < bounds[1]:
            return float(bounds[0]), float(bounds[1])
    raise InputError(
        f"{source}: width_mult: a number, a choice or {{fit: [low, high]}} with 0 < low < high is accepted"
    )


def _scalar(text: str) -> Scalar:
    """A value as YAML reads it: 3, 0.5, true, none stays text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "null": None}.get(text, text)


def _get(thing: Any, location: Location) -> Any:
    for part in location:
        thing = thing[part] if isinstance(part, int) else getattr(thing, part)
    return thing


def _replaced(thing: Any, location: Location, new: Any) -> Any:
    """A frozen value with one place in it changed."""
    if not location:
        return new
    part, rest = location[0], location[1:]
    if isinstance(part, int):
        return (*thing[:part], _replaced(thing[part], rest, new), *thing[part + 1 :])
    return replace(thing, **{part: _replaced(getattr(thing, part), rest, new)})


def _at(data: Any, location: Location) -> Any:
    for part in location:
        data = data[part]
    return data


def _put(data: Any, location: Location, new: Any) -> Any:
    """Plain data with one place in it changed, in place."""
    parent = data
    for part in location[:-1]:
        parent = parent[part]
    parent[location[-1]] = new
    return data


def _scalars(node: Any, at: Location = ()) -> Iterable[tuple[Location, Any]]:
    """Every fixed value of a file with its place."""
    if isinstance(node, dict) and "choice" in node:
        return
    if isinstance(node, (dict, list)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _scalars(child, (*at, key))
    else:
        yield at, node
