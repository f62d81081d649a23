"""The one format in which people write networks and spaces: stages and a channel schedule.

Here an author's choices (expansion, ratios, multipliers, schedules) become a block's integers. What a stage leaves
out is as in the block's paper (`declare` in `blocks.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Literal

from searchspace import limits
from searchspace.arch import Arch, Init, Padding
from searchspace.blocks.blocks import (
    AntiAlias,
    GateForm,
    GatePosition,
    Option,
    Options,
    Position,
    Shortcut,
    StageBlock,
    all_options,
    check_kernel,
    check_options,
    structure,
)
from searchspace.blocks.layers import Activation, DropMode, Gating, Norm
from searchspace.blocks.stem_head import Head, Stem
from searchspace.document import Location, parse, value
from searchspace.format.resolve import Choices, OpenNetwork, Scaling
from searchspace.format.schedule import Schedule
from searchspace.limits import check_int

MIN_EXPANSION, MAX_EXPANSION = 0.01, 6  # the largest in a space; a fixed network may have any

# What holds where neither the stage nor the block's paper says anything.
DEFAULTS: dict[str, Any] = {
    "kernel": 3,
    "kernels": (),
    "expansion": 1.0,
    "expansion_from": "input",
    "groups": 1,
    "group_width": 0,
    "expand_groups": 1,
    "project_groups": 1,
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
    "se_form": "squeeze",
    "se_divisor": 1,
    "se_min": 1,
    "hidden_min": 1,
    "shortcut": "identity",
    "shortcut_norm": True,
    "shortcut_act": "none",
    "shortcut_kernel": 1,
    "anti_alias": "none",
    "norm": Norm(),
    "norm_at": ("expand", "spatial", "project"),
    "bias": False,
    "branches": 0,
    "layer_scale": 0.0,
    "downsample": "block",
}


@value
class Stage:
    """Some blocks of one kind; the first takes the stride. Fields left out are as in the block's paper.

    `expansion` (in a space at most 6) relates the hidden width to the reference of the block's paper: in × expansion
    (inverted, mbconv, fused_mbconv), out × expansion (convnext), out ÷ expansion (basic, bottleneck, resnext);
    `expansion_from` takes the block's other side instead.
    `group_width` is an alternative to `groups`: channels a group; the hidden width is rounded to fit either. `basic`
    knows only `groups`, and has as many of these, in both its convolutions, as divide the widths on its outside too.
    `expand_groups` and `project_groups` are those of the 1×1 convolutions, as many of them as divide both widths.
    `kernels` of mbconv and universal share the channels of the depthwise convolution out (MixNet): no one `kernel`.
    `se` is the squeezed width as a share of the hidden width or of the block's input or output (`se_from`); 0 is none.
    `se_form` says what is on the squeezed channels; of `eca` the kernel follows from the width, whatever `se` is.
    No hidden width is below `hidden_min`, and no squeezed width below `se_min`, or the hidden width where that is less.
    `shortcut` says what to do where it can be done: `identity` where shapes are equal and else none, `projection`
    where they are not (`pooled`: with an average pool for the stride, `separable`: with a depthwise convolution),
    `partial` where stride is 1 and in ≤ out;
    `shortcut_norm`, `shortcut_act` and `shortcut_kernel` are a projection's. `anti_alias` of the spatial convolution.
    `downsample` says what takes the stride: the first block's spatial convolution, or a layer of its own before it, a
    norm and a patchifying convolution (`separate`), the two the other way round (`merge`) or a 3×3 max-pool (`pool`).
    `branches` re-parametrises (RepVGG: 1, MobileOne: up to 4): a convolution with a batch norm is trained as so many
    copies of itself, a 1×1 convolution and the identity, and is one convolution when it is deployed, which is counted.
    `options` are the fields that a kind of block declares itself; a file has them among the others. An option of
    another kind than the stage's changes nothing.
    """

    block: StageBlock
    depth: int = 1
    stride: int = 1
    expansion: float | None = None
    expansion_from: Literal["input", "output"] | None = None
    kernel: int | None = None
    kernels: tuple[int, ...] | None = None
    groups: int | None = None
    group_width: int | None = None
    expand_groups: int | None = None
    project_groups: int | None = None
    dilation: int | None = None
    stride_at: Literal["spatial", "expand"] | None = None
    expand_act: Activation | None = None
    spatial_act: Activation | None = None
    project_act: Activation | None = None
    add_act: Activation | None = None
    se: float | None = None
    se_from: Literal["hidden", "input", "output"] | None = None
    se_position: GatePosition | None = None
    se_form: GateForm | None = None
    se_act: Activation | None = None
    se_gate: Gating | None = None
    se_norm: bool | None = None
    se_bias: bool | None = None
    se_divisor: int | None = None
    se_min: int | None = None
    hidden_min: int | None = None
    shortcut: Shortcut | None = None
    shortcut_norm: bool | None = None
    shortcut_act: Activation | None = None
    shortcut_kernel: int | None = None
    anti_alias: AntiAlias | None = None
    norm: Norm | None = None
    norm_at: tuple[Position, ...] | None = None
    bias: bool | None = None
    branches: int | None = None
    layer_scale: float | None = None
    downsample: Literal["block", "separate", "merge", "pool"] | None = None
    options: Mapping[str, Option] = Options()

    def __post_init__(self) -> None:
        numbers = (
            "depth",
            "stride",
            "groups",
            "group_width",
            "expand_groups",
            "project_groups",
            "shortcut_kernel",
            "dilation",
            "se_divisor",
            "se_min",
            "hidden_min",
        )
        check_int(self, *(name for name in numbers if getattr(self, name) is not None))
        if self.branches is not None:
            check_int(self, "branches", least=0)
        if self.kernel is not None:
            check_int(self, "kernel", least=0)
            check_kernel(self.kernel, structure(self.block).kernel_optional)
        for kernel in (*(self.kernels or ()), self.shortcut_kernel or 1):
            check_kernel(kernel)
        if self.kernels and not structure(self.block).mixes:
            raise ValueError(f"kernels: the spatial convolution of {self.block} is not depthwise on the hidden width")
        if self.expansion is not None:
            check_expansion(self.expansion, limits.FACTOR)
        if self.se is not None and not 0 <= self.se <= 1:
            raise ValueError(f"se: a ratio from 0 (none) to 1, not {self.se}")
        if self.layer_scale is not None and self.layer_scale < 0:
            raise ValueError(f"layer_scale: 0 (none) or more, not {self.layer_scale}")
        object.__setattr__(self, "options", Options(self.options))
        check_options(self.options)
        self.fill_in()

    @property
    def given(self) -> dict[str, Any]:
        """The fields that the stage does not leave out."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name != "options")
        return {**{name: value for name, value in pairs if value is not None}, **self.options}

    def fill_in(self) -> Choices:
        """Every field, with the paper's choice where the stage makes none."""
        return with_defaults(self.given)


@value
class Network:
    """A network as people write it; `arch` turns it into integers.

    `width_mult` multiplies every block's width, and the stem's and the head's as `scale_stem` and `scale_head` say
    (`up`: only by factors above 1); `depth_mult` multiplies depths, rounded up. `drop_path` is a rate that grows
    linearly from 0 at the first block and is reached at the last (Huang et al. 2016, ConvNeXt) or would be reached
    `next` after it (EfficientNet's p · i / N); `drop_path_mode` draws for every sample (`row`) or once for a batch.
    `smallest_map` adapts a network to small images: where the last map would be fewer pixels a side, strides are
    halved, the stem's first (at 32 px, 4 turn 2-1-2-2-2-1-2 into 1-1-1-2-2-1-2). `init` says what weights a built
    network starts from. `padding` of strided convolutions is the same on both sides, or TensorFlow's (`same`).
    """

    stages: tuple[Stage, ...]
    schedule: Schedule
    stem: Stem
    head: Head = Head()
    resolution: int = 224
    smallest_map: int = 1
    in_channels: int = 3
    num_classes: int = 1000
    width_mult: float = 1.0
    depth_mult: float = 1.0
    scale_stem: Scaling = "both"
    scale_head: Scaling = "both"
    drop_path: float = 0.0
    drop_path_reached: Literal["last", "next"] = "last"
    drop_path_mode: DropMode = "row"
    init: Init = "normal"
    padding: Padding = "centred"

    def __post_init__(self) -> None:
        for name in ("width_mult", "depth_mult"):
            if not 0 < getattr(self, name) <= limits.FACTOR:
                raise ValueError(f"{name}: above 0 and at most {limits.FACTOR:,.0f}, not {getattr(self, name)}")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path: a probability below 1, not {self.drop_path}")
        limits.check_int(self, "resolution")
        if self.smallest_map < 1:
            raise ValueError(f"smallest_map: at least 1 pixel, not {self.smallest_map}")
        if self.resolution < self.smallest_map:
            raise ValueError(f"resolution: at least smallest_map, {self.smallest_map}, not {self.resolution}")
        if not self.stages:
            raise ValueError("stages: a network has at least one")
        if sum(self.depths) > limits.BLOCKS:
            raise ValueError(f"stages: at most {limits.BLOCKS:,} blocks, not {sum(self.depths)}")

    @property
    def depths(self) -> list[int]:
        """Blocks of every stage."""
        return [math.ceil(stage.depth * self.depth_mult) for stage in self.stages]

    def outline(self) -> OpenNetwork:
        """What the file says, with every stage filled in."""
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "stages"}
        return OpenNetwork(stages=[stage.fill_in() for stage in self.stages], **rest)

    def arch(self) -> Arch:
        return self.outline().arch()


def check_expansion(expansion: float, most: float = MAX_EXPANSION) -> None:
    """`ValueError` for an expansion that is too small, or larger than one in a space."""
    if not MIN_EXPANSION <= expansion <= most:
        raise ValueError(f"expansion: from {MIN_EXPANSION} to {most:,g}, not {expansion}")


def with_defaults(given: Mapping[str, Any]) -> Choices:
    """A stage's choices with nothing left out: those given and not None, then the block's paper's, then the usual."""
    if given.get("groups") is not None and given.get("group_width") is not None:
        raise ValueError("groups: give groups or group_width, not both")
    if None in given.values():
        given = {name: value for name, value in given.items() if value is not None}
    return {**block_defaults(given["block"]), **given}


@cache
def block_defaults(block: str) -> Choices:
    """What holds of a stage that says nothing but its kind of block."""
    return {**DEFAULTS, **structure(block).defaults}


def parse_network(data: Any, source: str = "", lines: Mapping[Location, int] | None = None) -> Network:
    """A network file's data; `InputError` as `parse` raises it. Options stand beside a stage's other fields."""
    return parse(Network, _options_apart(data), source, lines)


def _options_apart(data: Any) -> Any:
    names = all_options()
    if not names or not isinstance(data, dict) or not isinstance(data.get("stages"), list):
        return data
    return {**data, "stages": [_stage_apart(stage, names) for stage in data["stages"]]}


def _stage_apart(stage: Any, names: Iterable[str]) -> Any:
    """A stage's data with its options in a section of their own."""
    if not isinstance(stage, dict):
        return stage
    own = {name: stage[name] for name in names if stage.get(name) is not None}
    rest = {name: given for name, given in stage.items() if name not in names}
    return {**rest, "options": own} if own else rest
