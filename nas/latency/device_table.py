"""This device's layer times, for latency budgets and predictions: measured where they lack, kept in the user's cache.

One file per device, runtime and its release, type of numbers, batch size and number of threads. What is stopped goes on
from where it was, and what a later space needs beside is added.
"""

from __future__ import annotations

import datetime
import math
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path
from statistics import median

from nas.cache import cache_folder
from nas.latency import runtimes, timing
from nas.latency.runtimes import do_nothing
from searchspace.arch import Arch
from searchspace.budget import Budget, Limit
from searchspace.costs.latency import LatencyTable, Session, Size, placed
from searchspace.errors import InputError
from searchspace.space.space import Point, Space

NETWORKS = 24
AT_ONCE = 4
DRAWS = 300
CANDIDATES = 8
ENOUGH = 16
MOST = 60
ROUNDS = 5
SPREAD = 30.0
SETTLED, DISAGREEMENT, REPEATS = 8, 1.2, 2

Progress = Callable[[str, int, int], None]


def ignore_progress(step: str, done: int, total: int) -> None:
    """For whom nobody waits."""


def unsaid(text: str) -> None:
    """Where nobody reads."""


def default_path(here: LatencyTable) -> Path:
    """Where the table of a device and of such conditions is kept in the cache folder."""
    name = re.sub(r"[^a-z0-9.]+", "-", here.device.lower()).strip("-")
    name += f"-{here.dtype}" if here.dtype != "float32" else ""
    runtime = f"onnxruntime{here.onnxruntime}" if here.onnxruntime else f"torch{here.torch}"
    return cache_folder() / "latency" / f"{name}-batch{here.batch_size}-threads{here.threads}-{runtime}.json"


def find_complete(path: Path, space: Space) -> LatencyTable | None:
    """The table that is there already and can be read, if it knows all that the networks of a space have."""
    try:
        table = LatencyTable.load(path)
    except InputError:
        return None
    return table if space_operators(space, table).keys() <= table.times.keys() else None


def ensure(
    path: Path | None,
    space: Space,
    here: LatencyTable,
    progress: Progress = ignore_progress,
    say: Callable[[str], None] = unsaid,
) -> LatencyTable:
    """The table of the conditions `here` with all that a space needs; what is not there is measured now, and kept where
    there is a path. `progress` is told how many runs of how many are made, `say` what a person should read.

    Raises `InputError` for a table of another device or of other conditions, or one that cannot be written.
    """
    table = open_table(path, here)
    name = space.title
    wanted = space_operators(space, table)
    if not lacking(table, name, wanted):
        return table
    if path and (why := why_not_kept(path)):
        raise InputError(f"latency table {path}: cannot be written ({why}); NAS_CACHE names another folder")
    begun, session = time.monotonic(), Session(now(), 0, os.getloadavg()[0], os.cpu_count() or 1)
    say(f"timing layers on {table}")
    drawn = networks(space, random.Random(f"{name} {table.spaces.get(name, 0)}"))
    seen: set[str] = set()
    runs = 0

    def step() -> None:
        nonlocal runs
        runs += 1
        progress("timing layers", runs, total)

    while short := lacking(table, name, wanted):
        archs = [arch for arch in choose_networks(drawn, short, wanted.keys(), table) if arch.digest not in seen]
        if not archs:
            break
        seen |= {arch.digest for arch in archs}
        total = runs + max(NETWORKS - table.spaces.get(name, 0), len(archs)) * ROUNDS
        table = add(table, path, name, archs, step, session)
    rows = sum(len(rows) for rows in table.times.values())
    took = f"{len(seen)} networks in {time.monotonic() - begun:.0f} s"
    say(f"timed {took}: {rows:,} times of {len(table.times)} operators{f' in {path}' if path else ''}")
    if (busy := table.sessions[-1]).busy:
        again = f"; delete {path} to time them again" if path else ""
        say(f"times of layers may be too long: the load was {busy.load:.1f} on {busy.cores} cores{again}")
    return table


def open_table(path: Path | None, here: LatencyTable) -> LatencyTable:
    """The table in a file, or an empty one; only what was measured under the same conditions may be added to."""
    if path is None or not os.path.exists(path):
        return here
    table = LatencyTable.load(path)
    if not timing.alike(table, here):
        raise InputError(f"latency table {path} is of {table}, this is {here}; give another --table")
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
    each: Callable[[], None] = do_nothing,
    session: Session | None = None,
) -> LatencyTable:
    """The table with the layers of these networks timed, and saved; a session goes on with the load that it began
    with."""
    session = session or Session(now(), 0, os.getloadavg()[0], os.cpu_count() or 1)
    found = layer_times(table, name, archs, each)
    load = max(session.load, os.getloadavg()[0] - table.threads)  # without these threads
    table = table.with_times(name, len(archs), (row for rows in found for row in rows))
    table = table.with_session(session._replace(networks=len(archs), load=round(load, 2)))
    if path is not None:
        table.save(path)
    return table


def now() -> str:
    return datetime.datetime.now().isoformat(timespec="seconds")


def layer_times(
    table: LatencyTable, name: str, archs: Sequence[Arch], each: Callable[[], None]
) -> list[list[tuple[str, Size, float]]]:
    """The layers of these networks with their times; measured again where they disagree with what is known of the
    space, and then the least time of each counts: what disturbs makes it longer."""
    found = runtimes.layer_ms(archs, table, ROUNDS, each)
    for _ in range(REPEATS):
        if table.spaces.get(name, 0) < SETTLED or agrees(table, archs, found):
            break
        again = runtimes.layer_ms(archs, table, ROUNDS)
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


def lacking(table: LatencyTable, name: str, wanted: Mapping[str, int]) -> Set[str]:
    """The operators that need more times; all, where too few networks of a space were timed."""
    count = table.spaces.get(name, 0)
    if count < NETWORKS:
        return wanted.keys()
    few = {operator for operator, sizes in wanted.items() if len(table.times.get(operator, ())) < min(ENOUGH, sizes)}
    return few if count < MOST else {operator for operator in few if operator not in table.times}


def space_operators(space: Space, table: LatencyTable) -> dict[str, int]:
    """The operators that a space's networks have in a table's runtime, from many random ones, and of each how many
    sizes it has there: a classifier of one width has one, however many networks are timed."""
    rng, width = random.Random(0), usual_width(space)
    found: dict[str, set[Size]] = {}
    for _ in range(DRAWS):
        for section, shape in placed(space.arch(space.random_point(rng), width)):
            for name, size in table.parts(section, shape):
                found.setdefault(name, set()).add(size)
    return {name: len(sizes) for name, sizes in found.items()}


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
        yield scale_to(space, space.random_point(rng), round(middle * SPREAD ** -rng.random()), rng)


def usual_width(space: Space) -> float | None:
    """The width multiplier nearest to 1 that a space offers; None where it is not free."""
    return None if space.fit_range is None else min(max(1.0, space.fit_range[0]), space.fit_range[1])


def scale_to(space: Space, point: Point, macs: int, rng: random.Random) -> Arch:
    """A network of about so many MACs; where none is found, one of the point at the width that is nearest to them."""
    found = space.fit(point, Budget((Limit("macs", macs),)), 0.8, rng.getrandbits(32))
    if found is not None:
        return found.arch
    assert space.fit_range is not None
    low, high = space.fit_range
    one = usual_width(space) or 1.0
    width = one * math.sqrt(macs / space.cost(point, one).macs)  # to which MACs are about proportional, squared
    return space.arch(point, min(max(width, low), high))


def choose_networks(candidates: Iterator[Arch], short: Set[str], wanted: Set[str], table: LatencyTable) -> list[Arch]:
    """A few networks to time together; where only some operators are short, those that have most of them.

    None where no network of many has any: an operator may be there only at widths that are not timed.
    """
    if short == wanted:
        return list(islice(candidates, AT_ONCE))
    drawn = list(islice(candidates, AT_ONCE * CANDIDATES))
    if not any(table.operators(arch) & short for arch in drawn):
        drawn += islice(candidates, DRAWS)
    having = [arch for arch in drawn if table.operators(arch) & short]
    return sorted(having, key=lambda arch: -len(table.operators(arch) & short))[:AT_ONCE]
