"""Claim: the network that a search finds within a budget is better than known networks scaled to it, and than chance.

    python experiments/headline.py --dataset path/to/cifar10      # 1.6 hours of one core; run again to carry on
    python experiments/headline.py --dataset path/to/cifar10 --budget 300MFLOPs --trials 200 --controls 5 --seeds 5 \\
        --images 46000 --epochs 100                               # the full size, on a GPU
    python experiments/headline.py --dataset … --winner runs/a    # no search: a run's folder, or an arch.yaml
    python experiments/headline.py --smoke                        # seconds: one epoch of 60 digits, nothing searched

`python -m nas.search` looks for a network in a space within a budget, without the known networks that it would begin
with (its run folder lies beside the results); with `--winner` an earlier search's is taken, and neither Ray nor Optuna
is needed. Its network, ReXNet ×1.0, MobileNetV2, EfficientNet-B0 and RegNetY-400MF, and random networks of the space
are trained with the same recipe, that of full training with the given epochs, on the same images; `random` is another
network for each training. The known networks are scaled in width, stem and last convolution included, until they use
97 to 100 % of the budget in multiply-adds at 224 px and 1,000 classes (90 % where widths in multiples of 8 come no
nearer); dropout is 0.2 everywhere and stochastic depth is left out, since the recipe is the same. The search and all
choices see training images alone; the weights are kept, and at the end, once, all of them are tested.
"""

from __future__ import annotations

import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import findings
import trainings
from rich.console import Console

from nas.config import full_recipe
from nas.latency.timing import device_for, device_name
from searchspace import Arch, Budget, InputError, Space, cost
from searchspace.space import textbook

KNOWN = {
    "ReXNet": "rexnet_100",
    "MobileNetV2": "mobilenet_v2",
    "EfficientNet": "efficientnet_b0",
    "RegNetY": "regnet_y_400mf",
}
WINNER, RANDOM = "search", "random"
BUDGET = "30MFLOPs"
BANDS = (0.97, 0.95, 0.9)
FAR_SEED = 10**6  # no search draws its networks from seeds as high


def scaled(name: str, budget: Budget) -> Arch:
    """A known network at the budget, all of it scaled by one width multiplier, as closely as its rounding allows."""
    space = Space.load("mobile")
    candidate = textbook.scale(textbook.deploy(name, space), budget, BANDS, space)
    if candidate is not None:
        return candidate.arch
    raise InputError(f"budget {budget}: {name} cannot be scaled to {BANDS[-1]:.0%} of it")


def searched(args: argparse.Namespace) -> Path:
    """The folder of the search, which is carried on where it stands, or of the earlier one."""
    if args.winner is not None:
        return Path(args.winner)
    run: Path = args.out / f"headline-{Path(args.space).stem}-{args.budget}-search"
    images = args.images + trainings.held_out(args.images)
    command = [sys.executable, "-m", "nas.search", "--budget", args.budget, "--space", args.space]
    command += ["--num-classes", "1000"]  # as the networks of the papers that it is compared with
    command += ["--dataset", args.dataset, "--images", str(images), "--trials", str(args.trials)]
    command += ["--run", str(run), "--no-baselines"]
    if subprocess.run(command).returncode:
        raise InputError(f"winner: the search in {run} failed; the same command carries on")
    return run


def winner(place: Path, budget: Budget) -> Arch:
    """The network of an arch.yaml or of a run's folder; it has to keep the budget."""
    files = [place] if place.is_file() else [place / name for name in ("best.yaml", "arch.yaml")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(f"winner {place}: an arch.yaml or the folder of a search is accepted")
    arch = Arch.load(file)
    if not budget.admits(cost(arch)):
        raise InputError(f"winner {file}: {budget.violation(cost(arch))}")
    return arch


def rivals(args: argparse.Namespace, budget: Budget) -> tuple[dict[str, Arch], list[Arch]]:
    """The known networks at the budget, and random ones."""
    space = Space.load(args.space)
    known = {title: scaled(name, budget) for title, name in KNOWN.items()}
    return known, [space.sample(FAR_SEED + number, budget) for number in range(args.controls)]


def summary(jobs: list[trainings.Job], validation: list[float], test: list[float]) -> list[dict[str, Any]]:
    own: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        own.setdefault(job.name, []).append(place)
    rows = findings.versus({name: [test[place] for place in places] for name, places in own.items()}, WINNER)
    for row in rows:
        places = own[row["network"]]
        row["validation"] = f"{findings.spread([validation[place] for place in places])[0]:.4f}"
        spent = [cost(jobs[place].arch) for place in places]
        row["MMACs"] = f"{sum(one.macs for one in spent) / len(spent) / 1e6:.1f}"
        row["Mparams"] = f"{sum(one.params for one in spent) / len(spent) / 1e6:.3f}"
    return rows


def draw(jobs: list[trainings.Job], test: list[float], note: str, path: Path) -> None:
    scores: dict[str, list[float]] = {}
    for job, accuracy in zip(jobs, test, strict=True):
        scores.setdefault(job.name, []).append(accuracy)
    figure = findings.figure(8, 4.2)
    axes = figure.subplots()
    axes.set_title(note, fontsize=10)
    findings.dots(axes, scores, WINNER)
    axes.set_xlabel("test accuracy: every training, and the mean (dotted: the search's)")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, "one epoch of 60 digits, one seed; a random network stands for the search's")
    parser.add_argument("--budget", default=BUDGET, help="what every network may cost (30MFLOPs, at 224 px)")
    parser.add_argument("--space", default="mobile", help="what is searched (mobile)")
    parser.add_argument("--trials", type=int, default=24, help="of the search (24)")
    parser.add_argument("--winner", help="an arch.yaml or the folder of a search; nothing is searched then")
    parser.add_argument("--controls", type=int, default=3, help="random networks, each trained once (3)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every other network (3)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=8, help="of the training that is compared (8)")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds, args.controls = "digits", 60, 1, 1, 1
    budget, console, device = Budget.parse(args.budget), Console(width=140), device_for("auto")
    name = "headline" if args.budget == BUDGET else f"headline-{args.budget}"
    known, drawn = rivals(args, budget)
    if args.smoke and args.winner is None:
        best = Space.load(args.space).sample(0, budget)
    else:
        best = winner(searched(args), budget)
    train = replace(full_recipe(args.dataset), epochs=args.epochs)
    jobs = trainings.repeated({WINNER: best, **known}, train, args.seeds)
    jobs += [trainings.Job(RANDOM, arch, train, seed) for seed, arch in enumerate(drawn)]
    split = trainings.images(args.dataset, args.images)
    weights = args.out / f"{name}-weights"
    records = trainings.carry_out(jobs, split, device, args.out / f"{name}.jsonl", console, keep=weights)
    test = trainings.tested(jobs, split, device, weights, args.out / f"{name}-test.jsonl")
    rows = summary(jobs, [record["accuracy"] for record in records], test)
    findings.write(args.out / f"{name}.csv", rows)
    best.save(args.out / f"{name}.yaml", "what the search found")
    images = trainings.described(split)
    note = f"within {budget}: {args.epochs} epochs of {images}"
    findings.show(console, f"test accuracy {note}, {device_name(device)}", rows)
    console.print(f"{trainings.effort(records)}; {findings.command(__file__, arguments)}", soft_wrap=True)
    draw(jobs, test, note, args.out / f"{name}.png")


if __name__ == "__main__":
    findings.run(main)
