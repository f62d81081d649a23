"""The part of gpu_check.py about this project's own kernels: are they right, and how long do they take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from experiments.speed.gpu_rows import Note
from experiments.speed.gpu_steps import settled
from nas import torch_private
from nas.training import gpu_layers

# (images, channels, side, kernel, stride)
SHAPES = (
    (64, 96, 32, 3, 1), (64, 100, 16, 5, 1), (64, 57, 32, 3, 1), (64, 240, 8, 5, 1), (64, 144, 32, 3, 2),
    (128, 576, 4, 3, 1), (64, 150, 16, 7, 1),
)  # fmt: skip
SMOKE_SHAPES = ((2, 6, 4, 3, 1),)
EPSILON, KIND = 1e-5, "silu"
CLOSE = 5e-3  # of a tensor's length: bfloat16 rounds by 2⁻⁹
TIMES = 10


def kernels(args: argparse.Namespace, note: Note) -> None:
    """Errors of the kernels, and the GPU's microseconds of them and of PyTorch's, layer by layer."""
    if why := gpu_layers.why_not(args.device):
        note({"left out": why, **({"passed": False} if args.device == "cuda" else {})})
        return
    for shape in SMOKE_SHAPES if args.smoke else SHAPES:
        for name, measure in (("depthwise", depthwise), ("norm and SiLU", norm)):
            note({"kernel": name, "shape": shape, **measure(args.device, *shape)})


def depthwise(device: str, images: int, channels: int, side: int, kernel: int, stride: int) -> dict[str, Any]:
    from nas.training import triton_kernels as own

    x, padding, how = noise(device, images, channels, side), (kernel // 2, kernel // 2), (stride, stride)
    weight = torch.randn(channels, 1, kernel, kernel, device=device, dtype=torch.bfloat16)
    given = (kernel, kernel), stride, padding, 1

    def forward() -> Tensor:
        return own.depthwise(x, own.taps_of(weight), *given)

    gradient = torch.randn_like(forward())

    def backward() -> tuple[Tensor, ...]:
        return own.depthwise_gradients(gradient, x, own.taps_of(weight), *given)

    def theirs(g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return torch_private.convolution_backward(g, a, b, how, padding, channels, (True, True))[:2]

    right = F.conv2d(x.double(), weight.double(), None, stride, padding, 1, channels)
    exact = theirs(gradient.double(), x.double(), weight.double())
    errors = [apart(forward(), right), *map(apart, backward(), exact)]
    beside = (lambda: F.conv2d(x, weight, None, stride, padding, 1, channels)), (lambda: theirs(gradient, x, weight))
    return told(errors, device, (forward, backward), beside)


def norm(device: str, images: int, channels: int, side: int, *rest: int) -> dict[str, Any]:
    from nas.training import triton_kernels as own

    x, gradient = noise(device, images, channels, side), noise(device, images, channels, side)
    weight, bias = torch.randn(2, channels, device=device)
    y, mean, scale = own.normalize(x, weight, bias, EPSILON, KIND)
    ours = own.normalize_gradients(gradient, x, weight, bias, mean, scale, KIND)
    exact = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    right = F.silu(F.batch_norm(exact[0], None, None, exact[1], exact[2], True, 0.0, EPSILON))
    errors = [apart(y, right), *map(apart, ours, torch.autograd.grad(right, exact, gradient.double()))]
    leaves = [tensor.requires_grad_() for tensor in (x.detach().clone(), weight.clone(), bias.clone())]

    def forward() -> Tensor:
        return F.silu(F.batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, EPSILON))

    kept = forward()
    return told(
        errors,
        device,
        (
            lambda: own.normalize(x, weight, bias, EPSILON, KIND),
            lambda: own.normalize_gradients(gradient, x, weight, bias, mean, scale, KIND),
        ),
        (forward, lambda: torch.autograd.grad(kept, leaves, gradient, retain_graph=True)),
    )


def told(errors: list[float], device: str, ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"errors": [float(f"{error:.1e}") for error in errors], "passed": max(errors) < CLOSE}
    if device == "cuda":
        found |= {"us, forwards and back": [microseconds(one) for one in ours]}
        found |= {"PyTorch's us": [microseconds(one) for one in theirs]}
    return found


def noise(device: str, images: int, channels: int, side: int) -> Tensor:
    drawn = torch.randn(images, channels, side, side, device=device, dtype=torch.bfloat16)
    return drawn.to(memory_format=torch.channels_last)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm().item() / b.double().norm().item())


def microseconds(work: Callable[[], Any]) -> float:
    """Of the GPU's kernels alone, the mean of some times."""
    work()
    settled("cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(TIMES):
            work()
        settled("cuda")
    spent = [event.time_range.elapsed_us() for event in seen.events() if event.device_type == DeviceType.CUDA]
    return float(round(sum(spent) / TIMES, 1))
