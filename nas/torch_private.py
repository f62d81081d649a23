"""Every name of PyTorch's that is used and not public, in one place, so that an upgrade has one place to look at.

Tried with PyTorch 2.13. `tests/nas/test_torch_private.py` fails where one is gone or means something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TRIED = "2.13"


def lerp_all_(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """Move every average towards its value by a share of the way, in one kernel for all of them."""
    torch._foreach_lerp_(list(averages), list(values), weight)


def copy_all_(there: Sequence[Tensor], here: Sequence[Tensor]) -> None:
    """Copy every tensor to its counterpart, of another type or not, in few kernels for all of them."""
    torch._foreach_copy_(list(there), list(here))


def allow_steps_without_graphs(optimizer: torch.optim.Optimizer) -> None:
    """An optimizer whose steps can be captured does not warn of those that are not, as those before a capture."""
    optimizer._warned_capturable_if_run_uncaptured = True


def occupy_gpu(cycles: int) -> None:
    """Let the GPU be busy for so many of its cycles, so that what is launched meanwhile waits and runs without gaps."""
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]


def convolution_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    wanted: tuple[bool, bool],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a convolution without a bias: of its images and of its weights, where wanted."""
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        gradient, x, weight, None, stride, padding, dilation, False, (0, 0), groups, (*wanted, False)
    )
