"""`python -m nas.measure`: time this device's layers, for latency budgets (`--budget 12ms`) and predictions.

Random networks of a space are run and their layers timed; the times are kept in the user's cache, one file a device,
batch size, number of threads and release of PyTorch. What is stopped goes on from where it was, and what a later space
needs beside is added. `--check` compares predictions with measurements on networks that were not used.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from rich.console import Console

from nas.latency import device_table, timing
from nas.views import figures
from nas.views.meter import meter
from searchspace import command
from searchspace.costs.latency import LatencyTable
from searchspace.errors import InputError
from searchspace.space.space import Space, ready

CHECKED = 30
CHECK_ROUNDS = 9
MOST_ERROR, LEAST_CORRELATION = 0.10, 0.95


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


if __name__ == "__main__":
    command.run(main, "nas.measure")
