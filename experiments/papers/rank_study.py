"""Claim: drastic expansion harms the rank of features, nonlinearities raise it, SiLU more than ReLU (ReXNet, §3).

    python -m experiments.papers.rank_study  # some 20 minutes
    python -m experiments.papers.rank_study --smoke  # seconds: three small networks a point, two conditions

Networks of random size and random weights: d_out from 10 to 200 channels, d_in = DR · d_out, N = 1.2 · d_out columns
of input, for DR 0.1, 0.2, … 1.0. Rank is that of the output, d_out × N, in float32, with PyTorch's tolerance (epsilon ·
N · the largest singular value) or the one given; the rank ratio divides it by d_out. The four panels are those of the
paper's Figure 1: a 1×1 and a 3×3 convolution with norm and nonlinearity, and inverted bottlenecks with a full and with
a depthwise 3×3, whose nonlinearity follows the first two convolutions. All nonlinearities see the same networks.

The paper names neither inputs nor weights, widths, N, tolerance or expansion, so what it does name is taken in several
ways. `literal` is Gaussian inputs, He's weights, batch norm with the statistics of the batch, expansion 6 and the
shortcut added; an input column is an image of one pixel, as in the paper's matrix, so that a 3×3 convolution sees its
own pixel and padding. Then one thing is changed, then both that matter, then maps of 3×3 pixels. `figure` is what comes
nearest to the figure of all that was tried: inputs from U[0, 1], weights from N(0, 1), no norm, expansion drawn from
U[1, 6], no shortcut. The paper's values are read off its figure, to ±0.01, and shown beside ours.
"""

from __future__ import annotations

import math
import os
import random
from collections import defaultdict
from typing import Any, Literal, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from matplotlib.figure import Figure
from rich.progress import Progress
from torch import Tensor, nn

from experiments import comparisons, findings
from searchspace.blocks.blocks import Block, activate, lower_block, normalize, sequential
from searchspace.blocks.layers import Activation, Conv, Layer, Norm
from searchspace.pytorch.module import module

RATIOS = tuple(round(0.1 * step, 1) for step in range(1, 11))
NONLINEARITIES: dict[str, Activation] = {
    "Linear": "none",
    "ReLU6": "relu6",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SoftPlus": "softplus",
    "Hswish": "hard_swish",
    "SiLU": "silu",
}
PANELS = {"a": "1×1", "b": "3×3", "c": "inverted, 3×3", "d": "inverted, depthwise 3×3"}
# Figure 1, in the order of NONLINEARITIES; what could not be read off is None.
PAPER: dict[tuple[str, float], tuple[float | None, ...]] = {
    ("a", 0.1): (0.10, 0.856, 0.848, 0.875, 0.914, 0.934, 0.948, 0.958),
    ("a", 0.2): (0.20, 0.906, 0.900, 0.930, 0.963, 0.975, 0.984, 0.983),
    ("a", 0.4): (0.40, 0.946, 0.938, 0.967, 0.982, 0.990, 0.992, 0.989),
    ("a", 1.0): (1.00, 0.960, 0.966, 0.991, 0.998, 0.998, 0.998, 0.998),
    ("b", 0.1): (None, None, 0.87, None, None, None, None, 0.96),
    ("c", 0.1): (0.10, 0.30, 0.30, 0.31, 0.38, 0.365, 0.39, 0.385),
    ("c", 0.2): (0.20, 0.555, 0.57, 0.60, 0.68, 0.64, 0.685, 0.685),
    ("c", 0.4): (0.40, 0.845, 0.85, 0.86, 0.90, 0.89, 0.91, 0.91),
    ("c", 1.0): (1.0,) * 8,
    ("d", 0.1): (0.10, 0.19, 0.195, 0.20, 0.25, 0.225, 0.26, 0.24),
    ("d", 0.2): (0.20, 0.36, 0.36, 0.36, 0.43, 0.40, 0.44, 0.42),
    ("d", 0.4): (0.40, 0.60, 0.595, 0.59, 0.66, 0.61, 0.67, 0.655),
    ("d", 0.7): (0.70, 0.84, 0.84, 0.845, 0.865, 0.835, 0.875, 0.865),
    ("d", 1.0): (1.0,) * 8,
}


class Condition(NamedTuple):
    """What the paper leaves open, or says and another choice shows the weight of."""

    inputs: Literal["gaussian", "uniform"] = "gaussian"
    weights: Literal["he", "normal"] = "he"
    norm: bool = True
    expansion: tuple[float, float] = (6.0, 6.0)
    shortcut: bool = True
    side: int = 1


CONDITIONS = {
    "literal": Condition(),
    "literal, inputs from U[0, 1]": Condition(inputs="uniform"),
    "literal, no norm": Condition(norm=False),
    "literal, both of these": Condition(inputs="uniform", norm=False),
    "literal, maps of 3×3": Condition(side=3),
    "figure": Condition("uniform", "normal", norm=False, expansion=(1.0, 6.0), shortcut=False),
}


class Sizes(NamedTuple):
    """Output channels from `low` to `high`, `samples` columns for each of them; None is PyTorch's tolerance."""

    low: int
    high: int
    samples: float
    tolerance: float | None


def layer(panel: str, act: Activation, d_in: int, d_out: int, hidden: int, condition: Condition) -> Layer:
    norm = Norm() if condition.norm else Norm("none")
    if panel in "ab":
        conv = Conv(d_in, d_out, kernel=1 if panel == "a" else 3)
        return sequential(("conv", conv), ("norm", normalize(d_out, norm)), ("act", activate(act)))
    kind = "inverted" if panel == "c" else "mbconv"
    return lower_block(
        Block(
            kind,
            d_in,
            hidden,
            d_out,
            groups=1 if panel == "c" else hidden,
            expand_act=act,
            spatial_act=act,
            norm=norm,
            shortcut="partial" if condition.shortcut else "none",
        )
    )


@torch.no_grad()
def rank_ratios(panel: str, ratio: float, condition: Condition, sizes: Sizes, seed: int) -> dict[str, float]:
    """One network of random size and weights, by nonlinearity."""
    rng = random.Random(f"{panel} {ratio} {seed}")
    d_out = rng.randint(sizes.low, sizes.high)
    d_in = max(1, round(ratio * d_out))
    hidden = max(d_in, round(rng.uniform(*condition.expansion) * d_in))
    columns = math.ceil(sizes.samples * d_out / condition.side**2)
    draw = torch.rand if condition.inputs == "uniform" else torch.randn
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    x = draw(columns, d_in, condition.side, condition.side, generator=generator)
    weights: list[Tensor] = []
    found = {}
    for name, act in NONLINEARITIES.items():
        network = module(layer(panel, act, d_in, d_out, hidden, condition)).train()
        convs = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
        weights = weights or [drawn(conv.weight, condition, generator) for conv in convs]
        for conv, weight in zip(convs, weights, strict=True):
            conv.weight.copy_(weight)
        features = network(x).transpose(0, 1).flatten(1)
        found[name] = int(torch.linalg.matrix_rank(features, rtol=sizes.tolerance)) / d_out
    return found


def drawn(weight: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    scale = math.sqrt(2 / weight[0].numel()) if condition.weights == "he" else 1.0
    return scale * torch.randn(weight.shape, generator=generator)


def summary(found: dict[tuple[str, str, float, str], list[float]]) -> list[dict[str, Any]]:
    """A row for each point of each curve."""
    rows = []
    for (condition, panel, ratio, name), values in found.items():
        mean, sd = comparisons.spread(values)
        read = PAPER.get((panel, ratio), (None,) * len(NONLINEARITIES))[list(NONLINEARITIES).index(name)]
        row = {"condition": condition, "panel": panel, "block": PANELS[panel], "ratio": ratio, "nonlinearity": name}
        row |= {"n": len(values), "rank ratio": f"{mean:.4f}", "sd": f"{sd:.4f}"}
        rows.append(row | {"paper": "" if read is None else read})
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each condition and panel: how far from the paper's curves, and whether its order is there."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["condition"], row["panel"]].append(row)
    told = []
    for (condition, panel), own in groups.items():
        at = {(row["ratio"], row["nonlinearity"]): float(row["rank ratio"]) for row in own}
        gaps = [float(row["rank ratio"]) - row["paper"] for row in own if row["paper"] != ""]
        row = {"condition": condition, "panel": f"{panel}: {PANELS[panel]}"}
        row |= {f"{name} at {RATIOS[0]}": f"{at[RATIOS[0], name]:.2f}" for name in ("Linear", "ReLU", "SiLU")}
        paper = PAPER[panel, RATIOS[0]]
        ours, theirs = at[RATIOS[0], "SiLU"] - at[RATIOS[0], "ReLU"], (paper[-1] or 0) - (paper[2] or 0)
        row |= {"SiLU − ReLU": f"{ours:+.3f}", "paper's": f"{theirs:+.3f}"}
        told.append(row | {"mean |ours − paper|": f"{sum(map(abs, gaps)) / len(gaps):.3f}", "points": len(gaps)})
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "three small networks a point, two conditions", dataset=False)
    parser.add_argument("--networks", type=int, default=100, help="of random size, a point (100; the paper: 1,000)")
    parser.add_argument("--low", type=int, default=10, help="least output channels (10)")
    parser.add_argument("--high", type=int, default=200, help="most output channels (200)")
    parser.add_argument("--samples", type=float, default=1.2, help="columns of input an output channel (1.2)")
    parser.add_argument("--tolerance", type=float, help="relative to the largest singular value (PyTorch's)")
    parser.add_argument(
        "--only", nargs="+", choices=CONDITIONS, default=list(CONDITIONS), help="these conditions alone"
    )
    args = parser.parse_args(arguments)
    ratios = RATIOS
    if args.smoke:
        args.networks, args.high, args.only, ratios = 3, 20, ["literal", "figure"], (0.1, 0.4, 1.0)
    sizes = Sizes(args.low, args.high, args.samples, args.tolerance)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    torch.set_num_threads(1)
    points = [(name, panel, ratio) for name in args.only for panel in PANELS for ratio in ratios]
    found: dict[tuple[str, str, float, str], list[float]] = defaultdict(list)
    with Progress(console=page.console, transient=True) as bar:
        for name, panel, ratio in bar.track(points, description="points of curves"):
            for seed in range(args.networks):
                for act, share in rank_ratios(panel, ratio, CONDITIONS[name], sizes, seed).items():
                    found[name, panel, ratio, act].append(share)
    rows = summary(found)
    title = f"Rank ratios, {args.networks} networks of {args.low} to {args.high} channels a point"
    page.table("rank_study", title, rows, verdicts(rows))
    curves = [name for name in ("literal", "figure") if name in args.only] or args.only
    page.figure("rank_study", draw(rows, curves))
    curves_of = f"{len(PANELS)} panels × {len(NONLINEARITIES)} nonlinearities × {len(ratios)} ratios"
    page.write(n=f"{args.networks} networks a point; {curves_of} × {len(args.only)} conditions")


def draw(rows: list[dict[str, Any]], shown: list[str]) -> Figure:
    """A row of panels for each condition: curves are ours, rings the paper's."""
    figure = findings.figure(15, 1 + 3.6 * len(shown))
    axes = figure.subplots(len(shown), len(PANELS), sharex=True, sharey=True, squeeze=False)
    for at, condition in zip(axes, shown, strict=True):
        for panel, place in zip(PANELS, at, strict=True):
            for index, name in enumerate(NONLINEARITIES):
                own = [r for r in rows if (r["condition"], r["panel"], r["nonlinearity"]) == (condition, panel, name)]
                x = [row["ratio"] for row in own]
                place.plot(x, [float(row["rank ratio"]) for row in own], color=f"C{index}", linewidth=1.2, label=name)
                read = [(row["ratio"], row["paper"]) for row in own if row["paper"] != ""]
                place.plot(*zip(*read, strict=True), "o", color=f"C{index}", fillstyle="none") if read else None
            place.set_title(f"{condition}: ({panel}) {PANELS[panel]}", fontsize=10)
            place.grid(alpha=0.2)
        at[0].set_ylabel("rank of the output ÷ its channels")
    for place in axes[-1]:
        place.set_xlabel("input channels ÷ output channels")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle("Rank of random networks' features: ours (lines) and the paper's Figure 1 (rings)")
    return figure


if __name__ == "__main__":
    findings.run(main)
