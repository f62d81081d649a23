"""What is used of PyTorch that is not public means what it is used for."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from nas import torch_private as private


def test_averages_move_towards_values() -> None:
    averages, values = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.zeros(2)]
    private.lerp_all_(averages, values, 0.25)
    assert [t.tolist() for t in averages] == [[0.25] * 3, [0.75] * 2]


def test_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(4, 1, 3, 3, requires_grad=True)
    out = F.conv2d(x, weight, None, 2, 1, 1, 4)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    of_x, of_weight, _ = private.convolution_backward(
        gradient, x.detach(), weight.detach(), (2, 2), (1, 1), 4, (True, True)
    )
    torch.testing.assert_close(of_x, x.grad)
    torch.testing.assert_close(of_weight, weight.grad)
