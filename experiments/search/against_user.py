"""Claim: in the same minutes, this project's search finds a better network than the script that a user writes.

    python -m experiments.search.against_user --dataset path/to/cifar10  # hours of two cores; carries on
    python -m experiments.search.against_user --dataset path/to/cifar10 --minutes 5 --seeds 1

`user_script.py` is an afternoon's work: TPE over MobileNet-like stages, multiply-adds by fvcore and rejection, a
DataLoader that augments image by image, MedianPruner. It and `python -m nas.search` have the same budget, images and
minutes, one after the other with the whole machine each, from several seeds. The network that each names is then
trained in the same way, long and from fresh seeds: the user's is read from its module (`searchspace.from_module`). Test
images are read once, when all trainings are done.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from experiments.search import user_script
from nas import Run
from nas.config import full_recipe
from searchspace import Arch, Budget, InputError, cost, from_module

OURS, USERS = "nas.search", "user's script"
OF_TRAININGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")  # which are of one thread; searches choose their own
MORE_THAN_FIT = 500  # trials, so that the clock ends the search and not their number
CLASSES = 1000  # of the deployed network, whose multiply-adds count


def run_search(command: list[str], folder: Path) -> None:
    environment = {name: value for name, value in findings.environment().items() if name not in OF_TRAININGS}
    if subprocess.run(command, env=environment).returncode:
        raise InputError(f"the search in {folder} failed; the same command carries on")


def by_user(args: argparse.Namespace, seed: int) -> tuple[Arch, int]:
    """The network that the user's script names, and how many it has trained."""
    out = args.out / f"against_user-{Path(args.dataset).name}-{seed}.json"
    if not out.is_file():
        command = [sys.executable, user_script.__file__, "--dataset", args.dataset, "--images", str(args.images)]
        command += ["--budget", str(Budget.parse(args.budget).limits[0].high), "--minutes", str(args.minutes)]
        run_search([*command, "--epochs", str(args.brief), "--seed", str(seed), "--out", str(out)], out)
    found = json.loads(out.read_text())
    return from_module(user_script.network(found["params"], CLASSES).eval()), found["trained"]


def by_search(args: argparse.Namespace, seed: int) -> tuple[Arch, int]:
    """The same of this project's search, stopped by its clock."""
    run = args.out / f"against_user-{Path(args.dataset).name}-{seed}-search"
    if not (run / "best.yaml").is_file():
        command = [sys.executable, "-m", "nas.search", "--budget", args.budget, "--dataset", args.dataset]
        command += ["--images", str(args.images), "--num-classes", str(CLASSES), "--seed", str(seed)]
        command += ["--trials", str(MORE_THAN_FIT), "--time-limit", f"{args.minutes:g}m", "--run", str(run)]
        run_search([*command, *args.options], run)
    found = Run.open(run)
    return found.best.arch, sum(trial.state == "complete" for trial in found.trials)


def rows_of(scores: dict[str, list[float]], archs: dict[str, Arch], counts: dict[str, int]) -> list[dict[str, Any]]:
    """A row per network: test accuracies of its trainings, and what it costs."""
    rows = []
    for name, values in scores.items():
        mean, sd = comparisons.spread(values)
        spent = cost(archs[name])
        row = {
            "network": name,
            "test accuracy": f"{mean:.4f}",
            "sd": f"{sd:.4f}",
            "trained in the search": counts[name],
        }
        rows.append(row | {"MMACs": f"{spent.macs / 1e6:.1f}", "Mparams": f"{spent.params / 1e6:.3f}"})
    return rows


def draw(scores: dict[str, list[float]], note: str) -> Figure:
    figure = findings.figure(8, 1 + 0.35 * len(scores))
    axes = figure.subplots()
    comparisons.dots(axes, scores, f"{OURS} 0")
    axes.set_title(note, fontsize=10)
    axes.set_xlabel("test accuracy of every training, and the mean")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "half a minute of each, one training of an epoch")
    parser.add_argument("--budget", default="30MFLOPs", help="multiply-adds at 224 px (30MFLOPs)")
    parser.add_argument("--minutes", type=float, default=15.0, help="of each search (15)")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each (3)")
    parser.add_argument("--trainings", type=int, default=3, help="long trainings of each network (3)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--brief", type=int, default=4, help="epochs of a trial of the user's script (4)")
    parser.add_argument("--epochs", type=int, default=20, help="of a long training (20)")
    parser.add_argument("options", nargs="*", help="more options of our search, after --")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.minutes, args.seeds, args.trainings, args.images, args.epochs, args.brief = 0.5, 1, 1, 100, 1, 1
    page = findings.Page(__doc__, __file__, args, arguments)
    archs, counts = {}, {}
    for seed in range(args.seeds):
        for name, found in ((OURS, by_search), (USERS, by_user)):
            archs[f"{name} {seed}"], counts[f"{name} {seed}"] = found(args, seed)
    train = replace(full_recipe(args.dataset), epochs=args.epochs)
    jobs = trainings.repeated(archs, train, args.trainings)
    split, weights = trainings.images(args.dataset, args.images), args.out / "against_user-weights"
    records = trainings.carry_out(jobs, split, page.device, args.out / "against_user.jsonl", page.console, keep=weights)
    test = trainings.tested(jobs, split, page.device, weights, args.out / "against_user-test.jsonl")
    scores: dict[str, list[float]] = {}
    for job, accuracy in zip(jobs, test, strict=True):
        scores.setdefault(job.name, []).append(accuracy)
    note = (
        f"{args.minutes:g} minutes each within {args.budget}, then {args.epochs} epochs of {trainings.described(split)}"
    )
    page.table("against_user", note, rows_of(scores, archs, counts))
    ours = [comparisons.spread(scores[f"{OURS} {seed}"])[0] for seed in range(args.seeds)]
    users = [comparisons.spread(scores[f"{USERS} {seed}"])[0] for seed in range(args.seeds)]
    mean, low, high = comparisons.difference(ours, users)
    page.say(f"ours minus the user's, mean over {args.seeds} searches of each: {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    page.figure("against_user", draw(scores, note))
    page.trained(records)
    page.write(n=f"{args.seeds} searches of each, {args.trainings} long trainings of each network")


if __name__ == "__main__":
    findings.run(main)
