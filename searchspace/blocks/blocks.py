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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator

from searchspace.blocks.layers import (
    Activate,
    Activation,
    AvgPool,
    Blur,
    ChannelConv,
    ChannelShuffle,
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
    Parallel,
    Reparametrised,
    Residual,
    ResponseNorm,
    Sequential,
    Slice,
    leaves,
    number_of,
    share,
)
from searchspace.document import REGISTERS, value
from searchspace.errors import InputError
from searchspace.limits import check_int

Between = Literal["downsample", "merge", "max_pool", "avg_pool", "blur"]  # what only changes resolution, between stages
Shortcut = Literal["none", "identity", "projection", "pooled", "separable", "partial"]
GatePosition = Literal["after", "before", "output"]
GateForm = Literal["squeeze", "effective", "eca"]
AntiAlias = Literal["none", "average", "blur", "zero_blur"]
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
    `kernel_optional`: a kernel of 0 leaves the spatial convolution out.
    `narrowest`: the fewest channels that it puts out.
    `parity`: whether it has other layers where its hidden or its output width is odd.
    `options`: fields of its own, each with the values that it accepts, the default first.
    `paper`: what its paper chooses, as fields of a stage.
    """

    layers: Callable[[Block], Sequential]
    divides: bool = False
    grouping: Literal["given", "depthwise", "none"] = "none"
    grouped: Literal["hidden", "in_channels", ""] = ""
    colour: str = PLAIN_COLOUR
    kernel_optional: bool = False
    narrowest: int = 1
    parity: bool = False
    options: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mixes(self) -> bool:
        """Whether the spatial convolution may share its channels out to several kernels."""
        return self.grouping == "depthwise" and self.grouped == "hidden"

    @property
    def defaults(self) -> dict[str, Any]:
        """What holds of a stage of this kind that says nothing: the paper's choices, and of every option the first."""
        return {**self.paper, **{name: values[0] for name, values in self.options.items()}}

    def complete(self, given: Mapping[str, Option]) -> Options:
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
    kernel_optional: bool = False,
    narrowest: int = 1,
    parity: bool = False,
    options: Mapping[str, Sequence[Option]] | None = None,
    **paper: Any,
) -> Callable[[Layers], Layers]:
    """Declare a kind of block, by the function that writes its layers; see `Structure`."""
    accepted = {name: tuple(values) for name, values in (options or {}).items()}
    how = (divides, grouping, grouped, colour, kernel_optional, narrowest, parity)

    def add(layers: Layers) -> Layers:
        STRUCTURES[name] = Structure(layers, *how, accepted, paper)
        return layers

    return add


def structure(name: str) -> Structure:
    """The kind of block of this name; `InputError` where none is declared."""
    return STRUCTURES[check_kind(name)]


def stage_blocks() -> list[str]:
    """The kinds of blocks that a stage may have."""
    return [name for name in STRUCTURES if name not in BETWEEN]


def check_kind(name: str) -> str:
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
    return check_kind(name)


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


BlockType = Annotated[str, AfterValidator(check_kind)]
StageBlock = Annotated[str, AfterValidator(stage_block)]


@value
class SqueezeExcite:
    """Squeeze and excitation after the spatial convolution (Hu et al. 2018).

    `channels` is the squeezed width. It stands after the convolution's nonlinearity (MobileNetV3, EfficientNet) or
    before it (ReXNet), or on the block's `output` before the shortcut is added (SENet), with a norm inside (ReXNet) or
    without, its convolutions with a bias (all these) or without. The `form` may also be `effective`, one convolution
    without squeezing (Lee & Park 2020), or `eca`, one along the channels, with `channels` as its kernel (Wang et al.
    2020).
    """

    channels: int
    position: GatePosition = "after"
    act: Activation = "relu"
    gate: Gating = "sigmoid"
    norm: bool = False
    bias: bool = True
    form: GateForm = "squeeze"

    def __post_init__(self) -> None:
        check_int(self, "channels")
        if self.form == "eca" and self.channels % 2 == 0:
            raise ValueError(f"channels: of eca the kernel, an odd number, not {self.channels}")


@value
class Block:
    """One block in integers. `hidden` is the width of its spatial convolution (of `convnext`: between the 1×1s).

    Shortcuts: `identity` needs equal shapes; `partial` adds the input to the first channels (ReXNet: stride 1 and
    in ≤ out); `projection` is 1×1 convolution + norm with the block's stride, and no activation (`shortcut_norm`,
    `shortcut_act` and `shortcut_kernel` say otherwise); `pooled` averages over the stride before it (ResNet-D), and
    `separable` has a depthwise convolution of the `shortcut_kernel` with the stride before it (GhostNet).
    `anti_alias` puts an average pool or a blur (`zero_blur`: with zeros at the edges) behind the spatial convolution,
    which takes the stride for it.
    `expand_groups` and `project_groups` divide the 1×1 convolutions; `kernels` share out the channels of a depthwise
    one instead of one kernel for all (MixNet). `downsample`, `merge`, `max_pool`, `avg_pool` and `blur` only change the
    resolution, between two stages.
    `branches` re-parametrises every convolution that has a batch norm: it is trained as so many copies of itself, a 1×1
    convolution and the identity, added up, and deployed as one convolution (RepVGG: 1, MobileOne: up to 4).
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
    anti_alias: AntiAlias = "none"
    expand_groups: int = 1
    project_groups: int = 1
    kernels: tuple[int, ...] = ()
    shortcut_kernel: int = 1
    branches: int = 0
    options: Mapping[str, Option] = Options()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", structure(self.type).complete(self.options))
        check_int(self, "in_channels", "hidden", "out_channels", "stride", "groups", "dilation")
        check_int(self, "expand_groups", "project_groups", "shortcut_kernel")
        check_int(self, "branches", least=0)
        if self.type in BETWEEN:
            check_int(self, "kernel")
            if self.type not in ("downsample", "merge") and self.in_channels != self.out_channels:
                raise ValueError(f"out_channels: {self.type} keeps the in_channels")
        else:
            self._check_kernels()
            if self.out_channels < structure(self.type).narrowest:
                raise ValueError(f"out_channels: {self.type} has at least {structure(self.type).narrowest}")
        if self.type in BETWEEN and self.shortcut != "none":
            raise ValueError(f"shortcut: {self.type} has none")
        if self.groups > 1 or self.expand_groups > 1 or self.project_groups > 1:
            self._check_groups()
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

    def _check_kernels(self) -> None:
        """`ValueError` for a kernel that is no odd number, or that the block cannot have."""
        kind = structure(self.type)
        check_int(self, "kernel", least=0)
        check_kernel(self.kernel, kind.kernel_optional)
        for kernel in (*self.kernels, self.shortcut_kernel):
            check_kernel(kernel)
        first = 0 if self.kernel else int(self.options.get("first_kernel", 0))
        if self.stride > 1 and self.stride in (self.kernel, *self.kernels, self.shortcut_kernel, first):
            raise ValueError(f"stride: not the kernel {self.stride}, which leaves no overlap and no padding")
        if self.kernels and not kind.mixes:
            raise ValueError(f"kernels: the spatial convolution of {self.type} is not depthwise on the hidden width")
        if self.kernels and self.hidden % len(self.kernels):
            raise ValueError(f"kernels: {len(self.kernels)} do not divide hidden = {self.hidden}")

    def _check_groups(self) -> None:
        """`ValueError` where groups do not divide a width beside a grouped convolution."""
        grouped = structure(self.type).grouped
        if grouped and getattr(self, grouped) % self.groups:
            raise ValueError(f"groups: {self.groups} does not divide {grouped} = {getattr(self, grouped)}")
        for leaf, _ in leaves(lower_block(self), (self.in_channels, 64, 64)):
            if isinstance(leaf, Conv):
                for number in (leaf.in_channels, leaf.out_channels):
                    if number % leaf.groups:
                        raise ValueError(f"groups: {leaf.groups} does not divide {number} channels")


def check_kernel(kernel: int, optional: bool = False) -> None:
    """`ValueError` unless it is odd; 0 is accepted where the convolution is optional."""
    if kernel < 0 or (kernel % 2 == 0 and not (optional and kernel == 0)):
        raise ValueError(f"kernel: an odd number, not {kernel}")


def sequential(*parts: tuple[str, Layer | None]) -> Sequential:
    """Named layers in order; the absent ones are left out."""
    return Sequential(tuple((name, layer) for name, layer in parts if layer is not None))


def normalize(channels: int, norm: Norm, pooled: bool = False) -> Normalize | None:
    """The norm on these channels; where they are `pooled`, every group needs more than one to normalise over."""
    if norm.kind == "none":
        return None
    number = number_of(channels)
    if norm.width:
        if number % norm.width:
            raise ValueError(f"norm.width: {norm.width} channels a group do not divide {channels} channels")
        norm = replace(norm, groups=number // norm.width, width=0)
    if norm.kind == "group" and number % norm.groups:
        raise ValueError(f"norm.groups: {norm.groups} does not divide {channels} channels")
    if norm.kind == "group" and pooled and number == norm.groups:
        raise ValueError(f"norm.groups: {norm.groups} leaves one number a group of {channels} pooled channels")
    return Normalize(channels, norm)


def activate(function: Activation) -> Activate | None:
    return None if function == "none" else Activate(function)


def squeeze_excite(channels: int, se: SqueezeExcite, norm: Norm) -> Gate:
    if se.form != "squeeze":
        conv = ChannelConv(se.channels) if se.form == "eca" else Conv(channels, channels, bias=se.bias)
        return Gate(sequential(("pool", GlobalAvgPool()), ("conv", conv), ("gate", Activate(se.gate))))
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


Named = tuple[str, Layer | None]


def with_norm(conv: Conv | Parallel, channels: int, norm: Norm | None, branches: int) -> tuple[Named, Named]:
    """A convolution to so many channels and its norm, if it has one; with `branches` and a batch norm, both as one
    layer that is trained as several."""
    if norm is None or norm.kind != "batch" or not branches or isinstance(conv, Parallel):
        return ("conv", conv), ("norm", None if norm is None else normalize(channels, norm))
    sizes = (conv.in_channels, conv.out_channels, conv.kernel, conv.stride, conv.groups, conv.dilation)
    return ("conv", Reparametrised(*sizes, bias=True, same=conv.same, copies=branches, norm=norm)), ("norm", None)


def unit(
    b: Block,
    position: Position,
    conv: Conv | Parallel,
    act: Activation,
    se: SqueezeExcite | None = None,
    pool: int = 1,
    channels: int = 0,
) -> Sequential:
    """Convolution, norm, nonlinearity; squeeze and excitation on the side of the nonlinearity that it says, and where
    `pool` is a stride the block's anti-aliasing pool that takes it. Of several convolutions beside each other the
    `channels` are those of all, the hidden width unless they say otherwise."""
    channels = conv.out_channels if isinstance(conv, Conv) else channels or b.hidden
    gate = None if se is None else squeeze_excite(channels, se, b.norm)
    before = se is not None and se.position == "before"
    return sequential(
        *with_norm(conv, channels, b.norm if position in b.norm_at else None, b.branches),
        ("se", gate if before else None),
        ("act", activate(act)),
        ("pool", pool_of(b.anti_alias, channels, pool) if pool > 1 else None),
        ("se", None if before else gate),
    )


def gate_on(b: Block, output: bool) -> SqueezeExcite | None:
    """The block's squeeze and excitation where it stands on its output, or on its spatial convolution."""
    return b.se if b.se is not None and (b.se.position == "output") == output else None


def pool_of(kind: AntiAlias, channels: int, stride: int) -> Layer:
    return AvgPool(stride) if kind == "average" else Blur(channels, stride, zeros=kind == "zero_blur")


def expand(b: Block, from_channels: int, stride: int = 1) -> Sequential:
    conv = Conv(from_channels, b.hidden, stride=stride, groups=b.expand_groups, bias=b.bias)
    return unit(b, "expand", conv, b.expand_act)


def spatial(b: Block, from_channels: int, to_channels: int, stride: int, whole: bool = False) -> Sequential:
    """The k×k convolution; where it is the `whole` block, a gate on the block's output stands on it."""
    pool = stride if b.anti_alias != "none" else 1
    conv: Conv | Parallel = Conv(from_channels, to_channels, b.kernel, stride // pool, b.groups, b.dilation, b.bias)
    if b.kernels:
        conv = mixed(b, stride // pool)
    return unit(b, "spatial", conv, b.spatial_act, b.se if whole else gate_on(b, output=False), pool)


def mixed(b: Block, stride: int) -> Parallel:
    """A depthwise convolution of several kernels, each on its share of the channels (MixNet, Tan & Le 2019)."""
    share = b.hidden // len(b.kernels)
    branches = (
        sequential(
            ("slice", Slice(index * share, share)),
            ("conv", Conv(share, share, kernel, stride, share, b.dilation, b.bias)),
        )
        for index, kernel in enumerate(b.kernels)
    )
    return Parallel(tuple(branches), "concat")


def project(b: Block, from_channels: int) -> Sequential:
    conv = Conv(from_channels, b.out_channels, groups=b.project_groups, bias=b.bias)
    return unit(b, "project", conv, b.project_act, gate_on(b, output=True))


@declare(
    "basic",
    divides=True,
    grouping="given",
    colour="#cc79a7",
    expansion_from="output",
    add_act="relu",
    shortcut="projection",
)
def basic(b: Block) -> Sequential:
    """Two k×k convolutions (He et al. 2016, Figure 5 left); twice as wide inside, ResNeXt's shallow form."""
    second = Conv(b.hidden, b.out_channels, b.kernel, 1, b.groups, b.dilation, b.bias)
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.hidden, b.stride)),
        ("project", unit(b, "project", second, b.project_act, gate_on(b, output=True))),
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
        ("spatial", spatial(b, b.in_channels, b.out_channels if single else b.hidden, b.stride, whole=single)),
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
    options={"response_norm": (False, True)},
)
def convnext(b: Block) -> Sequential:
    """Depthwise k×k on the input's width, then 1×1 to hidden and 1×1 to out (Liu et al. 2022, Figure 4); with
    `response_norm` as its second version has it (Woo et al. 2023, Figure 5)."""
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.in_channels, b.stride)),
        ("expand", expand(b, b.in_channels)),
        ("response_norm", ResponseNorm(b.hidden) if b.options["response_norm"] else None),
        ("project", project(b, b.hidden)),
    )


@declare("conv", grouping="given", colour="#937860", expansion_from="output", shortcut="none")
def conv(b: Block) -> Sequential:
    """One k×k convolution (VGG's, Simonyan & Zisserman 2015, and those of deep stems)."""
    return sequential(("spatial", spatial(b, b.in_channels, b.out_channels, b.stride, whole=True)))


@declare(
    "universal",
    grouping="depthwise",
    grouped="hidden",
    colour="#da8bc3",
    kernel_optional=True,
    options={"first_kernel": (0, 3, 5, 7)},
    expansion=4.0,
)
def universal(b: Block) -> Sequential:
    """The universal inverted bottleneck (MobileNetV4, Qin et al. 2024, Figure 4): 1×1 to hidden and 1×1 to out, with a
    depthwise convolution before them (`first_kernel`) and one between them (`kernel`), each of which may be left out.
    The later of them takes the stride; where there is none, the first 1×1 does. Without the one between, squeeze and
    excitation stands after the first 1×1."""
    kernel = int(b.options["first_kernel"])
    at_first, at_expand = (b.stride, 1) if kernel else (1, b.stride)
    if b.kernel:
        at_first = at_expand = 1
    first = Conv(b.in_channels, b.in_channels, kernel, at_first, b.in_channels, 1, b.bias)
    alone = None if b.kernel else gate_on(b, output=False)
    return sequential(
        ("first", sequential(*with_norm(first, b.in_channels, b.norm, b.branches)) if kernel else None),
        ("expand", expand(b, b.in_channels, at_expand)),
        ("spatial", spatial(b, b.hidden, b.hidden, b.stride) if b.kernel else None),
        ("se", None if alone is None else squeeze_excite(b.hidden, alone, b.norm)),
        ("project", project(b, b.hidden)),
    )


@declare(
    "star",
    grouping="depthwise",
    grouped="in_channels",
    colour="#64b5cd",
    kernel=7,
    expansion=4.0,
    expand_act="relu6",
    spatial_act="none",
    norm_at=("spatial", "project"),
    bias=True,
)
def star(b: Block) -> Sequential:
    """Depthwise k×k, the product of two 1×1s, 1×1 to out, depthwise k×k (StarNet, Ma et al. 2024, Figure 3)."""
    factors = tuple(Conv(b.in_channels, b.hidden, groups=b.expand_groups, bias=b.bias) for _ in range(2))
    norm = b.norm if "expand" in b.norm_at else None
    branches = (
        sequential(*with_norm(factors[0], b.hidden, norm, b.branches), ("act", activate(b.expand_act))),
        sequential(*with_norm(factors[1], b.hidden, norm, b.branches)),
    )
    last = Conv(b.out_channels, b.out_channels, b.kernel, 1, b.out_channels, b.dilation, b.bias)
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.in_channels, b.stride)),
        ("product", Parallel(branches, "multiply")),
        ("project", project(b, b.hidden)),
        ("last", sequential(("conv", last))),
    )


@declare(
    "ghost",
    grouping="depthwise",
    grouped="hidden",
    colour="#8c8cff",
    parity=True,
    expansion=3.0,
    spatial_act="none",
    shortcut="separable",
    shortcut_kernel=3,
)
def ghost(b: Block) -> Sequential:
    """Two ghost modules, and a depthwise convolution between them where there is a stride (GhostNet, Han et al. 2020,
    Figure 3)."""
    gate, last = gate_on(b, output=False), gate_on(b, output=True)
    alone = gate if b.stride == 1 else None
    return sequential(
        ("expand", ghost_module(b, "expand", b.in_channels, b.hidden, b.expand_act)),
        ("spatial", spatial(b, b.hidden, b.hidden, b.stride) if b.stride > 1 else None),
        ("se", None if alone is None else squeeze_excite(b.hidden, alone, b.norm)),
        ("project", ghost_module(b, "project", b.hidden, b.out_channels, b.project_act)),
        ("output_se", None if last is None else squeeze_excite(b.out_channels, last, b.norm)),
    )


def ghost_module(b: Block, position: Position, from_channels: int, to_channels: int, act: Activation) -> Sequential:
    """A 1×1 convolution to half of the channels, and those with a depthwise 3×3 for the other half (Figure 2b). Of an
    odd number both make one channel too many, which is cut off, as in the authors' code."""
    half = share(to_channels, 2, up=True)
    primary = unit(b, position, Conv(from_channels, half, bias=b.bias), act)
    cheap = unit(b, position, Conv(half, half, 3, groups=half, bias=b.bias), act)
    return sequential(
        ("primary", primary),
        ("cheap", Parallel((sequential(), cheap), "concat")),
        ("cut", Slice(0, to_channels) if to_channels % 2 else None),
    )


@declare(
    "faster",
    colour="#1b9e77",
    expansion=2.0,
    spatial_act="none",
    norm_at=("expand",),
    downsample="merge",
    options={"convolved": (4, 2, 8)},
)
def faster(b: Block) -> Sequential:
    """A k×k convolution on a part of the channels, 1 in `convolved`, then 1×1 to hidden and 1×1 to out, which see all
    (FasterNet, Chen et al. 2023, Figure 4). The first 1×1 takes a stride."""
    some = share(b.in_channels, int(b.options["convolved"]))
    convolved = Conv(some, some, b.kernel, dilation=b.dilation, bias=b.bias)
    rest = Slice(some, b.in_channels - some)
    parts = (sequential(("slice", Slice(0, some)), ("conv", convolved)), sequential(("slice", rest)))
    gate = gate_on(b, output=False)
    return sequential(
        ("spatial", unit(b, "spatial", Parallel(parts, "concat"), b.spatial_act, gate, channels=b.in_channels)),
        ("expand", expand(b, b.in_channels, b.stride)),
        ("project", project(b, b.hidden)),
    )


@declare(
    "shuffle",
    grouping="depthwise",
    grouped="hidden",
    colour="#e7298a",
    narrowest=2,
    expansion=0.5,
    expansion_from="output",
    spatial_act="none",
    project_act="relu",
    shortcut="none",
)
def shuffle(b: Block) -> Sequential:
    """1×1, depthwise k×k and 1×1 on the second half of the channels, then a shuffle of both halves (ShuffleNetV2, Ma et
    al. 2018, Figure 3c); where shapes change, on all of them beside a depthwise k×k and a 1×1 (Figure 3d)."""
    left = share(b.out_channels, 2, up=True)
    right = b.out_channels - left
    first: list[Named]
    second: list[Named]
    if b.stride == 1 and b.in_channels == b.out_channels:
        first = [("slice", Slice(0, left))]
        second, inside = [("slice", Slice(left, right))], right
    else:
        beside = Conv(b.in_channels, b.in_channels, b.kernel, b.stride, b.in_channels, b.dilation, b.bias)
        first = [
            ("spatial", unit(b, "spatial", beside, b.spatial_act)),
            ("project", unit(b, "project", Conv(b.in_channels, left, bias=b.bias), b.project_act)),
        ]
        second, inside = [], b.in_channels
    second += [
        ("expand", unit(b, "expand", Conv(inside, b.hidden, bias=b.bias), b.expand_act)),
        ("spatial", spatial(b, b.hidden, b.hidden, b.stride)),
        ("project", unit(b, "project", Conv(b.hidden, right, bias=b.bias), b.project_act)),
    ]
    gate = gate_on(b, output=True)
    return sequential(
        ("branches", Parallel((sequential(*first), sequential(*second)), "concat")),
        ("shuffle", ChannelShuffle(b.out_channels)),
        ("se", None if gate is None else squeeze_excite(b.out_channels, gate, b.norm)),
    )


@declare("downsample", grouping="given", colour=BETWEEN_COLOUR)
def downsample(b: Block) -> Sequential:
    """Norm, then a strided k×k convolution: ConvNeXt's separate downsampling layer."""
    conv = Conv(b.in_channels, b.out_channels, b.kernel, b.stride, b.groups, b.dilation, b.bias)
    return sequential(("norm", normalize(b.in_channels, b.norm)), ("conv", conv))


@declare("merge", grouping="given", colour=BETWEEN_COLOUR)
def merge(b: Block) -> Sequential:
    """A strided k×k convolution, then a norm: FasterNet's merging of patches."""
    conv = Conv(b.in_channels, b.out_channels, b.kernel, b.stride, b.groups, b.dilation, b.bias)
    return sequential(("conv", conv), ("norm", normalize(b.out_channels, b.norm)))


@declare("max_pool", grouping="given", colour=BETWEEN_COLOUR)
def max_pool(b: Block) -> Sequential:
    """A max-pool and nothing else."""
    return sequential(("pool", MaxPool(b.kernel, b.stride)))


@declare("avg_pool", grouping="given", colour=BETWEEN_COLOUR)
def avg_pool(b: Block) -> Sequential:
    """An average over windows of the stride."""
    return sequential(("pool", AvgPool(b.stride)))


@declare("blur", grouping="given", colour=BETWEEN_COLOUR)
def blur(b: Block) -> Sequential:
    """A fixed 3×3 binomial filter, which takes the stride (Zhang 2019)."""
    return sequential(("pool", Blur(b.in_channels, b.stride)))


def shortcut_layer(b: Block) -> Sequential | PadChannels | None:
    """What the shortcut does to the input; None is the identity."""
    if b.shortcut in ("projection", "pooled"):
        pooled = b.stride if b.shortcut == "pooled" else 1
        conv = Conv(b.in_channels, b.out_channels, b.shortcut_kernel, b.stride // pooled, bias=b.bias)
        norm = normalize(b.out_channels, b.norm) if b.shortcut_norm else None
        return sequential(
            ("pool", AvgPool(pooled) if pooled > 1 else None),
            ("conv", conv),
            ("norm", norm),
            ("act", activate(b.shortcut_act)),
        )
    if b.shortcut == "separable":
        apart = Conv(b.in_channels, b.in_channels, b.shortcut_kernel, b.stride, b.in_channels, bias=b.bias)
        whole = Conv(b.in_channels, b.out_channels, bias=b.bias)
        norms = (normalize(width, b.norm) if b.shortcut_norm else None for width in (b.in_channels, b.out_channels))
        return sequential(
            ("spatial", sequential(("conv", apart), ("norm", next(norms)))),
            ("project", sequential(("conv", whole), ("norm", next(norms)), ("act", activate(b.shortcut_act)))),
        )
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
