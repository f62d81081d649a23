"""Claim: with only its channels free, the best networks of a budget widen linearly with the block index (ReXNet, §4).

    python -m experiments.papers.channel_search --dataset path/to/cifar10  # 1.5 hours of one core; carries on
    python -m experiments.papers.channel_search --dataset path/to/cifar10 --constraint b
    python -m experiments.papers.channel_search --smoke  # seconds: six models, one epoch of 60 digits

Table 3 and Figure 2 of the paper (Han et al. 2021): a network of d inverted bottlenecks is fixed but for their widths
c_i = a · f(i) + b, which may not decrease; f is piecewise linear between a random subset of the blocks, with a slope of
0, 1, 2, 4 or 8 in each part, so that stage-wise networks are among them; parameters and multiply-adds are both bounded.
Given f, the numbers a and b are solved so that a network uses at least 97 % of both (the straight line comes first
where that can be, which is not so in d; the others are drawn). Ranked by accuracy, the top, middle and bottom tenths
are compared. Linearity is the share of the widths' variance that a straight line in the block index explains.

Fixed, as the paper says: a stem of 16 channels, ReLU6, expansion 6; as its parameter counts imply: a last 1×1
convolution to 512. Where the strides are it leaves open; a stem of stride 1 and a stride of 2 in the two blocks that
are used here gives the four best and four worst networks of Table 3 the multiply-adds printed there within 5 %.
Shortcuts are the final ReXNet's, zero-padded, since identities would favour equal widths. `--stem-stride 1` trains at
those costs; by default the stem has a stride of 2: the same widths on maps of half the side. The paper trained 200
models for 30 epochs, three times each, on CIFAR-100.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.analysis.agreement import agreement
from nas.config import recipe
from searchspace import Arch, Budget, cost
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

SLOPES = (0, 1, 2, 4, 8)
BAND = 0.97
STEEPEST = 64.0
TRIES = 100
GROUPS = ("top", "middle", "bottom")
COLOURS = dict(zip(GROUPS, (findings.ACCENT, findings.QUIET, findings.WARM), strict=True))


class Constraint(NamedTuple):
    """A part of Table 3: blocks, which of them have a stride of 2, the bounds; the groups' accuracies, best, worst."""

    blocks: int
    strided: tuple[int, int]
    budget: str
    accuracies: tuple[float, float, float]
    best: tuple[int, ...]
    worst: tuple[int, ...]


CONSTRAINTS = {
    "a": Constraint(5, (2, 4), "30MFLOPs,0.2MParams", (63.1, 62.2, 61.4), (34, 34, 45, 55, 66), (36, 36, 36, 36, 83)),
    "b": Constraint(
        *(9, (4, 8), "100MFLOPs,0.5MParams", (68.8, 68.0, 67.4)),
        best=(24, 33, 42, 50, 59, 68, 77, 85, 94),
        worst=(39, 39, 39, 39, 39, 39, 39, 87, 158),
    ),
    "c": Constraint(
        *(9, (4, 8), "200MFLOPs,1MParams", (71.0, 70.3, 69.9)),
        best=(30, 45, 59, 74, 88, 103, 117, 132, 146),
        worst=(47, 47, 70, 70, 70, 70, 70, 70, 364),
    ),
    "d": Constraint(
        *(13, (6, 9), "351MFLOPs,3MParams", (73.0, 72.1, 71.7)),
        best=(34, 34, 34, 40, 64, 88, 112, 136, 160, 184, 208, 232, 256),
        worst=(52, 52, 52, 52, 52, 52, 52, 52, 52, 115, 263, 263, 412),
    ),
}

Curve = tuple[float, ...]


def network(widths: Sequence[float], strided: Sequence[int]) -> Arch:
    """The fixed network with these widths."""
    stages = tuple(
        Stage("mbconv", stride=2 if index in strided else 1, shortcut="partial") for index in range(1, len(widths) + 1)
    )
    schedule = Schedule("explicit", widths=tuple(float(round(width)) for width in widths))
    ends = {"stem": Stem(16, stride=1, act="relu6"), "head": Head(512, act="relu6")}
    return Network(stages, schedule, resolution=32, num_classes=100, **ends).arch()  # type: ignore[arg-type]


def line(blocks: int) -> Curve:
    return tuple(index / (blocks - 1) for index in range(blocks))


def drawn(blocks: int, rng: random.Random) -> Curve:
    """f from 0 at the first block to 1 at the last."""
    knots = [0, *(index for index in range(1, blocks - 1) if rng.random() < 0.5), blocks - 1]
    while True:
        slopes = {knot: rng.choice(SLOPES) for knot in knots[:-1]}
        steps = [slopes[max(knot for knot in knots if knot <= index)] for index in range(blocks - 1)]
        if any(steps):
            return tuple(float(height) for height in np.cumsum([0, *steps]) / sum(steps))


def largest(curve: Curve, ratio: float, constraint: Constraint) -> tuple[list[float], float, float]:
    """The widths of this shape, the last `ratio` times the first, as wide as the bounds allow; the shares of the
    multiply-adds and of the parameters that they use."""
    macs, params = (limit.high for limit in Budget.parse(constraint.budget).limits)

    def at(first: float) -> tuple[list[float], float, float]:
        widths = [first * (1 + (ratio - 1) * height) for height in curve]
        spent = cost(network(widths, constraint.strided))
        return widths, spent.macs / macs, spent.params / params

    low, high = 1.0, 1000.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if max(at(middle)[1:]) <= 1 else (low, middle)
    return at(low)


def solved(curve: Curve, constraint: Constraint) -> tuple[int, ...] | None:
    """Widths that use both bounds; None where no slope a and offset b do."""
    low, high = 1.0, STEEPEST
    while high / low > 1.002:
        ratio = math.sqrt(low * high)
        widths, macs, params = largest(curve, ratio, constraint)
        if BAND <= min(macs, params) <= max(macs, params) <= 1:
            return tuple(round(width) for width in widths)
        low, high = (ratio, high) if params < macs else (low, ratio)  # the last blocks have most of the parameters
    return None


def models(constraint: Constraint, number: int, seed: int) -> list[tuple[int, ...]]:
    """The straight line first, then what is drawn; no widths twice."""
    rng, straight = random.Random(seed), solved(line(constraint.blocks), constraint)
    found = [] if straight is None else [straight]
    for _ in range(TRIES * number):
        if len(found) >= number:
            return found
        widths = solved(drawn(constraint.blocks, rng), constraint)
        if widths is not None and widths not in found:
            found.append(widths)
    raise ValueError(f"models: {len(found)} different networks were found within {constraint.budget}, not {number}")


def linearity(widths: Sequence[int]) -> float:
    """The share of the variance that a straight line explains; 1 for equal widths, which are one."""
    if len(set(widths)) == 1:
        return 1.0
    return float(np.corrcoef(range(len(widths)), widths)[0, 1] ** 2)


def first_half(widths: Sequence[int]) -> float:
    """The share of all channels that the first half of the blocks has (a middle block with half of its own)."""
    half = len(widths) // 2
    return (sum(widths[:half]) + len(widths) % 2 * widths[half] / 2) / sum(widths)


def row(widths: tuple[int, ...], constraint: Constraint, accuracies: Sequence[float]) -> dict[str, Any]:
    spent = cost(network(widths, constraint.strided))
    return {
        "widths": "-".join(map(str, widths)),
        "accuracy": mean(accuracies),
        "repeats": len(accuracies),
        "linearity": round(linearity(widths), 4),
        "first_half": round(first_half(widths), 4),
        "macs": spent.macs,
        "params": spent.params,
        "straight": widths == solved(line(constraint.blocks), constraint),
        "group": "",
    }


def ranked(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The top tenth, the tenth below the median and the bottom tenth; `group` says so in the rows."""
    rows.sort(key=lambda row: -row["accuracy"])
    tenth, half = max(1, len(rows) // 10), len(rows) // 2
    groups = dict(zip(GROUPS, (rows[:tenth], rows[half : half + tenth], rows[-tenth:]), strict=True))
    for name, members in groups.items():
        for member in members:
            member["group"] = name
    return groups


def summary(groups: dict[str, list[dict[str, Any]]], constraint: Constraint) -> list[dict[str, Any]]:
    rows = []
    theirs = {"top": constraint.best, "middle": (), "bottom": constraint.worst}
    for (name, members), accuracy in zip(groups.items(), constraint.accuracies, strict=True):
        both = {key: comparisons.spread([member[key] for member in members]) for key in ("accuracy", "linearity")}
        one = members[-1 if name == "bottom" else 0]
        rows.append(
            {
                "group": name,
                "n": len(members),
                "accuracy": f"{both['accuracy'][0]:.4f} ± {both['accuracy'][1]:.4f}",
                "paper's": f"{accuracy / 100:.3f}",
                "linearity": f"{both['linearity'][0]:.3f} ± {both['linearity'][1]:.3f}",
                "channels in the first half": f"{mean(member['first_half'] for member in members):.3f}",
                "MMACs": f"{mean(member['macs'] for member in members) / 1e6:.2f}",
                "Mparams": f"{mean(member['params'] for member in members) / 1e6:.4f}",
                "best (bottom: worst)": one["widths"],
                "paper's best (worst)": "-".join(map(str, theirs[name])),
            }
        )
    return rows


def said(rows: list[dict[str, Any]], groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Whether the top is more linear than the bottom, and whether linearity ranks all models."""
    told = []
    measures: dict[str, Callable[[Sequence[int]], float]] = {"linearity": linearity, "first_half": first_half}
    for name in measures:
        top, bottom = ([member[name] for member in groups[group]] for group in ("top", "bottom"))
        text = f"{name}: top {mean(top):.3f}, bottom {mean(bottom):.3f}, p {comparisons.shuffled(top, bottom):.3f}"
        found = agreement([row[name] for row in rows], [row["accuracy"] for row in rows])
        if found is not None:
            low, high = found.spearman_interval
            text += f"; rank correlation with accuracy over {found.networks} models {found.spearman:.2f} "
            text += f"(90 % interval {low:.2f} to {high:.2f})"
        told.append(text)
    for place, row in enumerate(rows):
        if row["straight"]:
            told.append(f"the straight line, {row['widths']}, is number {place + 1} ({row['accuracy']:.4f})")
    return told


def draw(
    rows: list[dict[str, Any]], groups: dict[str, list[dict[str, Any]]], constraint: Constraint, note: str
) -> Figure:
    figure = findings.figure(11, 4.6)
    figure.suptitle(f"Only the channels are free: {note}", fontsize=10)
    curves, scatter = figure.subplots(1, 2)
    index = np.arange(1, constraint.blocks + 1)
    for name, members in groups.items():
        widths = np.array([[int(width) for width in member["widths"].split("-")] for member in members])
        middle, sd = widths.mean(0), widths.std(0)
        curves.plot(index, middle, "o-", color=COLOURS[name], label=f"{name} tenth (n {len(members)}), ± 1 sd")
        curves.fill_between(index, middle - sd, middle + sd, color=COLOURS[name], alpha=0.18, linewidth=0)
        points = [(member["linearity"], member["accuracy"]) for member in members]
        scatter.plot(*zip(*points, strict=True), "o", color=COLOURS[name], label=name)
    curves.plot(index, constraint.best, "k--", linewidth=1, label="the paper's best")
    curves.plot(index, constraint.worst, "k:", linewidth=1, label="the paper's worst")
    curves.set_xticks(index)
    curves.set_xlabel("block")
    curves.set_ylabel("output channels")
    curves.legend(fontsize=8)
    rest = [(row["linearity"], row["accuracy"]) for row in rows if not row["group"]]
    scatter.plot([x for x, _ in rest], [y for _, y in rest], ".", color="lightgrey", zorder=0)
    for row in rows:
        if row["straight"]:
            scatter.plot(row["linearity"], row["accuracy"], "k*", markersize=11, label="the straight line")
    scatter.set_xlabel("linearity (share of the widths' variance that a straight line explains)")
    scatter.set_ylabel("validation accuracy")
    scatter.legend(fontsize=8)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "six models, one epoch of 60 digits")
    parser.add_argument("--constraint", choices=CONSTRAINTS, default="a", help="the part of Table 3 (a)")
    parser.add_argument("--models", type=int, default=90, help="more can be added later (90; the paper: 200)")
    parser.add_argument("--repeats", type=int, default=1, help="trainings of each (1; the paper: 3)")
    parser.add_argument("--images", type=int, default=5_000, help="training images (5,000)")
    parser.add_argument("--epochs", type=int, default=4, help="of a training (4; the paper: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument("--stem-stride", type=int, choices=(1, 2), default=2, help="1: the paper's own multiply-adds")
    args = parser.parse_args(arguments)
    constraint = CONSTRAINTS[args.constraint]
    name = f"channel_search_{args.constraint}" if args.constraint != "a" else "channel_search"
    if args.smoke:
        args.dataset, args.images, args.epochs, args.models = "digits", 60, 1, 6
    page = findings.Page(__doc__, __file__, args, arguments, name)
    found = models(constraint, args.models, args.seed)
    archs = {"-".join(map(str, widths)): network(widths, constraint.strided) for widths in found}
    trained = {key: replace(arch, stem=replace(arch.stem, stride=args.stem_stride)) for key, arch in archs.items()}
    split = trainings.images(args.dataset, args.images)
    jobs = trainings.repeated(trained, replace(recipe(args.dataset), epochs=args.epochs), args.repeats)
    records = trainings.carry_out(jobs, split, page.device, args.out / f"{name}.jsonl", page.console)
    scores = trainings.accuracies(records)
    rows = [row(widths, constraint, scores[key]) for widths, key in zip(found, archs, strict=True)]
    groups = ranked(rows)
    note = f"{len(rows)} models of {constraint.blocks} blocks within {constraint.budget}, a stem of stride"
    note += f" {args.stem_stride}, {args.epochs} epochs of {trainings.described(split)}"
    page.table(f"{name}_groups", note, summary(groups, constraint))
    page.table(name, "All models, best first", rows)
    for line in said(rows, groups):
        page.say(line)
    page.figure(name, draw(rows, groups, constraint, note))
    page.trained(records)
    page.write(n=f"{len(rows)} models × {args.repeats} trainings")


if __name__ == "__main__":
    findings.run(main)
