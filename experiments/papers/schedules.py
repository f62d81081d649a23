"""Claim: at equal cost, widths that grow linearly with the block index are better than the usual stage-wise ones.

    python -m experiments.papers.schedules --dataset path/to/cifar10  # 1.5 hours of one core; run again to carry on
    python -m experiments.papers.schedules --smoke  # seconds: one epoch of 60 digits, one seed

ReXNet (Han et al. 2021) says so of its searched networks and does not print a comparison at equal cost. Here its
depths, strides, expansion, squeeze and excitation and zero-padded shortcuts stay as they are, with a stem of 16 and a
last convolution of 320 channels, and only the schedule of the blocks' widths changes, each scaled until the network
uses 98 to 100 % of the budget in multiply-adds; parameters follow and are shown. Every network is trained from several
seeds with the recipe of a search. Beside each difference from the linear schedule stand Welch's 90 % interval and the
p of dealing the accuracies out anew, alone and with Holm's correction.
"""

from __future__ import annotations

import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any

from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.config import recipe
from searchspace import Arch, Budget, InputError, Space, cost

BAND = 0.98
FIXED = {"scale_stem": "none", "scale_head": "none"}
STEM, HEAD = 16, 320
ENDS = {"start": 16, "end": 184.75}

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", **ENDS},
    # as the best of Table 3 (d): equal at first, then a line
    "piecewise, flat first": {"kind": "piecewise", **ENDS, "slopes": [0, 1, 1, 1]},
    "piecewise, steep first": {"kind": "piecewise", **ENDS, "slopes": [4, 2, 1, 0]},
    "piecewise, steep last": {"kind": "piecewise", **ENDS, "slopes": [0, 1, 2, 4]},
    "linear over stages": {"kind": "stagewise", **ENDS},
    "MobileNetV2's stages": {"kind": "stagewise", "widths": [16, 24, 32, 64, 96, 160]},
    # twice as wide wherever the map is halved, as in ResNet
    "doubling stages": {"kind": "stagewise", "widths": [16, 32, 64, 128, 128, 256]},
    # RegNet's: the line taken to powers of two of its start
    "quantised linear": {"kind": "quantised", "start": 16, "increment": 11.25, "ratio": 2.0},
}
REFERENCE = "linear"


def networks(budget: Budget) -> dict[str, Arch]:
    """ReXNet with every schedule, at the budget."""
    base = {name: part for name, part in Space.load("rexnet").data.items() if name != "known"} | FIXED
    base |= {"stem": {**base["stem"], "width": STEM}, "head": {**base["head"], "width": HEAD}}
    found = {}
    for name, schedule in SCHEDULES.items():
        candidate = Space({**base, "schedule": schedule}, name).fit({}, budget, BAND)
        if candidate is None:
            raise InputError(f"budget {budget}: {name} cannot be scaled to {BAND:.0%} of it")
        found[name] = candidate.arch
    return found


def draw(archs: dict[str, Arch], scores: dict[str, list[float]], note: str) -> Figure:
    figure = findings.figure(11, 4.6)
    figure.suptitle(f"Channel schedules at equal cost ({note})", fontsize=10)
    widths, accuracies = figure.subplots(1, 2)
    for place, (name, arch) in enumerate(archs.items()):
        style = {"color": "black", "linewidth": 2.5} if name == REFERENCE else {"color": f"C{place}", "linewidth": 1.2}
        index = range(1, len(arch.blocks) + 1)
        widths.plot(index, [block.out_channels for block in arch.blocks], "o-", markersize=3, label=name, **style)
    widths.set_xlabel("block")
    widths.set_ylabel("output channels")
    widths.legend(fontsize=8)
    comparisons.dots(accuracies, scores, REFERENCE)
    accuracies.set_xlabel("validation accuracy: every seed, and the mean")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one epoch of 60 digits, one seed")
    parser.add_argument("--budget", default="30MFLOPs", help="what every network costs (30MFLOPs, at 224 px)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds = "digits", 60, 1, 1
    page = findings.Page(__doc__, __file__, args, arguments)
    archs = networks(Budget.parse(args.budget))
    split = trainings.images(args.dataset, args.images)
    jobs = trainings.repeated(archs, replace(recipe(args.dataset), epochs=args.epochs), args.seeds)
    records = trainings.carry_out(jobs, split, page.device, args.out / "schedules.jsonl", page.console)
    scores = trainings.accuracies(records)
    rows = [
        {
            **row,
            "MMACs": f"{cost(archs[row['network']]).macs / 1e6:.2f}",
            "Mparams": f"{cost(archs[row['network']]).params / 1e6:.3f}",
            "widths": "-".join(str(block.out_channels) for block in archs[row["network"]].blocks),
        }
        for row in comparisons.versus(scores, REFERENCE)
    ]
    note = f"{args.budget}, {args.seeds} seeds, {args.epochs} epochs of {trainings.described(split)}"
    shown = [{name: value for name, value in row.items() if name != "widths"} for row in rows]
    page.table("schedules", note, rows, shown)
    page.figure("schedules", draw(archs, scores, note))
    page.trained(records)
    page.write(n=f"{len(archs)} schedules × {args.seeds} seeds")


if __name__ == "__main__":
    findings.run(main)
