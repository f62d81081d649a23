"""Blocks as data, and the only place that knows their structure: `lower_block` writes a block as a tree of layers.

A `Block` holds integers only; expansions and ratios are choices of whoever wrote it (`network.py`). To add a block,
write one function here, name it in `StageBlock` and `STRUCTURES`, and give it its paper's choices in `network.PAPER`:
cost, module, source, table, figures and tests follow.

Such a function runs on numbers and on names: what a block costs is worked out once, as a formula of its widths (see
`formula.py`). So it may add and multiply widths, and ask whether `hidden` equals `in_channels` or `in_channels` equals
`out_channels`; anything else that depends on widths is refused where it is asked.

Every convolution of a block has a position, *expand* (1×1 to the hidden width), *spatial* (k×k) or *project* (1×1 to
the output), and each position its own nonlinearity; a fourth may follow the addition of the shortcut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from searchspace.blocks.layers import (
    Activate,
    Activation,
    Conv,
    DropMode,
    DropPath,
    Gate,
    Gating,
    GlobalAvgPool,
    Layer,
    LayerScale,
    MaxPool,
    Norm,
    Normalize,
    PadChannels,
    Residual,
    Sequential,
    leaves,
)
from searchspace.document import value
from searchspace.limits import check_int

StageBlock = Literal["basic", "bottleneck", "resnext", "inverted", "mbconv", "fused_mbconv", "convnext"]
Between = Literal["downsample", "max_pool"]  # what only changes the resolution, between two stages
BlockType = Literal[StageBlock, Between]
Shortcut = Literal["none", "identity", "projection", "partial"]
Position = Literal["expand", "spatial", "project"]

BETWEEN: tuple[Between, ...] = get_args(Between)


@value
class SqueezeExcite:
    """Squeeze and excitation after the spatial convolution (Hu et al. 2018).

    `channels` is the squeezed width. It stands after the convolution's nonlinearity (MobileNetV3, EfficientNet) or
    before it (ReXNet), with a norm inside (ReXNet) or without, its convolutions with a bias (all these) or without.
    """

    channels: int
    position: Literal["after", "before"] = "after"
    act: Activation = "relu"
    gate: Gating = "sigmoid"
    norm: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        check_int(self, "channels")


@value
class Block:
    """One block in integers. `hidden` is the width of its spatial convolution (of `convnext`: between the 1×1s).

    Shortcuts: `identity` needs equal shapes; `partial` adds the input to the first channels (ReXNet: stride 1 and
    in ≤ out); `projection` is 1×1 convolution + norm with the block's stride, and no activation (`shortcut_norm`,
    `shortcut_act` say otherwise). `downsample` and `max_pool` only change the resolution, between two stages.
    """

    type: BlockType
    in_channels: int
    hidden: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    stride_at: Literal["spatial", "expand"] = "spatial"
    expand_act: Activation = "relu"
    spatial_act: Activation = "relu"
    project_act: Activation = "none"
    add_act: Activation = "none"
    se: SqueezeExcite | None = None
    shortcut: Shortcut = "none"
    shortcut_norm: bool = True
    shortcut_act: Activation = "none"
    norm: Norm = Norm()
    norm_at: tuple[Position, ...] = ("expand", "spatial", "project")
    bias: bool = False
    layer_scale: float = 0.0
    drop_path: float = 0.0
    drop_path_mode: DropMode = "row"

    def __post_init__(self) -> None:
        check_int(self, "in_channels", "hidden", "out_channels", "kernel", "stride", "groups", "dilation")
        if self.type not in BETWEEN:
            if self.kernel % 2 == 0:
                raise ValueError(f"kernel: an odd number, not {self.kernel}")
            if self.stride == self.kernel > 1:
                raise ValueError(f"stride: not the kernel {self.kernel}, which leaves no overlap and no padding")
        if self.type == "max_pool" and self.in_channels != self.out_channels:
            raise ValueError("out_channels: a max-pool keeps the in_channels")
        if self.type in BETWEEN and self.shortcut != "none":
            raise ValueError(f"shortcut: {self.type} has none")
        if self.groups > 1:
            self._divided()
        if self.shortcut == "identity" and (self.stride != 1 or self.in_channels != self.out_channels):
            raise ValueError("shortcut: identity needs stride 1 and in_channels = out_channels")
        if self.shortcut == "partial" and (self.stride != 1 or self.in_channels > self.out_channels):
            raise ValueError("shortcut: partial needs stride 1 and in_channels ≤ out_channels")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path: a probability below 1, not {self.drop_path}")
        if self.layer_scale < 0:
            raise ValueError(f"layer_scale: 0 (none) or more, not {self.layer_scale}")
        if self.norm.kind == "group":
            lower_block(self)  # raises where the norm's groups do not divide one of the widths

    def _divided(self) -> None:
        """`ValueError` where `groups` does not divide a width beside a grouped convolution."""
        grouped = STRUCTURES[self.type].grouped
        if grouped:
            widths = [(f"{grouped} = {getattr(self, grouped)}", getattr(self, grouped))]
        else:
            convs = (
                leaf for leaf, _ in leaves(lower_block(self), (self.in_channels, 64, 64)) if isinstance(leaf, Conv)
            )
            channels = [n for conv in convs if conv.groups > 1 for n in (conv.in_channels, conv.out_channels)]
            widths = [(f"{number} channels", number) for number in channels]
        for told, number in widths:
            if number % self.groups:
                raise ValueError(f"groups: {self.groups} does not divide {told}")


def sequential(*parts: tuple[str, Layer | None]) -> Sequential:
    """Named layers in order; the absent ones are left out."""
    return Sequential(tuple((name, layer) for name, layer in parts if layer is not None))


def normalize(channels: int, norm: Norm, pooled: bool = False) -> Normalize | None:
    """The norm on these channels; where they are `pooled`, every group needs more than one to normalise over."""
    if norm.kind == "none":
        return None
    if norm.kind == "group" and channels % norm.groups:
        raise ValueError(f"norm.groups: {norm.groups} does not divide {channels} channels")
    if norm.kind == "group" and pooled and channels == norm.groups:
        raise ValueError(f"norm.groups: {norm.groups} leaves one number a group of {channels} pooled channels")
    return Normalize(channels, norm)


def activate(function: Activation) -> Activate | None:
    return None if function == "none" else Activate(function)


def squeeze_excite(channels: int, se: SqueezeExcite, norm: Norm) -> Gate:
    return Gate(
        sequential(
            ("pool", GlobalAvgPool()),
            ("reduce", Conv(channels, se.channels, bias=se.bias)),
            ("norm", normalize(se.channels, norm, pooled=True) if se.norm else None),
            ("act", activate(se.act)),
            ("expand", Conv(se.channels, channels, bias=se.bias)),
            ("gate", Activate(se.gate)),
        )
    )


def unit(b: Block, position: Position, conv: Conv, act: Activation, se: SqueezeExcite | None = None) -> Sequential:
    """Convolution, norm, nonlinearity; squeeze and excitation on the side of the nonlinearity that the block says."""
    gate = None if se is None else squeeze_excite(conv.out_channels, se, b.norm)
    return sequential(
        ("conv", conv),
        ("norm", normalize(conv.out_channels, b.norm) if position in b.norm_at else None),
        ("se", gate if se is not None and se.position == "before" else None),
        ("act", activate(act)),
        ("se", gate if se is not None and se.position == "after" else None),
    )


def expand(b: Block, from_channels: int, stride: int = 1) -> Sequential:
    return unit(b, "expand", Conv(from_channels, b.hidden, stride=stride, bias=b.bias), b.expand_act)


def spatial(b: Block, from_channels: int, to_channels: int, stride: int) -> Sequential:
    conv = Conv(from_channels, to_channels, b.kernel, stride, b.groups, b.dilation, b.bias)
    return unit(b, "spatial", conv, b.spatial_act, b.se)


def project(b: Block, from_channels: int) -> Sequential:
    return unit(b, "project", Conv(from_channels, b.out_channels, bias=b.bias), b.project_act)


def basic(b: Block) -> Sequential:
    """Two k×k convolutions (He et al. 2016, Figure 5 left); twice as wide inside, ResNeXt's shallow form."""
    second = Conv(b.hidden, b.out_channels, b.kernel, 1, b.groups, b.dilation, b.bias)
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.hidden, b.stride)),
        ("project", unit(b, "project", second, b.project_act)),
    )


def bottleneck(b: Block) -> Sequential:
    """1×1, k×k, 1×1 (He et al. 2016, Figure 5 right; grouped: Xie et al. 2017, Figure 3c)."""
    at_expand = b.stride_at == "expand"
    return sequential(
        ("expand", expand(b, b.in_channels, b.stride if at_expand else 1)),
        ("spatial", spatial(b, b.hidden, b.hidden, 1 if at_expand else b.stride)),
        ("project", project(b, b.hidden)),
    )


def inverted(b: Block) -> Sequential:
    """A bottleneck turned round, without an expanding convolution where nothing expands (Sandler et al. 2018)."""
    return sequential(
        ("expand", expand(b, b.in_channels) if b.hidden != b.in_channels else None),
        ("spatial", spatial(b, b.hidden, b.hidden, b.stride)),
        ("project", project(b, b.hidden)),
    )


def fused_mbconv(b: Block) -> Sequential:
    """k×k to the hidden width, then 1×1; a single k×k where nothing expands (EfficientNetV2, Tan & Le 2021)."""
    single = b.hidden == b.in_channels
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.out_channels if single else b.hidden, b.stride)),
        ("project", None if single else project(b, b.hidden)),
    )


def convnext(b: Block) -> Sequential:
    """Depthwise k×k on the input's width, then 1×1 to hidden and 1×1 to out (Liu et al. 2022, Figure 4)."""
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.in_channels, b.stride)),
        ("expand", expand(b, b.in_channels)),
        ("project", project(b, b.hidden)),
    )


def downsample(b: Block) -> Sequential:
    """Norm, then a strided k×k convolution: ConvNeXt's separate downsampling layer."""
    conv = Conv(b.in_channels, b.out_channels, b.kernel, b.stride, b.groups, b.dilation, b.bias)
    return sequential(("norm", normalize(b.in_channels, b.norm)), ("conv", conv))


def max_pool(b: Block) -> Sequential:
    """A max-pool and nothing else."""
    return sequential(("pool", MaxPool(b.kernel, b.stride)))


@dataclass(frozen=True, slots=True)
class Structure:
    """A kind of block. `layers` writes it; the rest says how a stage's choices become its integers.

    `divides`: the hidden width is the reference ÷ expansion, not × expansion.
    `groups` of the spatial convolution: as the stage has them (`given`), one a channel (`depthwise`), or `none`.
    `grouped`: the width on both of its sides; empty where they differ.
    """

    layers: Callable[[Block], Sequential]
    divides: bool = False
    groups: Literal["given", "depthwise", "none"] = "given"
    grouped: Literal["hidden", "in_channels", ""] = "hidden"


STRUCTURES: dict[BlockType, Structure] = {
    "basic": Structure(basic, divides=True, grouped=""),
    "bottleneck": Structure(bottleneck, divides=True),
    "resnext": Structure(bottleneck, divides=True),
    "inverted": Structure(inverted),
    "mbconv": Structure(inverted, groups="depthwise"),
    "fused_mbconv": Structure(fused_mbconv, groups="none", grouped=""),
    "convnext": Structure(convnext, groups="depthwise", grouped="in_channels"),
    "downsample": Structure(downsample, grouped=""),
    "max_pool": Structure(max_pool, grouped=""),
}


def shortcut_layer(b: Block) -> Sequential | PadChannels | None:
    """What the shortcut does to the input; None is the identity."""
    if b.shortcut == "projection":
        conv = Conv(b.in_channels, b.out_channels, 1, b.stride, bias=b.bias)
        norm = normalize(b.out_channels, b.norm) if b.shortcut_norm else None
        return sequential(("conv", conv), ("norm", norm), ("act", activate(b.shortcut_act)))
    if b.shortcut == "partial" and b.in_channels != b.out_channels:
        return PadChannels(b.in_channels, b.out_channels)
    return None


def lower_block(b: Block) -> Sequential:
    """The block as a tree of layers: its body, alone or beside a shortcut."""
    body = STRUCTURES[b.type].layers(b)
    if b.shortcut == "none":
        return body
    branch = sequential(
        *body.parts,
        ("scale", LayerScale(b.out_channels, b.layer_scale) if b.layer_scale > 0 else None),
        ("drop_path", DropPath(b.drop_path, b.drop_path_mode) if b.drop_path > 0 else None),
    )
    return sequential(("residual", Residual(branch, shortcut_layer(b))), ("act", activate(b.add_act)))
