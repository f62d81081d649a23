"""Primitive layers: what each does to a shape, its parameters, its multiply-adds.

A network is a tree of these values (`blocks.py` writes the trees). Cost, module, source and table are folds over
the tree, so a primitive's arithmetic is stated here and nowhere else. A shape is (channels, height, width).

Multiply-adds are counted for convolutions and linear layers only, without bias, one multiply-add = one FLOP: the
convention of the MobileNet, EfficientNet and ReXNet papers and of fvcore's `conv` and `linear` operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

from searchspace.document import value
from searchspace.limits import check_int

Shape = tuple[int, int, int]

Activation = Literal["none", "relu", "relu6", "leaky_relu", "elu", "softplus", "silu", "hard_swish", "gelu"]
Gating = Literal["sigmoid", "hard_sigmoid"]
DropMode = Literal["row", "batch"]
Join = Literal["add", "multiply", "concat"]
NormKind = Literal["batch", "layer", "group", "none"]


def size(shape: Shape) -> int:
    channels, height, width = shape
    return channels * (height * width)


def share(channels: int, parts: int, up: bool = False) -> int:
    """One of so many parts of some channels, rounded down to at least one channel, or `up`. What it leaves of them is
    `channels` - share. Of a width with a name (`block_cost.Width`) both have names too."""
    named = getattr(channels, "share", None)
    if named is not None:
        return named(parts, up)  # type: ignore[no-any-return]
    return -(-channels // parts) if up else max(1, channels // parts)


def number_of(channels: int) -> int:
    """Which number a width is, for what no cost depends on; a width with a name keeps that to itself."""
    return int.__int__(channels) if isinstance(channels, int) else int(channels)


@value
class Norm:
    """A kind of normalisation with its settings, before it is put on a number of channels.

    `layer` normalises over the channels of each pixel (ConvNeXt); `group` over groups of channels and all pixels,
    so `group` with one group is what PoolFormer-style networks call layer norm. There are `groups` of them, or as many
    as `width` channels a group make. `momentum` concerns `batch` alone.
    """

    kind: NormKind = "batch"
    eps: float = 1e-5
    momentum: float = 0.1
    groups: int = 1
    width: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps: above 0 and at most 1, not {self.eps}")
        if not 0 < self.momentum <= 1:
            raise ValueError(f"momentum: above 0 and at most 1, not {self.momentum}")
        check_int(self, "groups")
        check_int(self, "width", least=0)
        if self.width and (self.kind != "group" or self.groups > 1):
            raise ValueError("width: channels a group, of a group norm that gives no number of groups")


BATCH_NORM = Norm()


class Layer:
    """A node of the tree. By default it keeps its input's shape, has no parameters and makes no multiply-adds."""

    __slots__ = ()

    def output(self, shape: Shape) -> Shape:
        return shape

    @property
    def params(self) -> int:
        return 0

    def macs(self, shape: Shape) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Conv(Layer):
    """A square convolution. Padding keeps the map's size at stride 1; a patchifying one (kernel = stride) has none.

    With `same`, what a stride leaves over is padded on the right and below first, as TensorFlow does.
    """

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    bias: bool = False
    same: bool = False

    @property
    def padding(self) -> int:
        return 0 if self.same or self.kernel == self.stride else self.dilation * (self.kernel - 1) // 2

    def output(self, shape: Shape) -> Shape:
        if self.same:
            return (self.out_channels, -(-shape[1] // self.stride), -(-shape[2] // self.stride))
        span = self.dilation * (self.kernel - 1) + 1 - 2 * self.padding
        return (self.out_channels, (shape[1] - span) // self.stride + 1, (shape[2] - span) // self.stride + 1)

    @property
    def weights(self) -> int:
        return self.kernel * self.kernel * (self.in_channels // self.groups) * self.out_channels

    @property
    def params(self) -> int:
        return self.weights + (self.out_channels if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        _, height, width = self.output(shape)
        return self.weights * (height * width)


@dataclass(frozen=True, slots=True)
class Reparametrised(Conv):
    """A convolution with bias that is trained as a sum of branches (RepVGG, Ding et al. 2021; MobileOne, Vasu et al.
    2023): `copies` of it, a 1×1 convolution where it is larger, and the identity where shapes are equal, each with a
    batch norm of its own.

    All of them are linear once the norms' statistics are fixed, so their sum is one convolution: the deployed network
    has that alone, and that is what costs.
    """

    copies: int = 1
    norm: Norm = BATCH_NORM

    @property
    def branches(self) -> tuple[Sequential, ...]:
        """What is added up in training. Under a kernel without a middle, or whose padding depends on the image's size
        (`same`), there is no place for a 1×1 convolution or the identity."""
        alone = Conv(*(self.in_channels, self.out_channels, self.kernel, self.stride, self.groups, self.dilation))
        found = [self._with_norm(replace(alone, same=self.same))] * self.copies
        centred = 2 * self.padding == self.dilation * (self.kernel - 1)
        if centred and self.kernel > 1:
            found.append(self._with_norm(replace(alone, kernel=1, dilation=1)))
        if centred and self.stride == 1 and self.in_channels == self.out_channels:
            found.append(Sequential((("norm", Normalize(self.out_channels, self.norm)),)))
        return tuple(found)

    def _with_norm(self, conv: Conv) -> Sequential:
        return Sequential((("conv", conv), ("norm", Normalize(self.out_channels, self.norm))))

    @property
    def deployed(self) -> Conv:
        """The one convolution that the branches are once they are trained."""
        taken = {field.name: getattr(self, field.name) for field in fields(Conv)}
        return Conv(**taken)


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """A fully connected layer with bias on a flat input, given as a shape (features, 1, 1)."""

    in_features: int
    out_features: int

    def output(self, shape: Shape) -> Shape:
        return (self.out_features, 1, 1)

    @property
    def weights(self) -> int:
        return self.in_features * self.out_features

    @property
    def params(self) -> int:
        return self.weights + self.out_features

    def macs(self, shape: Shape) -> int:
        return self.weights


@dataclass(frozen=True, slots=True)
class Normalize(Layer):
    channels: int
    norm: Norm

    @property
    def params(self) -> int:
        return 2 * self.channels


@dataclass(frozen=True, slots=True)
class Activate(Layer):
    function: Activation | Gating


@dataclass(frozen=True, slots=True)
class LayerScale(Layer):
    """A learned factor for every channel, ConvNeXt's gamma."""

    channels: int
    init: float

    @property
    def params(self) -> int:
        return self.channels


@dataclass(frozen=True, slots=True)
class DropPath(Layer):
    """Stochastic depth: in training, drops a residual branch with this probability.

    For every sample by itself (`row`: ConvNeXt, EfficientNet), or for all of a batch at once (`batch`: Huang et al.
    2016).
    """

    rate: float
    mode: DropMode = "row"


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    rate: float


@dataclass(frozen=True, slots=True)
class MaxPool(Layer):
    kernel: int
    stride: int

    @property
    def padding(self) -> int:
        return (self.kernel - 1) // 2

    def output(self, shape: Shape) -> Shape:
        span = self.kernel - 2 * self.padding
        return (shape[0], (shape[1] - span) // self.stride + 1, (shape[2] - span) // self.stride + 1)


@dataclass(frozen=True, slots=True)
class AvgPool(Layer):
    """An average over windows that do not overlap; one that lies over the edge is averaged over what there is."""

    stride: int

    def output(self, shape: Shape) -> Shape:
        return (shape[0], -(-shape[1] // self.stride), -(-shape[2] // self.stride))


@dataclass(frozen=True, slots=True)
class Blur(Layer):
    """A fixed 3×3 binomial filter on every channel, with edges reflected or zero: anti-aliasing (Zhang 2019).

    It has no parameters; its multiply-adds are those of the depthwise convolution that it is.
    """

    channels: int
    stride: int = 2
    zeros: bool = False

    def output(self, shape: Shape) -> Shape:
        return (shape[0], (shape[1] - 1) // self.stride + 1, (shape[2] - 1) // self.stride + 1)

    def macs(self, shape: Shape) -> int:
        _, height, width = self.output(shape)
        return 9 * self.channels * (height * width)


@dataclass(frozen=True, slots=True)
class GlobalAvgPool(Layer):
    def output(self, shape: Shape) -> Shape:
        return (shape[0], 1, 1)


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    def output(self, shape: Shape) -> Shape:
        return (size(shape), 1, 1)


@dataclass(frozen=True, slots=True)
class PadChannels(Layer):
    """Zeros after the last channel, up to `out_channels`: the shortcut of ReXNet's partial addition."""

    in_channels: int
    out_channels: int

    def output(self, shape: Shape) -> Shape:
        return (self.out_channels, shape[1], shape[2])


@dataclass(frozen=True, slots=True)
class Slice(Layer):
    """Some channels in a row, from `start` on."""

    start: int
    channels: int

    def output(self, shape: Shape) -> Shape:
        return (self.channels, shape[1], shape[2])


@dataclass(frozen=True, slots=True)
class ChannelShuffle(Layer):
    """The channels of the first half and of the second in turn (ShuffleNetV2, Ma et al. 2018, Figure 3c); of an odd
    number the first half has one more."""

    channels: int


@dataclass(frozen=True, slots=True)
class ResponseNorm(Layer):
    """Global response normalisation (ConvNeXtV2, Woo et al. 2023, equations 1 to 4): x + weight · (x · n) + bias,
    n being a channel's norm over all pixels divided by the mean of all channels' norms."""

    channels: int

    @property
    def params(self) -> int:
        return 2 * self.channels


@dataclass(frozen=True, slots=True)
class ChannelConv(Layer):
    """A convolution along the channels of a pooled map, one filter for all (ECA-Net, Wang et al. 2020)."""

    kernel: int

    @property
    def params(self) -> int:
        return self.kernel

    def macs(self, shape: Shape) -> int:
        return self.kernel * shape[0]


@dataclass(frozen=True, slots=True)
class Sequential(Layer):
    """Named layers, one after the other."""

    parts: tuple[tuple[str, Layer], ...]

    def output(self, shape: Shape) -> Shape:
        for _, layer in self.parts:
            shape = layer.output(shape)
        return shape


@dataclass(frozen=True, slots=True)
class Residual(Layer):
    """shortcut(x) + body(x), out of place; no shortcut layer means the identity."""

    body: Sequential
    shortcut: Sequential | PadChannels | None = None

    def output(self, shape: Shape) -> Shape:
        return self.body.output(shape)


@dataclass(frozen=True, slots=True)
class Gate(Layer):
    """x · body(x), the body's output being one number a channel: squeeze and excitation."""

    body: Sequential


@dataclass(frozen=True, slots=True)
class Parallel(Layer):
    """Several branches of one input: added up, multiplied, or their channels put one after the other (`concat`)."""

    branches: tuple[Sequential, ...]
    join: Join

    def output(self, shape: Shape) -> Shape:
        outputs = [branch.output(shape) for branch in self.branches]
        channels = sum((out[0] for out in outputs[1:]), outputs[0][0]) if self.join == "concat" else outputs[0][0]
        return (channels, *outputs[0][1:])


def steps(layer: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """All that takes time, in the order in which it runs (of a residual, body then shortcut), each with its input
    shape: primitives, then for a residual its addition and for a gate its multiplication, named by the node itself."""
    match layer:
        case Sequential():
            for _, part in layer.parts:
                yield from steps(part, shape)
                shape = part.output(shape)
        case Residual():
            yield from steps(layer.body, shape)
            if layer.shortcut is not None:
                yield from steps(layer.shortcut, shape)
            yield layer, shape
        case Gate():
            yield from steps(layer.body, shape)
            yield layer, shape
        case Parallel():
            for branch in layer.branches:
                yield from steps(branch, shape)
            yield layer, shape
        case _:
            yield layer, shape


JOINS = (Residual, Gate, Parallel)


def leaves(layer: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """The primitives of a tree in the order in which they run, each with its input shape."""
    return (step for step in steps(layer, shape) if not isinstance(step[0], JOINS))
