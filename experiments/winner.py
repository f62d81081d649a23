"""Claim: the network that a search names is better than the best textbook network, and as good as the search says.

    python experiments/winner.py --dataset path/to/cifar10 --images 10000          # hours of two cores; carries on
    python experiments/winner.py --dataset path/to/cifar10 --budget 300MFLOPs --searches 1
    python experiments/winner.py --smoke                                            # a minute: one search on digits

`python -m nas.search` with its defaults, from several seeds (their run folders lie beside the results). The network
that each names, what it would have named without finals, and the textbook networks that were best in the searches are
then trained long from fresh seeds, on a split of another seed. The gain is over the textbook network that is best
there, on average over its trainings: the hardest rival, chosen with hindsight. Beside it what the search itself
printed, and how far that is from fresh trainings of its network with the recipe, images and epochs of finals.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import findings
import trainings
from rich.console import Console
from trainings import Job, Record

from nas import Run
from nas.analysis.finals import duel
from nas.config import full_recipe
from nas.data.datasets import list_classes, number_of_training_images
from nas.latency.timing import device_for, device_name
from searchspace import Arch, Budget, InputError

NAMED, SCORED = "named", "best score"
FRESH = 10**6  # a seed that no search has


def searched(args: argparse.Namespace, seed: int) -> Run:
    """The search of a seed, carried on where it stands."""
    folder: Path = args.out / f"winner-{Path(args.dataset).name}-{args.budget}-{seed}"
    command = [sys.executable, "-m", "nas.search", "--budget", args.budget, "--dataset", args.dataset]
    command += ["--trials", str(args.trials), "--seed", str(seed), "--run", str(folder), *args.options]
    if args.images is not None:
        command += ["--images", str(args.images)]
    if subprocess.run(command).returncode:
        raise InputError(f"winner: the search in {folder} failed; the same command carries on")
    return Run.open(folder)


def networks(runs: Sequence[Run], rivals: int) -> dict[str, Arch]:
    """What is trained: of every search the named network and that of the best score, and the textbook networks that
    were best in the searches."""
    found: dict[str, Arch] = {}
    for number, run in enumerate(runs):
        found[f"{NAMED} {number}"] = run.best.arch
        found[f"{SCORED} {number}"] = run.ranked[0].arch
    known = [trial for run in runs for trial in run.ranked if trial.role == "baseline"]
    gains = {one.baseline: fmean(t.gain or 0.0 for t in known if t.baseline == one.baseline) for one in known}
    best = sorted(gains, key=lambda name: -gains[name])[:rivals]
    return found | {one.baseline: one.arch for one in known if one.baseline in best}


def rows_of(runs: Sequence[Run], scores: Mapping[str, Sequence[float]], known: Sequence[str]) -> list[dict[str, Any]]:
    """A row per search: what its network reaches, and how much more than the best textbook network."""
    best = max(known, key=lambda name: fmean(scores[name]))
    rows = []
    for number, run in enumerate(runs):
        own, lucky = scores[f"{NAMED} {number}"], scores[f"{SCORED} {number}"]
        found = duel(run.finals) if run.finals else None
        printed = "" if found is None or found.difference is None else f"{found.difference:+.4f}"
        row = {"search": number, "named": f"trial {run.best.number} ({run.best.name})", "trained": f"{fmean(own):.4f}"}
        row |= {"best textbook": best, "its": f"{fmean(scores[best]):.4f}"}
        row |= {"gain": f"{fmean(own) - fmean(scores[best]):+.4f}", "printed difference": printed}
        rows.append(row | {"gain without finals": f"{fmean(lucky) - fmean(scores[best]):+.4f}"})
    return rows


def summary(rows: Sequence[dict[str, Any]], column: str) -> str:
    values = [float(row[column]) for row in rows]
    mean, sd = findings.spread(values)
    return f"{mean:+.4f} ± {sd / math.sqrt(len(values)):.4f} (n = {len(values)}, worst {min(values):+.4f})"


def optimism(run: Run, args: argparse.Namespace, device: str, log: Path, console: Console) -> float | None:
    """What a search printed of its network, minus fresh trainings of that like those of the finals."""
    found, identity = duel(run.finals) if run.finals else None, run.config.identity
    if found is None:
        return None
    train = replace(identity.train, epochs=found.epochs)
    split = trainings.images(
        args.dataset, number_of_training_images(identity.data, list_classes(identity.data)[1]), seed=FRESH
    )
    jobs = [Job(NAMED, found.winner.arch, train, FRESH + seed) for seed in range(args.seeds)]
    fresh: list[Record] = trainings.carry_out(jobs, split, device, log, console)
    return found.score - fmean(record["accuracy"] for record in fresh)


def draw(scores: Mapping[str, Sequence[float]], note: str, path: Path) -> None:
    figure = findings.figure(8, 1 + 0.3 * len(scores))
    axes = figure.subplots()
    findings.dots(axes, scores, f"{NAMED} 0")
    axes.set_title(note, fontsize=10)
    axes.set_xlabel("validation accuracy of every long training, and the mean")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, "one search of 12 trials on digits, two epochs")
    parser.add_argument("--budget", default="30MFLOPs", help="at 224 px (30MFLOPs)")
    parser.add_argument("--searches", type=int, default=3, help="seeds (3)")
    parser.add_argument("--trials", type=int, default=48, help="of a search (48)")
    parser.add_argument("--images", type=int, help="training images of a search (all)")
    parser.add_argument("--seeds", type=int, default=3, help="long trainings of every network (3)")
    parser.add_argument("--rivals", type=int, default=3, help="textbook networks, the best of the searches (3)")
    parser.add_argument("--epochs", type=int, default=20, help="of a long training (20)")
    parser.add_argument("--long-images", type=int, default=10_000, help="training images of a long training (10,000)")
    parser.add_argument("options", nargs="*", help="more options of the search, after --")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.searches, args.trials, args.images, args.seeds = "digits", 1, 12, None, 1
        args.epochs, args.long_images, args.budget = 2, 200, "8MFLOPs"
        args.options = ["--epochs", "1", "--resolution", "32"]
    console, device = Console(width=160), device_for("auto")
    Budget.parse(args.budget)
    runs = [searched(args, seed) for seed in range(args.searches)]
    archs = networks(runs, args.rivals)
    train = replace(full_recipe(args.dataset), epochs=args.epochs)
    jobs = trainings.repeated(archs, train, args.seeds)
    split = trainings.images(args.dataset, args.long_images, seed=FRESH)
    log = args.out / f"winner-{Path(args.dataset).name}-{args.budget}.jsonl"
    records = trainings.carry_out(jobs, split, device, log, console)
    scores = trainings.accuracies(records)
    known = [name for name in archs if not name.startswith((NAMED, SCORED))]
    rows = rows_of(runs, scores, known)
    name = f"winner-{Path(args.dataset).name}-{args.budget}"
    findings.write(args.out / f"{name}.csv", rows)
    note = f"within {args.budget}: {args.epochs} epochs of {trainings.described(split)}"
    findings.show(console, f"{note}, {device_name(device)}", rows)
    for column in ("gain", "gain without finals"):
        console.print(f"{column} over the best textbook network: {summary(rows, column)}")
    off = [one for run in runs if (one := optimism(run, args, device, log, console)) is not None]
    if off:
        console.print(f"printed minus fresh: {fmean(off):+.4f} over {len(off)} searches")
    console.print(f"{trainings.effort(records)}; {findings.command(__file__, arguments)}", soft_wrap=True)
    draw(scores, note, args.out / f"{name}.png")


if __name__ == "__main__":
    findings.run(main)
