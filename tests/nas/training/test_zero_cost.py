"""Zero-cost scores: finite for whatever can be built, repeatable, and as their papers say of plain cases."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from nas.training.zero_cost import PROXIES, grad_norm, naswot, synflow, zen
from searchspace import Arch, Budget, Space, build
from searchspace.arch import Stem
from searchspace.blocks.blocks import Block
from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Head
from searchspace.space.space import ready

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8)


def plain(width: int = 8, act: str = "relu") -> Arch:
    """A stem, one basic block without shortcut, a classifier."""
    block = Block("basic", width, width, width, expand_act=act, spatial_act=act, add_act="none", shortcut="none")  # type: ignore[arg-type]
    return Arch(Stem(width=width, act=act), (block,), Head(), 32, 3, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(PROXIES))
@pytest.mark.parametrize("space", ready())
def test_finite_and_the_same_for_a_seed(space: str, name: str) -> None:
    where = Space.load(space)
    arch = where.sample_point(random.Random(1), Budget.parse("100MFLOPs"), band=0.5).arch
    proxy = arch.adapt(num_classes=10, resolution=16)
    images = IMAGES[:, :, ::2, ::2]
    first = PROXIES[name](proxy, images, LABELS, 3)
    assert math.isfinite(first)
    assert PROXIES[name](proxy, images, LABELS, 3) == first


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Tanaka et al., theorem 1: in a linear positive network without biases each layer's scores sum to R."""
    arch = plain()
    torch.manual_seed(0)
    model = build(arch).double().eval()
    for p in model.parameters():
        p.data.abs_()
    for part in model.modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.zeros_(part.bias)
    for p in model.parameters():
        p.requires_grad_(p.ndim > 1)
    model(torch.ones(1, 3, 32, 32, dtype=torch.float64)).sum().backward()
    layers = [float((p.detach() * p.grad).sum()) for p in model.parameters() if p.grad is not None]
    assert len(layers) == 4
    assert layers == pytest.approx([layers[0]] * 4)
    ours = synflow(arch, IMAGES, LABELS, 0)
    assert ours >= math.log(4 * layers[0])  # ours has biases and norms too
    assert synflow(plain(32), IMAGES, LABELS, 0) > ours


def test_naswot_is_the_determinant_of_equal_signs() -> None:
    arch = plain()
    torch.manual_seed(2)
    model = build(arch).train()
    codes: list[torch.Tensor] = []
    for part in model.modules():
        if isinstance(part, torch.nn.ReLU):
            part.register_forward_pre_hook(lambda module, inputs: codes.append(inputs[0].detach().flatten(1) > 0))
    model(IMAGES)
    signs = torch.cat(codes, 1)
    equal = torch.tensor([[float((a == b).sum()) for b in signs] for a in signs], dtype=torch.float64)
    assert naswot(arch, IMAGES, LABELS, 2) == pytest.approx(float(torch.logdet(equal)), rel=1e-9)
    assert naswot(plain(act="none"), IMAGES, LABELS, 2) == 0.0


def test_grad_norm_is_that_of_a_step() -> None:
    torch.manual_seed(4)
    model = build(plain()).train()
    torch.nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert grad_norm(plain(), IMAGES, LABELS, 4) == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_zen_grows_with_width_and_knows_no_shortcuts() -> None:
    arch = plain()
    (block,) = arch.blocks
    joined = replace(arch, blocks=(replace(block, shortcut="identity"),))
    assert zen(joined, IMAGES, LABELS, 0) == zen(arch, IMAGES, LABELS, 0)
    assert zen(plain(32), IMAGES, LABELS, 0) > zen(arch, IMAGES, LABELS, 0)
    unnormed = replace(arch, blocks=(replace(block, norm=Norm(kind="none")),))
    assert zen(unnormed, IMAGES, LABELS, 0) == zen(arch, IMAGES, LABELS, 0)
