"""Convolutions that a GPU starts sooner than those of PyTorch 2.11, and are equal to them but for rounding.

cuDNN 9 plans every shape that a process has not seen: on an H200 .2 to 1.5 s for a depthwise convolution, .01 s for
others (experiments/speed/gpu_check.py), so that a new network waits 3 to 9 s for its first step.
PyTorch's own depthwise kernels and a matrix product need no plan. They are up to a fifth slower after that where one
training has the GPU, and more where several share it and the GPU is what they wait for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas import torch_private
from nas.training.cpu_convolutions import replace_convolutions

# Pixels of a training's images from which on cuDNN's plans cost less than they save: some 300,000 images of 32 pixels a
# side for one alone, as is reckoned from the seconds above, and some 100,000 where eight share a GPU.
PLANS_PAY = 150_000 * 32**2


def use_unplanned_convolutions(model: nn.Module) -> None:
    """Let the convolutions of a network that trains briefly on a GPU be those of this module.

    Names, weights and results stay.
    """
    replace_convolutions(model, UnplannedDepthwise, dilated=True)


class UnplannedDepthwise(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        how = self.stride, self.padding, self.dilation
        found: Tensor = _Depthwise.apply(input, weight.to(input.dtype), *how)  # type: ignore[no-untyped-call]
        return found if bias is None else found + bias[:, None, None]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.dilation = stride, padding, dilation
        with torch.backends.cudnn.flags(enabled=False):
            return F.conv2d(x, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        with torch.backends.cudnn.flags(enabled=False):
            dx, dw, _ = torch_private.convolution_backward(
                grad, x, weight, ctx.stride, ctx.padding, len(weight), wanted, ctx.dilation
            )
        return dx, dw, None, None, None
