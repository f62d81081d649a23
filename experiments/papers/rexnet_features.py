"""Claim: ReXNet's features have more rank than MobileNetV2's, and its shortcuts help it.

    python -m experiments.papers.rexnet_features --dataset path/to/cifar10     # half an hour of one core; carries on
    python -m experiments.papers.rexnet_features --smoke                       # seconds: one epoch of 100 digits

ReXNet, the same without its zero-padded additions, and MobileNetV2 (Han et al. 2021, §6), scaled in width to the same
multiply-adds, all with 1,280 final features, trained briefly from several seeds: accuracy, singular values of the
features that the classifier is given for the validation images (images × features, as they are), as their running sum
over the total, and the nuclear norm.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.config import recipe
from nas.training.trainer import Training
from searchspace import Arch, Budget, Space, cost
from searchspace.document import plain
from searchspace.format.network import Network
from searchspace.networks import network

POINTS = 100
REXNET, BARE, MOBILENET = "ReXNet", "ReXNet without shortcuts", "MobileNetV2"
COLOURS = {REXNET: findings.ACCENT, BARE: findings.WARM, MOBILENET: findings.QUIET}


def at_budget(found: Network, budget: Budget) -> Arch:
    """The network, stem and blocks as wide as the budget allows, in whole channels, its head as it is."""
    data = plain(replace(found, scale_stem="both", scale_head="none", schedule=replace(found.schedule, divisor=1)))
    fitted = Space({**data, "width_mult": {"fit": [0.02, 8.0]}}, "network").fit({}, budget)
    assert fitted is not None
    return fitted.arch


def families(budget: Budget) -> dict[str, Arch]:
    rexnet = network("rexnet_100")
    bare = replace(rexnet, stages=tuple(replace(stage, shortcut="none") for stage in rexnet.stages))
    wanted = {REXNET: rexnet, BARE: bare, MOBILENET: network("mobilenet_v2")}
    return {name: at_budget(one, budget) for name, one in wanted.items()}


def spectrum(training: Training) -> trainings.Record:
    """The singular values of the final features: their sum, how many make 90 % of it, its course, effective rank.

    The effective rank is the exponential of the entropy of the values' shares (Roy & Vetterli 2007).
    """
    values = torch.linalg.svdvals(trainings.features(training))
    shares = values / values.sum()
    course = shares.cumsum(0)
    at = torch.linspace(0, len(course) - 1, POINTS).round().long()
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum()
    return {
        "nuclear": float(values.sum()),
        "effective_rank": float(entropy.exp()),
        "ninety": int((course < 0.9).sum()) + 1,
        "course": [round(float(share), 4) for share in course[at]],
    }


def spectra(found: dict[str, list[trainings.Record]], archs: dict[str, Arch]) -> list[dict[str, Any]]:
    """A row a network: its accuracy beside ReXNet's, and the spectrum of what did not diverge."""
    scores = {name: [record["accuracy"] for record in records] for name, records in found.items()}
    rows = []
    for row in comparisons.versus(scores, REXNET):
        own = [record for record in found[row["network"]] if "diverged" not in record]
        row |= {"M multiply-adds": f"{cost(archs[row['network']]).macs / 1e6:.1f}"}
        for what in ("nuclear", "effective_rank", "ninety"):
            mean, sd = comparisons.spread([record[what] for record in own]) if own else (math.nan, math.nan)
            row[what.replace("_", " ")] = f"{mean:.4g} ± {sd:.2g}"
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one epoch of 100 digits, one seed")
    parser.add_argument("--budget", default="30MFLOPs", help="what every network costs (30MFLOPs, at 224 px)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds, args.budget = "digits", 100, 1, 1, "10MFLOPs"
    page = findings.Page(__doc__, __file__, args, arguments)
    archs = families(Budget.parse(args.budget))
    split = trainings.images(args.dataset, args.images)
    jobs = trainings.repeated(archs, replace(recipe(args.dataset), epochs=args.epochs), args.seeds)
    log = args.out / "rexnet_features.jsonl"
    records = trainings.carry_out(jobs, split, page.device, log, page.console, spectrum)
    found = trainings.grouped(records)
    title = f"{args.budget} at 224 px, {args.epochs} epochs of {trainings.described(split)}"
    page.table("rexnet_features", title, spectra(found, archs))
    page.figure("rexnet_features", draw(found, title))
    page.trained(records)
    page.write(n=f"{len(archs)} networks × {args.seeds} seeds")


def draw(found: dict[str, list[trainings.Record]], title: str) -> Figure:
    figure = findings.figure(10, 4.6)
    left, right = figure.subplots(1, 2)
    x = np.linspace(0, 1, POINTS)
    for name, records in found.items():
        for index, record in enumerate(record for record in records if "course" in record):
            left.plot(x, record["course"], color=COLOURS[name], linewidth=1, label=name if index == 0 else None)
            right.plot(record["nuclear"], 100 * record["accuracy"], "o", color=COLOURS[name])
    left.set(xlabel="share of the singular values, largest first", ylabel="their share of the sum")
    right.set(xlabel="nuclear norm of the final features", ylabel="accuracy, %")
    left.legend(fontsize=8)
    figure.suptitle(f"Final features on validation images (a line or point a seed); {title}", fontsize=10)
    return figure


if __name__ == "__main__":
    findings.run(main)
