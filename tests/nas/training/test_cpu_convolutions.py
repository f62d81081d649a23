"""Convolutions that train faster are those of PyTorch, their gradients included."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.training.cpu_convolutions import Depthwise, Pointwise, use_fast_convolutions
from searchspace import build, zoo


def gone_through(model: nn.Module, x: Tensor) -> list[Tensor]:
    """(what comes out, the gradient of what went in, those of the weights)"""
    x = x.clone().requires_grad_()
    out = model(x)
    torch.manual_seed(0)
    (out * torch.randn(out.shape)).sum().backward()
    assert x.grad is not None
    return [out.detach(), x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


@settings(max_examples=300, deadline=None)
@example(11, 1, 4, 3, 3, 2, False, False)  # columns that meet nothing but padding
@example(11, 2, 5, 1, 1, 2, False, False)
@example(3, 1, 1, 2, 2, 16, False, True)  # a map that is smaller than the kernel
@example(3, 1, 1, 1, 1, 16, True, True)
@given(
    st.sampled_from([1, 2, 3, 4, 5, 7, 9, 11]),
    st.integers(1, 3),
    st.integers(0, 5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([2, 16, 24]),
    st.booleans(),
    st.booleans(),
)
def test_depthwise(
    kernel: int, stride: int, padding: int, height: int, width: int, channels: int, bias: bool, lower: bool
) -> None:
    assume(min(height, width) + 2 * padding >= kernel)
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=bias)
    x = torch.randn(3, channels, height, width)
    if lower:
        conv, x = conv.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quick = nn.Sequential(copy.deepcopy(conv))
    use_fast_convolutions(quick)
    assert type(quick[0]) is Depthwise
    for ours, theirs in zip(gone_through(quick, x), gone_through(conv, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_pointwise(bias: bool, memory: torch.memory_format) -> None:
    conv = nn.Conv2d(12, 20, 1, bias=bias)
    x = torch.randn(3, 12, 5, 7).contiguous(memory_format=memory)
    quick = nn.Sequential(copy.deepcopy(conv))
    use_fast_convolutions(quick)
    assert type(quick[0]) is Pointwise
    for ours, theirs in zip(gone_through(quick, x), gone_through(conv, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny", "mobilenet_v3_small"])
def test_a_network_learns_the_same_and_keeps_its_weights(name: str) -> None:
    torch.manual_seed(0)
    model = build(zoo(name, num_classes=10).adapt(10, 32)).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quick = copy.deepcopy(model)
    use_fast_convolutions(quick)
    kinds = {type(part) for part in quick.modules()}
    assert Depthwise in kinds
    assert quick.state_dict().keys() == model.state_dict().keys()
    x = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(gone_through(quick, x), gone_through(model, x), strict=True):
        assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max().clamp_min(1e-3)


def test_others_stay_as_they_are() -> None:
    others = nn.Sequential(
        nn.Conv2d(8, 16, 5, groups=8),
        nn.Conv2d(16, 16, 5, groups=4),
        nn.Conv2d(16, 16, 5, groups=16, dilation=2),
        nn.Conv2d(16, 16, 5, groups=16, padding_mode="circular"),
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(8, 8, 1, groups=2),
        nn.Conv2d(8, 8, 5, padding="same", groups=8),
    )
    use_fast_convolutions(others)
    assert all(type(part) is nn.Conv2d for part in others)
