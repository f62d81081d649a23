"""Residual branches that add next to nothing at first, so that a deep network learns as quickly as a shallow one."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from searchspace.pytorch.module import ACTIVATIONS, ChannelGate, ChannelPad, ResidualAdd, StochasticDepth

IDLE = nn.Identity, nn.Dropout, StochasticDepth, ChannelGate  # what makes nothing of zeros
NONLINEAR = tuple(kind for kind in ACTIVATIONS.values() if kind is not nn.Identity)
SMALL = 0.1  # before a nonlinearity, which is flat at 0 or on one side of it


def start_residuals_at_zero(model: nn.Module) -> None:
    """Weights of 0 for every norm that is the last of a residual branch, in place (Goyal et al. 2017, section 5.1), and
    of `SMALL` for one that a nonlinearity follows, in the branch or, where no shortcut reaches a channel, after the
    addition: what is 0 before a ReLU never learns.

    A branch that ends with anything else stays as it is.
    """
    bent_after = {one for part in model.modules() if isinstance(part, nn.Sequential) for one in bent_ones(part)}
    for part in model.modules():
        if isinstance(part, ResidualAdd):
            steps = steps_of(part.body)
            bent = bool(steps) and isinstance(steps[-1], NONLINEAR)
            for norm in steps[-2:-1] if bent else steps[-1:]:
                if isinstance(norm, (nn.BatchNorm2d, nn.GroupNorm)) and norm.affine:
                    pads = part.shortcut.modules() if part in bent_after else ()
                    alone = sum(pad.extra for pad in pads if isinstance(pad, ChannelPad))
                    with torch.no_grad():
                        norm.weight.fill_(SMALL if bent else 0.0)
                        norm.weight[len(norm.weight) - alone :] = SMALL


def bent_ones(parts: nn.Sequential) -> list[nn.Module]:
    """Those that a nonlinearity follows."""
    return [one for one, after in pairwise(parts) if isinstance(after, NONLINEAR)]


def steps_of(body: nn.Module) -> list[nn.Module]:
    """What a branch does, one after the other."""
    if not isinstance(body, nn.Sequential):
        return [] if isinstance(body, IDLE) else [body]
    return [step for part in body for step in steps_of(part)]
