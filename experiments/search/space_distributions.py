"""Claim: random networks of `mobile` are no worse than those of a plain space, and its best tenth is better.

    python -m experiments.search.space_distributions --dataset path/to/cifar10  # an hour or two of one core; carries on
    python -m experiments.search.space_distributions --smoke  # seconds: 3 networks of 60 digits a space

RegNet's way to compare spaces (Radosavovic et al. 2020): random networks of each at one budget, as a search's controls
are drawn, are trained briefly with one recipe; what is compared is the distribution of their accuracies, not the best.
`plain_mobilenet.yaml` is what a vision engineer writes in an afternoon. Beside them the textbook networks, scaled in
width to the budget, several seeds each. Medians and the mean of the best tenth have 90 % bootstrap intervals over
networks; the difference from the plain space has them too.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from experiments.search.headline import scaled
from experiments.trainings import Job
from nas.config import recipe
from searchspace import Arch, Budget, Space, cost

PLAIN = str(Path(__file__).with_name("plain_mobilenet.yaml"))
SPACES = (PLAIN, "mobile_wide", "mobile")
TEXTBOOK = ("rexnet_100", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0", "efficientnet_b0")
FAR_SEED = 10**6  # no search draws its networks from seeds as high
BEST = 0.1
COLOURS = (findings.QUIET, findings.WARM, findings.ACCENT, "#2471a3", "#b7950b")


def best_tenth(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mean of the best tenth of the last axis."""
    best: np.ndarray[Any, Any] = np.sort(values, -1)[..., -max(1, round(BEST * values.shape[-1])) :].mean(-1)
    return best


def interval(values: Sequence[float], of: Callable[..., Any]) -> tuple[float, np.ndarray[Any, Any]]:
    """A statistic, and that of bootstrap samples."""
    array = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).integers(len(array), size=(comparisons.RESAMPLES, len(array)))
    return float(of(array)), of(array[drawn])


def median(values: np.ndarray[Any, Any]) -> Any:
    return np.median(values, -1)


def rows_of(scores: Mapping[str, Sequence[float]], plain: str) -> list[dict[str, Any]]:
    rows = []
    for name, values in scores.items():
        row: dict[str, Any] = {"space": name, "n": len(values)}
        for title, of in (("median", median), ("best tenth", best_tenth)):
            here, spread = interval(values, of)
            there, other = interval(scores[plain], of)
            low, high = np.quantile(spread, (0.05, 0.95))
            row |= {title: f"{here:.4f}", f"{title} 90 %": f"{low:.4f} to {high:.4f}"}
            low, high = np.quantile(spread - np.random.default_rng(1).permutation(other), (0.05, 0.95))
            row[f"{title} − plain"] = "" if name == plain else f"{here - there:+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append(row)
    return rows


def draw(scores: Mapping[str, Sequence[float]], textbook: Mapping[str, Sequence[float]], note: str) -> Figure:
    """The share of networks whose error is at most so much, as RegNet draws it."""
    figure = findings.figure(9, 5)
    axes = figure.subplots()
    for colour, (name, values) in zip(COLOURS, scores.items(), strict=False):
        errors = np.sort(1 - np.asarray(values))
        axes.step(errors, np.arange(1, len(errors) + 1) / len(errors), where="post", label=name, color=colour)
    for name, values in textbook.items():
        error = 1 - comparisons.spread(values)[0]
        axes.axvline(error, color="black", linewidth=0.6, linestyle=":")
        axes.text(error, 1.01, name, rotation=60, fontsize=7, va="bottom")
    axes.set_xlabel(f"error after brief training ({note})")
    axes.set_ylabel("share of random networks with at most this error")
    axes.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "3 networks of 60 digits a space, one epoch")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), help="names or files, the plain one first")
    parser.add_argument("--networks", type=int, default=60, help="of each space (60)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=4, help="of brief training (4)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each textbook network (3)")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.epochs, args.seeds = "digits", 3, 60, 1, 1
    budget, page = Budget.parse(args.budget), findings.Page(__doc__, __file__, args, arguments)
    train = replace(recipe(args.dataset), epochs=args.epochs)
    split, log = trainings.images(args.dataset, args.images), args.out / "space_distributions.jsonl"
    known = {name: scaled(name, budget) for name in TEXTBOOK[: 2 if args.smoke else None]}
    repeats = trainings.repeated(known, train, args.seeds)
    of_known = trainings.carry_out(repeats, split, page.device, log, page.console)
    spaces = {Path(name).stem: Space.load(name) for name in args.spaces}
    archs: dict[str, list[Arch]] = {}
    for name, space in spaces.items():
        archs[name] = [space.sample(FAR_SEED + number, budget) for number in range(args.networks)]
    jobs = [Job(name, own[number], train) for number in range(args.networks) for name, own in archs.items()]
    records = trainings.carry_out(jobs, split, page.device, log, page.console)
    scores = trainings.accuracies(records)
    each = [
        {"space": job.name, "digest": job.arch.digest, "macs": cost(job.arch).macs, "accuracy": record["accuracy"]}
        for job, record in zip(jobs, records, strict=True)
    ]
    note = f"{args.budget}, {args.epochs} epochs of {trainings.described(split)}"
    page.table("space_distributions", f"Random networks: {note}", rows_of(scores, next(iter(scores))))
    textbook = trainings.accuracies(of_known)
    told = [{"network": name, **spread_of(values)} for name, values in textbook.items()]
    page.table("space_distributions_textbook", "Textbook networks", told)
    page.table("space_distributions_networks", "All random networks", each)
    page.figure("space_distributions", draw(scores, textbook, note))
    page.trained([*of_known, *records])
    page.write(n=f"{args.networks} networks a space; {len(known)} textbook networks × {args.seeds} seeds")


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    mean, sd = comparisons.spread(values)
    return {"n": len(values), "accuracy": f"{mean:.4f}", "sd": f"{sd:.4f}"}


if __name__ == "__main__":
    findings.run(main)
