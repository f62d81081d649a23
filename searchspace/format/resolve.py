"""`Outline`: a network whose widths are still open. Its integers are worked out here, and made into blocks or counted.

A search asks for the cost of very many points at many width multipliers, and for the network of a few. Both follow the
same steps: `arch` makes a block of each, `costs.outline_cost` only counts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from searchspace.arch import Arch, Init, Padding, relax
from searchspace.blocks.blocks import BETWEEN, Block, Shortcut, SqueezeExcite, structure
from searchspace.blocks.layers import DropMode
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.schedule import Schedule, channels, round_channels

Scaling = Literal["both", "up", "none"]
Choices = dict[str, Any]

# What a block takes over from its stage as it is; everything else of a block is worked out from widths.
COPIED_FIELDS = (
    *("kernel", "kernels", "dilation", "stride_at", "expand_act", "spatial_act", "project_act", "add_act"),
    *("norm", "norm_at", "bias", "layer_scale", "shortcut_norm", "shortcut_act", "shortcut_kernel", "anti_alias"),
    "branches",
)


# One block to be: whose choices it follows, its stride, the channels that come in and those that go out.
BlockSpec = tuple[Choices, int, int, int]


@dataclass(slots=True)
class OpenNetwork:
    """What a network file, or a point of a space, says. `stages` are every stage's choices with nothing left out."""

    stages: list[Choices]
    schedule: Schedule
    stem: Stem
    head: Head
    resolution: int
    smallest_map: int
    in_channels: int
    num_classes: int
    width_mult: float
    depth_mult: float
    scale_stem: Scaling
    scale_head: Scaling
    drop_path: float
    drop_path_reached: Literal["last", "next"]
    drop_path_mode: DropMode
    init: Init
    padding: Padding = "centred"
    settled: tuple[int, ...] = ()

    def arch(self) -> Arch:
        """The network; `ValueError` where its integers do not go together."""
        steps = list(self.steps())
        last = sum(choices["block"] not in BETWEEN for choices, *_ in steps) - (self.drop_path_reached == "last")
        blocks: list[Block] = []
        index = 0
        for step in steps:
            blocks.append(block(step, self.drop_path * index / max(1, last), self.drop_path_mode))
            index += step[0]["block"] not in BETWEEN
        stem, head = self.ends()
        ends = (head, self.resolution, self.in_channels, self.num_classes, self.init, self.padding)
        return Arch(stem, tuple(blocks), *ends)

    def ends(self) -> tuple[Stem, Head]:
        """Stem and head at their widths; the stem with its strides."""
        width = self.settled[0] if self.settled else self._scale(self.stem.width, self.scale_stem)
        stride, pool, *_ = self.strides()
        stem, head = self.stem, self._scale(self.head.width, self.scale_head)
        if (width, stride, pool) != (stem.width, stem.stride, stem.pool):
            stem = replace(stem, width=width, stride=stride, pool=pool)
        return stem, self.head if head == self.head.width else replace(self.head, width=head)

    def strides(self) -> list[int]:
        """The strides of the stem, its pool and every stage, relaxed for small images."""
        strides = [self.stem.stride, self.stem.pool, *[choices["stride"] for choices in self.stages]]
        if self.smallest_map == 1:
            return strides
        kernels = [self.stem.kernel, 1, *map(_striding_kernel, self.stages)]
        return relax(strides, kernels, self.resolution, self.smallest_map)

    @property
    def depths(self) -> list[int]:
        return [math.ceil(choices["depth"] * self.depth_mult) for choices in self.stages]

    def widths(self) -> list[int]:
        """The widths of the stem and of every block: those that are settled, then what the multiplier gives."""
        stem = self._scale(self.stem.width, self.scale_stem)
        widths = [stem, *channels(self.schedule, self.depths, self.width_mult)]
        return [*self.settled, *widths[len(self.settled) :]]

    def steps(self) -> Iterator[BlockSpec]:
        """Every block to be, in order; a downsampling layer of its own is one too."""
        depths = self.depths
        width, *rest = self.widths()
        widths = iter(rest)
        for choices, stride, depth in zip(self.stages, self.strides()[2:], depths, strict=True):
            for _ in range(depth):
                out = next(widths)
                if stride > 1 and choices["downsample"] != "block":
                    between = _between(choices, stride, width, out)
                    yield between
                    width, stride = between[-1], 1
                yield choices, stride, width, out
                width, stride = out, 1

    def _scale(self, width: int, scaling: Scaling) -> int:
        """A width of the stem or the head; one that nothing multiplies is as it was written, not rounded."""
        if width == 0 or scaling == "none" or self.width_mult == 1 or (scaling == "up" and self.width_mult < 1):
            return width
        s = self.schedule
        return round_channels(width * self.width_mult, s.divisor, s.rounding, s.min_width)


def block(step: BlockSpec, drop_path: float = 0.0, mode: DropMode = "row") -> Block:
    """The step as a block in integers."""
    choices, stride, width, out = step
    kind = choices["block"]
    if kind in BETWEEN:
        taken = {name: value for name, value in choices.items() if name != "block"}
        return Block(kind, width, width, out, stride=stride, **taken)
    hidden, groups = hidden_and_groups(choices, width, out)
    squeezed = squeezed_width(choices, width, hidden, out)
    settings = (choices[name] for name in ("se_position", "se_act", "se_gate", "se_norm", "se_bias", "se_form"))
    expand_groups, project_groups = pointwise_groups(choices, width, hidden, out)
    return Block(
        type=kind,
        in_channels=width,
        hidden=hidden,
        out_channels=out,
        stride=stride,
        groups=groups,
        expand_groups=expand_groups,
        project_groups=project_groups,
        se=SqueezeExcite(squeezed, *settings) if squeezed else None,
        shortcut=shortcut(choices["shortcut"], width, out, stride),
        drop_path=drop_path,
        drop_path_mode=mode,
        options={name: choices[name] for name in structure(kind).options},
        **{name: choices[name] for name in COPIED_FIELDS},
    )


def _striding_kernel(choices: Choices) -> int | None:
    """The kernel of the layer that takes a stage's stride: None where it is the stride, 1 of a pool (it is padded)."""
    match choices["downsample"]:
        case "block":
            return int(choices["kernel"])
        case "pool":
            return 1
    return None


def _between(choices: Choices, stride: int, width: int, out: int) -> BlockSpec:
    """The layer that takes a stage's stride before its first block, with its few choices."""
    if choices["downsample"] == "pool":
        return {"block": "max_pool"}, stride, width, width
    kind = "merge" if choices["downsample"] == "merge" else "downsample"
    own = {"block": kind, "kernel": stride, "norm": choices["norm"], "bias": choices["bias"]}
    return own, stride, width, out


def hidden_and_groups(choices: Choices, width: int, out: int) -> tuple[int, int]:
    """The hidden width by the reference of the block's paper, and the groups of the spatial convolution."""
    kind = structure(choices["block"])
    expansion: float = choices["expansion"]
    reference = width if choices["expansion_from"] == "input" else out
    hidden, least = round(reference / expansion if kind.divides else reference * expansion), choices["hidden_min"]
    if hidden < least:
        hidden = least
    if kind.grouping == "depthwise":
        if choices["kernels"]:
            shares = len(choices["kernels"])
            hidden = max(shares, round(hidden / shares) * shares)
        return hidden, hidden if kind.grouped == "hidden" else width
    if kind.grouping == "none":
        return hidden, 1
    group_width = min(choices["group_width"], hidden) if kind.grouped else 0
    groups: int = 1 if group_width else choices["groups"]
    unit = group_width or groups
    if unit > 1:
        hidden = max(unit, round(hidden / unit) * unit)
    groups = hidden // group_width if group_width else groups
    return hidden, groups if kind.grouped else math.gcd(groups, width, out)


def eca_kernel(channels: int) -> int:
    """The odd number next to (log2 C + 1) / 2, and at least 3 (Wang et al. 2020, equation 12)."""
    kernel = int((math.log2(channels) + 1) / 2)
    return max(3, kernel if kernel % 2 else kernel + 1)


def pointwise_groups(choices: Choices, width: int, hidden: int, out: int) -> tuple[int, int]:
    """The groups of the 1×1 convolutions: of those that a stage asks for, as many as divide both widths."""
    expand, project = choices["expand_groups"], choices["project_groups"]
    if expand == project == 1:
        return 1, 1
    return math.gcd(expand, width, hidden), math.gcd(project, hidden, out)


def squeezed_width(choices: Choices, width: int, hidden: int, out: int) -> int:
    """The width inside squeeze and excitation, or what its form has in that place; 0 where there is none."""
    ratio: float = choices["se"]
    if not ratio:
        return 0
    if choices["se_form"] == "effective":
        return 1
    if choices["se_form"] == "eca":
        return eca_kernel(out if choices["se_position"] == "output" else hidden)
    squeezed = ratio * {"input": width, "hidden": hidden, "output": out}[choices["se_from"]]
    divisor: int = choices["se_divisor"]
    rounded = round_channels(squeezed, divisor) if divisor > 1 else math.floor(squeezed + 1e-6)
    least: int = choices["se_min"]
    return rounded if rounded >= least else max(rounded, min(least, hidden))


def shortcut(rule: Shortcut, width: int, out: int, stride: int) -> Shortcut:
    """What the rule comes to for these shapes."""
    if rule == "none":
        return "none"
    if stride == 1 and width == out:
        return "identity"
    if rule == "pooled":
        return "pooled" if stride > 1 else "projection"
    if rule in ("projection", "separable") or (rule == "partial" and stride == 1 and width < out):
        return rule
    return "none"
