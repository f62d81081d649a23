"""Residual branches that add next to nothing at first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.config import DataConfig, SearchConfig, TrainConfig, as_begun
from nas.data.datasets import load
from nas.full_training.training_folder import TrainingPlan, keep_preparation
from nas.run import search_options
from nas.run.resume import carry_on
from nas.training.residuals import start_residuals_at_zero, steps_of
from nas.training.trainer import Training
from searchspace import Budget, Space, build, zoo
from searchspace.document import plain, write_yaml
from searchspace.pytorch.module import ChannelPad, ResidualAdd


def branches(model: nn.Module) -> list[ResidualAdd]:
    return [part for part in model.modules() if isinstance(part, ResidualAdd)]


@pytest.mark.parametrize("name", ["mobilenet_v2", "rexnet_100", "resnet18", "efficientnet_b0", "regnet_y_400mf"])
def test_blocks_are_their_shortcuts_at_first(name: str) -> None:
    torch.manual_seed(0)
    model = build(zoo(name, num_classes=10, resolution=64).adapt(10, 64)).train()
    start_residuals_at_zero(model)
    inputs: dict[int, torch.Tensor] = {}
    for index, part in enumerate(branches(model)):
        part.body.register_forward_hook(lambda module, given, out, index=index: inputs.update({index: out}))
    model(torch.randn(4, 3, 64, 64))
    assert len(inputs) == len(branches(model)) > 0
    assert all(float(out.detach().abs().max()) == 0.0 for out in inputs.values())


@pytest.mark.parametrize("act", ["relu6", "relu", "silu"])
def test_a_branch_that_ends_with_a_nonlinearity_adds_little_and_learns(act: str) -> None:
    """Norms of 0 before a ReLU would get no gradients, ever."""
    torch.manual_seed(0)
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs"))
    arch = replace(arch, blocks=tuple(replace(block, project_act=act) for block in arch.blocks)).adapt(10, 32)
    model = build(arch).train()
    start_residuals_at_zero(model)
    sizes: list[float] = []
    for part in branches(model):
        part.body.register_forward_hook(lambda module, given, out: sizes.append(float(out.detach().abs().mean())))
    nn.functional.cross_entropy(model(torch.randn(8, 3, 32, 32)), torch.arange(8)).backward()  # type: ignore[no-untyped-call]
    assert sizes
    assert max(sizes) < 0.15
    inside = [p for part in branches(model) for name, p in part.named_parameters() if name.endswith("weight")]
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in inside)
    assert all(float(p.detach().abs().max()) > 0 for p in inside)


def test_every_branch_learns_from_the_first_steps_on() -> None:
    split = load(DataConfig("digits", images=200), seed=0)
    arch = zoo("rexnet_100", num_classes=10).adapt(10, split.resolution)
    for zero in (False, True):
        torch.manual_seed(0)
        training = Training(build(arch), split, TrainConfig(epochs=1, zero_residuals=zero), 0, "cpu")
        lasts = [steps_of(part.body)[-1] for part in branches(training.model)]
        norms = [last for last in lasts if isinstance(last, nn.BatchNorm2d)]
        assert [float(norm.weight.detach().abs().max()) == 0.0 for norm in norms] == [zero] * len(norms)
        list(training)
        assert all(float(norm.weight.detach().abs().min()) > 0.0 for norm in norms)


@pytest.mark.parametrize("seed", range(3))
def test_no_channel_is_dead_behind_the_additions_nonlinearity(seed: int) -> None:
    """A channel that no shortcut reaches would be 0 in all blocks of its stage, and stay so."""
    torch.manual_seed(seed)
    arch = Space.load("mobile").sample(seed, Budget.parse("30MFLOPs"))
    blocks = tuple(replace(block, add_act="relu", project_act="none") for block in arch.blocks)
    model = build(replace(arch, blocks=blocks).adapt(10, 32)).train()
    start_residuals_at_zero(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert any(isinstance(part.shortcut, ChannelPad) for part in branches(model))
    norms = [norm for part in branches(model) if isinstance(norm := steps_of(part.body)[-1], nn.BatchNorm2d)]
    assert norms
    assert all(float(norm.weight.detach().abs().min()) > 0.0 for norm in norms)


def test_what_began_before_goes_on_as_it_began(tmp_path: Path) -> None:
    train: dict[str, object] = {}
    as_begun({"dataset": "photos"}, train)
    assert train == {"zero_residuals": False}
    assert TrainConfig().zero_residuals
    args = search_options.parser().parse_args(["--budget", "20MFLOPs", "--dataset", "digits"])
    old = search_options.config_from_args(args)
    assert old.identity.train.zero_residuals
    old = replace(old, identity=replace(old.identity, train=replace(old.identity.train, zero_residuals=False)))
    old.save(tmp_path)
    path = tmp_path / "config.yaml"
    assert path.read_text().count("zero_residuals: false") == 1
    path.write_text(path.read_text().replace(", zero_residuals: false", "").replace("zero_residuals: false", ""))
    assert SearchConfig.load(tmp_path) == old
    assert not carry_on(args, tmp_path, SearchConfig.load(tmp_path)).identity.train.zero_residuals
    training = tmp_path / "training"
    training.mkdir()
    plan = TrainingPlan(zoo("rexnet_100"), old.identity.data, old.identity.train)
    write_yaml(training / "training.yaml", plain(plan, (DataConfig,)))
    (training / "checkpoint.safetensors").touch()
    assert not keep_preparation(training, replace(plan, train=TrainConfig())).train.zero_residuals
