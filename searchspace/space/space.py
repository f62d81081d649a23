"""`Space`: a network file in which some values are free. What is free and what is fixed; points; fitting to a budget.

Anywhere in the file `{choice: [...]}` frees a value, and `width_mult: {fit: [low, high]}` leaves the width multiplier
to be solved so that a network costs what the budget allows. A point gives every free value; it has a name that reads
well in a table: `stage3.expansion`, `schedule.slope2`.
"""

from __future__ import annotations

import copy
import difflib
import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from searchspace import limits, presets
from searchspace.arch import Arch
from searchspace.blocks.blocks import all_options, structure
from searchspace.budget import Budget, Cost
from searchspace.costs.latency import LatencyTable
from searchspace.costs.network_cost import cost, outline_cost
from searchspace.document import Location, parse, plain, read_yaml, scalar
from searchspace.errors import InputError, UnmetError
from searchspace.format.network import MIN_EXPANSION, check_expansion, parse_network, with_defaults
from searchspace.format.resolve import OpenNetwork
from searchspace.space import choices as free
from searchspace.space.choices import Options, Scalar, Slots
from searchspace.space.deployment import Deployment
from searchspace.space.known_networks import RESOLUTION, known_points
from searchspace.space.narrow import OFF, fixed_places, offer, without
from searchspace.space.repair import least, repair
from searchspace.space.width_solver import solve

Point = Mapping[str, Scalar]
BudgetLike = Budget | str | Iterable[str]
T = TypeVar("T")

FOLDER = "spaces"
FIT_BAND = 0.97
ARENA_BAND = 0.85  # one channel more of the largest map, in whole channels, may be a tenth of a microcontroller's arena
REPAIR_BAND = 0.85
LOOSER_BANDS = (1.0, 0.85, 0.5, 0.0)
SAMPLE_TRIES, DOUBTFUL_TRIES = 1000, 10
# What a known network may be adapted in and stay itself: what it is deployed for, and how its widths are rounded.
ADAPTED = ("resolution", "num_classes", "in_channels", "smallest_map", "width_mult")
ROUNDING = ("divisor", "rounding", "min_width", "hidden_min", "se_min", "se_divisor")
KNOWN_BANDS, KNOWN_LEAST = (0.94, 0.9, 0.85, 0.5), 0.1
REMEMBERED = 1 << 14
MULTIPLIERS = 200  # from the least to the largest, of which one may make a network where these do not
EXAMPLES = 20  # random networks by which it is judged whether a choice can keep to rules
STRIDES = (".stride", ".pool")
# Fields of which layers alone show whether they keep to rules, beside kinds of blocks.
ABOUT_LAYERS = (".downsample", ".group_width")
SECTIONS = ("stem", "head", "schedule")
UNCOUNTED = (".act", "_act", ".se_position", ".se_gate")


class Candidate(NamedTuple):
    """A point with the network that it stands for; `width_mult` was solved where the space leaves it open.

    `settled` are the first widths, the stem's before the blocks', where they are below what the multiplier gives (see
    `solve`): `space.arch(point, width_mult, settled)` is `arch`.
    """

    point: dict[str, Scalar]
    arch: Arch
    cost: Cost
    width_mult: float
    settled: tuple[int, ...] = ()


class Space:
    """A set of networks: `choices` names every free value, `arch` makes the network of a point.

    `known` holds the points that are known networks, as far as this space still offers their values, and `lacking` says
    of each other one which value it has that is not offered. `deployment` is what its networks keep to, where that is
    asked for (see `deploy`).
    """

    def __init__(self, data: Any, source: str = "space", lines: Mapping[Location, int] | None = None) -> None:
        self.source = source
        self.latency: LatencyTable | None = None
        self.data = free.with_defaults(data, source)
        self.fit_range: tuple[float, float] | None = None
        written = {part: node for part, node in self.data.items() if part not in free.BESIDE}
        fixed, self._locations, choices = free.split(written, source, lines or {})
        if isinstance(fixed, dict) and isinstance(fixed.get("width_mult"), dict):
            self.fit_range = free.fit_range(written["width_mult"], source)
            fixed["width_mult"] = 1.0
        self.network = parse_network(fixed, source, lines)
        for name, location in self._locations.items():
            for option in choices[name]:
                parse_network(free.set_at(copy.deepcopy(fixed), location, option), source, lines)
        self.choices: dict[str, Options] = choices
        self._check_expansions(source, lines or {})
        self._known = known_points(self.data.get("known", {}), written, self.choices, source)
        self.known, self.lacking = self._known.points, self._known.lacking
        self._outline = self.network.outline()
        self._sections: dict[Hashable, Any] = {}
        self._reached: set[tuple[Budget, float]] = set()
        self.deployment = parse(Deployment, self.data["deploy"], source) if "deploy" in self.data else None
        first = self.arch({name: options[0] for name, options in self.choices.items()})
        if self.deployment and (broken := self.deployment.broken(first)) and not self._may_deploy():
            raise InputError(f"{source}: deploy {self.deployment.name}: {broken}")

    def _check_expansions(self, source: str, lines: Mapping[Location, int]) -> None:
        """`InputError` for an expansion that is larger than any in a space, where something is free."""
        if not self.choices and self.fit_range is None:
            return
        for index, stage in enumerate(self.network.stages):
            place = free.name(("stages", index))
            for expansion in self.choices.get(f"{place}.expansion", (stage.expansion,)):
                try:
                    check_expansion(float(expansion or MIN_EXPANSION))
                except ValueError as error:
                    line = lines.get(("stages", index))
                    where = f"{source}:{line}" if line else source
                    raise InputError(f"{where}: {place}: {error}: only a fixed network may have more") from None

    @classmethod
    def of(cls, given: Space | str | Path | Mapping[str, Any]) -> Space:
        """A space, or what stands for one: a ready name, a file, or the data that a file holds."""
        if isinstance(given, Space):
            return given
        if isinstance(given, Mapping):
            return cls(dict(given))
        if isinstance(given, (str, Path)):
            return cls.load(given)
        raise InputError(f"space {given!r}: a Space, a file, its data, or one of {', '.join(ready())} is accepted")

    @classmethod
    def load(cls, name: str | Path) -> Space:
        """A ready space by its name, or any space or network file; `InputError` where there is none or it is wrong."""
        path = presets.find("space", FOLDER, name)
        data, lines = read_yaml(path)
        if isinstance(data, dict) and "blocks" in data and "stages" not in data:
            raise InputError(f"{path}: an exported network, with nothing to search; a space is written in stages")
        space = cls(data, path.name, lines)
        for title, lacks in space.lacking.items():
            raise InputError(f"{path.name}: known.{title}: {lacks} is not among the choices")
        return space

    def __repr__(self) -> str:
        free = f"{len(self.choices)} choices, {self.size:.3g} points" if self.choices else "no choices"
        return f"Space({self.source!r}: {free})"

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(len(options) for options in self.choices.values())

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The deployment resolutions of its networks, ascending: one, unless `resolution` is a choice."""
        options = self.choices.get("resolution", (self.network.resolution,))
        return tuple(sorted(pixels for pixels in options if isinstance(pixels, int)))

    @property
    def extremes(self) -> tuple[int, int] | None:
        """The smallest and the largest resolution, where it has several."""
        return (self.resolutions[0], self.resolutions[-1]) if len(self.resolutions) > 1 else None

    @property
    def title(self) -> str:
        """`mobile.yaml at 224 px`, by which its networks go in a latency table."""
        return f"{self.source} at {self.pixels}"

    @property
    def pixels(self) -> str:
        """Its resolutions in words: 224 px, or 96, 128 or 160 px."""
        *others, last = map(str, self.resolutions)
        return f"{', '.join(others)} or {last} px" if others else f"{last} px"

    def arch(self, point: Point | None = None, width_mult: float | None = None, settled: Sequence[int] = ()) -> Arch:
        """The network of a point (which names every free value) at a width multiplier where that is open.

        `settled` are first widths that are as they are, whatever the multiplier (see `Candidate`).
        """
        point = {} if point is None else point
        self._check_offered(point)
        if width_mult is not None and not 0 < width_mult <= limits.FACTOR:
            raise InputError(f"width_mult: above 0 and at most {limits.FACTOR:,.0f}, not {width_mult}")
        try:
            outline = self.outline(point, width_mult)
            outline.settled = tuple(settled)
            return outline.arch()
        except ValueError as error:
            raise InputError(f"{self.source}: {error}") from None

    def with_latencies(self, table: LatencyTable) -> Space:
        """The same space, whose costs have a latency: what the table of a device predicts."""
        space = copy.copy(self)
        space.latency = table
        return space

    def latency_table(self, budget: Budget) -> LatencyTable | None:
        """The table, where the budget asks for it: predictions take many times longer than counting."""
        return self.latency if any(limit.currency == "latency_ms" for limit in budget.limits) else None

    def cost(
        self, point: Point, width_mult: float | None = None, latency: LatencyTable | None = None, own: bool = False
    ) -> Cost:
        """What the network of a point costs, without its blocks being made; many times faster than by `arch`, unless
        there is a table, or `own` asks for costs of the user's own."""
        try:
            return outline_cost(self.outline(point, width_mult), latency, own)
        except ValueError as error:
            raise InputError(f"{self.source}: {error}") from None

    def _cost_at(self, budget: Budget) -> Callable[..., Cost]:
        """What a point costs at a width multiplier, in all that a budget limits."""
        return partial(self.cost, latency=self.latency_table(budget), own=budget.limits_own)

    def outline(self, point: Point, width_mult: float | None = None) -> OpenNetwork:
        """The network of a point before its widths are worked out."""
        if point.keys() != self.choices.keys():
            wrong = sorted(self.choices.keys() ^ point.keys())[0]
            raise InputError(f"point: has to name every free value and no other; wrong at {wrong}")
        network, (stages, sections, top) = self.network, self._slots
        changed = top.changes(partial(getattr, network), point)
        changed |= {name: self._section(name, slots, point) for name, slots in sections.items()}
        if width_mult is not None:
            changed["width_mult"] = width_mult
        given = [with_defaults({**own, **slots.changes(own.__getitem__, point)}) for own, slots in stages]
        return replace(self._outline, stages=given, **changed)

    def _check_offered(self, point: Point) -> None:
        """`InputError` where a value of a point is none of those that it may have."""
        for name, options in self.choices.items():
            if point.get(name) not in options and name in point:
                raise InputError(f"point: {name}: {', '.join(map(str, options))} is accepted, not {point[name]!r}")

    def random_point(self, rng: random.Random) -> dict[str, Scalar]:
        return {name: options.draw(rng) for name, options in self.choices.items()}

    def fit(self, point: Point, budget: BudgetLike, band: float = FIT_BAND, seed: int = 0) -> Candidate | None:
        """The point's network brought inside the budget, or None where that cannot be.

        `InputError` where choices do not go together at any width, as for `arch` and `cost`.

        With a free width multiplier it is solved so that the tightest limit is used to at least `band`; a point that
        is too dear at the least multiplier, or too cheap at the largest, has choices changed first. Without one,
        choices are changed until 85 % is used (or `band`, where that is less; see `repair`). A range given as budget
        takes the place of the band.
        """
        budget = Budget.parse(budget)
        self._check_offered(point)
        try:
            return self._fit(point, budget, band, seed)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{self.source}: {error}") from None

    def fit_known(self, name: str, budget: BudgetLike, band: float = FIT_BAND) -> Candidate | None:
        """A known network inside a budget with no choice changed, scaled in width where that is open; else None.

        How far a paper's network is scaled is no choice of the space: its multiplier may be below the space's least,
        and where its rounded widths do not meet the band it uses less of the budget, at least half.
        """
        budget, point = Budget.parse(budget), self.known[name]
        if self.fit_range is None:
            found = self.fit(point, budget, 0.0)
            return found if found is not None and found.point == point else None
        floor, table, (low, high) = self._floor(budget), self.latency_table(budget), self.fit_range
        for wanted in (band, *(looser for looser in KNOWN_BANDS if looser < band)):
            for start in (low, KNOWN_LEAST * low):
                outline = self.outline(point)
                solved = solve(outline, partial(_share, budget, table), floor or wanted, start, high)
                candidate = self._candidate(outline, point, budget) if solved else None
                if candidate is not None:
                    return candidate
        return None

    def _floor(self, budget: Budget) -> float:
        """The share of the budget that its own lower bounds ask for; 0 where it has none."""
        return max(limit.low / limit.high for limit in budget.limits)

    def _fit(self, point: Point, budget: Budget, band: float, seed: int) -> Candidate | None:
        table, rng, floor = self.latency_table(budget), random.Random(seed), self._floor(budget)
        spent = self._cost_at(budget)
        if self.fit_range is None:
            least = floor or min(band, REPAIR_BAND)
            changed = repair(point, self.choices, lambda p: budget.share_reached(spent(p)), least, 1.0, rng)
            return None if changed is None else self._candidate(self.outline(changed), changed, budget)

        share = partial(_share, budget, table)
        outline = self.outline(point)
        if not solve(outline, share, floor or band, *self.fit_range):
            reached = self._infinite_where_too_wide(lambda p, m: budget.share_reached(spent(p, m)))
            within = self._within_reach(point, self._felt(budget), reached, floor or band, rng)
            if within is None:
                return None
            point, outline = within, self.outline(within)
            if not solve(outline, share, floor or band, *self.fit_range):
                return None
        return self._candidate(outline, point, budget)

    def _within_reach(
        self,
        point: Point,
        choices: Mapping[str, Sequence[Scalar]],
        share: Callable[[Point, float], float],
        floor: float,
        rng: random.Random,
    ) -> Point | None:
        """A point near one whose least or largest network misses the budget, in these choices; None where it was not
        that, or there is none."""
        low, high = self.fit_range or (1.0, 1.0)
        if share(point, low) > 1:
            return repair(point, choices, lambda p: share(p, low), 0.0, 1.0, rng)
        if share(point, high) < floor:
            return repair(point, choices, lambda p: share(p, high), floor, math.inf, rng)
        return None

    def _candidate(self, outline: OpenNetwork, point: Point, budget: Budget) -> Candidate | None:
        """The outline's network as a candidate, where it can be made and keeps the budget."""
        try:
            arch = outline.arch()
        except ValueError:
            return None
        spent = cost(arch, self.latency)
        found = Candidate(dict(point), arch, spent, outline.width_mult, outline.settled)
        return found if budget.admits(spent) and self.deploys(arch) else None

    def reach(self, budget: BudgetLike, band: float, rng: random.Random) -> tuple[Arch, Arch]:
        """The cheapest network and the dearest; `InputError` where a budget is not between them."""
        budget = Budget.parse(budget)
        low, high = self.fit_range or (None, None)
        spend, drawn, at_least = self._cost_at(budget), partial(self.random_point, rng), self._share(budget, low)
        at_most = self._share(budget, high)
        choices = self._felt(budget)
        smallest = least(choices, at_least, drawn)
        for _ in range(DOUBTFUL_TRIES):  # descent may end above the budget, where small steps from elsewhere do not
            if at_least(smallest) <= 1:
                break
            smallest = repair(drawn(), self.choices, at_least, 0.0, 1.0, rng) or smallest
        largest = least(choices, lambda point: -at_most(point) if at_most(point) < math.inf else 0.0, drawn)
        few, many = spend(smallest, low), self._nearest(partial(spend, largest), high, low)
        reachable = f"networks of {self.source} cost {budget.amounts(few)} to {budget.amounts(many)}"
        if budget.share_used(few) > 1:
            raise UnmetError(f"budget {budget} cannot be met: {reachable}")
        short = any(limit.of(many) < limit.low for limit in budget.limits)
        if short or (self.fit_range is not None and budget.share_used(many) < band):
            raise InputError(f"budget {budget} is not reached: {reachable}")
        ends = (smallest, low, high), (largest, high, low)
        cheapest, dearest = (self._nearest(partial(self.arch, point), start, end) for point, start, end in ends)
        return cheapest, dearest

    def _nearest(self, made: Callable[[float | None], T], start: float | None, end: float | None) -> T:
        """What is made at the width multiplier next to `start`, on the way to `end`, at which that can be."""
        if start is not None and end is not None:
            for step in range(MULTIPLIERS + 1):
                with suppress(InputError):
                    return made(start * (end / start) ** (step / MULTIPLIERS))
        return made(start)

    def _infinite_where_too_wide(
        self, share: Callable[[Point, float | None], float]
    ) -> Callable[[Point, float | None], float]:
        """The same share of a budget; infinite where a multiplier above the least makes a network too wide."""
        least = self.fit_range[0] if self.fit_range else None

        def used(point: Point, width_mult: float | None) -> float:
            try:
                return share(point, width_mult)
            except InputError:
                if width_mult == least:
                    raise
                return math.inf

        return used

    def keeps(self, budget: Budget, rng: random.Random) -> bool:
        """Whether descent finds a network within a budget."""
        low, _ = self.fit_range or (None, None)
        share = self._share(budget, low)
        return share(least(self._felt(budget), share, partial(self.random_point, rng))) <= 1

    def _share(self, budget: Budget, width_mult: float | None) -> Callable[[Point], float]:
        """The part of a budget that a point uses at a width multiplier; infinite where its strides are too many for its
        pixels, or its widths too large."""
        spend = self._cost_at(budget)
        share = self._infinite_where_too_wide(lambda point, mult: budget.share_used(spend(point, mult)))
        strided = any(name == "resolution" or name.endswith(STRIDES) for name in self.choices)

        def used(point: Point) -> float:
            if strided and (outline := self.outline(point)).resolution < math.prod(outline.strides()):
                return math.inf
            return share(point, width_mult)

        return used

    def sample_point(self, rng: random.Random, budget: BudgetLike, band: float = FIT_BAND) -> Candidate:
        """A random candidate inside the budget; `InputError` where it is out of reach, or no try of 1,000 found one.

        Where tries in the band fail, less of the budget may be used: first 85 %, then any share.
        """
        budget = Budget.parse(budget)
        if not 0 <= band <= 1:
            raise InputError(f"band: a share of the budget from 0 to 1, not {band:g}")
        for attempt in range(SAMPLE_TRIES):
            if attempt == DOUBTFUL_TRIES and (budget, band) not in self._reached:
                self.reach(budget, min(band, REPAIR_BAND), random.Random(0))
                self._reached.add((budget, band))
            wanted = min(band, LOOSER_BANDS[attempt * len(LOOSER_BANDS) // SAMPLE_TRIES])
            candidate = self.fit(self.random_point(rng), budget, wanted, seed=rng.getrandbits(32))
            if candidate is not None:
                return candidate
        raise InputError(
            f"budget {budget}: none of {SAMPLE_TRIES} random networks of {self.source} could be fitted; "
            "python -m searchspace describe says what its networks cost"
        )

    def sample(self, seed: int, budget: BudgetLike, band: float = FIT_BAND) -> Arch:
        """A random network, always inside the budget; the same for the same seed."""
        return self.sample_point(random.Random(seed), budget, band).arch

    def fix(self, assignments: Iterable[str]) -> Space:
        """The space with values fixed: `stage3.block=mbconv`, or for all stages `stage*.block=mbconv`."""
        data = copy.deepcopy(self.data)
        for assignment in assignments:
            name, separator, text = (part.strip() for part in assignment.partition("="))
            if not separator:
                raise InputError(f"fix {assignment!r}: NAME=VALUE is accepted, as in stage3.block=mbconv")
            names = [name]
            if name.startswith("stage*."):
                names = [f"stage{i + 1}.{name[7:]}" for i in range(len(self.network.stages))]
            for one in names:
                location = self._location(one)
                if one not in self._locations and one not in ADAPTED and location[-1] not in ROUNDING:
                    self._note_known(data, location)
                free.set_at(data, location, scalar(text))
        return Space(data, self.source)

    def _note_known(self, data: Any, location: Location, lacking: bool = False) -> None:
        """Write into the known networks what they have at a place that is not free, so that they are known for it;
        where it becomes free, into those that are `lacking` something too."""
        entries = {title: dict(entry) for title, entry in self._known.written.items()}
        points = {title.partition("@")[0]: point for title, point in self.known.items()}
        for title in self.lacking if lacking else ():
            points[title] = {one: entries[title].get(one, options[0]) for one, options in self.choices.items()}
        for title, point in points.items():
            entries[title].setdefault(free.name(location), self._value(self.outline(point), location))
        if entries:
            data["known"] = {**data["known"], **entries}

    def _value(self, outline: OpenNetwork, location: Location) -> Any:
        """What a network has at a place, as it is written or as it is where nothing is written; None where nothing is
        known of such a place."""
        try:
            if location[0] == "stages":
                stage: Any = outline.stages[int(location[1])]
                return free.at(stage, location[2:])
            return free.get(outline, location)
        except (KeyError, IndexError, AttributeError, TypeError):
            return None

    def at_resolutions(self, pixels: Sequence[int]) -> Space:
        """The space deployed at a resolution, or at a choice of several."""
        return self.fix([f"resolution={pixels[0]}"]) if len(pixels) == 1 else self.free("resolution", pixels)

    def free(self, name: str, options: Sequence[Scalar]) -> Space:
        """The space with a value free that was not, or free among others."""
        data, location = copy.deepcopy(self.data), self._location(name)
        if name not in self._locations and name != RESOLUTION:
            self._note_known(data, location, lacking=True)
        free.set_at(data, location, {"choice": list(options)})
        return Space(data, self.source)

    def without(self, words: Iterable[str]) -> Space:
        """The space without some options: a value (`silu`, 7) wherever it may be chosen, or a field (`se`) switched on.

        `InputError` where a word names nothing that is free, where nothing else would be left to choose, or where the
        file fixes what it names: a number alone names choices only.
        """
        return Space(without(self.data, self._locations, words, self.source), self.source)

    def deploy(self, given: Deployment | str | Path) -> Space:
        """The space of those networks that keep to the rules of a compiler (see `Deployment.load`).

        Options that break a rule are left out; where nothing else is offered or something is fixed, the rule says what
        takes its place. `InputError` where the rules leave no network.
        """
        rules = given if isinstance(given, Deployment) else Deployment.load(given)
        space = Space(offer(self.data, self._locations, rules), self.source)
        data = copy.deepcopy(space.data)
        for location in space._breaking(rules):
            space._note_known(data, location)
            free.set_at(data, location, rules.instead(free.name(location)))
        space = Space(data, self.source)
        for field in ABOUT_LAYERS:
            space = space._keep_usual(rules, field)
        data = copy.deepcopy(space.data)
        for name, options in space._blocks.items():
            kept = [option for option in options if any(not rules.broken(arch) for arch in space._with(name, option))]
            if kept and len(kept) < len(options):
                free.keep_at(data, space._locations[name], map(options.index, kept))
        return Space({**data, "deploy": plain(rules)}, self.source)

    @property
    def _blocks(self) -> dict[str, Options]:
        """The choices of kinds of blocks."""
        return self._choices_of(".block")

    def _choices_of(self, field: str) -> dict[str, Options]:
        """The choices of one field of the stages."""
        return {name: options for name, options in self.choices.items() if name.endswith(field)}

    def _keep_usual(self, rules: Deployment, field: str) -> Space:
        """The space with those options of a stages' field that keep to the rules with most kinds of blocks, whatever
        the widths: these are a multiplier's."""
        places, data = self._choices_of(field), copy.deepcopy(self.data)
        rules = replace(rules, rules={aspect: rule for aspect, rule in rules.rules.items() if aspect != "width"})
        offered = dict.fromkeys(option for options in places.values() for option in options)
        kinds = {option: self._count_kinds(rules, field, option) for option in offered}
        for name, options in places.items():
            most = max(kinds[option] for option in options)
            kept = [index for index, option in enumerate(options) if kinds[option] == most]
            free.keep_at(data, self._locations[name], kept)
        return Space(data, self.source) if places else self

    def _count_kinds(self, rules: Deployment, field: str, value: Scalar) -> int:
        """With how many kinds of blocks a field's value keeps to the rules, both wherever they may be chosen."""
        alike = [name for name, options in self._choices_of(field).items() if value in options]
        point = {name: options[0] for name, options in self.choices.items()} | dict.fromkeys(alike, value)
        count = 0
        for kind in dict.fromkeys(kind for options in self._blocks.values() for kind in options) or (None,):
            chosen = {one: kind for one, options in self._blocks.items() if kind in options}
            with suppress(InputError):
                count += not rules.broken(self.arch({**point, **chosen}))
        return count

    def _breaking(self, rules: Deployment) -> list[Location]:
        """Where something fixed breaks a rule, whichever kind of block is chosen: what a file leaves out is the kind's.
        Where the rule has nothing to take its place, that of the first kinds alone; the others are left out."""
        found = dict[Location, None]()
        for one in self._of_each_block():
            for location, written in fixed_places(one.network):
                name = free.name(location)
                if name in self._locations or rules.admits(name, written):
                    continue
                if one is self or rules.replaces(name):
                    found[location] = None
        return list(found)

    def _of_each_block(self) -> Iterator[Space]:
        """The space with one kind of block wherever that may be chosen, for every kind, whose defaults then hold."""
        kinds = dict.fromkeys(kind for options in self._blocks.values() for kind in options)
        yield self
        for kind in kinds:
            yield self.fix([f"{name}={kind}" for name, options in self._blocks.items() if kind in options])

    def _may_deploy(self) -> bool:
        """Whether some random network keeps to the rules, at a width multiplier that rounds all widths."""
        least = self.fit_range[0] if self.fit_range else None
        for seed in range(EXAMPLES):
            with suppress(InputError):
                if self.deploys(self.arch(self.random_point(random.Random(seed)), least)):
                    return True
        return False

    def _with(self, name: str, value: Scalar) -> Iterator[Arch]:
        """Some networks of which a choice has a value: with the first of all others, with it wherever it may be chosen,
        and random ones."""
        first = {name: options[0] for name, options in self.choices.items()}
        yield self.arch({**first, name: value})
        alike = {other for other, options in self._blocks.items() if value in options}
        yield self.arch({**first, **dict.fromkeys(alike, value)})
        for seed in range(EXAMPLES):
            with suppress(InputError):
                yield self.arch({**self.random_point(random.Random(seed)), name: value})

    def deploys(self, arch: Arch) -> bool:
        """Whether a network keeps to what the space's networks are deployed by."""
        return self.deployment is None or not self.deployment.broken(arch)

    def offers(self, word: str) -> bool:
        """Whether a value may be chosen, or a field of this name switched on (see `without`)."""
        wanted = scalar(word)
        for name, options in self.choices.items():
            if any(free.same(option, wanted) for option in options):
                return True
            if name.rpartition(".")[2] == word and any(option not in OFF for option in options):
                return True
        return False

    def adopt(self, other: Space, point: Point) -> dict[str, Scalar] | None:
        """The point of this space that is a point of another one; None where this space has no such network.

        All that makes a network has to agree, whether it is written, free or left out; resolution, classes and the
        width multiplier may differ.
        """
        theirs = other.outline({name: point[name] for name in other.choices})
        found = {name: self._value(theirs, location) for name, location in self._locations.items()}
        try:
            own = {name: options[options.index(found[name])] for name, options in self.choices.items()}
        except (KeyError, TypeError, ValueError):
            return None
        return own if _essence(self.outline(own)) == _essence(theirs) else None

    def _location(self, name: str) -> Location:
        """Where a value stands in the file, by its name, free or fixed."""
        if name in self._locations:
            return self._locations[name]
        section, _, field = name.rpartition(".")
        if section.startswith("stage") and section[5:].isdecimal() and 0 < int(section[5:]) <= len(self.network.stages):
            return ("stages", int(section[5:]) - 1, field)
        alone = not section and hasattr(self.network, field) and field not in (*SECTIONS, "stages")
        if section in SECTIONS or alone:
            return (section, field) if section else (field,)
        near = difflib.get_close_matches(name, self._locations, 1, 0.0)
        raise InputError(
            f"fix {name!r}: no such value in {self.source}; did you mean {', '.join(near) or 'stage1.depth'}?"
        )

    def _felt(self, budget: Budget) -> Mapping[str, tuple[Scalar, ...]]:
        """The choices that may change how much of a budget is used."""
        return self._counted if self.counts_alone(budget) else self.choices

    def counts_alone(self, budget: Budget) -> bool:
        """Whether counting, which is fast, tells how much of a budget a network uses: neither time nor own costs."""
        return self.latency_table(budget) is None and not budget.limits_own

    @property
    def _counted(self) -> dict[str, tuple[Scalar, ...]]:
        """The choices that change what is counted: a nonlinearity, or where the squeeze stands, changes no count."""
        return {
            name: options
            for name, options in self.choices.items()
            if not name.endswith(UNCOUNTED) or "output" in options  # there a squeeze sees other channels
        }

    @cached_property
    def _slots(self) -> tuple[list[tuple[dict[str, Any], Slots]], dict[str, Slots], Slots]:
        """Where free values go: in every stage, beside what it says itself; in stem, schedule, head; at the top."""
        found: dict[Location, dict[str, Location]] = {}
        for name, at in self._locations.items():
            cut = 0 if len(at) == 1 else 2 if at[0] == "stages" else 1
            found.setdefault(at[:cut], {})[name] = at[cut:]
        stages = [(stage.given, Slots(found.pop(("stages", i), {}))) for i, stage in enumerate(self.network.stages)]
        top = Slots(found.pop((), {}))
        return stages, {str(at[0]): Slots(places) for at, places in found.items()}, top

    def _section(self, name: str, slots: Slots, point: Point) -> Any:
        """Stem, schedule or head; remembered, since few values are free in them and recur."""
        key = (name, slots.values(point))
        if key not in self._sections:
            if len(self._sections) >= REMEMBERED:
                self._sections.clear()
            own = getattr(self.network, name)
            self._sections[key] = replace(own, **slots.changes(partial(getattr, own), point))
        return self._sections[key]


def _essence(outline: OpenNetwork) -> OpenNetwork:
    """What makes a network: without what it may be adapted in, and without options of other kinds of blocks."""
    stages = []
    for choices in outline.stages:
        dead = all_options().keys() - structure(choices["block"]).options.keys()
        stages.append({name: value for name, value in choices.items() if name not in dead})
    return replace(outline, stages=stages, resolution=0, num_classes=0, in_channels=0, smallest_map=0, width_mult=0.0)


def _share(budget: Budget, table: LatencyTable | None, outline: OpenNetwork) -> float:
    """The part of a budget that an outline's network uses, as solvers want it."""
    return budget.share_reached(outline_cost(outline, table, budget.limits_own))


def band_of(budget: Budget) -> float:
    """The share of a budget that networks use at least, where nothing else is said."""
    return ARENA_BAND if any(limit.currency == "int8_arena_bytes" for limit in budget.limits) else FIT_BAND


def ready() -> list[str]:
    """The names of the ready spaces."""
    return presets.names(FOLDER)
