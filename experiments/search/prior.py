"""Claim: what searches on one dataset have taught makes a search on another better from its start.

    python -m experiments.search.prior --dataset path/to/imagenette64  # two hours of one core; carries on
    python -m experiments.search.prior --learn RUN RUN                 # makes the prior of `mobile` of these runs
    python -m experiments.search.prior --learn RUN --beside            # adds what these have taught to what ships
    python -m experiments.search.prior --smoke                         # a minute: one pair of searches on digits

Two measurements, on images that the prior is not of. Random networks of `mobile` are trained briefly, and what the
prior expects of them is compared with their accuracies. And searches are run in pairs from the same seeds, with and
without it, in equal numbers of trials; the network of the best score of each, and ReXNet scaled to the budget, are
then trained for longer from fresh seeds.

What the prior has of the dataset itself is left out. `--learn` is how it is made: runs of one task (budget, dataset and
recipe) are ranked together, and the file has a source for each task. Those that it is made of train long and whole:

    python -m experiments.unseen --budget 30MFLOPs --dataset path/to/cifar10 --images 5000 --epochs 12 \\
        --no-early-stopping --finalists 0 --trials 48
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings, unseen
from experiments.search.headline import scaled
from experiments.trainings import Job
from nas import Run
from nas.analysis.agreement import spearman
from nas.config import full_recipe, recipe
from nas.samplers.observations import Observations
from nas.samplers.predictor import Predictor
from nas.study import prior
from nas.study.design import Design
from nas.study.proposals import Proposals
from nas.study.warm_start import Sources
from searchspace import Arch, Budget, InputError, Space

SPACE, TEXTBOOK = "mobile", "rexnet_100"
FILE = Path(prior.__file__).parent / "priors" / f"{SPACE}.json"
WITH, WITHOUT = "with", "without"
FRESH = 10**6  # a seed that no search has


def learn(paths: Sequence[str], beside: bool) -> None:
    """Write the prior of runs, those of one task together, `beside` what ships or in its place."""
    tasks: dict[str, list[Run]] = {}
    for path in paths:
        run = Run.open(path)
        i = run.config.identity
        tasks.setdefault(f"{Path(i.data.dataset).name} {i.budget} {i.train}", []).append(run)
    space, sources = Space.load(SPACE), list(prior.read(SPACE).sources) if beside else []
    for runs in tasks.values():
        searches = f"{len(runs)} search{'es' * (len(runs) != 1)}"
        source = prior.learn(searches, [(run.config, run.study) for run in runs], space)
        sources.append(replace(source, dataset=Path(source.dataset).name))
        print(sources[-1])
    sources.sort(key=lambda source: source.dataset)
    FILE.write_text(prior.text_of(Sources(tuple(sources))), encoding="utf-8")


def expected(space: Space, budget: Budget, points: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """What the process of a search that begins expects of points' scores."""
    known = prior.recall(space).evidence
    if not known:
        raise InputError(f"prior: there is none of {space.source}")
    sampler = Proposals(Design(space, budget, evidence=known, horizon=budget.counts_macs)).make_sampler(0)
    assert isinstance(sampler, Predictor)
    rows = [(dict(one.point), one.y, one.unsure) for one in known]
    seen, y, unsure = zip(*rows, strict=True)
    model, read = sampler._model(Observations(list(seen), np.array(y), np.array(unsure), []))
    return model.predict(read([dict(point) for point in points]))[0]


def ranking(believed: np.ndarray[Any, Any], scores: Sequence[float]) -> dict[str, Any]:
    """How well a belief ranks networks, with 90 % bootstrap intervals over them."""
    measured, draw = np.asarray(scores), np.random.default_rng(0)

    def lead(b: np.ndarray[Any, Any], s: np.ndarray[Any, Any]) -> float:
        return float(s[np.argsort(-b)[: max(1, len(b) // 4)]].mean() - s.mean())

    drawn = [draw.integers(len(measured), size=len(measured)) for _ in range(2000)]
    row: dict[str, Any] = {"networks": len(measured), "mean": f"{measured.mean():.4f}"}
    for name, of in (("Spearman", spearman), ("best quarter − mean", lead)):
        with np.errstate(invalid="ignore"):  # a draw of nothing but equal scores has no order
            low, high = np.nanquantile([of(believed[rows], measured[rows]) for rows in drawn], (0.05, 0.95))
        row[name] = f"{of(believed, measured):+.3f} [{low:+.3f}, {high:+.3f}]"
    return row


def searched(args: argparse.Namespace, seed: int, way: str) -> Run:
    """A search, carried on where it stands."""
    folder: Path = args.out / f"prior-{Path(args.dataset).name}-{args.budget}-{seed}-{way}"
    module = "experiments.unseen" if way == WITH else "nas.search"
    command = [sys.executable, "-m", module, "--budget", args.budget, "--dataset", args.dataset]
    command += ["--trials", str(args.trials), "--seed", str(seed), "--run", str(folder), "--finalists", "0"]
    command += ["--images", str(args.images)] if args.images else []
    command += [*([] if way == WITH else ["--no-prior"]), *args.options]
    if subprocess.run(command).returncode:
        raise InputError(f"prior: the search in {folder} failed; the same command carries on")
    return Run.open(folder)


def own_scores(run: Run) -> list[float]:
    """Of the networks that the search itself proposed and that were trained whole."""
    return [trial.score for trial in run.ranked if trial.role == "search" and trial.score is not None]


def row_of(seed: int, pair: Mapping[str, Run], trained: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"seed": seed}
    for way, run in pair.items():
        row[f"best score, {way}"] = f"{run.ranked[0].score:.4f}"
        row[f"mean of the search's own, {way}"] = f"{fmean(own_scores(run)):.4f}"
        row[f"trained, {way}"] = f"{fmean(trained[f'{seed} {way}']):.4f}"
    return row | {"trained, ReXNet": f"{fmean(trained[TEXTBOOK]):.4f}"}


def draw(rows: Sequence[Mapping[str, Any]], note: str) -> Figure:
    figure = findings.figure(8, 4)
    axes = figure.subplots()
    for row in rows:
        for place, what in enumerate(("best score", "mean of the search's own", "trained")):
            ends = [float(row[f"{what}, {WITHOUT}"]), float(row[f"{what}, {WITH}"])]
            axes.plot([2 * place, 2 * place + 1], ends, "o-", color=findings.ACCENT, alpha=0.7)
    axes.axhline(float(rows[0]["trained, ReXNet"]), xmin=0.66, color="black", linestyle=":", linewidth=0.8)
    labels = [f"{what},\n{way}" for what in ("best score", "search's own", "trained") for way in (WITHOUT, WITH)]
    axes.set_xticks(range(6), labels, fontsize=8)
    axes.set_ylabel("validation accuracy")
    axes.set_title(f"{note}; dotted: ReXNet, trained alike", fontsize=10)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one pair of searches of 12 trials on digits, 6 random networks")
    parser.add_argument("--learn", nargs="+", metavar="RUN", help="make the prior of these runs, and no more")
    parser.add_argument("--beside", action="store_true", help="with --learn: what ships stays, these are added")
    parser.add_argument("--budget", default="30MFLOPs", help="of the searches, at 224 px (30MFLOPs)")
    parser.add_argument("--other-budget", default="40MFLOPs", help="of the random networks (40MFLOPs)")
    parser.add_argument("--networks", type=int, default=30, help="random ones (30)")
    parser.add_argument("--searches", type=int, default=4, help="pairs (4)")
    parser.add_argument("--trials", type=int, default=24, help="of a search (24)")
    parser.add_argument("--images", type=int, help="training images of a search (all)")
    parser.add_argument("--seeds", type=int, default=2, help="longer trainings of every network (2)")
    parser.add_argument("--epochs", type=int, default=12, help="of a longer training (12)")
    parser.add_argument("--long-images", type=int, default=3200, help="its training images (3,200)")
    parser.add_argument("--pixels", type=int, default=32, help="that networks are trained at (32)")
    parser.add_argument("options", nargs="*", help="more options of the searches, after --")
    args = parser.parse_args(arguments)
    if args.learn:
        learn(args.learn, args.beside)
        return
    if args.smoke:
        args.dataset, args.networks, args.searches, args.trials, args.seeds, args.epochs = "digits", 6, 1, 12, 1, 1
        args.long_images, args.pixels, args.budget, args.other_budget = 200, 16, "8MFLOPs", "8MFLOPs"
        args.options = ["--epochs", "1", "--resolution", "32"]
    page = findings.Page(__doc__, __file__, args, arguments)
    unseen.leave_out(args.dataset)
    name, space = f"prior-{Path(args.dataset).name}", Space.load(SPACE)
    budget, other = Budget.parse(args.budget), Budget.parse(args.other_budget)
    log, split = args.out / f"{name}.jsonl", trainings.images(args.dataset, args.long_images, args.pixels)
    drawn = [space.sample_point(random.Random(f"prior {number}"), other) for number in range(args.networks)]
    brief = replace(recipe(args.dataset), epochs=min(10, args.epochs))
    records = trainings.carry_out([Job(SPACE, one.arch, brief) for one in drawn], split, page.device, log, page.console)
    row = ranking(expected(space, other, [one.point for one in drawn]), [record["accuracy"] for record in records])
    note = f"{args.other_budget}, {brief.epochs} epochs of {trainings.described(split)}"
    page.table(f"{name}-ranking", f"Random networks of {SPACE}: {note}", [row])

    pairs = {seed: {way: searched(args, seed, way) for way in (WITH, WITHOUT)} for seed in range(args.searches)}
    archs: dict[str, Arch] = {TEXTBOOK: scaled(TEXTBOOK, budget)}
    for seed, pair in pairs.items():
        archs |= {f"{seed} {way}": run.ranked[0].arch for way, run in pair.items()}
    longer = replace(full_recipe(args.dataset), epochs=args.epochs)
    fresh = trainings.images(args.dataset, args.long_images, args.pixels, seed=FRESH)
    long_log = args.out / f"{name}-long.jsonl"
    found = trainings.carry_out(
        trainings.repeated(archs, longer, args.seeds), fresh, page.device, long_log, page.console
    )
    trained = trainings.accuracies(found)
    rows = [row_of(seed, pair, trained) for seed, pair in pairs.items()]
    title = f"{args.trials} trials within {args.budget}, trained: {args.epochs} epochs of {trainings.described(fresh)}"
    page.table(name, title, rows)
    for what in ("best score", "mean of the search's own", "trained"):
        ends = [[float(row[f"{what}, {way}"]) for row in rows] for way in (WITH, WITHOUT)]
        mean, low, high = comparisons.difference(ends[0], ends[1])
        page.say(f"{what}, with − without: {mean:+.4f} [{low:+.4f}, {high:+.4f}] over {len(rows)} pairs")
    page.figure(name, draw(rows, f"{Path(args.dataset).name}, {args.budget}, {args.trials} trials"))
    page.trained([*records, *found])
    page.write(
        n=f"{args.networks} random networks, {args.searches} pairs of searches, {args.seeds} longer trainings each"
    )


if __name__ == "__main__":
    findings.run(main)
