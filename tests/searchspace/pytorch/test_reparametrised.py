"""Re-parametrised convolutions: what is trained as branches is deployed as one convolution that computes the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F

from searchspace import Arch, Space, build, cost
from searchspace.arch import lower
from searchspace.blocks.blocks import stage_blocks
from searchspace.blocks.layers import Norm, Reparametrised, leaves
from searchspace.format.network import Network
from searchspace.pytorch.module import ReparametrisedConv, fold
from tests.support.strategies import networks


def network(padding: str = "centred", **stage: Any) -> Arch:
    """Blocks with and without a stride, of equal and of growing width."""
    return Space(
        {
            "resolution": 32,
            "num_classes": 10,
            "padding": padding,
            "stem": {"width": 12, "branches": 1},
            "schedule": {"kind": "explicit", "widths": [12, 12, 16, 16]},
            "stages": [{"depth": 2, **stage}, {"depth": 2, "stride": 2, **stage}],
        }
    ).arch()


def trained(arch: Arch, steps: int = 4) -> nn.Module:
    """A network after some steps, which have moved weights, norms and their statistics."""
    torch.manual_seed(0)
    model = build(arch).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(steps):
        images = torch.randn(8, arch.in_channels, arch.resolution, arch.resolution)
        loss = F.cross_entropy(model(images), torch.randint(arch.num_classes, (8,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def apart(one: nn.Module, other: nn.Module, arch: Arch) -> float:
    images = torch.randn(4, arch.in_channels, arch.resolution, arch.resolution)
    with torch.no_grad():
        wanted, given = one.eval()(images), other.eval()(images)
    return float((wanted - given).abs().max() / wanted.abs().max().clamp(min=1))


def branched(model: nn.Module) -> int:
    return sum(isinstance(part, ReparametrisedConv) for part in model.modules())


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("block", stage_blocks())
def test_a_folded_block_computes_what_its_branches_do(block: str, copies: int) -> None:
    norm = {"kind": "batch"}
    everywhere = {"norm": norm, "norm_at": ["expand", "spatial", "project"]}
    arch = network(block=block, branches=copies, shortcut="none", downsample="block", **everywhere)
    model = trained(arch)
    folded = fold(model)
    assert branched(model) >= 5
    assert branched(folded) == 0
    assert apart(model, folded, arch) <= 1e-5
    assert sum(p.numel() for p in folded.parameters()) == cost(arch).params
    assert sum(p.numel() for p in model.parameters()) > cost(arch).params


@pytest.mark.parametrize(
    "stage",
    [
        {"block": "conv", "kernel": 5, "dilation": 2},
        {"block": "conv", "groups": 4},
        {"block": "mbconv", "expansion": 3, "se": 0.25, "se_position": "before"},
        {"block": "mbconv", "anti_alias": "blur", "bias": True},
        {"block": "conv", "norm": {"kind": "batch", "eps": 1e-3, "momentum": 0.01}},
    ],
    ids=str,
)
@pytest.mark.parametrize("padding", ["centred", "same"])
def test_so_does_every_form_of_a_convolution(stage: dict[str, Any], padding: str) -> None:
    arch = network(padding, branches=2, **stage)
    model = trained(arch)
    assert apart(model, fold(model), arch) <= 1e-5


@pytest.mark.parametrize(("kernel", "stride"), [(4, 1), (4, 2), (4, 4), (3, 3), (7, 2)])
def test_so_does_every_stem(kernel: int, stride: int) -> None:
    """Even kernels have no middle for a 1×1 convolution; sides that do not divide leave them other maps."""
    arch = network(block="conv")
    arch = replace(arch, stem=replace(arch.stem, kernel=kernel, stride=stride, branches=2), resolution=33)
    model = trained(arch)
    assert branched(model) == 1
    assert apart(model, fold(model), arch) <= 1e-5


@settings(max_examples=25, deadline=None)
@given(networks())
def test_random_networks_fold_to_what_they_are_deployed_as(network: Network) -> None:
    arch = network.arch()
    with torch.device("meta"):
        deployed = build(arch, deployed=True)
        shapes = {name: tensor.shape for name, tensor in fold(build(arch)).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in deployed.state_dict().items()}


def test_the_branches_are_the_papers() -> None:
    """RepVGG's (Figure 2): 3×3, 1×1 and the identity where shapes are equal; MobileOne's (Figure 3): several 3×3."""
    kinds = [
        [[type(layer).__name__ for _, layer in branch.parts] for branch in convolution.branches]
        for convolution in (
            Reparametrised(8, 8, 3),
            Reparametrised(8, 8, 3, stride=2),
            Reparametrised(8, 16, 1, copies=4),
        )
    ]
    conv = ["Conv", "Normalize"]
    assert kinds == [[conv, conv, ["Normalize"]], [conv, conv], [conv] * 4]
    assert Reparametrised(8, 8, 3, bias=True).params == 8 * 8 * 9 + 8


def test_only_a_batch_norm_can_become_part_of_a_convolution() -> None:
    arch = network(block="mbconv", branches=2, norm={"kind": "layer"})
    arch = replace(arch, stem=replace(arch.stem, norm=Norm("none")))
    assert not any(isinstance(leaf, Reparametrised) for leaf, _ in leaves(lower(arch), (3, 32, 32)))
    assert arch.digest == replace(network(block="mbconv", norm={"kind": "layer"}), stem=arch.stem).digest


def test_branches_begin_with_the_weights_of_a_deployed_network() -> None:
    """An exported network is loaded into what is trained, and trains on."""
    arch = network(block="mbconv", branches=3, shortcut="none")
    deployed = fold(trained(arch))
    model = build(arch)
    model.load_state_dict(deployed.state_dict())
    assert apart(deployed, model, arch) <= 1e-5
    model.train()(torch.randn(4, 3, 32, 32)).sum().backward()
    branches = [part for part in model.modules() if isinstance(part, ReparametrisedConv)]
    assert all(norm.weight.grad.abs().sum() > 0 for part in branches for norm in part.modules() if _is_norm(norm))


def _is_norm(part: nn.Module) -> bool:
    return isinstance(part, nn.BatchNorm2d)
