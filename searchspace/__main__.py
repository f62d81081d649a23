"""`python -m searchspace`: show a network as a table, describe a space under a budget."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from searchspace import command
from searchspace.arch import Arch
from searchspace.budget import Budget, amount
from searchspace.costs import cost
from searchspace.document import read_yaml
from searchspace.errors import InputError
from searchspace.figures import plot
from searchspace.networks import names, zoo
from searchspace.preflight import preflight
from searchspace.space import Space, ready
from searchspace.table import Row, table

TABLE_WIDTH = 160


def parser() -> command.Parser:
    p = command.Parser(prog="searchspace", description=__doc__)
    commands = p.add_subparsers(dest="command", required=True, parser_class=command.Parser)
    show = commands.add_parser("show", help="a network's table and cost")
    show.add_argument("network", help="a name of the zoo, or a file: a network in stages, or an exported arch.yaml")
    show.add_argument("--plot", metavar="FILE.png", help="also draw channels and resolution over depth")
    describe = commands.add_parser("describe", help="what a budget leaves of a space")
    describe.add_argument("space", help=f"{', '.join(ready())} or a file")
    describe.add_argument("--budget", action="append", required=True, help="300MFLOPs, 5MParams, …; several")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    console = command.console()
    if args.command == "show":
        arch = network(args.network)
        show(console, arch)
        if args.plot:
            plot(arch, args.plot, args.network)
    else:
        describe(console, Space.load(args.space), Budget.parse(args.budget))
    return 0


def network(name: str) -> Arch:
    """The zoo's network of this name, or that of a file, written in stages or in blocks."""
    path = Path(name)
    if name in names() or not (path.suffix or os.path.exists(name) or len(path.parts) > 1):
        return zoo(name)
    data, _ = read_yaml(path)
    if not (isinstance(data, dict) and "stages" in data):
        return Arch.load(path)
    space = Space.load(path)
    if space.choices or space.fit_range:
        raise InputError(
            f"{path}: a space, not a network ({len(space.choices)} values are free); describe shows spaces"
        )
    return space.arch()


def show(console: Console, arch: Arch) -> None:
    ends = f"{arch.num_classes} classes" if arch.head.output == "logits" else f"{arch.head.output}, no classifier"
    shown = Table(title=f"{arch.resolution} px, {ends}, digest {arch.digest}", title_justify="left")
    for name in Row._fields:
        shown.add_column(name, justify="right" if name in ("expansion", "hidden", "macs", "params") else "left")
    for row in table(arch):
        shown.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    Console(width=max(console.width, TABLE_WIDTH)).print(shown)
    spent = cost(arch)
    memory = f"{spent.peak_memory_mb:.2f} MB peak memory of one float32 image"
    console.print(f"{amount(spent.macs, 'macs')}, {amount(spent.params, 'params')}, {memory}")


def describe(console: Console, space: Space, budget: Budget) -> None:
    found = preflight(space, budget)
    currency = budget.limits[0].currency
    console.print(f"{space.source}: {found.points:.4g} points in {len(space.choices)} choices")
    for name, options in space.choices.items():
        console.print(f"  {name}: {', '.join(str(option) for option in options)}")
    if space.fit_range:
        low, high = space.fit_range
        console.print(f"  width_mult: solved for the budget, {low:g} to {high:g}")
    quantiles = {"smallest": found.smallest, "10 %": found.lower, "median": found.median, "90 %": found.upper}
    for name, spent in {**quantiles, "largest": found.largest}.items():
        console.print(f"{name:>9}: {amount(getattr(spent, currency), currency)}")
    console.print(f"{100 * found.fits:.0f} % of {found.sampled} random points can be fitted to {budget}")


if __name__ == "__main__":
    command.run(main, "searchspace")
