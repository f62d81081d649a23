"""Convolutions without cuDNN's plans are those of PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas.training.cpu_convolutions import Pointwise
from nas.training.gpu_convolutions import UnplannedDepthwise, use_unplanned_convolutions
from searchspace import Budget, Space, build


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "bias"), [(3, 1, 1, False), (5, 2, 1, True), (3, 1, 2, False)]
)
def test_depthwise_convolutions_and_their_gradients_are_pytorchs(
    kernel: int, stride: int, dilation: int, bias: bool
) -> None:
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    plain = nn.Conv2d(6, 6, kernel, stride, padding, dilation, groups=6, bias=bias).double()
    other = nn.Sequential(copy.deepcopy(plain))
    use_unplanned_convolutions(other)
    assert type(other[0]) is UnplannedDepthwise
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weights = torch.randn_like(plain(x))
    (plain(x) * weights).sum().backward()
    (other(y) * weights).sum().backward()
    torch.testing.assert_close(y.grad, x.grad)
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad)


def test_a_network_is_the_same_with_them_and_keeps_its_names() -> None:
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs")).adapt(10, 32)
    model = build(arch).double().eval()
    other = copy.deepcopy(model)
    use_unplanned_convolutions(other)
    kinds = {type(part) for part in other.modules()}
    assert {UnplannedDepthwise, Pointwise} <= kinds
    assert list(other.state_dict()) == list(model.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(other(x), model(x))
