"""`python -m searchspace`: show a network as a table, describe a space under a budget, say what a file may hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from searchspace import command
from searchspace.arch import Arch
from searchspace.budget import Budget, Limit, amount
from searchspace.costs.latency import LatencyTable
from searchspace.costs.network_cost import cost
from searchspace.errors import InputError
from searchspace.figures import plot, plot_costs
from searchspace.format.reference import SECTIONS, Key, about, keys
from searchspace.processes import processes
from searchspace.registry.plugins import has_sourceless, load_all, plugin_option, sources
from searchspace.space.choices import Scalar
from searchspace.space.deployment import Deployment, deployments
from searchspace.space.lookup import network
from searchspace.space.preflight import MANY, known_within, preflight
from searchspace.space.space import Space, band_of, ready
from searchspace.space.unmet import advice
from searchspace.table import Row, summary, table

TABLE_WIDTH = 160
POINTS = 100_000
KNOWN = 10
BINS, BAR = 16, 40


def parser() -> command.Parser:
    p = command.Parser(prog="searchspace", description=__doc__, example="python -m searchspace show rexnet_100")
    commands = p.add_subparsers(dest="command", required=True, parser_class=command.Parser)
    show = commands.add_parser("show", help="a network's table and cost")
    show.add_argument(
        "network",
        help="a name of the zoo, timm:NAME, or a file in stages or blocks, or the folder of an export or a run",
    )
    plugin_option(show)
    show.add_argument("--resolution", type=int, metavar="PX", help="pixels (default: the network's, of the zoo 224)")
    show.add_argument("--num-classes", type=int, metavar="N", help="classes (default: the network's, of the zoo 1000)")
    show.add_argument("--plot", metavar="FILE.png", help="also draw channels and resolution over depth")
    keys = commands.add_parser("keys", help="every key of a network or space file, and its default")
    keys.add_argument("section", nargs="?", choices=SECTIONS, help="one section alone")
    plugin_option(keys)
    describe = commands.add_parser("describe", help="what a budget leaves of a space")
    describe.add_argument("space", help=f"{', '.join(ready())} or a file")
    plugin_option(describe)
    describe.add_argument(
        "--deploy", metavar="RULES", help=f"keep to a compiler's: {', '.join(deployments())} or a file"
    )
    describe.add_argument("--budget", action="append", required=True, help="300MFLOPs, 5MParams, …; several")
    describe.add_argument("--num-classes", type=int, metavar="N", help="deployment classes (default: the space's)")
    describe.add_argument("--points", type=int, default=POINTS, help=f"random points to count ({POINTS:,})")
    describe.add_argument("--plot", metavar="FILE.png", help="also draw what they cost")
    describe.add_argument("--latency-table", metavar="FILE", help="a device's layer times, by nas.measure, for 12ms")
    rules = commands.add_parser("rules", help="what a compiler asks of networks, and why")
    rules.add_argument("deployment", help=f"{', '.join(deployments())} or a file")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    console = command.console()
    if args.command == "show":
        arch = network(args.network, args.resolution, args.num_classes)
        show(console, arch)
        if args.plot:
            plot(arch, args.plot, args.network)
            console.print(f"wrote {args.plot}", soft_wrap=True)
    elif args.command == "keys":
        for section in [args.section] if args.section else SECTIONS:
            show_keys(console, section)
    elif args.command == "rules":
        show_rules(console, Deployment.load(args.deployment))
    else:
        if args.points < 1:
            raise InputError(f"points: at least 1, not {args.points}")
        if args.num_classes is not None and args.num_classes < 2:
            raise InputError(f"num-classes: at least 2, not {args.num_classes}")
        space = Space.load(args.space)
        space = space if args.num_classes is None else space.fix([f"num_classes={args.num_classes}"])
        space = space.deploy(args.deploy) if args.deploy else space
        if args.latency_table:
            space = space.with_latencies(LatencyTable.load(args.latency_table))
        describe(console, space, Budget.parse(args.budget), args.points, args.plot)
    return 0


def show(console: Console, arch: Arch) -> None:
    ends = f"{arch.num_classes} classes" if arch.head.output == "logits" else f"{arch.head.output}, no classifier"
    shown = Table(title=f"{arch.resolution} px, {ends}, digest {arch.digest}", title_justify="left")
    for name in Row._fields:
        shown.add_column(name, justify="right" if name in ("expansion", "hidden", "macs", "params") else "left")
    for row in table(arch):
        shown.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    command.console(max(console.width, TABLE_WIDTH)).print(shown, soft_wrap=False)  # in a notebook it scrolls sideways
    spent = cost(arch)
    memory = f"{spent.peak_memory_mb:.2f} MB peak memory of one float32 image"
    console.print(f"{amount(spent.macs, 'macs')}, {amount(spent.params, 'params')}, {memory}")


def show_keys(console: Console, section: str) -> None:
    shown = Table(title=section, title_justify="left")
    for name in Key._fields:
        shown.add_column(name, overflow="fold")
    for key in keys(section):
        shown.add_row(*map(Text, key))
    console.print(shown)
    console.print(about(section))


def show_rules(console: Console, rules: Deployment) -> None:
    shown = Table(title=f"{rules.name}: {rules.about}", title_justify="left")
    for name in ("aspect", "accepted", "else", "because", "source"):
        shown.add_column(name, overflow="fold")
    for aspect, rule in rules.rules.items():
        instead = "left out" if rule.instead is None else str(rule.instead)
        shown.add_row(*map(Text, (aspect, str(rule), instead, rule.because, rule.source)))
    console.print(shown)


def describe(console: Console, space: Space, budget: Budget, sample: int, picture: str | None) -> None:
    columns = (TextColumn("{task.description}", markup=False), *Progress.get_default_columns()[1:])
    with (
        processes(0 if has_sourceless() else sample, MANY, partial(load_all, sources())) as mapped,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown,
        advice(space, budget, "nas.search"),
    ):
        task = shown.add_task(f"counting random points of {space.source}", total=sample)
        found = preflight(
            space,
            budget,
            band_of(budget),
            sample=sample,
            progress=lambda done, _: shown.update(task, completed=done),
            mapped=mapped,
        )
    exact = f"{found.distinct:,}" if found.distinct else f"at least {number(found.at_least)}"
    ends = f"{space.network.num_classes:,} classes" if space.network.head.output == "logits" else "no classifier"
    console.print(f"budget {budget} for the network as deployed: {space.pixels}, {ends}")
    console.print(
        f"{space.source}: {number(found.points)} points in {len(space.choices)} choices, {exact} different networks"
    )
    for name, options in alike(space.choices):
        console.print(f"  {name}: {', '.join(str(option) for option in options)}")
    at = ""
    if space.fit_range:
        low, high = space.fit_range
        console.print(f"  width_mult: solved for the budget, {low:g} to {high:g}")
        at = " at width multiplier 1"
    console.print(f"{len(found.costs):,} random points{at}:")
    for share, name in ((0.05, "5 %"), (0.25, "25 %"), (0.5, "median"), (0.75, "75 %"), (0.95, "95 %")):
        console.print(f"{name:>9}: {budget.amounts(found.quantiles(share))}")
    for line in histogram(found.costs, budget.limits[0]):
        console.print(line)
    console.print(f"{100 * found.inside:.3g} % of them keep {budget} as they are;")
    console.print(f"{100 * found.fits:.0f} % of {found.tried} others could be fitted to {budget}")
    if space.fit_range:
        console.print(
            f"typical width multiplier {found.width_mult:.2g}, first stage {found.first_width} channels; "
            f"in {100 * found.changed:.0f} % blocks, expansions or depths were changed too"
        )
    for name, why in found.left_out.items():
        console.print(f"known network {name} is left out as a point of the space: {why}")
    for name, (arch, spent) in (("smallest", found.smallest), ("largest", found.largest)):
        console.print(f"{name:>9}: {budget.amounts(spent)}: {summary(arch)}")
    networks = known_within(space, budget)
    console.print(f"{len(networks)} known networks keep {budget}{':' if networks else ''}")
    for name, arch, spent in networks[:KNOWN]:
        costs = f"{amount(spent.macs, 'macs'):>12} {amount(spent.params, 'params'):>13}"
        console.print(f"  {name:<20} {arch.resolution} px {costs}")
    if picture:
        marks = [(name, budget.limits[0].of(spent)) for name, _, spent in networks[:KNOWN]]
        plot_costs(
            found.costs, budget.limits[0], marks, picture, f"{space.source}: {len(found.costs):,} random points{at}"
        )
        console.print(f"wrote {picture}", soft_wrap=True)


def number(count: int) -> str:
    return f"{count:,}" if count < 10**7 else f"{count:.2g}"


def alike(choices: Mapping[str, Sequence[Scalar]]) -> list[tuple[str, Sequence[Scalar]]]:
    """Free values with their options, those in one line that are free alike in several stages."""
    stages: dict[tuple[str, Sequence[Scalar]], list[str]] = {}
    for name, options in choices.items():
        section, _, field = name.partition(".")
        numbered = section.startswith("stage")
        stages.setdefault((field if numbered else name, options), []).append(section.removeprefix("stage"))
    return [
        (f"stage{','.join(numbers)}.{field}" if f"stage{numbers[0]}.{field}" in choices else field, options)
        for (field, options), numbers in stages.items()
    ]


def histogram(costs: Sequence[float], limit: Limit) -> list[str]:
    """Bars over cost, evenly spaced in its logarithm; the budget's bin is marked."""
    low, high = math.log(costs[0]), math.log(costs[-1])
    width = (high - low) / BINS or 1.0
    counts = Counter(min(int((math.log(spent) - low) / width), BINS - 1) for spent in costs)
    budget = math.floor((math.log(limit.high) - low) / width)
    most = max(counts.values())
    lines = []
    for place in range(BINS):
        above = amount(math.exp(low + place * width), limit.currency, digits=3)
        mark = f" ◀ {limit}" if place == budget else ""
        lines.append(f"{above:>14} {'█' * round(BAR * counts[place] / most):<{BAR}}{mark}".rstrip())
    return lines


if __name__ == "__main__":
    command.run(main, "searchspace")
