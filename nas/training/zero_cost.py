"""Zero-cost scores: what fresh weights and one batch say of a network, in the time of a few training steps.

    synflow     Tanaka et al. 2020, equation 2: Σ θ · ∂R/∂θ of the network made linear and positive, R the sum of what
                it puts out for an image of ones
    naswot      Mellor et al. 2021, equation 2: log |K| of the Hamming similarities of a batch's activation codes
    grad_norm   Abdelfattah et al. 2021, section 3.1: the Euclidean norm of the loss's gradient
    zen         Lin et al. 2021, algorithm 1: log of what a little noise in the image changes in the last map, plus the
                log standard deviations that batch norm took out on the way; without shortcuts

Larger is said to be better. Whether they rank networks better than parameters or multiply-adds do, which cost nothing
at all, is measured in experiments/proxy_rank.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchspace.arch import Arch
from searchspace.blocks.layers import Norm
from searchspace.pytorch.module import ChannelGate, build

NOISE = 0.01
REPEATS = 8
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.SiLU, nn.Hardswish, nn.GELU)

Proxy = Callable[[Arch, Tensor, Tensor, int], float]


def synflow(arch: Arch, images: Tensor, labels: Tensor, seed: int) -> float:
    """The natural logarithm of the score, which itself grows by powers of ten with depth."""
    model = _fresh(arch, seed).double().eval()
    for p in model.parameters():
        p.data.abs_()
    with _hooks(_activations(model), lambda module, inputs, output: inputs[0]):
        model(torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum().backward()
    return math.log(sum(float((p.detach() * p.grad).sum()) for p in model.parameters() if p.grad is not None))


@torch.no_grad()
def naswot(arch: Arch, images: Tensor, labels: Tensor, seed: int) -> float:
    """Codes are the signs of what every nonlinearity outside of gates is given; 0 where there is none."""
    model = _fresh(arch, seed).train()
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def compare(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        code = (inputs[0].detach().flatten(1) > 0).to(torch.float32)
        kernel.add_((code @ code.T + (1 - code) @ (1 - code).T).double())

    with _hooks(_activations(model), compare):
        model(images)
    return float(torch.linalg.slogdet(kernel).logabsdet) if bool(kernel.any()) else 0.0


def grad_norm(arch: Arch, images: Tensor, labels: Tensor, seed: int) -> float:
    model = _fresh(arch, seed).train()
    F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))


@torch.no_grad()
def zen(arch: Arch, images: Tensor, labels: Tensor, seed: int) -> float:
    """On images of Gaussian noise, as many as are given; every norm is a batch norm for it."""
    head = replace(arch.head, norm=Norm(), output="map")
    plain = (replace(b, norm=Norm(), shortcut="none", drop_path=0.0) for b in arch.blocks)
    bare = replace(arch, stem=replace(arch.stem, norm=Norm()), blocks=tuple(plain), head=head)
    scores = []
    for repeat in range(REPEATS):
        model = _fresh(bare, seed + repeat).train()
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight)
        taken_out: list[float] = []

        def spread(
            module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, kept: list[float] = taken_out
        ) -> None:
            kept.append(0.5 * math.log(float(inputs[0].var((0, 2, 3), unbiased=False).mean()) + 1e-30))

        noise = torch.randn_like(images)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        with _hooks(norms, spread):
            first = model(noise)
        second = model(noise + NOISE * torch.randn_like(images))
        apart = float((first - second).abs().flatten(1).sum(1).mean())
        scores.append(math.log(apart + 1e-30) + sum(taken_out))
    return sum(scores) / len(scores)


PROXIES: dict[str, Proxy] = {"synflow": synflow, "naswot": naswot, "grad_norm": grad_norm, "zen": zen}


def _fresh(arch: Arch, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build(arch)


def _activations(model: nn.Module) -> list[nn.Module]:
    """Every nonlinearity that stands outside of gates."""
    inside = {id(part) for gate in model.modules() if isinstance(gate, ChannelGate) for part in gate.modules()}
    return [part for part in model.modules() if isinstance(part, ACTIVATIONS) and id(part) not in inside]


@contextmanager
def _hooks(modules: Sequence[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
