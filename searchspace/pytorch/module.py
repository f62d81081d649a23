"""`build(arch)`: the network as a plain PyTorch module.

Beside it torch is imported by what starts its weights (`initialise.py`), by what builds on both: `source.py`,
`pyramid.py` and `timm_models.py`, and by what reads a module (`reading/`: `graph.py`, `modules.py`, `read.py` and
`weights.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchspace.arch import Arch, check_arch, lower
from searchspace.blocks.layers import (
    Activate,
    Activation,
    AvgPool,
    Blur,
    ChannelConv,
    ChannelShuffle,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    Gating,
    GlobalAvgPool,
    Layer,
    LayerScale,
    Linear,
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
)
from searchspace.pytorch.initialise import initialise

ACTIVATIONS: dict[Activation | Gating, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
}


def build(arch: Arch, deployed: bool = False) -> nn.Sequential:
    """A module from images (N, in_channels, H, W) to logits (N, num_classes), freshly initialised.

    It is the network that is trained. A re-parametrised convolution (`branches`) has its branches there: `fold` makes
    one convolution of them, and `deployed` builds it so. That network is what `cost` counts; all others are deployed as
    they are trained. The weights of a deployed network may be loaded into one with branches.

    Its parts are `stem`, `block1`, … and `head`; any of them can be left out (`build(arch)[:-1]`) or read from a hook.
    An arch whose head's output is `features` or `map` gives (N, C) or (N, C, h, w), and has no classifier.

    Weights start as `arch.init` says (see `initialise.py`): usually convolutions from He's normal distribution by
    fan-out, the classifier from N(0, 0.01), as torchvision's MobileNetV2 does; norms from 1 and 0.
    """
    check_arch(arch, "build")
    layers = lower(arch)
    model = nn.Sequential(OrderedDict((name, module(part, deployed)) for name, part in layers.parts))
    initialise(model, arch.init)
    for name, part in model.named_modules():
        if isinstance(part, (nn.BatchNorm2d, nn.GroupNorm)):
            part.place = name
            grouped = isinstance(part, nn.GroupNorm)
            part.register_forward_pre_hook(group_norm_needs_several if grouped else batch_norm_needs_several)
    return model


def fold(model: nn.Module) -> nn.Module:
    """A copy of a network as it is deployed: one convolution in place of branches, which computes in evaluation what
    they do."""
    copy = deepcopy(model)
    for part in list(copy.modules()):
        for name, child in part.named_children():
            if isinstance(child, ReparametrisedConv):
                setattr(part, name, child.fuse())
    return copy


def module(layer: Layer, deployed: bool = False) -> nn.Module:
    """A tree of layers as a tree of modules, with the same names; `deployed` as for `build`."""
    match layer:
        case Sequential(parts=parts):
            return nn.Sequential(OrderedDict((name, module(part, deployed)) for name, part in parts))
        case Residual(body=body, shortcut=shortcut):
            beside = None if shortcut is None else module(shortcut, deployed)
            return ResidualAdd(module(body, deployed), beside)
        case Gate(body=body):
            return ChannelGate(module(body, deployed))
        case Parallel(branches=branches, join=join):
            return Branches(join, *(module(branch, deployed) for branch in branches))
    return primitive(layer, deployed)


def primitive(layer: Layer, deployed: bool = False) -> nn.Module:
    """A layer that has no others in it."""
    match layer:
        case Reparametrised() if not deployed:
            return ReparametrisedConv(layer)
        case Conv():
            sizes = (layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding)
            kind = SamePaddedConv if layer.same else nn.Conv2d
            return kind(*sizes, layer.dilation, layer.groups, layer.bias)
        case Linear():
            return nn.Linear(layer.in_features, layer.out_features)
        case Normalize(channels=channels, norm=norm):
            return normalization(channels, norm)
        case Activate(function=function):
            return ACTIVATIONS[function]()
        case MaxPool(kernel=kernel, stride=stride):
            return nn.MaxPool2d(kernel, stride, layer.padding)
        case GlobalAvgPool():
            return nn.AdaptiveAvgPool2d(1)
        case AvgPool(stride=stride):
            return nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        case Blur(channels=channels, stride=stride, zeros=zeros):
            return BinomialBlur(channels, stride, "constant" if zeros else "reflect")
        case Slice(start=start, channels=channels):
            return ChannelSlice(start, channels)
        case ChannelShuffle(channels=channels):
            return ShuffledHalves(channels)
        case ResponseNorm(channels=channels):
            return GlobalResponseNorm(channels)
        case ChannelConv(kernel=kernel):
            return ChannelConvolution(kernel)
        case Flatten():
            return nn.Flatten()
        case Dropout(rate=rate):
            return nn.Dropout(rate)
        case DropPath(rate=rate, mode=mode):
            return StochasticDepth(rate, mode)
        case LayerScale(channels=channels, init=init):
            return ChannelScale(channels, init)
        case PadChannels(in_channels=low, out_channels=high):
            return ChannelPad(high - low)
    raise TypeError(f"no module for the layer {layer!r}")


def normalization(channels: int, norm: Norm) -> nn.Module:
    if norm.kind == "batch":
        return nn.BatchNorm2d(channels, norm.eps, norm.momentum)
    if norm.kind == "layer":
        return ChannelLayerNorm(channels, norm.eps)
    return nn.GroupNorm(norm.groups, channels, norm.eps)


# For batch norm that happens in training with one image, on 1×1 maps: inside ReXNet's squeeze and excitation, in
# ReXNet-lite's head, or at the end of any network at a small resolution; for group norm with one channel a group, in
# evaluation too. Hooks, so that the norms stay PyTorch's own and trace; in words that TorchScript compiles as well.


def batch_norm_needs_several(self, inputs: tuple[Tensor]) -> None:  # type: ignore[no-untyped-def]
    """Says where and what to do where batch norm has one number to normalise over, before PyTorch does without."""
    if self.training and inputs[0].numel() == inputs[0].shape[1]:
        raise ValueError(
            f"{self.place}: batch norm cannot train on one image with a 1×1 map: use a batch of 2 or more, "
            "a higher resolution where the map comes from it, or eval()"
        )


def group_norm_needs_several(self, inputs: tuple[Tensor]) -> None:  # type: ignore[no-untyped-def]
    """The same for group norm."""
    if self.num_channels == self.num_groups and inputs[0].numel() == self.num_channels:
        raise ValueError(
            f"{self.place}: group norm cannot run on one image with a 1×1 map: use a batch of 2 or more, "
            "a higher resolution where the map comes from it, or fewer groups"
        )


class SamePaddedConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: what a stride leaves over more on the right and below."""

    def forward(self, input: Tensor) -> Tensor:
        sides = []
        for side, kernel, stride, dilation in zip(
            input.shape[:1:-1], self.kernel_size, self.stride, self.dilation, strict=True
        ):
            missing = max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(input, sides))


class ResidualAdd(nn.Module):
    """shortcut(x) + body(x), out of place so that it traces."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.shortcut(x) + self.body(x)
        return added


class ChannelGate(nn.Module):
    """x · body(x): squeeze and excitation."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * self.body(x)
        return gated


class Branches(nn.Module):
    """Branches of one input, added up, multiplied, or their channels one after the other."""

    def __init__(self, join: str, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.joined([branch(x) for branch in self.branches])

    def joined(self, outputs: list[Tensor]) -> Tensor:
        if self.join == "concat":
            return torch.cat(outputs, 1)
        found = outputs[0]
        for output in outputs[1:]:
            found = found + output if self.join == "add" else found * output
        return found


class ReparametrisedConv(Branches):
    """A convolution that is trained as a sum of branches, each a convolution or nothing, and a batch norm."""

    def __init__(self, layer: Reparametrised) -> None:
        super().__init__("add", *map(module, layer.branches))
        self.layer = layer
        self.register_load_state_dict_pre_hook(take_deployed)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """One convolution that computes what the branches do in evaluation (Ding et al. 2021, equations 3 and 4)."""
        fused = module(self.layer.deployed)
        assert isinstance(fused, nn.Conv2d)
        fused = fused.to(next(self.parameters()))
        weight = torch.zeros_like(fused.weight, dtype=torch.float64)
        bias = weight.new_zeros(len(weight))
        for branch in self.branches:
            own, offset = fold_norm(branch, weight)
            side = own.shape[2]
            first = self.layer.padding // self.layer.dilation if side < self.layer.kernel else 0
            weight[..., first : first + side, first : first + side] += own
            bias += offset
        fused.weight.copy_(weight)
        fused.bias.copy_(bias)  # type: ignore[union-attr]
        return fused.train(self.training)


def fold_norm(branch: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    """The weights and biases of a convolution and its batch norm, or of a batch norm alone, as one convolution's, whose
    weights have the channels of `like`."""
    *convs, norm = branch.children()
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = [part.weight.double() for part in convs if isinstance(part, nn.Conv2d)] or [leave(like)]
    return weight[0] * factor[:, None, None, None], norm.bias.double() - norm.running_mean.double() * factor


def leave(like: Tensor) -> Tensor:
    """1×1 weights that leave a map as it is."""
    outside, inside = like.shape[:2]
    rows = torch.arange(outside, device=like.device)
    found = like.new_zeros(outside, inside, 1, 1)
    found[rows, rows % inside] = 1
    return found


def take_deployed(part: ReparametrisedConv, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Weights of a deployed convolution as those of its branches: of the first copy, behind a norm that changes
    nothing, while the others add nothing."""
    if f"{prefix}weight" not in state:
        return
    weight, bias = state.pop(f"{prefix}weight"), state.pop(f"{prefix}bias")
    for name, tensor in part.state_dict().items():
        state[prefix + name] = torch.zeros_like(tensor) if name.endswith(("norm.weight", "norm.bias")) else tensor
    first = f"{prefix}branches.0."
    eps = part.layer.norm.eps
    state |= {f"{first}conv.weight": weight, f"{first}norm.bias": bias}
    state[f"{first}norm.weight"] = torch.ones_like(bias)
    state[f"{first}norm.running_mean"] = torch.zeros_like(bias)
    state[f"{first}norm.running_var"] = torch.full_like(bias, 1 - eps)


class ChannelSlice(nn.Module):
    """Some channels in a row."""

    def __init__(self, start: int, channels: int) -> None:
        super().__init__()
        self.start = start
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.start + self.channels]


class ShuffledHalves(nn.Module):
    """The channels of the first half and of the second in turn; of an odd number the first half has one more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        half = (self.channels + 1) // 2
        even = F.pad(x, (0, 0, 0, 0, 0, 1)) if self.channels % 2 else x
        shuffled = even.reshape(count, 2, half, height, width).transpose(1, 2).reshape(count, 2 * half, height, width)
        return shuffled[:, : self.channels] if self.channels % 2 else shuffled


class ChannelConvolution(nn.Module):
    """A convolution along the channels of a pooled map (N, C, 1, 1), one filter for all, which starts as a mean."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        nn.init.constant_(self.conv.weight, 1 / kernel)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(x.flatten(2).transpose(1, 2))
        return mixed.transpose(1, 2).unsqueeze(-1)


class GlobalResponseNorm(nn.Module):
    """x + weight · (x · n) + bias: n is a channel's norm over all pixels by the mean of all channels' norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        spread = x.norm(p=2, dim=(2, 3), keepdim=True)
        x_n = x * (spread / (spread.mean(dim=1, keepdim=True) + 1e-6))
        return x + torch.addcmul(self.bias.view(1, -1, 1, 1), self.weight.view(1, -1, 1, 1), x_n)


class BinomialBlur(nn.Module):
    """A fixed 3×3 binomial filter on every channel, with edges reflected or zero (`constant`)."""

    def __init__(self, channels: int, stride: int, edges: str = "reflect") -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.filter: Tensor
        self.register_buffer("filter", (row[:, None] * row).expand(channels, 1, 3, 3).contiguous(), persistent=False)
        self.stride = stride
        self.edges = edges

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), self.edges), self.filter, stride=self.stride, groups=x.shape[1])


class ChannelPad(nn.Module):
    """Zeros after the last channel: (N, C, H, W) to (N, C + extra, H, W)."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of each pixel of (N, C, H, W)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


class ChannelScale(nn.Module):
    """A learned factor a channel: ConvNeXt's layer scale."""

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class StochasticDepth(nn.Module):
    """Drops whole samples, or the batch, with a probability and scales the rest by 1 / keep, in training only.

    Huang et al. 2016 drop the batch (`mode="batch"`); most code since then draws for every sample (`"row"`).
    """

    def __init__(self, rate: float, mode: str = "row") -> None:
        super().__init__()
        self.rate = rate
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        draws = x.shape[0] if self.mode == "row" else 1
        keep = torch.rand(draws, 1, 1, 1, device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1.0 - self.rate)
