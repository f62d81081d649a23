"""Kernels for a GPU, in Triton: depthwise convolutions, and batch normalisation with the nonlinearity after it.

All tensors lie channels last, so that an image's pixels are rows of channels. Of each operation there are a forward
pass and its gradients. Sums over pixels are made of parts, whose number depends on the shape alone: the same input
gives the same bits. Offsets are of 32 bits, and kernels of up to seven columns: see `gpu_layers.py`.

This module alone imports Triton, which comes with PyTorch for CUDA and needs a C compiler.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

KINDS = "none", "relu", "relu6", "silu", "hard_swish"  # of nonlinearities, as `_activate` numbers them
VECTORS = 8, 4, 2, 1  # channels that are read at once, where their number can be divided so: each is a compilation
# (pixels, channels, warps) of a program's tile, by what is computed, and in how many parts: the fastest of twelve on an
# H200 over seven shapes of 4 to 32 pixels a side.
ALIGNED_TILE, IMAGES_TILE, WEIGHTS_TILE, NORM_TILE = (64, 32, 4), (64, 16, 4), (64, 16, 4), (128, 32, 8)
PROGRAMS_A_CORE, MOST_PARTS = 12, 128
LAST = torch.channels_last


# What is not specialised is not compiled anew for every 1 and every multiple of 16.
SIDES = ["vectors", "height", "width", "out_h", "out_w", "top", "left", "dilation", "stride"]


@triton.jit
def _channels(program, vectors, VECTOR: tl.constexpr, WIDE: tl.constexpr):
    """How many channels there are, a program's own, and which of these there are."""
    channels = vectors * VECTOR
    channel = program * WIDE + tl.arange(0, WIDE)
    return channels, channel, channel < channels


@triton.jit
def _tap(images, at, seen, tap, channel, inside):
    """Pixels times one weight of every channel."""
    value = tl.load(images + at[:, None] + channel[None, :], mask=seen[:, None] & inside[None, :], other=0.0)
    factor = tl.load(tap + channel, mask=inside, other=0.0)
    return value.to(tl.float32) * factor.to(tl.float32)[None, :]


@triton.jit(do_not_specialize=["pixels", *SIDES])
def _depthwise(
    x, taps, y, pixels, vectors, height, width, out_h, out_w, top, left, dilation, stride,
    VECTOR: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channels, channel, inside = _channels(tl.program_id(1), vectors, VECTOR, CHANNELS)
    here = pixel < pixels
    row, column = pixel // out_w % out_h * stride - top, pixel % out_w * stride - left
    first = ((pixel // (out_h * out_w) * height + row) * width + column) * channels
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for i in tl.static_range(DOWN):
        h = row + i * dilation
        for j in tl.static_range(ACROSS):
            w = column + j * dilation
            seen = here & (h >= 0) & (h < height) & (w >= 0) & (w < width)
            at = first + (i * width + j) * dilation * channels
            total += _tap(x, at, seen, taps + (i * ACROSS + j) * channels, channel, inside)
    there = y + pixel[:, None] * channels + channel[None, :]
    tl.store(there, total.to(y.dtype.element_ty), mask=here[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["pixels", *SIDES])
def _depthwise_images(
    gradient, taps, dx, pixels, vectors, height, width, out_h, out_w, top, left, dilation,
    VECTOR: tl.constexpr, STRIDE: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channels, channel, inside = _channels(tl.program_id(1), vectors, VECTOR, CHANNELS)
    here = pixel < pixels
    row, column = pixel // width % height + top, pixel % width + left
    image = pixel // (height * width) * out_h
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for i in tl.static_range(DOWN):
        above = row - i * dilation
        h = above // STRIDE
        for j in tl.static_range(ACROSS):
            before = column - j * dilation
            w = before // STRIDE
            seen = here & (above >= 0) & (h < out_h) & (before >= 0) & (w < out_w)
            if STRIDE > 1:
                seen = seen & (above % STRIDE == 0) & (before % STRIDE == 0)
            at = ((image + h) * out_w + w) * channels
            total += _tap(gradient, at, seen, taps + (i * ACROSS + j) * channels, channel, inside)
    there = dx + pixel[:, None] * channels + channel[None, :]
    tl.store(there, total.to(dx.dtype.element_ty), mask=here[:, None] & inside[None, :])


@triton.jit
def _product(x, value, first, column, seen, width, channels, channel, inside, step, J: tl.constexpr):
    w = column + J * step
    there = seen & (w >= 0) & (w < width)
    at = first + J * step * channels
    return value * tl.load(x + at[:, None] + channel[None, :], mask=there[:, None] & inside[None, :], other=0.0)


@triton.jit(do_not_specialize=["pixels", "each", *SIDES])
def _depthwise_weights(
    x, gradient, parts, pixels, each, vectors, height, width, out_h, out_w, top, left, dilation, stride,
    VECTOR: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    channels, channel, inside = _channels(tl.program_id(0), vectors, VECTOR, CHANNELS)
    i, part = tl.program_id(1), tl.program_id(2)
    a = tl.zeros((PIXELS, CHANNELS), tl.float32)
    b = tl.zeros((PIXELS, CHANNELS), tl.float32)
    c = tl.zeros((PIXELS, CHANNELS), tl.float32)
    d = tl.zeros((PIXELS, CHANNELS), tl.float32)
    e = tl.zeros((PIXELS, CHANNELS), tl.float32)
    f = tl.zeros((PIXELS, CHANNELS), tl.float32)
    g = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for start in range(part * each, part * each + each, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        row, column = pixel // out_w % out_h * stride - top + i * dilation, pixel % out_w * stride - left
        first = ((pixel // (out_h * out_w) * height + row) * width + column) * channels
        seen = (pixel < pixels) & (row >= 0) & (row < height)
        at = gradient + pixel[:, None] * channels + channel[None, :]
        value = tl.load(at, mask=seen[:, None] & inside[None, :], other=0.0).to(tl.float32)
        a += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 0)
        if ACROSS > 1:
            b += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 1)
        if ACROSS > 2:
            c += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 2)
        if ACROSS > 3:
            d += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 3)
        if ACROSS > 4:
            e += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 4)
        if ACROSS > 5:
            f += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 5)
        if ACROSS > 6:
            g += _product(x, value, first, column, seen, width, channels, channel, inside, dilation, 6)
    there = parts + (part * channels + channel) * (DOWN * ACROSS) + i * ACROSS
    tl.store(there, tl.sum(a, 0), mask=inside)
    if ACROSS > 1:
        tl.store(there + 1, tl.sum(b, 0), mask=inside)
    if ACROSS > 2:
        tl.store(there + 2, tl.sum(c, 0), mask=inside)
    if ACROSS > 3:
        tl.store(there + 3, tl.sum(d, 0), mask=inside)
    if ACROSS > 4:
        tl.store(there + 4, tl.sum(e, 0), mask=inside)
    if ACROSS > 5:
        tl.store(there + 5, tl.sum(f, 0), mask=inside)
    if ACROSS > 6:
        tl.store(there + 6, tl.sum(g, 0), mask=inside)


@triton.jit(do_not_specialize=["rows", "each", "vectors"])
def _sums(x, parts, rows, each, vectors, VECTOR: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    channels, channel, inside = _channels(tl.program_id(0), vectors, VECTOR, LANES)
    part = tl.program_id(1)
    origin = tl.load(x + channel, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, LANES), tl.float32)
    squares = tl.zeros((ROWS, LANES), tl.float32)
    for start in range(part * each, part * each + each, ROWS):
        row = start + tl.arange(0, ROWS)
        seen = (row < rows)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * channels + channel[None, :], mask=seen, other=0.0).to(tl.float32)
        value = tl.where(seen, value - origin[None, :], 0.0)
        total += value
        squares += value * value
    tl.store(parts + part * 2 * channels + channel, tl.sum(total, 0), mask=inside)
    tl.store(parts + (part * 2 + 1) * channels + channel, tl.sum(squares, 0), mask=inside)


@triton.jit
def _of_parts(parts, which, number, channels, channel, inside, PARTS: tl.constexpr):
    part = tl.arange(0, PARTS)
    at = parts + (part * 2 + which)[:, None] * channels + channel[None, :]
    return tl.sum(tl.load(at, mask=(part < number)[:, None] & inside[None, :], other=0.0), 0)


@triton.jit
def _activate(z, kind):
    if kind == 1:
        z = tl.maximum(z, 0.0)
    elif kind == 2:
        z = tl.minimum(tl.maximum(z, 0.0), 6.0)
    elif kind == 3:
        z = z * tl.sigmoid(z)
    elif kind == 4:
        z = z * tl.minimum(tl.maximum(z + 3.0, 0.0), 6.0) / 6.0
    return z


@triton.jit
def _slope(z, kind):
    slope = tl.full(z.shape, 1.0, tl.float32)
    if kind == 1:
        slope = tl.where(z > 0.0, 1.0, 0.0)
    elif kind == 2:
        slope = tl.where((z > 0.0) & (z < 6.0), 1.0, 0.0)
    elif kind == 3:
        sigmoid = tl.sigmoid(z)
        slope = sigmoid * (1.0 + z * (1.0 - sigmoid))
    elif kind == 4:
        slope = tl.where(z < -3.0, 0.0, tl.where(z <= 3.0, z / 3.0 + 0.5, 1.0))
    return slope


@triton.jit(do_not_specialize=["rows", "each", "vectors", "number", "epsilon", "kind"])
def _normalize(
    x, parts, weight, bias, y, mean, scale, rows, each, vectors, number, epsilon, kind,
    VECTOR: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    channels, channel, inside = _channels(tl.program_id(0), vectors, VECTOR, LANES)
    part = tl.program_id(1)
    shift = _of_parts(parts, 0, number, channels, channel, inside, PARTS) / rows
    variance = _of_parts(parts, 1, number, channels, channel, inside, PARTS) / rows - shift * shift
    middle = tl.load(x + channel, mask=inside, other=0.0).to(tl.float32) + shift
    inverse = 1.0 / tl.sqrt(tl.maximum(variance, 0.0) + epsilon)
    if part == 0:
        tl.store(mean + channel, middle, mask=inside)
        tl.store(scale + channel, inverse, mask=inside)
    factor = inverse * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    for start in range(part * each, part * each + each, ROWS):
        row = start + tl.arange(0, ROWS)
        seen = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * channels + channel[None, :]
        value = tl.load(x + at, mask=seen, other=0.0).to(tl.float32)
        value = _activate((value - middle[None, :]) * factor[None, :] + offset[None, :], kind)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=seen)


@triton.jit(do_not_specialize=["rows", "each", "vectors", "kind"])
def _gradient_sums(
    x, gradient, mean, scale, weight, bias, parts, rows, each, vectors, kind,
    VECTOR: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    channels, channel, inside = _channels(tl.program_id(0), vectors, VECTOR, LANES)
    part = tl.program_id(1)
    middle = tl.load(mean + channel, mask=inside, other=0.0)
    inverse = tl.load(scale + channel, mask=inside, other=0.0)
    factor = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, LANES), tl.float32)
    products = tl.zeros((ROWS, LANES), tl.float32)
    for start in range(part * each, part * each + each, ROWS):
        row = start + tl.arange(0, ROWS)
        seen = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * channels + channel[None, :]
        value = (tl.load(x + at, mask=seen, other=0.0).to(tl.float32) - middle[None, :]) * inverse[None, :]
        slope = tl.load(gradient + at, mask=seen, other=0.0).to(tl.float32)
        slope *= _slope(value * factor[None, :] + offset[None, :], kind)
        total += slope
        products += slope * value
    tl.store(parts + part * 2 * channels + channel, tl.sum(total, 0), mask=inside)
    tl.store(parts + (part * 2 + 1) * channels + channel, tl.sum(products, 0), mask=inside)


@triton.jit(do_not_specialize=["rows", "each", "vectors", "number", "kind"])
def _gradients(
    x, gradient, mean, scale, weight, bias, parts, dx, dweight, dbias, rows, each, vectors, number, kind,
    VECTOR: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    channels, channel, inside = _channels(tl.program_id(0), vectors, VECTOR, LANES)
    part = tl.program_id(1)
    middle = tl.load(mean + channel, mask=inside, other=0.0)
    inverse = tl.load(scale + channel, mask=inside, other=0.0)
    total = _of_parts(parts, 0, number, channels, channel, inside, PARTS)
    products = _of_parts(parts, 1, number, channels, channel, inside, PARTS)
    if part == 0:
        tl.store(dbias + channel, total.to(dbias.dtype.element_ty), mask=inside)
        tl.store(dweight + channel, products.to(dweight.dtype.element_ty), mask=inside)
    factor = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    total, products = total / rows, products / rows
    for start in range(part * each, part * each + each, ROWS):
        row = start + tl.arange(0, ROWS)
        seen = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * channels + channel[None, :]
        value = (tl.load(x + at, mask=seen, other=0.0).to(tl.float32) - middle[None, :]) * inverse[None, :]
        slope = tl.load(gradient + at, mask=seen, other=0.0).to(tl.float32)
        slope *= _slope(value * factor[None, :] + offset[None, :], kind)
        slope = (slope - total[None, :] - value * products[None, :]) * (factor * inverse)[None, :]
        tl.store(dx + at, slope.to(dx.dtype.element_ty), mask=seen)


def depthwise(
    x: Tensor, taps: Tensor, kernel: tuple[int, int], stride: int, padding: tuple[int, int], dilation: int
) -> Tensor:
    """The depthwise convolution of images (N, C, H, W), zeros around them, with a kernel's weights (rows · columns, C);
    see `taps_of`."""
    x = x.contiguous(memory_format=LAST)
    sides = [
        (side + 2 * pad - dilation * (length - 1) - 1) // stride + 1
        for side, pad, length in zip(x.shape[2:], padding, kernel, strict=True)
    ]
    y = torch.empty((*x.shape[:2], *sides), dtype=x.dtype, device=x.device, memory_format=LAST)
    vectors, vector = vectors_of(x.shape[1])
    pixels = len(x) * sides[0] * sides[1]
    tile, wide, warps = ALIGNED_TILE if vector == VECTORS[0] else IMAGES_TILE
    grid = triton.cdiv(pixels, tile), triton.cdiv(x.shape[1], wide)
    _depthwise[grid](
        x, taps, y, pixels, vectors, *x.shape[2:], *sides, *padding, dilation, stride,
        vector, *kernel, tile, wide, num_warps=warps,
    )  # fmt: skip
    return y


def depthwise_gradients(
    gradient: Tensor,
    x: Tensor,
    taps: Tensor,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of `depthwise`: of its images, and of weights as a convolution has them (C, 1, rows, columns)."""
    x, gradient = x.contiguous(memory_format=LAST), gradient.contiguous(memory_format=LAST)
    channels, (down, across) = x.shape[1], kernel
    vectors, vector = vectors_of(channels)
    sides = *x.shape[2:], *gradient.shape[2:], *padding, dilation
    dx = torch.empty_like(x, memory_format=LAST)
    pixels, (tile, wide, warps) = x.numel() // channels, ALIGNED_TILE if vector == VECTORS[0] else IMAGES_TILE
    grid = triton.cdiv(pixels, tile), triton.cdiv(channels, wide)
    _depthwise_images[grid](
        gradient, taps, dx, pixels, vectors, *sides, vector, stride, down, across, tile, wide, num_warps=warps
    )
    pixels, (tile, wide, warps) = gradient.numel() // channels, WEIGHTS_TILE
    lanes = triton.cdiv(channels, wide)
    number, each = parts_of(pixels, tile, lanes * down, x.device)
    parts = torch.empty((number, channels, 1, down, across), dtype=torch.float32, device=x.device)
    _depthwise_weights[lanes, down, number](
        x, gradient, parts, pixels, each, vectors, *sides, stride, vector, down, across, tile, wide, num_warps=warps
    )
    return dx, parts.sum(0).to(taps.dtype)


def taps_of(weight: Tensor) -> Tensor:
    """The weights (C, 1, rows, columns) of a depthwise convolution tap by tap, (rows · columns, C), as kernels read
    them."""
    return weight.flatten(1).t().contiguous()


def normalize(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, kind: str = "none"
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, C, H, W) normalised by their own statistics, and what a nonlinearity (`relu`, `relu6`, `silu`,
    `hard_swish` or `none`) makes of that; every channel's mean, and one over its deviation."""
    x = x.contiguous(memory_format=LAST)
    channels, (tile, wide, warps) = x.shape[1], NORM_TILE
    rows, lanes, (vectors, vector) = x.numel() // channels, triton.cdiv(channels, wide), vectors_of(channels)
    number, each = parts_of(rows, tile, lanes, x.device)
    parts = torch.empty((number, 2, channels), dtype=torch.float32, device=x.device)
    _sums[lanes, number](x, parts, rows, each, vectors, vector, tile, wide, num_warps=warps)
    y = torch.empty_like(x, memory_format=LAST)
    mean, scale = torch.empty((2, channels), dtype=torch.float32, device=x.device)
    _normalize[lanes, number](
        x, parts, weight, bias, y, mean, scale, rows, each, vectors, number, epsilon, KINDS.index(kind),
        vector, MOST_PARTS, tile, wide, num_warps=warps,
    )  # fmt: skip
    return y, mean, scale


def normalize_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, kind: str = "none"
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `normalize`: of its images, weights and biases."""
    x, gradient = x.contiguous(memory_format=LAST), gradient.contiguous(memory_format=LAST)
    channels, (tile, wide, warps) = x.shape[1], NORM_TILE
    rows, lanes, (vectors, vector) = x.numel() // channels, triton.cdiv(channels, wide), vectors_of(channels)
    number, each = parts_of(rows, tile, lanes, x.device)
    parts = torch.empty((number, 2, channels), dtype=torch.float32, device=x.device)
    _gradient_sums[lanes, number](
        x, gradient, mean, scale, weight, bias, parts, rows, each, vectors, KINDS.index(kind),
        vector, tile, wide, num_warps=warps,
    )  # fmt: skip
    dx, (dweight, dbias) = torch.empty_like(x, memory_format=LAST), torch.empty((2, *weight.shape), device=x.device)
    _gradients[lanes, number](
        x, gradient, mean, scale, weight, bias, parts, dx, dweight, dbias, rows, each, vectors, number,
        KINDS.index(kind), vector, MOST_PARTS, tile, wide, num_warps=warps,
    )  # fmt: skip
    return dx, dweight.to(weight.dtype), dbias.to(weight.dtype)


def vectors_of(channels: int) -> tuple[int, int]:
    """(how many, of how many channels): what lies at addresses that a GPU reads at once."""
    vector = next(vector for vector in VECTORS if channels % vector == 0)
    return channels // vector, vector


def parts_of(rows: int, tile: int, others: int, device: torch.device) -> tuple[int, int]:
    """(how many parts, of how many rows each), so that a GPU is full with so many other programs of each part."""
    wanted = min(MOST_PARTS, max(1, PROGRAMS_A_CORE * cores(device) // others), triton.cdiv(rows, tile))
    each = triton.cdiv(triton.cdiv(rows, wanted), tile) * tile
    return triton.cdiv(rows, each), each


@functools.cache
def cores(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
