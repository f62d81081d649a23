"""Claim: the recipe of brief training is the best of its neighbours, for all kinds of blocks at once.

    python -m experiments.search.recipe --dataset path/to/cifar10  # an hour; run again to carry on where it stopped
    python -m experiments.search.recipe --smoke  # seconds: two networks and two recipes on 200 digits

Networks of every ready space, from seeds that no search draws from, at one budget, are trained briefly: with the recipe
that a search uses, and with each of its numbers changed alone. A row is the mean validation accuracy over networks, its
paired difference from the recipe's with a 90 % bootstrap interval over networks, and the worst network's accuracy.
"""

from __future__ import annotations

import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any

from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.config import TrainConfig, recipe
from searchspace import Arch, Budget, Space
from searchspace.space.space import ready

FAR_SEED = 10**6

SGD = {"optimizer": "sgd", "weight_decay": 5e-4}

# What is changed from the recipe: one number, or what has to go together. SGD takes rates and a decay of its own.
CHANGES: dict[str, dict[str, Any]] = {
    "rate 0.002": {"learning_rate": 0.002},
    "rate 0.004": {"learning_rate": 0.004},
    "rate 0.008": {"learning_rate": 0.008},
    "rate 0.016": {"learning_rate": 0.016},
    "batch 32": {"batch_size": 32},
    "batch 128": {"batch_size": 128},
    "batch 128, rate 0.016": {"batch_size": 128, "learning_rate": 0.016},
    "SGD 0.05, batch 32": {**SGD, "batch_size": 32, "learning_rate": 0.05},
    "SGD 0.1, batch 64": {**SGD, "batch_size": 64, "learning_rate": 0.1},
    "SGD 0.1, batch 128": {**SGD, "batch_size": 128, "learning_rate": 0.1},
    "SGD 0.2, batch 128": {**SGD, "batch_size": 128, "learning_rate": 0.2},
    "no warm-up": {"warmup": 0.0},
    "warm-up 10 %": {"warmup": 0.1},
    "warm-up 20 %": {"warmup": 0.2},
    "warm-up 40 %": {"warmup": 0.4},
    "label smoothing 0": {"label_smoothing": 0.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "label smoothing 0.2": {"label_smoothing": 0.2},
    "weight decay 0": {"weight_decay": 0.0},
    "weight decay 0.05": {"weight_decay": 0.05},
    "weight decay 0.2": {"weight_decay": 0.2},
    "weights averaged 0.99": {"ema": 0.99},
    "branches start as all else": {"zero_residuals": False},
    "mixup 0.2": {"mixup": 0.2},
    "cutmix 1": {"cutmix": 1.0},
    "RandAugment 5": {"randaugment": 5},
}


def networks(number: int, budget: Budget) -> list[Arch]:
    """So many of every space."""
    return [Space.load(name).sample(seed=FAR_SEED + i, budget=budget) for i in range(number) for name in ready()]


def recipes(base: TrainConfig, wanted: list[str] | None) -> dict[str, TrainConfig]:
    """The recipe first, then its neighbours that differ from it."""
    changed = {name: replace(base, **change) for name, change in CHANGES.items() if not wanted or name in wanted}
    return {"as it is": base} | {name: train for name, train in changed.items() if train != base}


def summary(found: dict[str, list[trainings.Record]]) -> list[dict[str, Any]]:
    base = [record["accuracy"] for record in found["as it is"]]
    rows = []
    for name, records in found.items():
        scores = [record["accuracy"] for record in records]
        mean, low, high = comparisons.difference(scores, base)
        rows.append(
            {
                "recipe": name,
                "n": len(scores),
                "accuracy": f"{comparisons.spread(scores)[0]:.3f}",
                "difference": f"{mean:+.3f}",
                "low": f"{low:+.3f}",
                "high": f"{high:+.3f}",
                "worst network": f"{min(scores):.3f}",
                "diverged": sum("diverged" in record for record in records),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two networks and two recipes on 200 digits")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=1, help="of each of the six spaces (1)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CHANGES, help="these changes alone")
    args = parser.parse_args(arguments)
    archs = networks(args.networks, Budget.parse(args.budget))
    if args.smoke:
        args.dataset, args.images, args.epochs, args.only, archs = "digits", 200, 1, ["rate 0.016"], archs[:2]
    page = findings.Page(__doc__, __file__, args, arguments)
    split = trainings.images(args.dataset, args.images)
    planned = recipes(replace(recipe(args.dataset), epochs=args.epochs), args.only)
    jobs = [trainings.Job(f"{name}: {i}", arch, t) for name, t in planned.items() for i, arch in enumerate(archs)]
    records = trainings.carry_out(jobs, split, page.device, args.out / "recipe.jsonl", page.console)
    found = {name: records[i * len(archs) : (i + 1) * len(archs)] for i, name in enumerate(planned)}
    rows = summary(found)
    title = f"{len(archs)} networks at {args.budget}, {args.epochs} epochs of {trainings.described(split)}"
    page.table("recipe", title, rows)
    page.figure("recipe", draw(rows))
    page.trained(records)
    page.write(n=f"{len(archs)} networks × {len(planned)} recipes, one seed")


def draw(rows: list[dict[str, Any]]) -> Figure:
    figure = findings.figure(8, 1 + 0.28 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = findings.ACCENT if row["recipe"] == "as it is" else findings.QUIET
        axes.plot([float(row["low"]), float(row["high"])], [place, place], color=colour, linewidth=2)
        axes.plot(float(row["difference"]), place, "o", color=colour)
    axes.set_yticks(range(len(rows)), [row["recipe"] for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xlabel("accuracy beside the recipe's, mean over networks (90 % interval)")
    return figure


if __name__ == "__main__":
    findings.run(main)
