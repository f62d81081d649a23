"""Claim: at equal multiply-adds blocks differ in accuracy, and in speed by more; depthwise is not always the faster.

    python -m experiments.papers.blocks --measure  # some minutes: no training
    python -m experiments.papers.blocks --dataset path/to/cifar10  # 1.2 hours of one core; run again to carry on
    python -m experiments.papers.blocks --smoke  # seconds: two blocks

One skeleton (3×3 stem, five stages of 1, 2, 2, 3 and 2 blocks, widths that double from stage to stage, pool,
classifier) with each block of the zoo in all stages as in its paper, all widths multiplied so that every network uses
97 to 100 % of the same budget at 224 px. Measured of each, in turn, on one thread or a GPU: milliseconds an image
alone, images a second in batches, bytes that one image's training step keeps for the backward pass. Computed: the peak
of inference's feature maps, and arithmetic intensity, multiply-adds a byte that the layers read and write when none is
fused with the next. Then a depthwise (`mbconv`) and a fused (`fused_mbconv`) block of the same widths beside each
other, at the widths and sides of EfficientNetV2-S's stages: fused has more multiply-adds, the question is what it costs
in time. Accuracy is of brief training, from several seeds, of networks of a smaller budget.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from matplotlib.figure import Figure
from torch import nn

from experiments import comparisons, findings, trainings
from nas.analysis.agreement import agreement
from nas.config import recipe
from nas.latency import timing
from searchspace import Arch, Budget, Space, build, cost
from searchspace.arch import lower
from searchspace.blocks.blocks import Block
from searchspace.blocks.layers import Gate, Residual, size
from searchspace.blocks.layers import steps as layer_steps
from searchspace.blocks.stem_head import Stem

FLOAT_BYTES = 4
ROUNDS = 9
DEPTHS, STRIDES, WIDTHS = (1, 2, 2, 3, 2), (1, 2, 2, 2, 2), (16, 32, 64, 128, 256)
SKELETON: dict[str, Any] = {
    "width_mult": {"fit": [0.02, 20.0]},
    "stem": {"width": 32, "act": "relu"},
    "schedule": {"kind": "stagewise", "widths": list(WIDTHS)},
}
ZOO: dict[str, dict[str, Any]] = {
    "basic (ResNet-18)": {"block": "basic"},
    "bottleneck (ResNet-50)": {"block": "bottleneck"},
    "grouped bottleneck (ResNeXt)": {"block": "resnext", "groups": None, "group_width": 4},
    "depthwise separable (MobileNetV1)": {
        "block": "mbconv",
        "expansion": 1,
        "project_act": "relu6",
        "shortcut": "none",
    },
    "inverted, full 3×3": {"block": "inverted"},
    "inverted, depthwise (MobileNetV2)": {"block": "mbconv"},
    "the same, 5×5": {"block": "mbconv", "kernel": 5},
    "the same, squeeze and excitation": {"block": "mbconv", "se": 0.0833333333},
    "ReXNet's": {
        "block": "mbconv",
        "expand_act": "silu",
        "se": 0.0833333333,
        "se_position": "before",
        "se_norm": True,
        "shortcut": "partial",
    },
    "fused, expansion 4 (EfficientNetV2)": {"block": "fused_mbconv"},
    "fused, expansion 1": {"block": "fused_mbconv", "expansion": 1},
    "ConvNeXt's": {"block": "convnext"},
    "ConvNeXt's, batch norm": {"block": "convnext", "norm": {"kind": "batch"}},
}
REFERENCE = "inverted, depthwise (MobileNetV2)"
# EfficientNetV2-S, Table 4: (width, side) of its stages at 224 px
PLACES = ((24, 112), (48, 56), (64, 28), (128, 14), (160, 14), (256, 7))
EXPANSION = 4


def network(settings: dict[str, Any], budget: Budget) -> Arch:
    """The skeleton with one block throughout, as wide as the budget allows."""
    stages = [{"depth": n, "stride": s, **settings} for n, s in zip(DEPTHS, STRIDES, strict=True)]
    found = Space({**SKELETON, "stages": stages}, str(settings["block"])).fit({}, budget)
    assert found is not None, settings
    return found.arch


def intensity(arch: Arch) -> float:
    """Multiply-adds a byte, each layer reading its input and weights and writing its output."""
    numbers = 0
    for layer, shape in layer_steps(lower(arch), (arch.in_channels, arch.resolution, arch.resolution)):
        twice = isinstance(layer, (Residual, Gate))  # two inputs, no weights
        numbers += 3 * size(shape) if twice else size(shape) + size(layer.output(shape)) + layer.params
    return cost(arch).macs / (FLOAT_BYTES * numbers)


def kept_bytes(arch: Arch, device: str) -> int:
    """What autograd keeps of a batch of two images for the backward pass, an image, without the weights."""
    model = build(arch).to(device).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights:
            kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(timing.batch(arch, 2, device))
    assert logits.requires_grad
    return sum(kept.values()) // 2


def fewer(rounds: int) -> int:
    """The rounds in which batches take turns, which take longer."""
    return max(1, rounds // 3)


def measured(archs: dict[str, Arch], budget: str, device: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    models = [timing.ready(arch, device) for arch in archs.values()]
    alone = timing.network_rounds(models, list(archs.values()), device, 1, rounds)
    batched = timing.network_rounds(models, list(archs.values()), device, batch, fewer(rounds))
    rows = []
    for (name, arch), own, batches in zip(archs.items(), alone, batched, strict=True):
        spent, ms = cost(arch), median(own)
        row = {"budget": budget, "block": name, "M multiply-adds": f"{spent.macs / 1e6:.1f}"}
        row |= {"M parameters": f"{spent.params / 1e6:.2f}"}
        row |= {"ms (quartiles)": comparisons.middle(own)}
        row |= {
            "images/s in batches": comparisons.middle([1000 * batch / time for time in batches]),
            "G/s": f"{spent.macs / ms / 1e6:.1f}",
        }
        row |= {"inference peak MB": f"{spent.peak_memory_mb:.2f}"}
        row |= {"training MB an image": f"{kept_bytes(arch, device) / 1e6:.1f}"}
        rows.append(row | {"multiply-adds a byte": f"{intensity(arch):.2f}"})
    return rows


def agreed(rows: list[dict[str, Any]]) -> str:
    """Whether arithmetic intensity ranks the blocks of the last budget."""
    own = [row for row in rows if row["budget"] == rows[-1]["budget"]]
    rates = [float(row["images/s in batches"].split()[0]) for row in own]
    found = agreement([float(row["multiply-adds a byte"]) for row in own], rates)
    if found is None:
        return f"{len(own)} blocks: too few to say whether arithmetic intensity ranks them"
    low, high = found.spearman_interval
    begin = f"arithmetic intensity ranks images/s of {len(own)} blocks"
    return f"{begin}: Spearman {found.spearman:.2f} [{low:.2f}, {high:.2f}]"


def single(kind: str, width: int, side: int) -> Arch:
    """One block behind a stem that is left out when it is timed."""
    hidden = EXPANSION * width
    groups = hidden if kind == "mbconv" else 1
    acts: dict[str, Any] = {"expand_act": "silu", "spatial_act": "silu"}
    block = Block(kind, width, hidden, width, groups=groups, shortcut="identity", **acts)
    return Arch(Stem(width, kernel=1, stride=1), (block,), resolution=side, in_channels=width, num_classes=1)


def compared(places: Sequence[tuple[int, int]], device: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """Depthwise and fused blocks of the same widths, alone and in batches."""
    archs = [single(kind, width, side) for width, side in places for kind in ("mbconv", "fused_mbconv")]
    models = [cast(nn.Sequential, timing.ready(arch, device))[1] for arch in archs]  # the block alone
    alone = timing.network_ms(models, archs, device, 1, 4 * rounds)
    batched = timing.network_ms(models, archs, device, batch, rounds)
    rows = []
    for index, (width, side) in enumerate(places):
        two = slice(2 * index, 2 * index + 2)
        (depthwise, fused), (depthwise_b, fused_b) = alone[two], batched[two]
        macs = [sum(layer.macs(shape) for layer, shape in layer_steps(*_inside(arch))) for arch in archs[two]]
        row = {"width": width, "side": side, "× multiply-adds": f"{macs[1] / macs[0]:.2f}"}
        row |= {"depthwise ms": f"{depthwise:.3f}", "fused ms": f"{fused:.3f}", "× time": f"{fused / depthwise:.2f}"}
        rows.append(row | {f"× time, batch {batch}": f"{fused_b / depthwise_b:.2f}"})
    return rows


def _inside(arch: Arch) -> tuple[Any, tuple[int, int, int]]:
    return dict(lower(arch).parts)["block1"], (arch.in_channels, arch.resolution, arch.resolution)


def summary(found: dict[str, list[trainings.Record]], archs: dict[str, Arch], ms: list[float]) -> list[dict[str, Any]]:
    """A row a block: accuracy, its difference from MobileNetV2's, and what it takes."""
    scores = {name: [record["accuracy"] for record in records] for name, records in found.items()}
    rows = []
    for row, milliseconds in zip(comparisons.versus(scores, REFERENCE), ms, strict=True):
        records = found[row["network"]]
        row |= {"M multiply-adds": f"{cost(archs[row['network']]).macs / 1e6:.1f}"}
        row |= {"ms at 224 px": f"{milliseconds:.2f}"}
        row |= {"training images/s": f"{max(record.get('images_per_s', 0) for record in records):.0f}"}
        rows.append(row | {"diverged": sum("diverged" in record for record in records)})
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two blocks, 64 px and one round, 100 digits")
    parser.add_argument("--measure", action="store_true", help="what needs no training, and nothing else")
    parser.add_argument("--budgets", nargs="+", default=["30MFLOPs", "300MFLOPs"], help="of measured networks")
    parser.add_argument("--budget", default="30MFLOPs", help="of trained networks (30MFLOPs, at 224 px)")
    parser.add_argument("--batch", type=int, default=32, help="images a batch, where throughput is measured (32)")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="in which networks take turns (9; a third with batches)"
    )
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=6, help="of a training (6)")
    parser.add_argument("--seeds", type=int, default=3, help="of each network (3)")
    args = parser.parse_args(arguments)
    zoo: Mapping[str, dict[str, Any]] = ZOO
    places: Sequence[tuple[int, int]] = PLACES
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds = "digits", 100, 1, 1
        args.budgets, args.batch, args.rounds, places = ["10MFLOPs"], 2, 1, PLACES[-2:]
        args.budget, zoo = "10MFLOPs", dict(list(ZOO.items())[:6:5])
    if args.measure or args.smoke:
        page = findings.Page(__doc__, __file__, args, arguments, "blocks_measured")
        measure(args, zoo, places, page)
    if args.measure:
        return
    page = findings.Page(__doc__, __file__, args, arguments)
    archs = {name: network(settings, Budget.parse(args.budget)) for name, settings in zoo.items()}
    split = trainings.images(args.dataset, args.images)
    jobs = trainings.repeated(archs, replace(recipe(args.dataset), epochs=args.epochs), args.seeds)
    records = trainings.carry_out(jobs, split, page.device, args.out / "blocks.jsonl", page.console)
    with timing.threads(1):
        models = [timing.ready(arch, page.device) for arch in archs.values()]
        ms = timing.network_ms(models, list(archs.values()), page.device, 1, args.rounds)
    rows = summary(trainings.grouped(records), archs, ms)
    title = f"{args.budget} at 224 px, {args.epochs} epochs of {trainings.described(split)}"
    page.table("blocks", title, rows)
    page.figure("blocks", draw(rows, title))
    page.trained(records)
    page.write(n=f"{len(archs)} blocks × {args.seeds} seeds; {args.rounds} rounds in turn")


def measure(
    args: argparse.Namespace,
    zoo: Mapping[str, dict[str, Any]],
    places: Sequence[tuple[int, int]],
    page: findings.Page,
) -> None:
    """All that needs no training."""
    rows = []
    with timing.threads(1):
        for budget in args.budgets:
            own = {name: network(settings, Budget.parse(budget)) for name, settings in zoo.items()}
            rows += measured(own, budget, page.device, args.batch, args.rounds)
        pairs = compared(places, page.device, args.batch, args.rounds)
    rounds = f"median of {args.rounds} rounds, batches of {args.batch} in {fewer(args.rounds)}"
    page.table("blocks_measured", f"224 px, {rounds}", rows)
    page.table("blocks_fused", f"Fused against depthwise, expansion {EXPANSION}", pairs)
    page.say(agreed(rows))
    page.figure("blocks_measured", draw_measured(rows, pairs, page.hardware))
    budgets = " and ".join(args.budgets)
    page.write(n=f"{len(zoo)} blocks at {budgets}, {args.rounds} rounds in turn, {fewer(args.rounds)} with batches")


def draw_measured(rows: list[dict[str, Any]], pairs: list[dict[str, Any]], where: str) -> Figure:
    """Bars at the largest budget; the last panel has the two kinds of block beside each other."""
    own = [row for row in rows if row["budget"] == rows[-1]["budget"]]
    what = ("ms (quartiles)", "images/s in batches", "training MB an image", "multiply-adds a byte")
    figure = findings.figure(17, 1.6 + 0.28 * len(own))
    panels = figure.subplots(1, len(what) + 1, width_ratios=[1] * len(what) + [1.6])
    for index, (axes, name) in enumerate(zip(panels, what, strict=False)):
        axes.barh(range(len(own)), [float(row[name].split()[0]) for row in own], color=findings.ACCENT)
        axes.set_yticks(range(len(own)), [row["block"] for row in own] if index == 0 else [""] * len(own), fontsize=8)
        axes.invert_yaxis()
        axes.set_title("ms an image, alone" if name.startswith("ms") else name, fontsize=9)
    *_, axes = panels
    names = [name for name in pairs[0] if name.startswith("×")]
    for offset, (name, colour) in enumerate(zip(names, (findings.QUIET, findings.ACCENT, findings.WARM), strict=True)):
        at = [index + 0.25 * (offset - 1) for index in range(len(pairs))]
        axes.bar(at, [float(row[name]) for row in pairs], 0.25, color=colour, label=name.removeprefix("× "))
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_xticks(range(len(pairs)), [f"{row['width']} ch\n{row['side']} px" for row in pairs], fontsize=8)
    axes.set_title("fused ÷ depthwise block of the same widths", fontsize=9)
    axes.set_ylim(0, 1.3 * max(float(row[names[0]]) for row in pairs))
    axes.legend(fontsize=8, ncols=3)
    figure.suptitle(f"{rows[-1]['budget']} at 224 px with each block; {where}", fontsize=10)
    return figure


def draw(rows: list[dict[str, Any]], title: str) -> Figure:
    figure = findings.figure(9, 5.5)
    axes = figure.subplots()
    middle = median(float(row["ms at 224 px"]) for row in rows)
    for row in rows:
        x, y = float(row["ms at 224 px"]), 100 * float(row["accuracy"])
        axes.errorbar(x, y, 100 * float(row["sd"]), fmt="o", color=findings.ACCENT, capsize=3)
        side: dict[str, Any] = {"ha": "right", "xytext": (-5, 3)} if x > middle else {"xytext": (5, 3)}
        axes.annotate(row["network"], (x, y), textcoords="offset points", fontsize=8, **side)
    axes.margins(x=0.2)
    axes.set_xlabel("ms an image at 224 px")
    axes.set_ylabel("accuracy, %, after brief training (bar: ± sd of seeds)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    findings.run(main)
