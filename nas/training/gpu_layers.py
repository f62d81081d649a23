"""Layers of a network that trains as CUDA graphs on a GPU, by kernels of this project (triton_kernels.py).

With small images a step is some hundred kernels of few microseconds. On an H200 PyTorch's batch norms took a third of
them, its depthwise convolutions without cuDNN's plans another third. Here a norm and the nonlinearity after it are
two kernels forwards and two backwards, and a depthwise convolution needs no plan (see gpu_convolutions.py).
Results are PyTorch's but for rounding.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.training.cpu_convolutions import replace_convolutions
from nas.training.gpu_convolutions import UnplannedDepthwise

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hard_swish",
}
# Pixels of a training's images from which on cuDNN's plans of depthwise convolutions, 3 to 9 s a network, pay: a step
# of a random network is some 8 % shorter with them, as is reckoned from times of single kernels at 32 pixels a side.
PLANS_PAY = 1_000_000 * 32**2
WIDEST = 7  # columns of a depthwise kernel, each of which is a sum of its own
MOST_NUMBERS = 2**30  # of a tensor: offsets have 31 bits, and outputs may be a little larger than what is read
INTERPRETER = "TRITON_INTERPRET"  # the environment variable by which kernels are carried out on a CPU
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
}


def use_triton_layers(model: nn.Module, depthwise: bool = True) -> None:
    """Let norms and, where wanted, depthwise convolutions be those of this module, and then 1×1 ones matrix products.

    Names, weights and results stay. A nonlinearity right after a norm becomes a part of that.
    """
    if depthwise:
        replace_convolutions(model, TritonDepthwise, dilated=True)
    for part in model.modules():
        if type(part) is nn.BatchNorm2d and part.affine:
            part.__class__ = TritonNorm
    places = Counter(id(child) for part in model.modules() for child in part.children())
    shared = {child for child, number in places.items() if number > 1}
    for part in model.modules():
        for norm, after in pairwise(part) if type(part) is nn.Sequential else ():
            if isinstance(norm, TritonNorm) and type(after) in ACTIVATIONS and shared.isdisjoint((id(norm), id(after))):
                norm.kind = ACTIVATIONS[type(after)]
                after.__class__ = DoneBefore


def own_kernels() -> ModuleType:
    """This project's kernels, imported late: Triton is only where PyTorch is for CUDA."""
    from nas.training import triton_kernels

    return triton_kernels


def has_kernels(x: Tensor) -> bool:
    """Whether a tensor is on a GPU, or read by Triton's interpreter, and has neither no numbers nor too many."""
    return (x.is_cuda or os.environ.get(INTERPRETER) == "1") and 0 < x.numel() <= MOST_NUMBERS


class TritonDepthwise(UnplannedDepthwise):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        (stride, other), (dilation, too) = self.stride, self.dilation
        assert not isinstance(self.padding, str)
        known = weight.shape[3] <= WIDEST and stride == other and dilation == too
        if not known or not has_kernels(input):
            return super()._conv_forward(input, weight, bias)
        how = stride, self.padding, dilation
        found: Tensor = _Depthwise.apply(input, weight.to(input.dtype), *how)  # type: ignore[no-untyped-call]
        return found if bias is None else found + bias[:, None, None]


class TritonNorm(nn.BatchNorm2d):
    """A batch norm, and the nonlinearity after it, if there is one."""

    kind: str = "none"

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.track_running_stats or not has_kernels(input):
            return FUNCTIONS[self.kind](super().forward(input))
        how = self.weight, self.bias, self.eps, self.kind
        found: Tensor = _Norm.apply(input, *how)  # type: ignore[no-untyped-call]
        return found


class DoneBefore(nn.Module):
    """In place of a nonlinearity that the norm before it carries out."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], dilation: int) -> Tensor:
        taps = own_kernels().taps_of(weight)
        ctx.save_for_backward(x, taps)
        ctx.how = weight.shape[2:], stride, padding, dilation
        y: Tensor = own_kernels().depthwise(x, taps, *ctx.how)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *own_kernels().depthwise_gradients(gradient, *ctx.saved_tensors, *ctx.how), None, None, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, kind: str) -> Tensor:
        y, mean, scale = own_kernels().normalize(x, weight, bias, epsilon, kind)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.kind = kind
        found: Tensor = y
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *own_kernels().normalize_gradients(gradient, *ctx.saved_tensors, ctx.kind), None, None


@functools.cache
def why_not(device: str) -> str:
    """Why this process cannot use these layers on a device; "" where it can. The first time kernels are compiled."""
    try:
        norm = nn.BatchNorm2d(8)
        norm.track_running_stats = False
        model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), norm, nn.ReLU()).to(device)
        use_triton_layers(model)
        x = torch.ones(2, 8, 4, 4, dtype=torch.bfloat16, device=device, requires_grad=True)
        model(x).sum().backward()
        if not bool(torch.isfinite(x.grad).all()):  # type: ignore[arg-type]
            return "they compute no numbers here"
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # whatever a compiler says
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]
    return ""
