"""`python -m nas.measure`: time this device's layers, for latency budgets (`--budget 12ms`) and predictions.

Random networks of a space are run and their layers timed; the times are kept in the user's cache, one file a device,
batch size, number of threads and release of PyTorch. What is stopped goes on from where it was, and what a later space
needs beside is added. `--check` compares predictions with measurements on networks that were not used.
"""

from __future__ import annotations

import datetime
import math
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas import timing
from nas.cache import cache_folder
from searchspace import command
from searchspace.arch import Arch
from searchspace.budget import Budget, Limit
from searchspace.errors import InputError
from searchspace.latency import LatencyTable, Session, Size, operators
from searchspace.space import Point, Space, ready

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
SILENCE_S = 8.0  # after so long a line says how far the timing is, where there is no bar
SETTLED, DISAGREEMENT, REPEATS = 8, 1.2, 2


def parser() -> command.Parser:
    p = command.Parser(prog="nas.measure", description=__doc__)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--batch-size", type=int, default=1, help="images a run (default: 1)")
    p.add_argument(
        "--threads", type=int, default=1, help="of the CPU (default: 1); OMP_WAIT_POLICY=ACTIVE lets several spin"
    )
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
    before = opened(path, device, args.batch_size, args.threads)
    table = ensure(path, space, device, args.batch_size, args.threads, console)
    if table == before:
        console.print(f"{path} has all that {space.source} needs")
    return check(table, path, space, device, console) if args.check else 0


def default_path(device: str, batch_size: int = 1, threads: int = 1) -> Path:
    """Where this device's table is kept in the cache folder."""
    name = re.sub(r"[^a-z0-9.]+", "-", timing.device_name(device).lower()).strip("-")
    return cache_folder() / "latency" / f"{name}-batch{batch_size}-threads{threads}-torch{torch.__version__}.json"


def known(path: Path, space: Space) -> LatencyTable | None:
    """The table that is there already and can be read, if it knows all that the networks of a space have."""
    try:
        table = LatencyTable.load(path)
    except InputError:
        return None
    return table if space_operators(space) <= table.times.keys() else None


def ensure(
    path: Path | None,
    space: Space,
    device: str,
    batch_size: int,
    threads: int,
    console: Console,
    quiet: bool = False,
) -> LatencyTable:
    """The device's table with all that a space needs; what is not there is measured now, and kept where there is a
    path.

    Raises `InputError` for a table of another device or of other conditions, or one that cannot be written.
    """
    table = opened(path, device, batch_size, threads)
    name = f"{space.source} at {space.pixels}"
    wanted = space_operators(space)
    drawn = networks(space, random.Random(f"{name} {table.spaces.get(name, 0)}"))
    seen: set[str] = set()
    if path and lacking(table, name, wanted) and (why := why_not_kept(path)):
        raise InputError(f"latency table {path}: cannot be written ({why}); NAS_CACHE names another folder")
    begun, session = time.monotonic(), Session(now(), 0, os.getloadavg()[0], os.cpu_count() or 1)
    with progress(console, f"timing layers on {table}", quiet or not lacking(table, name, wanted)) as step:
        while short := lacking(table, name, wanted):
            archs = [arch for arch in chosen(drawn, short, wanted) if arch.digest not in seen]
            if not archs:
                break
            seen |= {arch.digest for arch in archs}
            step(0, max(NETWORKS - table.spaces.get(name, 0), len(archs)) * ROUNDS)
            table = add(table, path, name, archs, device, lambda: step(1, None), session)
    if seen and not quiet:
        rows = sum(len(rows) for rows in table.times.values())
        took = f"{len(seen)} networks in {time.monotonic() - begun:.0f} s"
        where = f" in {path}" if path else ""
        console.print(f"timed {took}: {rows:,} times of {len(table.times)} operators{where}")
    if seen and not quiet and (busy := table.sessions[-1]).busy:
        again = f"; delete {path} to time them again" if path else ""
        console.print(f"times of layers may be too long: the load was {busy.load:.1f} on {busy.cores} cores{again}")
    return table


def opened(path: Path | None, device: str, batch_size: int, threads: int) -> LatencyTable:
    """The table in a file, or an empty one; only what was measured under the same conditions may be added to."""
    empty = timing.conditions(device, batch_size, threads)
    if path is None or not os.path.exists(path):
        return empty
    table = LatencyTable.load(path)
    if not timing.alike(table, empty):
        raise InputError(f"latency table {path} is of {table}, this is {empty}; give another --table")
    return table


def why_not_kept(path: Path) -> str:
    """Why a file cannot be written there, "" where it can be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def add(
    table: LatencyTable,
    path: Path | None,
    name: str,
    archs: Sequence[Arch],
    device: str,
    each: Callable[[], None] = lambda: None,
    session: Session | None = None,
) -> LatencyTable:
    """The table with the layers of these networks timed, and saved; a session goes on with the load that it began
    with."""
    session = session or Session(now(), 0, os.getloadavg()[0], os.cpu_count() or 1)
    with timing.threads(table.threads):
        found = layer_times(table, name, archs, device, each)
    load = max(session.load, os.getloadavg()[0] - table.threads)  # without these threads
    table = table.with_times(name, len(archs), (row for rows in found for row in rows))
    table = table.measured_in(session._replace(networks=len(archs), load=round(load, 2)))
    if path is not None:
        table.save(path)
    return table


def now() -> str:
    return datetime.datetime.now().isoformat(timespec="seconds")


def layer_times(
    table: LatencyTable, name: str, archs: Sequence[Arch], device: str, each: Callable[[], None]
) -> list[list[tuple[str, Size, float]]]:
    """The layers of these networks with their times; measured again where they disagree with what is known of the
    space, and then the least time of each counts: what disturbs makes it longer."""
    found = timing.layer_ms(archs, device, table.batch_size, ROUNDS, each)
    for _ in range(REPEATS):
        if table.spaces.get(name, 0) < SETTLED or agrees(table, archs, found):
            break
        again = timing.layer_ms(archs, device, table.batch_size, ROUNDS)
        found = [
            [(operator, size, min(ms, other)) for (operator, size, ms), (_, _, other) in zip(*both, strict=True)]
            for both in zip(found, again, strict=True)
        ]
    return found


def agrees(table: LatencyTable, archs: Sequence[Arch], found: list[list[tuple[str, Size, float]]]) -> bool:
    """Whether networks took about what the table predicts of them, as far as it knows their operators."""
    ratios = [
        sum(ms for *_, ms in rows) / table.predict(arch)
        for arch, rows in zip(archs, found, strict=True)
        if not table.missing(arch)
    ]
    return not ratios or 1 / DISAGREEMENT < median(ratios) < DISAGREEMENT


def lacking(table: LatencyTable, name: str, wanted: set[str]) -> set[str]:
    """The operators that need more times; all, where too few networks of a space were timed."""
    count = table.spaces.get(name, 0)
    if count < NETWORKS:
        return wanted
    few = {operator for operator in wanted if len(table.times.get(operator, ())) < ENOUGH}
    return few if count < MOST else {operator for operator in few if operator not in table.times}


def space_operators(space: Space) -> set[str]:
    """The operators of a space's networks, from many random ones."""
    rng, width = random.Random(0), usual_width(space)
    return {name for _ in range(DRAWS) for name in operators(space.arch(space.random_point(rng), width))}


def networks(space: Space, rng: random.Random) -> Iterator[Arch]:
    """Random networks without end; where the width is free, of MACs between the middle of width 1 and a small part.

    Where a space's widths do not reach that far, as far as they do.
    """
    if space.fit_range is None:
        while True:
            yield space.arch(space.random_point(rng))
    one = usual_width(space)
    middle = sorted(space.cost(space.random_point(rng), one).macs for _ in range(CANDIDATES))[CANDIDATES // 2]
    while True:
        yield scaled(space, space.random_point(rng), round(middle * SPREAD ** -rng.random()), rng)


def usual_width(space: Space) -> float | None:
    """The width multiplier nearest to 1 that a space offers; None where it is not free."""
    return None if space.fit_range is None else min(max(1.0, space.fit_range[0]), space.fit_range[1])


def scaled(space: Space, point: Point, macs: int, rng: random.Random) -> Arch:
    """A network of about so many MACs; where none is found, one of the point at the width that is nearest to them."""
    found = space.fit(point, Budget((Limit("macs", macs),)), 0.8, rng.getrandbits(32))
    if found is not None:
        return found.arch
    assert space.fit_range is not None
    low, high = space.fit_range
    one = usual_width(space) or 1.0
    width = one * math.sqrt(macs / space.cost(point, one).macs)  # to which MACs are about proportional, squared
    return space.arch(point, min(max(width, low), high))


def chosen(candidates: Iterator[Arch], short: set[str], wanted: set[str]) -> list[Arch]:
    """A few networks to time together; where only some operators are short, those that have most of them.

    None where no network of many has any: an operator may be there only at widths that are not timed.
    """
    if short == wanted:
        return list(islice(candidates, AT_ONCE))
    drawn = list(islice(candidates, AT_ONCE * CANDIDATES))
    if not any(operators(arch) & short for arch in drawn):
        drawn += islice(candidates, DRAWS)
    having = [arch for arch in drawn if operators(arch) & short]
    return sorted(having, key=lambda arch: -len(operators(arch) & short))[:AT_ONCE]


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
        f"{CHECKED} random networks of {space.source} at {space.pixels}: "
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
    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn(), TextColumn("left"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal)
    if bar.disable and not quiet:
        console.print(what)
    with bar:
        task, said = bar.add_task(what, total=None), time.monotonic()

        def step(done: float, left: float | None) -> None:
            nonlocal said
            if left is not None:
                bar.update(task, total=bar.tasks[0].completed + left)
            bar.advance(task, done)
            if bar.disable and not quiet and time.monotonic() - said > SILENCE_S:
                said = time.monotonic()
                console.print(f"{what}: {bar.tasks[0].completed:.0f} of {bar.tasks[0].total or 0:.0f} runs")

        yield step


if __name__ == "__main__":
    command.run(main, "nas.measure")
