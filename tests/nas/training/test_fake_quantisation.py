"""Numbers rounded to 8 bits while a network learns: what is rounded, which gradients pass, what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn

from nas.config import DataConfig, TrainConfig
from nas.data.datasets import Split, load
from nas.training.fake_quantisation import FakeQuantisation, round_weights
from nas.training.trainer import Training
from searchspace.pytorch.module import build
from tests.nas.training.test_trainer import PROXY


def test_weights_have_255_values_per_output_channel() -> None:
    weight = torch.randn(6, 3, 5, 5) * torch.logspace(-3, 3, 6).view(6, 1, 1, 1)
    rounded = round_weights(weight)
    step = weight.abs().flatten(1).amax(1).view(6, 1, 1, 1) / 127
    assert torch.allclose(rounded / step, (weight / step).round(), atol=1e-4)
    assert ((rounded - weight).abs() <= 0.501 * step).all()
    assert torch.equal(round_weights(torch.zeros(2, 1, 1, 1)), torch.zeros(2, 1, 1, 1))


def test_maps_are_rounded_where_a_layer_takes_them_and_gradients_pass() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(layer.weight, 127.0)
    fake, x = FakeQuantisation(layer), torch.linspace(-1, 4, 16).view(1, 1, 4, 4).requires_grad_()
    with fake.rounding():
        y = layer(x)
        y.sum().backward()
    step = 5 / 255
    assert torch.allclose(y / 127, ((x / step).round() * step), atol=step / 2)
    assert (y / 127 / step - (y / 127 / step).round()).abs().max() < 1e-3
    assert torch.equal(x.grad, torch.full_like(x, 127.0))
    assert fake.ranges.tolist() == [[-1.0, 4.0]]
    with fake.rounding():
        layer(x + 100)
    assert fake.ranges[0].tolist() == pytest.approx([-0.99, 0.99 * 4 + 0.01 * 104])  # a range follows slowly
    assert torch.equal(layer(x), 127 * x)  # and nothing is rounded outside


def test_weights_are_what_they_were_also_after_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    before = [p.clone() for p in model.parameters()]
    fake = FakeQuantisation(model)
    with pytest.raises(RuntimeError), fake.rounding():
        model(torch.ones(1, 7, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(part._forward_pre_hooks for part in model.modules())


def training(split: Split, qat: float) -> Training:
    torch.manual_seed(0)
    return Training(build(PROXY), split, TrainConfig(epochs=5, batch_size=16, ema=0.9, qat=qat), 0, "cpu")


def test_the_last_epochs_round_and_a_training_that_was_cut_off_there_goes_on_the_same() -> None:
    digits = load(DataConfig(), seed=0)
    split = replace(digits, train_images=digits.train_images[:96], train_labels=digits.train_labels[:96])
    whole, losses, rounding = training(split, 0.4), [], []
    for epoch in whole:
        losses.append(epoch.train_loss)
        rounding.append(whole.rounding)
    assert rounding == [False, False, False, True, True]
    exact = [epoch.train_loss for epoch in training(split, 0.0)]
    assert losses[:3] == exact[:3]
    assert losses[3:] != exact[3:]
    cut = training(split, 0.4)
    for _ in islice(cut, 4):
        state = {name: tensor.clone() for name, tensor in cut.state().items()}
    again = training(split, 0.4)
    again.restore(state)
    assert [epoch.train_loss for epoch in again] == losses[4:]
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="qat: a share of the epochs, from 0"):
        TrainConfig(qat=share)
