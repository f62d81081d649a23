"""Claim: the network that a search names is better than the best textbook network, and as good as the search says.

    python -m experiments.search.winner --dataset path/to/cifar10 --images 10000  # hours of two cores; carries on
    python -m experiments.search.winner --dataset path/to/imagenette64 --also path/to/cifar10 --images 2000
    python -m experiments.search.winner --dataset path/to/cifar10 --budget 300MFLOPs --searches 1 --ranked 16
    python -m experiments.search.winner --smoke  # a minute: one search on digits

`python -m nas.search` with its defaults, from several seeds (their run folders lie beside the results), with what ships
from earlier searches on other datasets, but nothing of the dataset's own. The network that each names, what it would
have named without finals, and the textbook networks that were best in the searches are then trained long from fresh
seeds, on a split of another seed. The gain is over the textbook network that is best there, on average over its
trainings: the hardest rival, chosen with hindsight. Beside it what the search itself printed, and how far that is from
fresh trainings of its network with the recipe, images and epochs of finals. With `--ranked N` as many trials of each
search, drawn from the complete ones by chance, are trained long too, once each: how far their order agrees with the
search's.
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
from random import Random
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from experiments.trainings import Job, Record
from nas import Run
from nas.analysis.agreement import agreement
from nas.analysis.finals import duel
from nas.config import full_recipe
from nas.data.datasets import list_classes, number_of_training_images
from nas.trial import TrialRecord
from searchspace import Arch, Budget, InputError

BUDGET = "30MFLOPs"
NAMED, SCORED = "named", "best score"
GAINS = ("gain", "gain without finals")
FRESH = 10**6  # a seed that no search has


def searched(args: argparse.Namespace, dataset: str, seed: int) -> Run:
    """The search of a seed, carried on where it stands."""
    folder: Path = args.out / f"winner-{Path(dataset).name}-{args.budget}-{seed}"
    command = [sys.executable, "-m", "experiments.unseen", "--budget", args.budget, "--dataset", dataset]
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
    mean, sd = comparisons.spread(values)
    return f"{mean:+.4f} ± {sd / math.sqrt(len(values)):.4f} (n = {len(values)}, worst {min(values):+.4f})"


def optimism(run: Run, dataset: str, args: argparse.Namespace, page: findings.Page, log: Path) -> float | None:
    """What a search printed of its network, minus fresh trainings of that like those of the finals."""
    found, identity = duel(run.finals) if run.finals else None, run.config.identity
    if found is None:
        return None
    train = replace(identity.train, epochs=found.epochs)
    there = list_classes(identity.data)[1]
    trained = number_of_training_images(identity.data, there)
    scored = min(there - trained, trainings.VALIDATION_IMAGES)  # of a few images the share that is right is a guess
    split = trainings.images(dataset, trained, train.resolution, FRESH, scored)
    jobs = [Job(NAMED, found.winner.arch, train, FRESH + seed) for seed in range(args.seeds)]
    fresh: list[Record] = trainings.carry_out(jobs, split, page.device, log, page.console)
    page.trained(fresh)
    return found.score - fmean(record["accuracy"] for record in fresh)


def drawn(runs: Sequence[Run], number: int) -> dict[str, TrialRecord]:
    """So many complete trials of each search, by chance."""
    chosen = [Random(FRESH).sample(run.ranked, min(number, len(run.ranked))) for run in runs]
    return {f"trial {one.number} of {search}": one for search, own in enumerate(chosen) for one in own}


def agreements(ranked: Mapping[str, TrialRecord], scores: Mapping[str, Sequence[float]], searches: int) -> list[str]:
    """For each search how far the order of its trials is that of their long trainings."""
    said = []
    for search in range(searches):
        own = [name for name in ranked if name.endswith(f" of {search}")]
        brief = [float(ranked[name].score or 0.0) for name in own]
        found = agreement(brief, [fmean(scores[name]) for name in own])
        if found is not None:
            low, high = found.spearman_interval
            said.append(
                f"search {search}: {len(own)} trials by chance, their scores and their long trainings agree by "
                f"{found.spearman:+.2f} [{low:+.2f}, {high:+.2f}] (Spearman)"
            )
    return said


def draw(scores: Mapping[str, Sequence[float]], note: str) -> Figure:
    figure = findings.figure(8, 1 + 0.3 * len(scores))
    axes = figure.subplots()
    comparisons.dots(axes, scores, f"{NAMED} 0")
    axes.set_title(note, fontsize=10)
    axes.set_xlabel("validation accuracy of every long training, and the mean")
    return figure


def one_dataset(dataset: str, args: argparse.Namespace, page: findings.Page) -> list[dict[str, Any]]:
    """Search on a dataset, train what was found and tell of it: a row for each search."""
    name = f"winner-{Path(dataset).name}-{args.budget}"
    runs = [searched(args, dataset, seed) for seed in range(args.searches)]
    archs = networks(runs, args.rivals)
    train = replace(full_recipe(dataset), epochs=args.epochs)
    ranked = drawn(runs, args.ranked)
    jobs = trainings.repeated(archs, train, args.seeds)
    jobs += [Job(title, one.arch, train) for title, one in ranked.items()]
    split = trainings.images(dataset, args.long_images, seed=FRESH)
    log, fresh = args.out / f"{name}.jsonl", args.out / f"{name}-fresh.jsonl"
    records = trainings.carry_out(jobs, split, page.device, log, page.console)
    page.trained(records)
    scores = trainings.accuracies(records)
    rows = rows_of(runs, scores, [known for known in archs if not known.startswith((NAMED, SCORED))])
    note = f"within {args.budget}: {args.epochs} epochs of {trainings.described(split)}"
    page.table(name, note, rows)
    for column in GAINS:
        page.say(f"{column} over the best textbook network: {summary(rows, column)}")
    off = [one for run in runs if (one := optimism(run, dataset, args, page, fresh)) is not None]
    if off:
        mean, sd = comparisons.spread(off)
        page.say(f"printed minus fresh: {mean:+.4f} ± {sd / math.sqrt(len(off)):.4f} over {len(off)} searches")
    for line in agreements(ranked, scores, len(runs)):
        page.say(line)
    page.figure(name, draw({title: scores[title] for title in archs}, note))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one search of 12 trials on digits, two epochs")
    parser.add_argument("--also", action="append", default=[], metavar="DATASET", help="another one, searched alike")
    parser.add_argument("--budget", default=BUDGET, help="at 224 px (30MFLOPs)")
    parser.add_argument("--searches", type=int, default=3, help="seeds (3)")
    parser.add_argument("--trials", type=int, default=48, help="of a search (48)")
    parser.add_argument("--images", type=int, help="training images of a search (all)")
    parser.add_argument("--seeds", type=int, default=3, help="long trainings of every network (3)")
    parser.add_argument("--rivals", type=int, default=3, help="textbook networks, the best of the searches (3)")
    parser.add_argument("--epochs", type=int, default=20, help="of a long training (20)")
    parser.add_argument("--long-images", type=int, default=10_000, help="training images of a long training (10,000)")
    parser.add_argument("--ranked", type=int, default=0, help="trials of each search that are trained long too (0)")
    parser.add_argument("options", nargs="*", help="more options of the search, after --")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.searches, args.trials, args.images, args.seeds = "digits", 1, 12, None, 1
        args.epochs, args.long_images, args.budget = 2, 200, "8MFLOPs"
        args.also, args.options, args.ranked = [], ["--epochs", "1", "--resolution", "32"], 5
    page = findings.Page(
        __doc__, __file__, args, arguments, "winner" if args.budget == BUDGET else f"winner-{args.budget}"
    )
    Budget.parse(args.budget)
    gains: list[dict[str, Any]] = []
    for dataset in (args.dataset, *args.also):
        gains += one_dataset(dataset, args, page)
    if args.also:
        for column in GAINS:
            page.say(f"on all datasets, {column} over the best textbook network: {summary(gains, column)}")
    page.write(n=f"{args.searches} searches of {args.trials} trials, {args.seeds} long trainings of each network")


if __name__ == "__main__":
    findings.run(main)
