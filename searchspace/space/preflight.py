"""`preflight(space, budget)`: what a budget leaves of a space, before anything runs."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median_low

from searchspace.arch import Arch
from searchspace.budget import Budget, Cost
from searchspace.costs.latency import LatencyTable
from searchspace.costs.network_cost import cost
from searchspace.errors import InputError
from searchspace.networks import names, zoo
from searchspace.processes import Mapped
from searchspace.space.space import FIT_BAND, BudgetLike, Candidate, Point, Space

SAMPLE = 2_000
FITTED, FEWEST_FITTED, FITTED_S = 200, 20, 10.0  # random points; fewer where they take long, as with four limits
ENUMERABLE = 2_000
UNSEEN = 3.0  # what is expected this often is seen with 95 % probability

CHUNK, MANY = 5_000, 20_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Preflight:
    """What random points cost (`spent`, ascending in each currency of the budget, `costs` in its first one; where the
    width multiplier is free, at multiplier 1), and what can be reached.

    `points` counts choices, several of which may give one network. `distinct` networks are counted where the space is
    small, else None, and at least `at_least` are there with 95 % confidence: so few of the sampled points cost the
    same. `inside` is the share of points that keep the budget as they are, `fits` of those that can be brought into it;
    of these `width_mult` and `first_width` (the first stage's channels) are medians, and `changed` is the share whose
    choices were changed for it. `smallest` and `largest` were found by descent over single choices. `left_out` says of
    known networks why they are no baselines here.
    """

    points: int
    distinct: int | None
    at_least: int
    spent: tuple[tuple[float, ...], ...]
    smallest: tuple[Arch, Cost]
    largest: tuple[Arch, Cost]
    inside: float
    fits: float
    tried: int
    width_mult: float
    first_width: int
    changed: float
    left_out: dict[str, str]

    @property
    def costs(self) -> tuple[float, ...]:
        return self.spent[0]

    def quantile(self, share: float) -> float:
        """Of the costs in the first currency."""
        return self.quantiles(share)[0]

    def quantiles(self, share: float) -> list[float]:
        """Of the costs in every currency."""
        return [spent[min(int(share * len(spent)), len(spent) - 1)] for spent in self.spent]


def preflight(
    space: Space,
    budget: BudgetLike,
    band: float = FIT_BAND,
    seed: int = 0,
    sample: int = SAMPLE,
    progress: Progress = lambda done, total: None,
    mapped: Mapped = map,
    reached: tuple[Arch, Arch] | None = None,
) -> Preflight:
    """The space's costs and the share of random points that can be brought inside the budget.

    Points are counted in chunks by `mapped`: the built-in `map`, or that of a pool of processes. `reached` is what
    `Space.reach` has found already. Raises `InputError` where no network fits: it says what can be reached.
    """
    budget, rng = Budget.parse(budget), random.Random(seed)
    table = space.latency_table(budget)
    smallest, largest = reached or space.reach(budget, band, rng)
    least, most = cost(smallest, table), cost(largest, table)
    seen: Counter[Cost] = Counter()
    chunks = [(f"{seed} {start}", min(CHUNK, sample - start)) for start in range(0, sample, CHUNK)]
    for counts in mapped(partial(_count, space, table, budget.limits_own), chunks):
        seen.update(counts)
        progress(seen.total(), sample)
    fitted = list[tuple[Point, Candidate | None]]()
    enough = time.monotonic() + FITTED_S
    while len(fitted) < min(FITTED, sample) and (len(fitted) < FEWEST_FITTED or time.monotonic() < enough):
        point = space.random_point(rng)
        fitted.append((point, space.fit(point, budget, band, seed)))
    found = [(point, candidate) for point, candidate in fitted if candidate is not None]
    if not found:
        point = space.random_point(rng)
        found = [(point, space.sample_point(rng, budget, band))]
    twins = sum(count * (count - 1) // 2 for count in seen.values())
    return Preflight(
        points=space.size,
        distinct=_distinct(space),
        at_least=min(space.size, max(len(seen), int(sample * (sample - 1) / 2 / max(UNSEEN, twins + 2 * twins**0.5)))),
        spent=tuple(tuple(sorted(limit.of(spent) for spent in seen.elements())) for limit in budget.limits),
        smallest=(smallest, least),
        largest=(largest, most),
        inside=sum(count for spent, count in seen.items() if budget.admits(spent)) / sample,
        fits=sum(candidate is not None for _, candidate in fitted) / len(fitted),
        tried=len(fitted),
        width_mult=median_low(candidate.width_mult for _, candidate in found),
        first_width=median_low(candidate.arch.blocks[0].out_channels for _, candidate in found),
        changed=sum(candidate.point != point for point, candidate in found) / len(found),
        left_out=left_out(space, budget, band),
    )


def left_out(space: Space, budget: BudgetLike, band: float = FIT_BAND) -> dict[str, str]:
    """Why known networks of a space are no baselines at a budget, by their names."""
    lacking = {name: f"it has {lacks}, which this space has not" for name, lacks in space.lacking.items()}
    unfit = [name for name in space.known if space.fit_known(name, budget, band) is None]
    least = f"no width multiplier brings it within {budget}"
    return {**lacking, **dict.fromkeys(unfit, least)}


def _count(space: Space, table: LatencyTable | None, own: bool, chunk: tuple[str, int]) -> Counter[Cost]:
    """What so many random points of a seed cost."""
    rng, number = random.Random(chunk[0]), chunk[1]
    columns = [rng.choices(options, options.weights, k=number) for options in space.choices.values()]
    points = zip(*columns, strict=True) if columns else [()] * number
    return Counter(space.cost(dict(zip(space.choices, values, strict=True)), None, table, own) for values in points)


def known_within(space: Space, budget: Budget) -> list[tuple[str, Arch, Cost]]:
    """The known networks that keep the budget at the resolution of their papers, with as many classes as the space's
    networks, the dearest first."""
    networks = [(name, zoo(name, space.network.num_classes)) for name in names()]
    table = space.latency_table(budget)
    if table is not None:  # a table knows the kinds of layers of the spaces that it was measured for
        networks = [(name, arch) for name, arch in networks if not table.missing(arch)]
    costed = [(name, arch, cost(arch, table)) for name, arch in networks]
    inside = [(name, arch, spent) for name, arch, spent in costed if budget.share_used(spent) <= 1]
    return sorted(inside, key=lambda found: -budget.share_used(found[2]))


def _distinct(space: Space) -> int | None:
    """How many networks a small space has, at width multiplier 1 where that is free; choices that do not go together
    make none."""
    if space.size > ENUMERABLE:
        return None
    found = set()
    for values in itertools.product(*space.choices.values()):
        with suppress(InputError):
            found.add(space.arch(dict(zip(space.choices, values, strict=True))).digest)
    return len(found)
