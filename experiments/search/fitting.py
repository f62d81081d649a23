"""Claim: for any budget a space can meet, every proposal is inside it, and at least 95 % of them use 97 % of it.

    python -m experiments.search.fitting  # some minutes
    python -m experiments.search.fitting --smoke  # seconds, two budgets, five proposals

For every ready space: 20 budgets, evenly spaced in their logarithm, between the 5th and the 95th percentile of what
random points cost at width multiplier 1; 200 proposals each (`Space.sample_point`, what a search's controls are). Also
counted: how many random points could not be fitted and were drawn again, cost evaluations a fit, and repeats. Then the
ends: a little more than the smallest network costs as the budget, and less than that.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from statistics import mean, median
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from matplotlib.figure import Figure
from rich.progress import Progress

from experiments import findings
from searchspace import Budget, InputError, Space, cost
from searchspace.budget import Cost, Currency, Limit
from searchspace.costs import network_cost
from searchspace.format.resolve import OpenNetwork
from searchspace.space import space
from searchspace.space.preflight import preflight
from searchspace.space.space import ready

SEEN = 2000


class Row(NamedTuple):
    space: str
    budget: float
    inside: int
    in_band: int
    least_used: float
    median_used: float
    distinct: int
    proposals: int
    drawn: int
    evaluations: float
    milliseconds: float


class Counting:
    """The cost of an outline, counting how often it was asked for."""

    def __init__(self, real: Callable[..., Cost]) -> None:
        self.real, self.calls = real, 0

    def __call__(self, outline: OpenNetwork, *more: Any) -> Cost:
        self.calls += 1
        return self.real(outline, *more)


def budget_of(currency: Currency, high: float) -> Budget:
    return Budget((Limit(currency, high if currency == "latency_ms" else int(high)),))


def proposed(where: Space, budget: Budget, number: int, counting: Counting) -> Row:
    """Random proposals under one budget, and what they took."""
    rng, fits, used, digests = random.Random(0), 0, [], set()
    counting.calls = 0
    start, fit = time.perf_counter(), where.fit

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal fits
        fits += 1
        return fit(*given, **named)

    where.fit = counted  # type: ignore[method-assign]
    candidates = [where.sample_point(rng, budget) for _ in range(number)]
    spent = time.perf_counter() - start
    del where.fit
    for candidate in candidates:
        assert candidate.cost == cost(candidate.arch)
        used.append(budget.share_used(candidate.cost))
        digests.add(candidate.arch.digest)
    return Row(
        where.source.removesuffix(".yaml"),
        budget.limits[0].high,
        sum(share <= 1 for share in used),
        sum(0.97 <= share <= 1 for share in used),
        min(used),
        median(used),
        len(digests),
        number,
        fits,
        counting.calls / fits,
        1e3 * spent / number,
    )


def ends(where: Space) -> str:
    """What happens at and below the cost of the smallest network."""
    found = preflight(where, Budget.parse("1TFLOPs"), band=0.0, sample=SEEN // 10)
    least = found.smallest[1].macs
    at = where.sample_point(random.Random(0), budget_of("macs", least * 1.02)).cost.macs
    try:
        preflight(where, budget_of("macs", least * 0.9), sample=10)
    except InputError as error:
        return f"{where.source}: at 102 % of the smallest network ({least:,}): {at:,}; at 90 %: {error}"
    return f"{where.source}: a budget of 90 % of the smallest network was not refused"


def draw(rows: list[Row]) -> Figure:
    figure = findings.figure(9, 4.5)
    used, evaluations = figure.subplots(1, 2)
    for place, name in enumerate(dict.fromkeys(row.space for row in rows)):
        own = [row for row in rows if row.space == name]
        budgets, colour = [row.budget for row in own], f"C{place}"
        used.plot(budgets, [100 * row.median_used for row in own], color=colour, label=name)
        used.plot(budgets, [100 * row.least_used for row in own], ".", color=colour, markersize=5)
        evaluations.plot(budgets, [row.evaluations for row in own], color=colour, label=name)
    used.axhspan(97, 100, color="#1e8449", alpha=0.08)
    used.set_ylabel("share of the budget used (%): median, and least (dots)")
    evaluations.set_ylabel("cost evaluations a fit (mean)")
    evaluations.set_ylim(bottom=0)
    for axes in (used, evaluations):
        axes.set_xscale("log")
        axes.set_xlabel("budget (multiply-adds)")
    evaluations.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two budgets, five proposals, two spaces", dataset=False)
    args = parser.parse_args(arguments)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    budgets, number = (2, 5) if args.smoke else (20, 200)
    names = ["rexnet", "resnet"] if args.smoke else ready()
    counting = Counting(network_cost.outline_cost)
    space.outline_cost = counting  # type: ignore[attr-defined, assignment]
    rows, said = [], []
    with Progress(console=page.console, transient=True) as progress:
        task = progress.add_task("proposing", total=len(names) * budgets)
        for name in names:
            where, rng = Space.load(name), random.Random(1)
            seen = sorted(where.cost(where.random_point(rng)).macs for _ in range(SEEN // (10 if args.smoke else 1)))
            low, high = seen[len(seen) // 20], seen[len(seen) * 19 // 20]
            for step in range(budgets):
                budget = budget_of("macs", low * (high / low) ** (step / (budgets - 1)))
                rows.append(proposed(where, budget, number, counting))
                progress.update(task, advance=1)
            said.append(ends(where))
    space.outline_cost = counting.real  # type: ignore[attr-defined]
    title = f"{budgets} budgets a space, {number} proposals a budget"
    page.table("fitting", title, [row._asdict() for row in rows], by_space(rows))
    for line in said:
        page.say(line)
    page.figure("fitting", draw(rows))
    page.write(n=f"{len(names)} spaces × {budgets} budgets × {number} proposals")


def by_space(rows: list[Row]) -> list[dict[str, Any]]:
    found = []
    for name in dict.fromkeys(row.space for row in rows):
        own = [row for row in rows if row.space == name]
        proposals = sum(row.proposals for row in own)
        told = {"space": name, "budgets": f"{own[0].budget / 1e6:,.0f}M-{own[-1].budget / 1e6:,.0f}M"}
        told |= {"inside": f"{100 * sum(row.inside for row in own) / proposals:.1f} %"}
        told |= {"in 97-100 %": f"{100 * sum(row.in_band for row in own) / proposals:.1f} %"}
        told |= {"least of a budget": f"{100 * min(row.in_band / row.proposals for row in own):.1f} %"}
        told |= {"repeats": str(sum(row.proposals - row.distinct for row in own))}
        told |= {"fitted": f"{100 * proposals / sum(row.drawn for row in own):.1f} %"}
        told |= {"evaluations": f"{mean(row.evaluations for row in own):.1f}"}
        found.append(told | {"ms": f"{mean(row.milliseconds for row in own):.1f}"})
    return found


if __name__ == "__main__":
    findings.run(main)
