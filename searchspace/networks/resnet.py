"""ResNet (He et al. 2016, arXiv 1512.03385, Table 1) and ResNeXt (Xie et al. 2017, arXiv 1611.05431, Table 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

PLANES = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
DEPTHS: dict[int, tuple[str, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


def resnet(layers: int, stride_at: Literal["spatial", "expand"] = "spatial") -> Network:
    """ResNet with the stride in the 3×3 convolution (v1.5, torchvision's), or in the first 1×1 (v1, the paper's)."""
    block, depths = DEPTHS[layers]
    return _network(Stage(block, stride_at=stride_at), depths, widen=1 if block == "basic" else 4)


def resnext(layers: int, cardinality: int, width: int) -> Network:
    """ResNeXt-`layers` `cardinality`×`width`d; the stride is in the 3×3 convolution, as in the paper."""
    _, depths = DEPTHS[layers]
    expansion = PLANES[0] * 4 / (cardinality * width)
    return _network(Stage("resnext", expansion=expansion, groups=cardinality), depths, widen=4)


def resnext_shallow(layers: int, form: Literal["wide", "grouped"] = "wide") -> Network:
    """ResNeXt-18 or -34, which torchvision does not have, in either of two forms that are not equal.

    `wide` is the paper's (Figure 4): 32 paths of depth 2 and width 4 are one dense block of width 128, and no
    convolution is grouped. `grouped` puts 32 groups into that block's convolutions, a practice outside the paper.
    """
    _, depths = DEPTHS[layers]
    groups = 32 if form == "grouped" else 1
    return _network(Stage("basic", expansion=0.5, groups=groups), depths, widen=1)


def _network(stage: Stage, depths: tuple[int, ...], widen: int) -> Network:
    """Four stages of the same block, `widen` times as wide outside as their planes."""
    return Network(
        stages=tuple(replace(stage, depth=n, stride=s) for n, s in zip(depths, STRIDES, strict=True)),
        schedule=Schedule("stagewise", widths=tuple(float(planes * widen) for planes in PLANES)),
        stem=Stem(64, kernel=7, stride=2, pool=2),
        head=Head(),
        init="resnet",
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    **{f"resnet{layers}": partial(resnet, layers) for layers in DEPTHS},
    "resnext50_32x4d": partial(resnext, 50, cardinality=32, width=4),
    "resnext101_32x8d": partial(resnext, 101, cardinality=32, width=8),
    "resnext101_64x4d": partial(resnext, 101, cardinality=64, width=4),
}
