"""The one format in which people write networks and spaces: stages and a channel schedule.

Here an author's choices (expansion, ratios, multipliers, schedules) become a block's integers. What a stage leaves
out is as in the block's paper (`PAPER`).
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, Literal

from searchspace import limits
from searchspace.arch import Arch, Init
from searchspace.blocks import BETWEEN, Block, BlockType, Position, Shortcut, SqueezeExcite
from searchspace.document import value
from searchspace.ends import Head, Stem
from searchspace.layers import Activation, DropMode, Gating, Norm
from searchspace.limits import whole
from searchspace.schedule import Schedule, channels, round_channels

MIN_EXPANSION, MAX_EXPANSION = 0.01, 6

PAPER: dict[BlockType, dict[str, Any]] = {
    # He et al. 2016; hidden = out ÷ expansion
    "basic": {"expansion": 1.0, "expansion_from": "output", "add_act": "relu", "shortcut": "projection"},
    "bottleneck": {"expansion": 4.0, "expansion_from": "output", "add_act": "relu", "shortcut": "projection"},
    # Xie et al. 2017: cardinality 32; hidden = out ÷ expansion
    "resnext": {
        "expansion": 2.0,
        "expansion_from": "output",
        "groups": 32,
        "add_act": "relu",
        "shortcut": "projection",
    },
    # Sandler et al. 2018; hidden = in × expansion; `inverted` has a full convolution, `mbconv` a depthwise one
    "inverted": {"expansion": 6.0, "expand_act": "relu6", "spatial_act": "relu6"},
    "mbconv": {"expansion": 6.0, "expand_act": "relu6", "spatial_act": "relu6"},
    # Tan & Le 2021; hidden = in × expansion
    "fused_mbconv": {"expansion": 4.0, "spatial_act": "silu"},
    # Liu et al. 2022; hidden = out × expansion
    "convnext": {
        "kernel": 7,
        "expansion_from": "output",
        "expansion": 4.0,
        "expand_act": "gelu",
        "spatial_act": "none",
        "norm": Norm("layer", eps=1e-6),
        "norm_at": ("spatial",),
        "bias": True,
        "layer_scale": 1e-6,
        "downsample": "separate",
    },
}
# What holds where neither the stage nor the block's paper says anything.
USUAL: dict[str, Any] = {
    "kernel": 3,
    "expansion_from": "input",
    "groups": 1,
    "group_width": 0,
    "dilation": 1,
    "stride_at": "spatial",
    "expand_act": "relu",
    "spatial_act": "relu",
    "project_act": "none",
    "add_act": "none",
    "se": 0.0,
    "se_from": "hidden",
    "se_position": "after",
    "se_act": "relu",
    "se_gate": "sigmoid",
    "se_norm": False,
    "se_bias": True,
    "se_divisor": 1,
    "shortcut": "identity",
    "shortcut_norm": True,
    "shortcut_act": "none",
    "norm": Norm(),
    "norm_at": ("expand", "spatial", "project"),
    "bias": False,
    "layer_scale": 0.0,
    "downsample": "block",
}


@value
class Stage:
    """Some blocks of one kind; the first takes the stride. Fields left out (None) are the paper's, see `PAPER`.

    `expansion` is at most 6 and relates the hidden width to the reference of the block's paper: in × expansion
    (inverted, mbconv, fused_mbconv), out × expansion (convnext), out ÷ expansion (basic, bottleneck, resnext);
    `expansion_from` takes the block's other side instead.
    `group_width` is an alternative to `groups`: channels a group; the hidden width is rounded to fit either. `basic`
    has as many of these groups, in both its convolutions, as divide the widths on its outside too.
    `se` is the squeezed width as a share of the hidden width or of the block's input (`se_from`); 0 is none.
    `shortcut` says what to do where it can be done: `identity` where shapes are equal and else none, `projection`
    where they are not, `partial` where stride is 1 and in ≤ out; `shortcut_norm` and `shortcut_act` are a projection's.
    `downsample` says what takes the stride: the first block's spatial convolution, or a layer of its own before it, a
    norm and a patchifying convolution (`separate`) or a 3×3 max-pool (`pool`).
    """

    block: BlockType
    depth: int = 1
    stride: int = 1
    expansion: float | None = None
    expansion_from: Literal["input", "output"] | None = None
    kernel: int | None = None
    groups: int | None = None
    group_width: int | None = None
    dilation: int | None = None
    stride_at: Literal["spatial", "expand"] | None = None
    expand_act: Activation | None = None
    spatial_act: Activation | None = None
    project_act: Activation | None = None
    add_act: Activation | None = None
    se: float | None = None
    se_from: Literal["hidden", "input"] | None = None
    se_position: Literal["after", "before"] | None = None
    se_act: Activation | None = None
    se_gate: Gating | None = None
    se_norm: bool | None = None
    se_bias: bool | None = None
    se_divisor: int | None = None
    shortcut: Shortcut | None = None
    shortcut_norm: bool | None = None
    shortcut_act: Activation | None = None
    norm: Norm | None = None
    norm_at: tuple[Position, ...] | None = None
    bias: bool | None = None
    layer_scale: float | None = None
    downsample: Literal["block", "separate", "pool"] | None = None

    def __post_init__(self) -> None:
        if self.block in BETWEEN:
            raise ValueError(
                "block: a downsampling layer is no stage; write downsample: separate or pool in the stage after it"
            )
        numbers = ("depth", "stride", "kernel", "groups", "group_width", "dilation", "se_divisor")
        whole(self, *(name for name in numbers if getattr(self, name) is not None))
        if self.kernel is not None and self.kernel % 2 == 0:
            raise ValueError(f"kernel: an odd number, not {self.kernel}")
        if self.expansion is not None and not MIN_EXPANSION <= self.expansion <= MAX_EXPANSION:
            raise ValueError(f"expansion: from {MIN_EXPANSION} to {MAX_EXPANSION}, not {self.expansion}")
        if self.se is not None and not 0 <= self.se <= 1:
            raise ValueError(f"se: a ratio from 0 (none) to 1, not {self.se}")
        if self.groups is not None and self.group_width is not None:
            raise ValueError("groups: give groups or group_width, not both")
        if self.layer_scale is not None and self.layer_scale < 0:
            raise ValueError(f"layer_scale: 0 (none) or more, not {self.layer_scale}")

    def filled(self) -> dict[str, Any]:
        """Every field, with the paper's choice where the stage makes none."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**USUAL, **PAPER[self.block], **{name: v for name, v in given.items() if v is not None}}


@value
class Network:
    """A network as people write it; `arch` turns it into integers.

    `width_mult` multiplies every block's width, and the stem's and the head's as `scale_stem` and `scale_head` say
    (`up`: only by factors above 1); `width_shift` is then added to every block's width. `depth_mult` multiplies depths,
    rounded up. `drop_path` is a rate that grows linearly from 0 at the first block and is reached at the last (Huang
    et al. 2016, ConvNeXt) or would be reached `next` after it (EfficientNet's p · i / N); `drop_path_mode`
    draws for every sample (`row`) or once for a batch. `init` says what weights a
    built network starts from.
    """

    stages: tuple[Stage, ...]
    schedule: Schedule
    stem: Stem
    head: Head = Head()
    resolution: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    width_mult: float = 1.0
    width_shift: float = 0.0
    depth_mult: float = 1.0
    scale_stem: Literal["both", "up", "none"] = "both"
    scale_head: Literal["both", "up", "none"] = "both"
    drop_path: float = 0.0
    drop_path_reached: Literal["last", "next"] = "last"
    drop_path_mode: DropMode = "row"
    init: Init = "normal"

    def __post_init__(self) -> None:
        for name in ("width_mult", "depth_mult"):
            if not 0 < getattr(self, name) <= limits.FACTOR:
                raise ValueError(f"{name}: above 0 and at most {limits.FACTOR:,.0f}, not {getattr(self, name)}")
        if abs(self.width_shift) > limits.WIDTH:
            raise ValueError(f"width_shift: at most {limits.WIDTH:,}, not {self.width_shift}")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path: a probability below 1, not {self.drop_path}")
        if not self.stages:
            raise ValueError("stages: a network has at least one")
        if sum(self.depths) > limits.BLOCKS:
            raise ValueError(f"stages: at most {limits.BLOCKS:,} blocks, not {sum(self.depths)}")

    @property
    def depths(self) -> list[int]:
        """Blocks of every stage."""
        return [math.ceil(stage.depth * self.depth_mult) for stage in self.stages]

    def arch(self) -> Arch:
        depths = self.depths
        widths = iter(channels(self.schedule, depths, self.width_mult, self.width_shift))
        steps = sum(depths) - 1 if self.drop_path_reached == "last" else sum(depths)
        rates = (self.drop_path * index / max(1, steps) for index in range(sum(depths)))
        stem = replace(self.stem, width=self._scaled(self.stem.width, self.scale_stem))
        blocks: list[Block] = []
        width = stem.width
        for stage, depth in zip(self.stages, depths, strict=True):
            choices, stride = stage.filled(), stage.stride
            for _ in range(depth):
                out = next(widths)
                if stride > 1 and choices["downsample"] != "block":
                    blocks.append(_downsample(choices, width, out, stride))
                    width, stride = blocks[-1].out_channels, 1
                blocks.append(_block(choices, width, out, stride, next(rates), self.drop_path_mode))
                width, stride = out, 1
        head = replace(self.head, width=self._scaled(self.head.width, self.scale_head))
        return Arch(stem, tuple(blocks), head, self.resolution, self.in_channels, self.num_classes, self.init)

    def _scaled(self, width: int, scaling: str) -> int:
        if width == 0 or scaling == "none" or (scaling == "up" and self.width_mult < 1):
            return width
        s = self.schedule
        return round_channels(width * self.width_mult, s.divisor, s.rounding, s.min_width)


def _downsample(choices: dict[str, Any], width: int, out: int, stride: int) -> Block:
    if choices["downsample"] == "pool":
        return Block("max_pool", width, width, width, stride=stride)
    norm, bias = choices["norm"], choices["bias"]
    return Block("downsample", width, width, out, kernel=stride, stride=stride, norm=norm, bias=bias)


def _block(choices: dict[str, Any], width: int, out: int, stride: int, drop_path: float, mode: DropMode) -> Block:
    hidden, groups = _hidden_and_groups(choices, width, out)
    names = ("kernel", "dilation", "stride_at", "expand_act", "spatial_act", "project_act", "add_act")
    norms = ("norm", "norm_at", "bias", "layer_scale", "shortcut_norm", "shortcut_act")
    return Block(
        type=choices["block"],
        in_channels=width,
        hidden=hidden,
        out_channels=out,
        stride=stride,
        groups=groups,
        se=_squeeze_excite(choices, width, hidden),
        shortcut=_shortcut(choices["shortcut"], width, out, stride),
        drop_path=drop_path,
        drop_path_mode=mode,
        **{name: choices[name] for name in (*names, *norms)},
    )


def _hidden_and_groups(choices: dict[str, Any], width: int, out: int) -> tuple[int, int]:
    """The hidden width by the reference of the block's paper, and the groups of the spatial convolution."""
    expansion: float = choices["expansion"]
    reference = width if choices["expansion_from"] == "input" else out
    match choices["block"]:
        case "convnext":
            return max(1, round(reference * expansion)), width
        case "mbconv":
            hidden = max(1, round(reference * expansion))
            return hidden, hidden
        case "inverted" | "fused_mbconv":
            hidden, grouped = max(1, round(reference * expansion)), choices["block"] == "inverted"
        case _:
            hidden, grouped = max(1, round(reference / expansion)), True
    group_width = min(choices["group_width"], hidden) if grouped else 0
    groups = choices["groups"] if grouped and not group_width else 1
    unit = group_width or groups
    hidden = max(unit, round(hidden / unit) * unit)
    groups = hidden // group_width if group_width else groups
    return hidden, math.gcd(groups, width, out) if choices["block"] == "basic" else groups


def _squeeze_excite(choices: dict[str, Any], width: int, hidden: int) -> SqueezeExcite | None:
    if choices["se"] == 0:
        return None
    reference = width if choices["se_from"] == "input" else hidden
    squeezed = math.floor(reference * choices["se"] + 1e-6)
    if choices["se_divisor"] > 1:
        squeezed = round_channels(reference * choices["se"], choices["se_divisor"])
    act, gate = choices["se_act"], choices["se_gate"]
    return SqueezeExcite(max(1, squeezed), choices["se_position"], act, gate, choices["se_norm"], choices["se_bias"])


def _shortcut(rule: Shortcut, width: int, out: int, stride: int) -> Shortcut:
    """What the rule comes to for these shapes."""
    if rule == "none":
        return "none"
    if stride == 1 and width == out:
        return "identity"
    if rule == "projection" or (rule == "partial" and stride == 1 and width < out):
        return rule
    return "none"
