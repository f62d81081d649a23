"""The two ends of a network as data: `Stem` before the blocks, `Head` after them, and their layers."""

from __future__ import annotations

from typing import Literal

from searchspace.blocks.blocks import activate, normalize, sequential, with_norm
from searchspace.blocks.layers import (
    Activation,
    Conv,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Norm,
    Sequential,
)
from searchspace.document import value
from searchspace.limits import check_int

Output = Literal["logits", "features", "map"]


@value
class Stem:
    """The first convolution. `pool` > 1 adds ResNet's 3×3 max-pool with that stride; `branches` re-parametrises it as
    a block's does."""

    width: int
    kernel: int = 3
    stride: int = 2
    act: Activation = "relu"
    norm: Norm = Norm()
    bias: bool = False
    pool: int = 1
    branches: int = 0

    def __post_init__(self) -> None:
        check_int(self, "width", "kernel", "stride", "pool")
        check_int(self, "branches", least=0)
        normalize(self.width, self.norm)  # raises where the norm's groups do not divide the width


@value
class Head:
    """From the last map to logits: 1×1 convolution to `width`, global pool, `hidden` features, dropout, classifier.

    A width of 0 leaves a part out. `map_norm` normalises the last map where there is no convolution, `pooled_norm` the
    pooled features (ConvNeXt); `hidden_norm` says whether the hidden features have the head's norm (ReXNet-lite) or not
    (MobileNetV3). The convolutions have a bias where `bias` and `hidden_bias` say so. `output` says where the network
    ends: with a classifier, with its `features` (a vector), or with the last `map`, before the pool.
    """

    width: int = 0
    act: Activation = "relu"
    norm: Norm = Norm()
    pooled_norm: bool = False
    hidden: int = 0
    hidden_act: Activation = "relu"
    hidden_norm: bool = False
    dropout: float = 0.0
    output: Output = "logits"
    bias: bool = False
    hidden_bias: bool = True
    map_norm: bool = False

    def __post_init__(self) -> None:
        check_int(self, "width", "hidden", least=0)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout: a probability below 1, not {self.dropout}")


def lower_stem(stem: Stem, in_channels: int) -> Sequential:
    conv = Conv(in_channels, stem.width, stem.kernel, stem.stride, bias=stem.bias)
    return sequential(
        *with_norm(conv, stem.width, stem.norm, stem.branches),
        ("act", activate(stem.act)),
        ("pool", MaxPool(3, stem.pool) if stem.pool > 1 else None),
    )


def lower_head(head: Head, in_channels: int, num_classes: int) -> Sequential:
    features = head.width or in_channels
    last = (
        ("conv", Conv(in_channels, features, bias=head.bias) if head.width else None),
        ("norm", normalize(features, head.norm) if head.width or head.map_norm else None),
        ("act", activate(head.act) if head.width else None),
    )
    if head.output == "map":
        return sequential(*last)
    pooled = (
        ("pool", GlobalAvgPool()),
        ("pooled_norm", normalize(features, head.norm, pooled=True) if head.pooled_norm else None),
        ("hidden", Conv(features, head.hidden, bias=head.hidden_bias) if head.hidden else None),
        ("hidden_norm", normalize(head.hidden, head.norm, pooled=True) if head.hidden and head.hidden_norm else None),
        ("hidden_act", activate(head.hidden_act) if head.hidden else None),
        ("flatten", Flatten()),
    )
    if head.output == "features":
        return sequential(*last, *pooled)
    return sequential(
        *last,
        *pooled,
        ("dropout", Dropout(head.dropout) if head.dropout else None),
        ("classifier", Linear(head.hidden or features, num_classes)),
    )
