"""Convolutions that train faster on a CPU than those of PyTorch 2.13, and are equal to them but for rounding.

oneDNN has no kernel for the gradient of depthwise weights that are wider than three columns or larger than the map: it
takes many times what the rest of such a convolution does. Three columns at a time, on a padded map, have one. A 1×1
convolution over pixels that lie channel by channel is a matrix product. experiments/speed/convolutions.py times it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas import torch_private

COLUMNS = 3  # of a kernel, at most, for which oneDNN has the gradient of depthwise weights


def use_fast_convolutions(model: nn.Module) -> None:
    """Let the convolutions of a network that trains on a CPU be those of this module.

    Names, weights and results stay.
    """
    replace_convolutions(model, Depthwise, dilated=False)


def replace_convolutions(model: nn.Module, depthwise: type[nn.Conv2d], dilated: bool) -> None:
    """Let depthwise convolutions, dilated ones too or not, be of another class, and 1×1 ones matrix products."""
    for part in model.modules():
        if type(part) is not nn.Conv2d or part.padding_mode != "zeros" or isinstance(part.padding, str):
            continue
        if part.groups == part.in_channels == part.out_channels > 1 and (dilated or part.dilation == (1, 1)):
            part.__class__ = depthwise
        elif part.kernel_size == part.stride == (1, 1) and part.padding == (0, 0) and part.groups == 1:
            part.__class__ = Pointwise


class Pointwise(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class Depthwise(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert not isinstance(self.padding, str)
        sides, stride = input.shape[2:], self.stride
        (rows, above), (columns, left) = map(effective_kernel, sides, self.kernel_size, stride, self.padding)
        weight, padding = weight[..., rows, columns], (above, left)
        if weight.shape[3] <= COLUMNS and weight.shape[2] <= sides[0] and weight.shape[3] <= sides[1]:
            return F.conv2d(input, weight, bias, stride, padding, 1, len(weight))
        found: Tensor = _Depthwise.apply(input, weight, stride, padding)  # type: ignore[no-untyped-call]
        return found if bias is None else found + bias[:, None, None]


def effective_kernel(pixels: int, kernel: int, stride: int, padding: int) -> tuple[slice, int]:
    """The part of a kernel that meets any of so many pixels, and not padding alone; the padding of that part.

    Where no such part has as many outputs as the kernel: the whole kernel.
    """
    outputs = (pixels + 2 * padding - kernel) // stride + 1
    part = slice(max(0, padding - (outputs - 1) * stride), min(kernel, padding + pixels))
    inside = padding - part.start
    alike = (pixels + 2 * inside - (part.stop - part.start)) // stride + 1 == outputs
    return (part, inside) if padding < kernel and alike else (slice(0, kernel), padding)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx, _, _ = _gradients(grad, x, weight, ctx.stride, ctx.padding, (True, False))
        if ctx.needs_input_grad[1]:
            dw = weight_gradient(grad, x, weight, ctx.stride, ctx.padding)
        return dx, dw, None, None


def weight_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The gradient (C, 1, kh, kw) of depthwise weights, of images (N, C, H, W), three columns at a time.

    The columns of a kernel from `first` on meet the image as a kernel of three columns does one that is shifted by so
    much; columns that two such kernels have are computed twice.
    """
    rows, columns = weight.shape[2:]
    few = min(COLUMNS, columns)
    found = torch.zeros_like(weight)
    # Rows around the image that oneDNN's kernel does not take are added here.
    apart = x.shape[2] < rows or padding[0] % stride[0] != 0
    above, height = (padding[0], (grad.shape[2] - 1) * stride[0] + rows) if apart else (0, x.shape[2])
    width = (grad.shape[3] - 1) * stride[1] + few  # of the image that so many columns meet
    for first in (*range(0, columns - few, COLUMNS - 1), columns - few):
        left, some = padding[1] - first, slice(first, first + few)
        if not -x.shape[3] < left < width:
            continue  # these columns meet nothing but padding
        seen = F.pad(x, (left, width - left - x.shape[3], above, height - above - x.shape[2]))
        inside = (0 if apart else padding[0], 0)
        found[..., some] = _gradients(grad, seen, weight[..., some], stride, inside, (False, True))[1]
    return found


def _gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """(of the images, of the weights), where wanted."""
    return torch_private.convolution_backward(grad, x, weight, stride, padding, len(weight), wanted)
