"""ConvNeXt's roadmap (Liu et al. 2022, section 2 and Figure 2): from ResNet-50 to ConvNeXt-T, one change at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from searchspace.arch import Arch
from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Stem
from searchspace.format.network import Network, Stage
from searchspace.networks.convnext import LAYER_NORM, SIZES, convnext
from searchspace.networks.resnet import resnet

WIDTHS, DEPTHS, _ = SIZES["convnext_tiny"]


def roadmap() -> dict[str, Arch]:
    """ResNet-50 and the figure's twelve steps, the last of which is ConvNeXt-T; neighbours differ in one change.

    Multiply-adds agree with the figure at every step. Until the last, a batch norm and no bias belong to every
    convolution, a stage begins with a strided block whose shortcut is a projection, and there is no layer scale, which
    the figure does not date. Convolutions get their bias where they lose their norm.
    """
    return {name: network.arch() for name, network in steps()}


def steps() -> Iterator[tuple[str, Network]]:
    """The same as stages and schedules."""
    step = resnet(50)
    yield "resnet50", step
    step = replace(step, stages=tuple(replace(s, depth=n) for s, n in zip(step.stages, DEPTHS, strict=True)))
    yield "stage ratio", step
    step = replace(step, stem=Stem(64, kernel=4, stride=4))
    yield "patchify stem", step
    step = _stages(step, group_width=1)
    yield "depthwise", step
    step = replace(_widths(step, 4), stem=Stem(96, kernel=4, stride=4))
    yield "width", step
    inverted = Stage("mbconv", expansion=4, expansion_from="output", expand_act="relu", spatial_act="relu")
    step = _blocks(_widths(step, 1), replace(inverted, add_act="relu", shortcut="projection"))
    yield "inverted bottleneck", step
    step = _blocks(step, MOVED_UP)
    yield "depthwise moved up", step
    step = _stages(step, kernel=7)
    yield "kernel 7", step
    step = replace(_stages(step, spatial_act="gelu", expand_act="gelu", add_act="gelu"), stem=_stem("gelu"))
    yield "GELU", step
    step = replace(_stages(step, spatial_act="none", add_act="none"), stem=_stem("none"))
    yield "fewer activations", step
    step = _stages(step, norm_at=("spatial",), bias=True)
    yield "fewer norms", step
    step = replace(_stages(step, norm=LAYER_NORM), stem=replace(step.stem, norm=LAYER_NORM))
    yield "layer norm", step
    yield "separate downsampling", convnext(*SIZES["convnext_tiny"])


# The block of the later steps with everything still as in a ResNet but the place of its depthwise convolution.
MOVED_UP = Stage(
    "convnext",
    kernel=3,
    spatial_act="relu",
    expand_act="relu",
    add_act="relu",
    shortcut="projection",
    norm=Norm(),
    norm_at=("spatial", "expand", "project"),
    bias=False,
    layer_scale=0.0,
    downsample="block",
)


def _stem(act: Any) -> Stem:
    return Stem(WIDTHS[0], kernel=4, stride=4, act=act)


def _stages(step: Network, **changes: Any) -> Network:
    """The same change in every stage."""
    return replace(step, stages=tuple(replace(stage, **changes) for stage in step.stages))


def _blocks(step: Network, block: Stage) -> Network:
    """Another block, depths and strides as they are."""
    return replace(step, stages=tuple(replace(block, depth=s.depth, stride=s.stride) for s in step.stages))


def _widths(step: Network, factor: int) -> Network:
    return replace(step, schedule=replace(step.schedule, widths=tuple(float(factor * width) for width in WIDTHS)))
