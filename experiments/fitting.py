"""Claim: for any budget a space can meet, every proposal is inside it, and at least 95 % of them use 97 % of it.

    python experiments/fitting.py                     # some minutes
    python experiments/fitting.py --smoke             # seconds, two budgets, five proposals

For every ready space: 20 budgets, evenly spaced in their logarithm, between the 5th and the 95th percentile of what
random points cost at width multiplier 1; 200 proposals each (`Space.sample_point`, what a search's controls are). Also
counted: how many random points could not be fitted and were drawn again, cost evaluations a fit, and repeats. Then the
ends: a little more than the smallest network costs as the budget, and less than that.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from searchspace import Budget, InputError, Space, cost
from searchspace.budget import Cost, Currency, Limit
from searchspace.format.resolve import OpenNetwork
from searchspace.space import space
from searchspace.space.preflight import preflight
from searchspace.space.space import ready

HERE = Path(__file__).resolve().parent
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


def draw(rows: list[Row], path: Path) -> None:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
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
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two budgets, five proposals, two spaces")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the table and the figure go")
    args = parser.parse_args(arguments)
    console = Console(width=120)
    budgets, number = (2, 5) if args.smoke else (20, 200)
    names = ["rexnet", "resnet"] if args.smoke else ready()
    counting = Counting(space.outline_cost)
    space.outline_cost = counting  # type: ignore[assignment]
    rows, said = [], []
    with Progress(console=console, transient=True) as progress:
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
    space.outline_cost = counting.real
    table = Table(title=f"{budgets} budgets a space, {number} proposals a budget")
    columns = (
        "space",
        "budgets",
        "inside",
        "in 97-100 %",
        "least of a budget",
        "repeats",
        "fitted",
        "evaluations",
        "ms",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "space" else "right")
    for name in dict.fromkeys(row.space for row in rows):
        own = [row for row in rows if row.space == name]
        all_of = sum(row.proposals for row in own)
        table.add_row(
            name,
            f"{own[0].budget / 1e6:,.0f}M-{own[-1].budget / 1e6:,.0f}M",
            f"{100 * sum(row.inside for row in own) / all_of:.1f} %",
            f"{100 * sum(row.in_band for row in own) / all_of:.1f} %",
            f"{100 * min(row.in_band / row.proposals for row in own):.1f} %",
            str(sum(row.proposals - row.distinct for row in own)),
            f"{100 * all_of / sum(row.drawn for row in own):.1f} %",
            f"{mean(row.evaluations for row in own):.1f}",
            f"{mean(row.milliseconds for row in own):.1f}",
        )
    console.print(table)
    for line in said:
        console.print(line, soft_wrap=True)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "fitting.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    draw(rows, args.out / "fitting.png")


if __name__ == "__main__":
    main()
