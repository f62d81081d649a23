"""Claim: at every budget the best widths of a network of a fixed depth are near-linear (ReXNet, Figure 4).

    python -m experiments.papers.fixed_depth --dataset path/to/cifar10     # half an hour of one core; carries on
    python -m experiments.papers.fixed_depth --smoke                       # seconds: five small models of 100 digits

A fixed number of inverted bottlenecks within several budgets, only their widths free, none narrower than the one
before, as c_i = a · f(i) + b with a random piecewise linear f; the straight line is one of them. Is the top quarter by
accuracy more linear in the block index than the rest? Linearity is the share of the widths' variance that a straight
line explains. Stem of 16, expansion 6, a last convolution to 512, strides in blocks that give the paper's best networks
their multiply-adds within 5 %; trained with a stem of stride 2, on maps of half the side.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.config import recipe
from searchspace import Arch, Budget, InputError, Space

SLOPES, ENDS = (0, 1, 2, 4, 8), (1.5, 2, 3, 5, 8)
STRIDED = {5: (1, 3), 9: (3, 7), 13: (4, 8)}


def drawn(blocks: int, rng: random.Random) -> list[float]:
    """Widths from 1 to one of ENDS: a slope of its own between each two of a random subset of the blocks."""
    while True:
        bends = [True, *(rng.random() < 0.5 for _ in range(blocks - 2))]
        slopes: list[int] = []
        for bend in bends:
            slopes.append(rng.choice(SLOPES) if bend else slopes[-1])
        if any(slopes):
            height = (rng.choice(ENDS) - 1) / sum(slopes)
            return [1 + height * float(sum(slopes[:index])) for index in range(blocks)]


def channels_only(shape: Sequence[float], budget: Budget) -> Arch | None:
    """The fixed network with widths of this shape, as wide as the budget allows."""
    strided = STRIDED[len(shape)]
    data = {
        "resolution": 32,
        "num_classes": 100,
        "width_mult": {"fit": [1.0, 400.0]},
        "scale_stem": "none",
        "scale_head": "none",
        "stem": {"width": 16, "stride": 1, "act": "relu6"},
        "head": {"width": 512, "act": "relu6"},
        "schedule": {"kind": "explicit", "widths": list(shape)},
        "defaults": {"block": "mbconv", "shortcut": "partial"},
        "stages": [{"stride": 2 if index in strided else 1} for index in range(len(shape))],
    }
    fitted = Space(data, "depth").fit({}, budget)
    return None if fitted is None else fitted.arch


def models(blocks: int, number: int, budget: Budget) -> dict[str, Arch]:
    """By their widths: the straight line that ends three times as wide as it begins, then random ones."""
    rng, found = random.Random(f"{blocks} {budget}"), dict[str, Arch]()
    shape = [1 + 2 * index / (blocks - 1) for index in range(blocks)]
    while len(found) < number:
        arch = channels_only(shape, budget)
        if arch is not None:
            found["-".join(str(block.out_channels) for block in arch.blocks)] = arch
        elif not found:
            raise InputError(f"limits: no network of {blocks} blocks that widens linearly fits {budget}")
        shape = drawn(blocks, rng)
    return found


def linearity(widths: str) -> float:
    """The share of the variance that a straight line in the block index explains; 1 for equal widths."""
    values = [int(width) for width in widths.split("-")]
    if len(set(values)) == 1:
        return 1.0
    return float(np.corrcoef(range(len(values)), values)[0, 1] ** 2)


def depths(found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """A row for each model of each budget, best first; `place` of how many."""
    rows = []
    for budget, scores in found.items():
        ordered = sorted(scores, key=lambda widths: -scores[widths])
        for place, widths in enumerate(ordered, 1):
            row = {"budget": budget, "place": place, "of": len(ordered), "widths": widths}
            row |= {"accuracy": f"{scores[widths]:.4f}", "linearity": f"{linearity(widths):.4f}"}
            rows.append(row | {"straight": widths == next(iter(scores))})
    return rows


def groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The top quarter of each budget beside the rest."""
    told = []
    for budget in dict.fromkeys(row["budget"] for row in rows):
        own = [row for row in rows if row["budget"] == budget]
        cut = max(1, len(own) // 4)
        row: dict[str, Any] = {"budget": budget, "models": len(own)}
        for name, members in (("top quarter", own[:cut]), ("rest", own[cut:])):
            for what in ("accuracy", "linearity"):
                mean, sd = comparisons.spread([float(member[what]) for member in members])
                row[f"{what}, {name}"] = f"{mean:.3f} ± {sd:.3f}"
        lines = [float(one["linearity"]) for one in own]
        row["p of linearity"] = f"{comparisons.shuffled(lines[:cut], lines[cut:]):.3f}"
        row["place of the straight line"] = next(one["place"] for one in own if one["straight"])
        told.append(row | {"best": own[0]["widths"]})
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "five small models, one epoch of 100 digits")
    parser.add_argument("--blocks", type=int, choices=STRIDED, default=5, help="5 are the paper's 18 layers (5)")
    parser.add_argument("--limits", nargs="+", default=["10MFLOPs", "17MFLOPs", "23MFLOPs"], help="budgets")
    parser.add_argument("--models", type=int, default=24, help="of each budget (24; the paper: 200)")
    parser.add_argument("--images", type=int, default=4_000, help="training images (4,000)")
    parser.add_argument("--epochs", type=int, default=4, help="of a training (4; the paper: 30)")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.limits, args.models, args.images, args.epochs = "digits", ["5MFLOPs"], 5, 100, 1
    page = findings.Page(__doc__, __file__, args, arguments)
    split = trainings.images(args.dataset, args.images)
    sets = {limit: models(args.blocks, args.models, Budget.parse(limit)) for limit in args.limits}
    train = replace(recipe(args.dataset), epochs=args.epochs)
    jobs = [
        trainings.Job(widths, replace(arch, stem=replace(arch.stem, stride=2)), train)
        for archs in sets.values()
        for widths, arch in archs.items()
    ]
    records = trainings.carry_out(jobs, split, page.device, args.out / "fixed_depth.jsonl", page.console)
    scores = iter(record["accuracy"] for record in records)
    rows = depths({limit: {widths: next(scores) for widths in archs} for limit, archs in sets.items()})
    title = f"{args.blocks} blocks, {args.epochs} epochs of {trainings.described(split)}"
    page.table("fixed_depth", title, rows, groups(rows))
    page.figure("fixed_depth", draw(rows, title))
    page.trained(records)
    page.write(n=f"{args.models} models at each of {len(args.limits)} budgets, one training each")


def draw(rows: list[dict[str, Any]], title: str) -> Figure:
    """A panel a budget: thin lines are all models, the thick one is the mean of the top quarter."""
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    figure = findings.figure(1 + 4 * len(budgets), 4)
    for axes, budget in zip(figure.subplots(1, len(budgets), squeeze=False)[0], budgets, strict=True):
        own = [row for row in rows if row["budget"] == budget]
        lines = [[int(width) for width in row["widths"].split("-")] for row in own]
        blocks = range(1, len(lines[0]) + 1)
        for line in lines:
            axes.plot(blocks, line, color=findings.QUIET, linewidth=0.5, alpha=0.6)
        top = np.mean(lines[: max(1, len(lines) // 4)], 0)
        axes.plot(blocks, top, "o-", color=findings.ACCENT, linewidth=2.5, label="mean of the top quarter")
        straight = next(line for line, row in zip(lines, own, strict=True) if str(row["straight"]) == "True")
        axes.plot(blocks, straight, "--", color="black", linewidth=1, label="the straight line")
        axes.set(title=budget, xlabel="block", ylabel="output channels", xticks=list(blocks))
        axes.legend(fontsize=8)
    figure.suptitle(f"Widths of all models and of the best; {title}", fontsize=10)
    return figure


if __name__ == "__main__":
    findings.run(main)
