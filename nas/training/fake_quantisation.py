"""`FakeQuantisation`: a network that learns with its weights and maps rounded to 8 bits, as its int8 file has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LEVELS, WEIGHT_LEVELS = 255, 127
KEPT = 0.99  # of a range of maps at every step
LEAST = 1e-8  # of a range, so that a map of zeros can be divided by it


class FakeQuantisation:
    """Rounds weights to int8 with a scale per output channel, and what convolutions and linear layers are given to
    uint8 with a range that moves with what is seen; gradients pass through as if nothing were rounded, but for values
    outside the range (Jacob et al. 2018, section 3).

    A batch norm after a convolution scales whole output channels, so that it need not be folded for the weights to be
    rounded as they will be; of convolutions that are folded into one (`branches`) each is rounded by itself.
    `ranges` (layers, 2) are the lowest and the highest value of every layer's input.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [part for part in model.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
        self.ranges = torch.zeros((len(self.layers), 2), device=next(model.parameters()).device)
        self.seen = torch.zeros((), device=self.ranges.device)

    @contextmanager
    def rounding(self) -> Iterator[None]:
        """Meanwhile the network computes with rounded numbers; afterwards its weights are what they were."""
        kept = [layer.weight.detach().clone() for layer in self.layers]
        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs, number=number: self._round_map(number, inputs[0]))
            for number, layer in enumerate(self.layers)
        ]
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.copy_(round_weights(layer.weight))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            with torch.no_grad():
                for layer, weight in zip(self.layers, kept, strict=True):
                    layer.weight.copy_(weight)
                self.seen.fill_(1.0)

    def _round_map(self, number: int, x: Tensor) -> Tensor:
        with torch.no_grad():
            low, high = x.detach().float().aminmax()
            now = torch.stack([low.clamp_max(0.0), high.clamp_min(LEAST)])  # a range always has 0: pads are exact
            known = self.ranges[number]
            known.copy_(torch.where(self.seen > 0, KEPT * known + (1 - KEPT) * now, now))
            scale = (known[1] - known[0]) / LEVELS
            zero = (-known[0] / scale).round().clamp(0, LEVELS).to(torch.int32)
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, LEVELS)
        return rounded.to(x.dtype)


def round_weights(weight: Tensor) -> Tensor:
    """Weights (outputs, …) rounded to 127 steps on each side of 0 of the largest of every output channel."""
    most = weight.detach().abs().flatten(1).amax(1).clamp_min(LEAST).view(-1, *[1] * (weight.ndim - 1))
    return (weight / most * WEIGHT_LEVELS).round() * most / WEIGHT_LEVELS
