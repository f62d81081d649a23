"""Claim: each of ReXNet's three changes raises a two-block model's accuracy and the nuclear norm of its last features.

    python -m experiments.papers.factor_analysis --dataset path/to/cifar10  # 1.3 hours of one core; carries on
    python -m experiments.papers.factor_analysis --smoke  # seconds: one epoch of 60 digits, two seeds

Table 2 of the paper (Han et al. 2021): two inverted bottlenecks, changed one thing after another: the first 1×1's
channel ratio (in / out) from 1/20 to 1/6, the block's from 0.22 to 0.8, and ReLU6 to SiLU after the first 1×1. The
paper's network is known by these ratios and by what each row costs, 103, 99, 105 and 105 million multiply-adds; it
leaves open widths, strides, stem and head. Here: a 3×3 stem and a stride of 2 in both blocks, a last 1×1 convolution to
512 channels (which Table 3's parameter counts imply), and the stem's width solved so that every row costs what it says
there, on images of 32 px with 100 classes. `--stem-stride 1` trains these networks; by default the stem has a stride
of 2: the same widths on maps of half the side, a quarter of the multiply-adds. The ratios leave no other way to one
cost than stems of 18, 31 and 92 channels, so a part of what the third row gains may be the stem's. The paper trained on
CIFAR-100.

The nuclear norm (the sum of singular values) is of the 512 features of the validation images. It grows with their
scale and with their rank alike, so beside it stands the share of the largest that features of this Frobenius norm can
have, which is 1 where all directions are equally strong, and the number of directions that hold 99 % of the energy.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.config import recipe
from nas.training.trainer import Training
from searchspace import Arch, cost
from searchspace.blocks.blocks import Block
from searchspace.blocks.layers import Activation
from searchspace.blocks.stem_head import Head, Stem

HEAD = 512
ENERGY = 0.99


class Row(NamedTuple):
    """A row of Table 2: how much the first 1×1 expands, the block's in / out, its first nonlinearity; what the paper
    measured."""

    expansion: int
    ratio: float
    act: Activation
    macs: float
    accuracy: float
    nuclear: float


ROWS = {
    "baseline": Row(20, 0.22, "relu6", 103e6, 48.0, 5997.5),
    "+ 1×1 expands 6, not 20": Row(6, 0.22, "relu6", 99e6, 52.1, 6655.9),
    "+ block ratio 0.8, not 0.22": Row(6, 0.8, "relu6", 105e6, 53.8, 6703.2),
    "+ SiLU, not ReLU6": Row(6, 0.8, "silu", 105e6, 54.6, 6895.9),
}


def block(row: Row, width: int, out: int) -> Block:
    hidden = width * row.expansion
    return Block("mbconv", width, hidden, out, stride=2, groups=hidden, expand_act=row.act, spatial_act="relu6")


def two_blocks(row: Row, width: float) -> Arch:
    """The network whose stem has this width, before rounding."""
    stem = round(width)
    widths = [stem, *(max(1, round(width / row.ratio**step)) for step in (1, 2))]
    blocks = tuple(block(row, *ends) for ends in pairwise(widths))
    head = Head(HEAD, act="relu6")
    return Arch(Stem(stem, stride=1, act="relu6"), blocks, head, resolution=32, num_classes=100)


def matched(row: Row) -> float:
    """The width at which the network costs most closely what the paper's did; the cost never falls with it."""
    low, high = 1.0, 1000.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if cost(two_blocks(row, middle)).macs < row.macs else (low, middle)
    return min(low, high, key=lambda width: abs(cost(two_blocks(row, width)).macs - row.macs))


def spectrum(training: Training) -> dict[str, Any]:
    """What the singular values of the trained network's features say."""
    found = trainings.features(training)
    values = torch.linalg.svdvals(found.double())
    energy = values.square().cumsum(0) / values.square().sum()
    most = values.norm() * len(values) ** 0.5
    return {
        "nuclear": float(values.sum()),
        "share": float(values.sum() / most),
        "directions": int((energy < ENERGY).sum()) + 1,
    }


def summary(archs: dict[str, Arch], found: dict[str, list[trainings.Record]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    before: list[float] = []
    for name, records in found.items():
        paper, arch = ROWS[name], archs[name]
        scores = [record["accuracy"] for record in records]
        mean, sd = comparisons.spread(scores)
        ratios = [f"{block.in_channels / block.out_channels:.2f}" for block in arch.blocks]
        row: dict[str, Any] = {
            "network": name,
            "MMACs": f"{cost(arch).macs / 1e6:.1f}",
            "paper's": f"{paper.macs / 1e6:.0f}",
        }
        row |= {"widths": "-".join(map(str, [arch.stem.width, *(b.out_channels for b in arch.blocks)]))}
        row |= {"ratios": " ".join(ratios), "n": len(scores), "accuracy": f"{mean:.4f}", "sd": f"{sd:.4f}"}
        change, low, high = comparisons.apart(scores, before) if before else (0.0, 0.0, 0.0)
        row |= {"from the row above": f"{change:+.4f}", "low": f"{low:+.4f}", "high": f"{high:+.4f}"}
        row |= {"p": f"{comparisons.shuffled(scores, before):.3f}" if before else ""}
        row |= {"paper's accuracy": f"{paper.accuracy / 100:.3f}"}
        for measured in ("nuclear", "share", "directions"):
            values = [record.get(measured, math.nan) for record in records]  # none where a training diverged
            row[measured], row[f"{measured} sd"] = (f"{value:.4g}" for value in comparisons.spread(values))
        rows.append(row | {"paper's nuclear": f"{paper.nuclear:.1f}"})
        before = scores
    return rows


SHOWN = (
    *("network", "MMACs", "widths", "n", "accuracy", "sd", "from the row above", "p", "nuclear", "share", "directions"),
    *("paper's accuracy", "paper's nuclear"),
)


def draw(rows: list[dict[str, Any]], note: str) -> Figure:
    figure = findings.figure(10.5, 4.6)
    figure.suptitle(f"Two inverted bottlenecks, changed one thing after another ({note})", fontsize=10)
    panels = {
        "accuracy": ("validation accuracy, ours", "paper's accuracy", "paper: CIFAR-100"),
        "nuclear": ("nuclear norm of the features, ours", "paper's nuclear", "paper"),
    }
    names = [row["network"].replace(", ", ",\n") for row in rows]
    for axes, (key, (label, theirs, label_theirs)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        spread = [float(row["sd" if key == "accuracy" else f"{key} sd"]) for row in rows]
        axes.errorbar(names, [float(row[key]) for row in rows], spread, fmt="o-", color=findings.ACCENT, capsize=4)
        axes.set_ylabel(f"{label} (mean ± sd over seeds)", color=findings.ACCENT)
        axes.tick_params(axis="x", labelsize=7)
        other = axes.twinx()
        other.plot(names, [float(row[theirs]) for row in rows], "s--", color=findings.QUIET)
        other.set_ylabel(label_theirs, color=findings.QUIET)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one epoch of 60 digits, two seeds, at a hundredth of the cost")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--stem-stride", type=int, choices=(1, 2), default=2, help="1: the table's own multiply-adds")
    args = parser.parse_args(arguments)
    table = ROWS
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds = "digits", 60, 1, 2
        table = {name: row._replace(macs=row.macs / 100) for name, row in ROWS.items()}
    page = findings.Page(__doc__, __file__, args, arguments)
    archs = {name: two_blocks(row, matched(row)) for name, row in table.items()}
    trained = {name: replace(a, stem=replace(a.stem, stride=args.stem_stride)) for name, a in archs.items()}
    split = trainings.images(args.dataset, args.images)
    jobs = trainings.repeated(trained, replace(recipe(args.dataset), epochs=args.epochs), args.seeds)
    records = trainings.carry_out(jobs, split, page.device, args.out / "factor_analysis.jsonl", page.console, spectrum)
    rows = summary(archs, trainings.grouped(records))
    note = f"{args.seeds} seeds, {args.epochs} epochs of {trainings.described(split)}"
    note += f", a stem of stride {args.stem_stride}"
    page.table("factor_analysis", note, rows, [{name: row[name] for name in SHOWN} for row in rows])
    page.figure("factor_analysis", draw(rows, note))
    page.trained(records)
    page.write(n=f"{len(rows)} networks × {args.seeds} seeds")


if __name__ == "__main__":
    findings.run(main)
