"""Timing this device's layers as the command does it, and how well predictions agree with measurements."""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from rich.console import Console

from nas.latency import device_table, onnx_networks, runtimes, timing
from nas.run import kit
from nas.run.search_options import SPACE
from nas.views import figures
from nas.views.meter import meter
from searchspace import command
from searchspace.arch import Arch
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
    space = Space.load(args.space or SPACE)
    space = space.fix([f"resolution={args.resolution}"] if args.resolution else [])
    here, console = conditions(args), command.console()
    if args.kit is not None:
        kit.write(args.kit, space, here, CHECKED, console)
        return 0
    if args.check and args.table is not None and not args.table.exists():
        raise InputError(f"table {args.table}: no such file to check; without --check it is made, of this machine")
    if args.check and args.table is not None and (carried := load_kit_table(args.table)):
        if (args.space or args.resolution) and space.title not in carried.spaces:
            raise InputError(
                f"check {args.table}: its networks are of {', '.join(carried.spaces)}, not of {space.title}; a kit of "
                "that (--kit with the same --space and --resolution) has others"
            )
        return check_elsewhere(carried, args.table, console)
    path = args.table or device_table.default_path(here)
    before = device_table.open_table(path, here)
    with meter(console, "timing layers") as progress:
        table = device_table.ensure(path, space, here, progress, progress.say)
    if table == before:
        console.print(f"{path} has all that {space.source} needs")
    return check(table, path, space, console) if args.check else 0


def conditions(args: argparse.Namespace) -> LatencyTable:
    """What is to be timed, as a table without times; `InputError` for a runtime that cannot do it."""
    if args.runtime == "onnxruntime":
        if args.device == "cuda":
            raise InputError("device cuda: onnxruntime is timed on the CPU; --runtime torch times a GPU")
        return onnx_networks.conditions(args.dtype, args.batch_size, args.threads)
    if args.dtype == "int8":
        raise InputError("dtype int8: of --runtime onnxruntime alone")
    return timing.conditions(timing.device_for(args.device), args.batch_size, args.threads)


def load_kit_table(path: Path) -> LatencyTable | None:
    """The table of a kit, which has whole networks to check it with; None of any other."""
    table = LatencyTable.load(path)
    return table if table.checked else None


def check(table: LatencyTable, path: Path, space: Space, console: Console) -> int:
    """Predicted against measured on random networks that were not used; 1 where the aim does not hold."""
    drawn = device_table.networks(space, random.Random("check"))
    archs = [next(drawn) for _ in range(CHECKED)]
    for arch in archs:
        if table.missing(arch):
            table = device_table.add(table, path, f"{space.source}, rare", [arch])
    console.print(f"running {CHECKED} networks")
    runs = count(1)
    with meter(console, "running networks") as progress:

        def step() -> None:
            progress("running networks", next(runs), CHECKED * CHECK_ROUNDS)

        times = runtimes.network_ms(archs, table, CHECK_ROUNDS, step)
    console.print(f"{table}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    words = f"{CHECKED} random networks of {space.title}"
    return judge(table, path, words, dict(zip(archs, times, strict=True)), console)


def check_elsewhere(table: LatencyTable, path: Path, console: Console) -> int:
    """The same of a device that is not here, by the whole networks that a kit's script measured there."""
    measured = {Arch.from_dict(json.loads(text), f"{path}: checked"): ms for text, ms in table.checked.items()}
    load = table.sessions[-1].load if table.sessions else 0.0
    console.print(f"{table}; load {load:.1f} there")
    return judge(table, path, f"{len(measured)} networks that were measured there", measured, console)


def judge(table: LatencyTable, path: Path, words: str, times: Mapping[Arch, float], console: Console) -> int:
    """Say how far predictions are from measured milliseconds, and draw it; 1 where the aim does not hold."""
    import numpy as np
    from scipy.stats import spearmanr

    predicted, measured = np.array([table.predict(arch) for arch in times]), np.array(list(times.values()))
    error, correlation = float(np.mean(np.abs(predicted / measured - 1))), float(spearmanr(predicted, measured)[0])
    holds = error <= MOST_ERROR and correlation >= LEAST_CORRELATION
    console.print(
        f"{words}: measured {measured.min():.3g} to {measured.max():.3g} ms, predicted {predicted.min():.3g} to "
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
