"""Blocks as data, and the only place that knows their structure: `lower_block` writes a block as a tree of layers.

A `Block` holds integers only; expansions and ratios are choices of whoever wrote it (`network.py`). A kind of block is
one declaration: a function that writes its layers, under `declare` with all else that is known of the kind. Cost,
module, source, table, figures and tests follow. `searchspace.register_block` declares one outside the package.

Such a function runs on numbers and on names: the cost of a block is worked out once, as a formula of its widths (see
`block_cost.py`). So it may add and multiply widths, and ask whether `hidden` equals `in_channels` or `in_channels`
equals `out_channels`; anything else that depends on widths is refused where it is asked.

Every convolution of a block has a position, *expand* (1×1 to the hidden width), *spatial* (k×k) or *project* (1×1 to
the output), and each position its own nonlinearity; a fourth may follow the addition of the shortcut.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator

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
from searchspace.document import REGISTERS, value
from searchspace.errors import InputError
from searchspace.limits import check_int

Between = Literal["downsample", "max_pool"]  # what only changes the resolution, between two stages
Shortcut = Literal["none", "identity", "projection", "partial"]
Position = Literal["expand", "spatial", "project"]

BETWEEN: tuple[Between, ...] = get_args(Between)
# Okabe and Ito's colours, which the colour-blind tell apart: grey between stages, and of the kinds that declare none.
BETWEEN_COLOUR, PLAIN_COLOUR = "#999999", "#d55e00"
SHOWN = 80
Option = bool | int | str
Layers = TypeVar("Layers", bound="Callable[[Block], Sequential]")


class Options(dict[str, Option]):
    """The values of the fields that a kind of block declares beside those of all blocks. Nobody changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


@dataclass(frozen=True, slots=True)
class Structure:
    """A kind of block. `layers` writes it; the rest says how a stage's choices become its integers.

    `divides`: the hidden width is the reference ÷ expansion, not × expansion.
    `grouping` of the spatial convolution: as the stage says (`given`), one group per channel (`depthwise`), or `none`.
    `grouped`: the width on both of its sides; empty where they differ.
    `options`: fields of its own, each with the values that it accepts, the default first.
    `paper`: what its paper chooses, as fields of a stage.
    """

    layers: Callable[[Block], Sequential]
    divides: bool = False
    grouping: Literal["given", "depthwise", "none"] = "none"
    grouped: Literal["hidden", "in_channels", ""] = ""
    colour: str = PLAIN_COLOUR
    options: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """What holds of a stage of this kind that says nothing: the paper's choices, and of every option the first."""
        return {**self.paper, **{name: values[0] for name, values in self.options.items()}}

    def completed(self, given: Mapping[str, Option]) -> Options:
        """All options of a block of this kind, in their order; `ValueError` for one that it has not."""
        for name in given:
            if name not in self.options:
                raise ValueError(f"options.{name}: {', '.join(self.options) or 'none'} is accepted")
        check_options(given)
        return Options({name: given.get(name, values[0]) for name, values in self.options.items()})


STRUCTURES: dict[str, Structure] = {}


def declare(
    name: str,
    divides: bool = False,
    grouping: Literal["given", "depthwise", "none"] = "none",
    grouped: Literal["hidden", "in_channels", ""] = "",
    colour: str = PLAIN_COLOUR,
    options: Mapping[str, Sequence[Option]] | None = None,
    **paper: Any,
) -> Callable[[Layers], Layers]:
    """Declare a kind of block, by the function that writes its layers; see `Structure`."""
    accepted = {name: tuple(values) for name, values in (options or {}).items()}

    def declared(layers: Layers) -> Layers:
        STRUCTURES[name] = Structure(layers, divides, grouping, grouped, colour, accepted, paper)
        return layers

    return declared


def structure(name: str) -> Structure:
    """The kind of block of this name; `InputError` where none is declared."""
    return STRUCTURES[known(name)]


def stage_blocks() -> list[str]:
    """The kinds of blocks that a stage may have."""
    return [name for name in STRUCTURES if name not in BETWEEN]


def known(name: str) -> str:
    """The name of a kind of block; `InputError` says what is nearest, and what there is."""
    if name in STRUCTURES:
        return name
    near = difflib.get_close_matches(str(name)[:SHOWN], stage_blocks(), 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    given = json.dumps(name, ensure_ascii=False)[:SHOWN]
    raise InputError(f"{', '.join(stage_blocks())} is accepted, not {given}{meant}{REGISTERS}")


def stage_block(name: str) -> str:
    """The same of a block that a stage may have."""
    if name in BETWEEN:
        raise InputError(
            f"{', '.join(stage_blocks())} is accepted, not {name!r}: `downsample` in a stage puts one before it"
        )
    return known(name)


def all_options() -> dict[str, tuple[Option, ...]]:
    """The options of all kinds of blocks, with the values that each accepts."""
    return {name: values for kind in STRUCTURES.values() for name, values in kind.options.items()}


def check_options(given: Mapping[str, Option]) -> None:
    """`ValueError` for an option that no kind of block has, or a value that it does not accept."""
    accepted = all_options()
    for name, option in given.items():
        if name not in accepted:
            raise ValueError(f"options.{name}: {', '.join(accepted) or 'none'} is accepted")
        if not any(option == one and isinstance(option, bool) == isinstance(one, bool) for one in accepted[name]):
            raise ValueError(f"{name}: {', '.join(map(str, accepted[name]))} is accepted, not {option!r:.80}")


BlockType = Annotated[str, AfterValidator(known)]
StageBlock = Annotated[str, AfterValidator(stage_block)]


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
    `options` are the fields that the kind declares itself; each is also an attribute.
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
    options: Mapping[str, Option] = Options()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", structure(self.type).completed(self.options))
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

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            options = object.__getattribute__(self, "options")
            if name in options:
                return options[name]
            raise AttributeError(f"a block has no {name!r}")

    def _divided(self) -> None:
        """`ValueError` where `groups` does not divide a width beside a grouped convolution."""
        grouped = structure(self.type).grouped
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


@declare(
    "basic",
    divides=True,
    grouping="given",
    colour="#cc79a7",
    expansion=1.0,
    expansion_from="output",
    add_act="relu",
    shortcut="projection",
)
def basic(b: Block) -> Sequential:
    """Two k×k convolutions (He et al. 2016, Figure 5 left); twice as wide inside, ResNeXt's shallow form."""
    second = Conv(b.hidden, b.out_channels, b.kernel, 1, b.groups, b.dilation, b.bias)
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.hidden, b.stride)),
        ("project", unit(b, "project", second, b.project_act)),
    )


@declare(
    "resnext",  # Xie et al. 2017: cardinality 32
    divides=True,
    grouping="given",
    grouped="hidden",
    colour="#56b4e9",
    expansion=2.0,
    expansion_from="output",
    groups=32,
    add_act="relu",
    shortcut="projection",
)
@declare(
    "bottleneck",
    divides=True,
    grouping="given",
    grouped="hidden",
    colour="#0072b2",
    expansion=4.0,
    expansion_from="output",
    add_act="relu",
    shortcut="projection",
)
def bottleneck(b: Block) -> Sequential:
    """1×1, k×k, 1×1 (He et al. 2016, Figure 5 right; grouped: Xie et al. 2017, Figure 3c)."""
    at_expand = b.stride_at == "expand"
    return sequential(
        ("expand", expand(b, b.in_channels, b.stride if at_expand else 1)),
        ("spatial", spatial(b, b.hidden, b.hidden, 1 if at_expand else b.stride)),
        ("project", project(b, b.hidden)),
    )


@declare(
    "mbconv",
    grouping="depthwise",
    grouped="hidden",
    colour="#009e73",
    expansion=6.0,
    expand_act="relu6",
    spatial_act="relu6",
)
@declare(  # with a full convolution
    "inverted",
    grouping="given",
    grouped="hidden",
    colour="#f0e442",
    expansion=6.0,
    expand_act="relu6",
    spatial_act="relu6",
)
def inverted(b: Block) -> Sequential:
    """A bottleneck turned round, without an expanding convolution where nothing expands (Sandler et al. 2018)."""
    return sequential(
        ("expand", expand(b, b.in_channels) if b.hidden != b.in_channels else None),
        ("spatial", spatial(b, b.hidden, b.hidden, b.stride)),
        ("project", project(b, b.hidden)),
    )


@declare("fused_mbconv", colour="#e69f00", expansion=4.0, spatial_act="silu")
def fused_mbconv(b: Block) -> Sequential:
    """k×k to the hidden width, then 1×1; a single k×k where nothing expands (EfficientNetV2, Tan & Le 2021)."""
    single = b.hidden == b.in_channels
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.out_channels if single else b.hidden, b.stride)),
        ("project", None if single else project(b, b.hidden)),
    )


@declare(
    "convnext",
    grouping="depthwise",
    grouped="in_channels",
    colour="#8172b3",
    kernel=7,
    expansion_from="output",
    expansion=4.0,
    expand_act="gelu",
    spatial_act="none",
    norm=Norm("layer", eps=1e-6),
    norm_at=("spatial",),
    bias=True,
    layer_scale=1e-6,
    downsample="separate",
)
def convnext(b: Block) -> Sequential:
    """Depthwise k×k on the input's width, then 1×1 to hidden and 1×1 to out (Liu et al. 2022, Figure 4)."""
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.in_channels, b.stride)),
        ("expand", expand(b, b.in_channels)),
        ("project", project(b, b.hidden)),
    )


@declare("downsample", grouping="given", colour=BETWEEN_COLOUR)
def downsample(b: Block) -> Sequential:
    """Norm, then a strided k×k convolution: ConvNeXt's separate downsampling layer."""
    conv = Conv(b.in_channels, b.out_channels, b.kernel, b.stride, b.groups, b.dilation, b.bias)
    return sequential(("norm", normalize(b.in_channels, b.norm)), ("conv", conv))


@declare("max_pool", grouping="given", colour=BETWEEN_COLOUR)
def max_pool(b: Block) -> Sequential:
    """A max-pool and nothing else."""
    return sequential(("pool", MaxPool(b.kernel, b.stride)))


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
    body = structure(b.type).layers(b)
    if b.shortcut == "none":
        return body
    branch = sequential(
        *body.parts,
        ("scale", LayerScale(b.out_channels, b.layer_scale) if b.layer_scale > 0 else None),
        ("drop_path", DropPath(b.drop_path, b.drop_path_mode) if b.drop_path > 0 else None),
    )
    return sequential(("residual", Residual(branch, shortcut_layer(b))), ("act", activate(b.add_act)))
