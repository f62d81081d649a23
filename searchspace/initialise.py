"""Weight initialisation, by the families' own recipes; norms start from 1 and 0, biases from 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import init

from searchspace.arch import Init

Fill = Callable[[Tensor], object]

he = partial(init.kaiming_normal_, mode="fan_out")
narrow = partial(init.trunc_normal_, std=0.02)


uniform_fan_in = partial(init.kaiming_uniform_, a=math.sqrt(5))  # up to 1 / √fan_in, PyTorch's own
uniform_fan_out = partial(init.kaiming_uniform_, a=math.sqrt(5), mode="fan_out")

# Convolutions, then linear layers, as torchvision and the official code start them.
FILLS: dict[Init, tuple[Fill, Fill]] = {
    "normal": (he, partial(init.normal_, std=0.01)),  # MobileNetV2 and V3, RegNet
    "resnet": (he, uniform_fan_in),
    "mnasnet": (he, partial(init.kaiming_uniform_, mode="fan_out", nonlinearity="sigmoid")),
    "efficientnet": (he, uniform_fan_out),
    "convnext": (narrow, narrow),
    "torch": (uniform_fan_in, uniform_fan_in),  # ReXNet's official code leaves PyTorch's
}


def initialise(model: nn.Module, recipe: Init) -> None:
    """Fresh weights for every convolution and linear layer, in place."""
    convolutions, linear = FILLS[recipe]
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            convolutions(part.weight)
        elif isinstance(part, nn.Linear):
            linear(part.weight)
        if isinstance(part, (nn.Conv2d, nn.Linear)) and part.bias is not None:
            init.zeros_(part.bias)
