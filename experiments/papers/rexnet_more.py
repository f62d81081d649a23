"""Claim: ReXNet's features have more rank than MobileNetV2's, shortcuts help it, linear is best at every budget, and it
scales as its paper says.

    python -m experiments.papers.rexnet_more --parts scaling  # a minute: no training
    python -m experiments.papers.rexnet_more --dataset path/to/cifar10 --parts features depth  # 1.2 hours of one core
    python -m experiments.papers.rexnet_more --smoke  # seconds: every part at its smallest

scaling: ReXNet ×0.9 to ×3.0 at 224 px, multiply-adds and parameters beside the paper's, milliseconds an image on one
thread beside the paper's two processors (Han et al. 2021, Table A1).
features: ReXNet, the same without its zero-padded additions, and MobileNetV2, scaled in width to the same
multiply-adds, all with 1,280 final features, trained briefly from several seeds: accuracy, singular values of the
features that the classifier is given for the validation images (images × features, as they are), as their running sum
over the total, and the nuclear norm.
depth: the paper's Figure 4: a fixed number of inverted bottlenecks within several budgets, only their widths free, none
narrower than the one before, as c_i = a · f(i) + b with a random piecewise linear f; the straight line is one of them.
Is the top quarter by accuracy more linear in the block index than the rest? Linearity is the share of the widths'
variance that a straight line explains. Stem of 16, expansion 6, a last convolution to 512, strides in blocks that give
the paper's best networks their multiply-adds within 5 %; trained with a stem of stride 2, on maps of half the side.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from rich.console import Console

from experiments import findings, trainings
from nas.config import recipe
from nas.latency import timing
from nas.training.trainer import Training
from searchspace import Arch, Budget, InputError, Space, cost, zoo
from searchspace.document import plain
from searchspace.format.network import Network
from searchspace.networks import network

PARTS = ("scaling", "features", "depth")
# Table A1: multiply-adds in G, parameters in M, ms on a CPU (Xeon E5-2630 v4, one image) and a GPU (V100, batch 64)
TABLE_A1 = {
    "rexnet_090": (0.35, 4.1, 46, 20),
    "rexnet_100": (0.40, 4.8, 47, 21),
    "rexnet_110": (0.48, 5.6, 51, 24),
    "rexnet_120": (0.57, 6.6, 53, 26),
    "rexnet_130": (0.66, 7.6, 55, 28),
    "rexnet_140": (0.76, 8.6, 57, 30),
    "rexnet_150": (0.86, 9.7, 59, 31),
    "rexnet_200": (1.5, 16, 69, 40),
    "rexnet_220": (1.8, 19, 73, 46),
    "rexnet_300": (3.4, 34, 96, 61),
}
POINTS = 100
REXNET, BARE, MOBILENET = "ReXNet", "ReXNet without shortcuts", "MobileNetV2"
COLOURS = {REXNET: findings.ACCENT, BARE: findings.WARM, MOBILENET: findings.QUIET}
SLOPES, ENDS = (0, 1, 2, 4, 8), (1.5, 2, 3, 5, 8)
STRIDED = {5: (1, 3), 9: (3, 7), 13: (4, 8)}


def scaling(names: Sequence[str], device: str, rounds: int) -> list[dict[str, Any]]:
    archs = [zoo(name) for name in names]
    with timing.threads(1):
        found = timing.network_rounds([timing.ready(arch, device) for arch in archs], archs, device, 1, rounds)
    times, rows = [median(own) for own in found], []
    for name, arch, own, ms in zip(names, archs, found, times, strict=True):
        spent, (macs, params, cpu, gpu) = cost(arch), TABLE_A1[name]
        row = {"network": name, "G multiply-adds": f"{spent.macs / 1e9:.3f}", "paper's": macs}
        row |= {"M parameters": f"{spent.params / 1e6:.2f}", "paper's M": params}
        row |= {
            "ms (quartiles)": findings.middle(own),
            "× of the first": f"{ms / times[0]:.2f}",
            "paper's CPU ms": cpu,
            "paper's GPU ms": gpu,
        }
        row |= {"paper's × (CPU)": f"{cpu / TABLE_A1[names[0]][2]:.2f}", "G/s": f"{spent.macs / ms / 1e6:.1f}"}
        rows.append(row)
    return rows


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
    for row in findings.versus(scores, REXNET):
        own = [record for record in found[row["network"]] if "diverged" not in record]
        row |= {"M multiply-adds": f"{cost(archs[row['network']]).macs / 1e6:.1f}"}
        for what in ("nuclear", "effective_rank", "ninety"):
            mean, sd = findings.spread([record[what] for record in own]) if own else (math.nan, math.nan)
            row[what.replace("_", " ")] = f"{mean:.4g} ± {sd:.2g}"
        rows.append(row)
    return rows


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
                mean, sd = findings.spread([float(member[what]) for member in members])
                row[f"{what}, {name}"] = f"{mean:.3f} ± {sd:.3f}"
        lines = [float(one["linearity"]) for one in own]
        row["p of linearity"] = f"{findings.shuffled(lines[:cut], lines[cut:]):.3f}"
        row["place of the straight line"] = next(one["place"] for one in own if one["straight"])
        told.append(row | {"best": own[0]["widths"]})
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two networks, five small models, one epoch of 100 digits")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="these alone")
    parser.add_argument("--rounds", type=int, default=9, help="in which networks are timed in turn (9)")
    parser.add_argument("--budget", default="30MFLOPs", help="of features, at 224 px (30MFLOPs)")
    parser.add_argument("--images", type=int, default=10_000, help="training images of features (10,000)")
    parser.add_argument("--epochs", type=int, default=6, help="of features (6)")
    parser.add_argument("--seeds", type=int, default=4, help="of features (4)")
    parser.add_argument("--blocks", type=int, choices=STRIDED, default=5, help="of depth: 5 are the paper's 18 layers")
    parser.add_argument("--limits", nargs="+", default=["10MFLOPs", "17MFLOPs", "23MFLOPs"], help="budgets of depth")
    parser.add_argument("--models", type=int, default=24, help="of each budget of depth (24; the paper: 200)")
    parser.add_argument("--depth-images", type=int, default=4_000, help="training images of depth (4,000)")
    parser.add_argument("--depth-epochs", type=int, default=4, help="of depth (4; the paper: 30)")
    args = parser.parse_args(arguments)
    names = list(TABLE_A1)
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds, args.budget = "digits", 100, 1, 1, "10MFLOPs"
        args.limits, args.models, args.depth_images, args.depth_epochs = ["5MFLOPs"], 5, 100, 1
        names, args.rounds = names[:2], 1
    console, device = Console(width=170), timing.device_for("auto")
    where = f"{timing.device_name(device)}, torch {torch.__version__}"
    log, train = args.out / "rexnet_more.jsonl", recipe(args.dataset)
    if "scaling" in args.parts:
        rows = scaling(names, device, args.rounds)
        findings.write(args.out / "rexnet_more_scaling.csv", rows)
        findings.show(console, f"ReXNet at 224 px, one image, median of {args.rounds} rounds, {where}, 1 thread", rows)
        draw_scaling(rows, args.out / "rexnet_more_scaling.png", where)
    if "features" in args.parts:
        archs = families(Budget.parse(args.budget))
        split = trainings.images(args.dataset, args.images)
        jobs = trainings.repeated(archs, replace(train, epochs=args.epochs), args.seeds)
        records = trainings.carry_out(jobs, split, device, log, console, spectrum)
        found = trainings.grouped(records)
        rows = spectra(found, archs)
        findings.write(args.out / "rexnet_more.csv", rows)
        shown = f"{len(split.train_labels):,} images of {Path(split.name).name}"
        title = f"{args.budget} at 224 px, {args.epochs} epochs of {shown}"
        findings.show(console, f"{title}, {where}; {trainings.effort(records)}", rows)
        draw_spectra(found, args.out / "rexnet_more.png", title)
    if "depth" in args.parts:
        split = trainings.images(args.dataset, args.depth_images)
        sets = {limit: models(args.blocks, args.models, Budget.parse(limit)) for limit in args.limits}
        recipe_of_depth = replace(train, epochs=args.depth_epochs)
        jobs = [
            trainings.Job(widths, replace(arch, stem=replace(arch.stem, stride=2)), recipe_of_depth)
            for archs in sets.values()
            for widths, arch in archs.items()
        ]
        records = trainings.carry_out(jobs, split, device, log, console)
        scores = iter(record["accuracy"] for record in records)
        rows = depths({limit: {widths: next(scores) for widths in archs} for limit, archs in sets.items()})
        findings.write(args.out / "rexnet_more_depth.csv", rows)
        shown = f"{len(split.train_labels):,} images of {Path(split.name).name}"
        title = f"{args.blocks} blocks, {args.depth_epochs} epochs of {shown}"
        findings.show(console, f"{title}, {where}; {trainings.effort(records)}", groups(rows))
        draw_depths(rows, args.out / "rexnet_more_depth.png", title)
    console.print(findings.command(__file__, arguments), soft_wrap=True)


def draw_scaling(rows: list[dict[str, Any]], path: Any, where: str) -> None:
    figure = findings.figure(7, 4.5)
    axes = figure.subplots()
    x = [float(row["G multiply-adds"]) for row in rows]
    axes.plot(
        x,
        [float(row["ms (quartiles)"].split()[0]) for row in rows],
        "o-",
        color=findings.ACCENT,
        label=f"ours, 1 thread of {where}",
    )
    axes.plot(x, [row["paper's CPU ms"] for row in rows], "s--", color=findings.QUIET, label="paper, Xeon E5-2630 v4")
    axes.set(xlabel="G multiply-adds (×0.9 to ×3.0)", ylabel="ms an image", ylim=(0, None))
    axes.set_title("ReXNet's latency as it is scaled in width")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_spectra(found: dict[str, list[trainings.Record]], path: Any, title: str) -> None:
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
    figure.savefig(path, dpi=110)


def draw_depths(rows: list[dict[str, Any]], path: Any, title: str) -> None:
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
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    findings.run(main)
