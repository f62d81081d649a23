"""Timing this device's layers as the command does it, and how well predictions agree with measurements."""

from __future__ import annotations

import argparse
import os
import random
from itertools import count
from pathlib import Path

from rich.console import Console

from nas.latency import device_table, timing
from nas.views import figures
from nas.views.meter import meter
from searchspace import command
from searchspace.costs.latency import LatencyTable
from searchspace.errors import InputError
from searchspace.space.space import Space

CHECK_ROUNDS = 9
MOST_ERROR, LEAST_CORRELATION = 0.10, 0.95
CHECKED = 30


def run(args: argparse.Namespace) -> int:
    """Time the layers that lack, and check the predictions where that is asked for; returns the exit code."""
    for name in ("batch_size", "threads", "resolution"):
        number = getattr(args, name)
        if number is not None and number < 1:
            raise InputError(f"{name.replace('_', '-')}: at least 1, not {number}")
    for name, most in (("batch_size", 10**6), ("threads", os.cpu_count() or 1)):
        if getattr(args, name) > most:
            raise InputError(f"{name.replace('_', '-')}: at most {most:,}, not {getattr(args, name)}")
    space = Space.load(args.space)
    space = space.fix([f"resolution={args.resolution}"] if args.resolution else [])
    device = timing.device_for(args.device)
    console = command.console()
    path = args.table or device_table.default_path(device, args.batch_size, args.threads)
    before = device_table.opened(path, device, args.batch_size, args.threads)
    with meter(console, "timing layers") as told:
        table = device_table.ensure(path, space, device, args.batch_size, args.threads, told, told.say)
    if table == before:
        console.print(f"{path} has all that {space.source} needs")
    return check(table, path, space, device, console) if args.check else 0


def check(table: LatencyTable, path: Path, space: Space, device: str, console: Console) -> int:
    """Predicted against measured on random networks that were not used; 1 where the aim does not hold."""
    import numpy as np
    from scipy.stats import spearmanr

    drawn = device_table.networks(space, random.Random("check"))
    archs = [next(drawn) for _ in range(CHECKED)]
    for arch in archs:
        if table.missing(arch):
            table = device_table.add(table, path, f"{space.source}, rare", [arch], device)
    predicted = np.array([table.predict(arch) for arch in archs])
    models = [timing.ready(arch, device) for arch in archs]
    console.print(f"running {CHECKED} networks")
    runs = count(1)
    with meter(console, "running networks") as told, timing.threads(table.threads):

        def step() -> None:
            told("running networks", next(runs), CHECKED * CHECK_ROUNDS)

        times = timing.network_ms(models, archs, device, table.batch_size, CHECK_ROUNDS, step)
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
