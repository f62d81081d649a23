"""`layers_of_module(part)`: PyTorch's own layers, and those of timm that are one here, as layers of this project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from searchspace.arch import pad_as
from searchspace.blocks.layers import (
    Activate,
    AvgPool,
    Blur,
    ChannelConv,
    ChannelShuffle,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    GlobalAvgPool,
    Layer,
    LayerScale,
    Linear,
    MaxPool,
    Norm,
    Normalize,
    ResponseNorm,
    Sequential,
)
from searchspace.errors import InputError
from searchspace.pytorch.module import ACTIVATIONS as OWN_ACTIVATIONS


class UnreadableError(InputError):
    """A module does something that no network of this project can."""


# By the name of the class: PyTorch's, and what timm calls its own.
ACTIVATIONS: dict[str, Any] = {kind.__name__: name for name, kind in OWN_ACTIVATIONS.items()}
ACTIVATIONS |= {"Swish": "silu", "HardSwish": "hard_swish", "HardSwishMe": "hard_swish", "HardSigmoid": "hard_sigmoid"}
# What a nonlinearity may be set to, and what it has to be: the functions here have no settings.
SETTINGS = {"approximate": "none", "negative_slope": 0.01, "alpha": 1.0, "beta": 1, "threshold": 20}
# Modules of timm and of this project that are one layer here, by name: nothing is imported from timm.
WHOLE = {
    *("BatchNormAct2d", "GroupNormAct", "GroupNorm1Act", "LayerNormAct2d", "LayerNorm2d", "LayerNorm", "GroupNorm"),
    *("DropPath", "StochasticDepth", "BlurPool2d", "EcaModule", "GlobalResponseNorm", "GroupNorm1", "LayerScale2d"),
    *("Conv2dSame", "SamePaddedConv", "ScaledStdConv2d", "ScaledStdConv2dSame", "StdConv2d", "StdConv2dSame"),
    *("EvoNorm2dS0", "EvoNorm2dS0a", "EvoNorm2dB0", "FilterResponseNormTlu2d", "RmsNorm2d", "SimpleNorm2d"),
    *("ChannelLayerNorm", "LayerScale", "DropBlock2d", "LayerNormExp2d", "Attention2d", "MultiQueryAttention2d"),
    *("CondConv2d", "SpaceToDepth", "ShuffledHalves", *ACTIVATIONS),
}

LEAST_SCALE = 1e-6  # what a layer scale starts from whose first number has become 0


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation; afterwards every part of it is in the mode that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def layers_of_module(part: nn.Module, channels_last: bool) -> list[Layer]:
    """The layers of a module that is not looked into."""
    name = type(part).__name__
    if name in ACTIVATIONS:
        return activation(part)
    match part:
        case nn.Conv2d():
            return [convolution(part)]
        case nn.Linear():
            return [linear_layer(part.in_features, part.out_features, part.bias is not None, channels_last)]
        case nn.BatchNorm2d() | nn.BatchNorm1d():
            return [_norm(part), *_after_norm(part)]
        case nn.LayerNorm():
            return [Normalize(part.normalized_shape[-1], Norm("layer", part.eps)), *_after_norm(part)]
        case nn.GroupNorm():
            return [Normalize(part.num_channels, Norm("group", part.eps, groups=part.num_groups)), *_after_norm(part)]
        case nn.Dropout():
            return [Dropout(part.p)] if part.p else []
        case nn.MaxPool2d():
            return [_max_pool(part)]
        case nn.AvgPool2d():
            return [_avg_pool(part)]
        case nn.AdaptiveAvgPool2d() if part.output_size in (1, (1, 1)):
            return [GlobalAvgPool()]
        case nn.Flatten():
            return [Flatten()]
    if name in _OTHERS:
        return _OTHERS[name](part)
    raise UnreadableError(f"a {name} has no place in a network")


def activation(part: nn.Module) -> list[Layer]:
    """A nonlinearity; `UnreadableError` for one that is set to something else than here."""
    name = ACTIVATIONS[type(part).__name__]
    check_settings(name, vars(part))
    return [] if name == "none" else [Activate(name)]


def check_settings(name: str, given: Mapping[str, Any]) -> None:
    for setting, usual in SETTINGS.items():
        if given.get(setting, usual) != usual:
            raise UnreadableError(f"a {name} with {setting} {given[setting]}, not {usual}, has no place in a network")


def convolution(conv: nn.Conv2d) -> Layer:
    """A square convolution; `UnreadableError` for one that is not, and for other padding than half the kernel."""
    if type(conv).__name__ not in ("Conv2d", "Conv2dSame", "SamePaddedConv"):
        raise UnreadableError(f"a {type(conv).__name__}, whose weights are normalised or mixed")
    kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    if len(set(kernel)) > 1 or len(set(stride)) > 1 or len(set(dilation)) > 1:
        raise UnreadableError(f"a convolution of {kernel[0]}×{kernel[1]}, stride {stride}, that is not square")
    same = type(conv).__name__ in ("Conv2dSame", "SamePaddedConv")
    if same and kernel[0] % 2 == 0 and kernel != stride:
        raise UnreadableError(
            f"a convolution of {kernel[0]}×{kernel[0]}, stride {stride[0]}, padded as TensorFlow does"
        )
    read: Conv = pad_as(
        Conv(
            conv.in_channels, conv.out_channels, kernel[0], stride[0], conv.groups, dilation[0], conv.bias is not None
        ),
        "same" if same else "centred",
    )
    if not same and conv.padding != (read.padding, read.padding):
        raise UnreadableError(
            f"a convolution of {kernel[0]}×{kernel[1]}, stride {stride[0]}, padding {conv.padding[0]}"
        )
    if conv.padding_mode != "zeros":
        raise UnreadableError(f"a convolution with {conv.padding_mode} padding")
    return read


def linear_layer(inside: int, outside: int, bias: bool, channels_last: bool) -> Layer:
    if channels_last:
        return Conv(inside, outside, bias=bias)
    if not bias:
        raise UnreadableError("a classifier without bias")
    return Linear(inside, outside)


def _norm(part: Any) -> Layer:
    if not part.affine or not part.track_running_stats:
        raise UnreadableError("a batch norm without weights, or without running statistics")
    if part.momentum is None:
        raise UnreadableError("a batch norm whose momentum is None, a plain mean, has no place in a network")
    return Normalize(part.num_features, Norm("batch", part.eps, part.momentum))


def _after_norm(part: nn.Module) -> list[Layer]:
    """timm's norms may have a nonlinearity of their own."""
    found: list[Layer] = []
    for name in ("drop", "act"):
        inner = getattr(part, name, None)
        if isinstance(inner, nn.Module) and not isinstance(inner, nn.Identity):
            found += layers_of_module(inner, False)
    return found


def _max_pool(part: nn.MaxPool2d) -> Layer:
    kernel, stride, padding = (_one(number) for number in (part.kernel_size, part.stride, part.padding))
    read = MaxPool(kernel, stride)
    if read.padding != padding or part.ceil_mode or part.dilation != 1:
        raise UnreadableError(f"a max-pool of {kernel}×{kernel}, stride {stride}, padding {padding}")
    return read


def _avg_pool(part: nn.AvgPool2d) -> Layer:
    kernel, stride, padding = (_one(number) for number in (part.kernel_size, part.stride, part.padding))
    if kernel != stride or padding:
        raise UnreadableError(f"an average pool of {kernel}×{kernel}, stride {stride}, padding {padding}")
    return AvgPool(stride)


def _one(number: Any) -> int:
    return int(number[0] if isinstance(number, (tuple, list)) else number)


def _drop_path(part: Any) -> list[Layer]:
    rate = next((rate for name in ("drop_prob", "rate", "p") if (rate := getattr(part, name, None)) is not None), 0.0)
    return [DropPath(rate, getattr(part, "mode", "row"))] if rate else []


def _eca(part: Any) -> list[Layer]:
    if part.mlp if hasattr(part, "mlp") else False:
        raise UnreadableError("an ECA with layers inside")
    return [
        Gate(
            Sequential(
                (
                    ("pool", GlobalAvgPool()),
                    ("conv", ChannelConv(part.conv.kernel_size[0])),
                    ("gate", Activate("sigmoid")),
                )
            )
        )
    ]


def _blur(part: Any) -> list[Layer]:
    if part.filt_size != 3 or part.pad_mode not in ("reflect", "constant"):
        raise UnreadableError(f"a blur of {part.filt_size}×{part.filt_size}, edges: {part.pad_mode}")
    return [Blur(part.channels, part.stride, part.pad_mode == "constant")]


_OTHERS: dict[str, Callable[[Any], list[Layer]]] = {
    "DropPath": _drop_path,
    "StochasticDepth": _drop_path,
    "ChannelLayerNorm": lambda part: [Normalize(part.weight.numel(), Norm("layer", part.eps))],
    "EcaModule": _eca,
    "BlurPool2d": _blur,
    "ShuffledHalves": lambda part: [ChannelShuffle(part.channels)],
    "GlobalResponseNorm": lambda part: [ResponseNorm(part.weight.numel())],
    "LayerScale2d": lambda part: [LayerScale(part.gamma.numel(), initial_value(part.gamma))],
}


def initial_value(parameter: Tensor) -> float:
    """What a layer scale starts from, above 0 as a trained one may not be; a module without numbers (on the meta
    device) does not say."""
    return 1.0 if parameter.is_meta else abs(float(parameter.detach().flatten()[0])) or LEAST_SCALE
