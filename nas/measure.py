"""`python -m nas.measure`: time this device's layers, for latency budgets (`--budget 12ms`) and predictions.

Random networks of a space are run and their layers timed; the times are kept in the user's cache, one file a device,
batch size, number of threads and release of PyTorch. What is stopped goes on from where it was, and what a later space
needs beside is added. `--check` compares predictions with measurements on networks that were not used.
"""

from __future__ import annotations

import datetime
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas import timing
from nas.cache import cache_folder
from searchspace import command
from searchspace.arch import Arch
from searchspace.budget import Budget, Limit
from searchspace.costs import cost
from searchspace.errors import InputError
from searchspace.latency import LatencyTable, operators
from searchspace.space import Space, ready

NETWORKS = 24
AT_ONCE = 4
DRAWS = 300
CANDIDATES = 8
ENOUGH = 16
MOST = 60
ROUNDS = 5
CHECKED = 30
CHECK_ROUNDS = 9
MOST_ERROR, LEAST_CORRELATION = 0.10, 0.95
SPREAD = 30.0


def parser() -> command.Parser:
    p = command.Parser(prog="nas.measure", description=__doc__)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--batch-size", type=int, default=1, help="images a run (default: 1)")
    p.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    p.add_argument("--space", default="mobile", help=f"{', '.join(ready())} or a YAML file (default: mobile)")
    p.add_argument("--resolution", type=int, help="deployment resolution in pixels (default: the space's, 224)")
    p.add_argument("--table", type=Path, metavar="FILE", help="the table (default: in the user's cache, see NAS_CACHE)")
    p.add_argument("--check", action="store_true", help=f"then compare predicted with measured on {CHECKED} networks")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    for name in ("batch_size", "threads", "resolution"):
        number = getattr(args, name)
        if number is not None and number < 1:
            raise InputError(f"{name.replace('_', '-')}: at least 1, not {number}")
    space = Space.load(args.space)
    space = space.fix([f"resolution={args.resolution}"] if args.resolution else [])
    device = timing.device_for(args.device)
    console = command.console()
    path = args.table or default_path(device, args.batch_size, args.threads)
    before = path.stat().st_mtime_ns if path.exists() else 0
    table = ensure(path, space, device, args.batch_size, args.threads, console)
    if before == path.stat().st_mtime_ns:
        console.print(f"{path} has all that {space.source} needs")
    return check(table, path, space, device, console) if args.check else 0


def default_path(device: str, batch_size: int = 1, threads: int = 1) -> Path:
    """Where this device's table is kept: in `NAS_CACHE`, else in the user's cache folder."""
    name = re.sub(r"[^a-z0-9.]+", "-", timing.device_name(device).lower()).strip("-")
    return cache_folder() / "latency" / f"{name}-batch{batch_size}-threads{threads}-torch{torch.__version__}.json"


def known(path: Path, space: Space) -> LatencyTable | None:
    """The table that is there already, if it knows all that the networks of a space have."""
    if not path.is_file():
        return None
    table = LatencyTable.load(path)
    return table if space_operators(space) <= table.times.keys() else None


def ensure(
    path: Path, space: Space, device: str, batch_size: int, threads: int, console: Console, quiet: bool = False
) -> LatencyTable:
    """The device's table with all that a space needs; what is not there is measured now, and kept.

    Raises `InputError` for a table of another device or of other conditions.
    """
    table = opened(path, device, batch_size, threads)
    name = f"{space.source} at {space.network.resolution} px"
    wanted = space_operators(space)
    drawn = networks(space, random.Random(f"{name} {table.spaces.get(name, 0)}"))
    seen: set[str] = set()
    begun = time.monotonic()
    with progress(console, f"timing layers on {table}", quiet or not lacking(table, name, wanted)) as step:
        while short := lacking(table, name, wanted):
            archs = [arch for arch in chosen(drawn, short, wanted) if arch.digest not in seen]
            if not archs:
                break
            seen |= {arch.digest for arch in archs}
            step(0, max(NETWORKS - table.spaces.get(name, 0), len(archs)) * ROUNDS)
            table = add(table, path, name, archs, device, lambda: step(1, None))
    if seen and not quiet:
        rows = sum(len(rows) for rows in table.times.values())
        took = f"{len(seen)} networks in {time.monotonic() - begun:.0f} s"
        console.print(f"timed {took}: {rows:,} times of {len(table.times)} operators in {path}")
    return table


def opened(path: Path, device: str, batch_size: int, threads: int) -> LatencyTable:
    """The table in a file, or an empty one; only what was measured under the same conditions may be added to."""
    today = datetime.date.today().isoformat()
    empty = LatencyTable(timing.device_name(device), torch.__version__, today, batch_size, threads)
    if not path.exists():
        return empty
    table = LatencyTable.load(path)
    if str(table) != str(empty):
        raise InputError(f"latency table {path} is of {table}, this is {empty}; give another --table")
    return table


def add(
    table: LatencyTable,
    path: Path,
    name: str,
    archs: Sequence[Arch],
    device: str,
    each: Callable[[], None] = lambda: None,
) -> LatencyTable:
    """The table with the layers of these networks timed, and saved."""
    with timing.threads(table.threads):
        found = timing.layer_ms(archs, device, table.batch_size, ROUNDS, each)
    table = table.with_times(name, len(archs), (row for rows in found for row in rows))
    table.save(path)
    return table


def lacking(table: LatencyTable, name: str, wanted: set[str]) -> set[str]:
    """The operators that need more times; all, where too few networks of a space were timed."""
    count = table.spaces.get(name, 0)
    if count < NETWORKS:
        return wanted
    few = {operator for operator in wanted if len(table.times.get(operator, ())) < ENOUGH}
    return few if count < MOST else {operator for operator in few if operator not in table.times}


def space_operators(space: Space) -> set[str]:
    """The operators of a space's networks, from many random ones."""
    rng = random.Random(0)
    return {name for _ in range(DRAWS) for name in operators(space.arch(space.random_point(rng)))}


def networks(space: Space, rng: random.Random) -> Iterator[Arch]:
    """Random networks; where the width is free, of MACs between the middle of width 1 and a small part of it."""
    costs = sorted(cost(space.arch(space.random_point(rng))).macs for _ in range(CANDIDATES))
    while True:
        point = space.random_point(rng)
        if space.fit_range is None:
            yield space.arch(point)
            continue
        target = costs[len(costs) // 2] * SPREAD ** -rng.random()
        candidate = space.fit(point, Budget((Limit("macs", round(target)),)), 0.8, rng.getrandbits(32))
        if candidate is not None:
            yield candidate.arch


def chosen(candidates: Iterator[Arch], short: set[str], wanted: set[str]) -> list[Arch]:
    """A few networks to time together; where only some operators are short, those that have most of them."""
    if short == wanted:
        return [next(candidates) for _ in range(AT_ONCE)]
    drawn = [next(candidates) for _ in range(AT_ONCE * CANDIDATES)]
    return sorted(drawn, key=lambda arch: -len(operators(arch) & short))[:AT_ONCE]


def check(table: LatencyTable, path: Path, space: Space, device: str, console: Console) -> int:
    """Predicted against measured on random networks that were not used; 1 where the aim does not hold."""
    import numpy as np
    from scipy.stats import spearmanr

    from nas import figures

    drawn = networks(space, random.Random("check"))
    archs = [next(drawn) for _ in range(CHECKED)]
    for arch in archs:
        if table.missing(arch):
            table = add(table, path, f"{space.source}, rare", [arch], device)
    predicted = np.array([table.predict(arch) for arch in archs])
    models = [timing.ready(arch, device) for arch in archs]
    with progress(console, f"running {CHECKED} networks", False) as step, timing.threads(table.threads):
        step(0, CHECKED * CHECK_ROUNDS)
        times = timing.network_ms(models, archs, device, table.batch_size, CHECK_ROUNDS, lambda: step(1, None))
    measured = np.array(times)
    error, correlation = float(np.mean(np.abs(predicted / measured - 1))), float(spearmanr(predicted, measured)[0])
    holds = error <= MOST_ERROR and correlation >= LEAST_CORRELATION
    console.print(f"{table}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    console.print(
        f"{CHECKED} random networks of {space.source} at {space.network.resolution} px: "
        f"measured {measured.min():.3g} to {measured.max():.3g} ms, predicted {predicted.min():.3g} to "
        f"{predicted.max():.3g} ms"
    )
    console.print(
        f"mean error {100 * error:.1f} %, rank correlation {correlation:.3f}: the aim (at most "
        f"{100 * MOST_ERROR:.0f} %, at least {LEAST_CORRELATION}) {'holds' if holds else 'does NOT hold'}"
    )
    picture = path.with_suffix(".png")
    figures.predictions(predicted.tolist(), measured.tolist(), str(table)).savefig(picture, dpi=120)
    console.print(f"wrote {picture}")
    return 0 if holds else command.FAILED


@contextmanager
def progress(console: Console, what: str, quiet: bool) -> Iterator[Callable[[float, float | None], None]]:
    """A bar in a terminal, a line elsewhere; yields a function told of steps made and how many are still to make."""
    columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(), TextColumn("left"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal)
    if bar.disable and not quiet:
        console.print(what)
    with bar:
        task = bar.add_task(what, total=None)

        def step(done: float, left: float | None) -> None:
            if left is not None:
                bar.update(task, total=bar.tasks[0].completed + left)
            bar.advance(task, done)

        yield step


if __name__ == "__main__":
    command.run(main, "nas.measure")
