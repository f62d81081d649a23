"""Weight initialisation, by the families' own recipes; norms start from 1 and 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import init

from searchspace.arch import Init

Fill = Callable[[Tensor], object]

he = partial(init.kaiming_normal_, mode="fan_out")
narrow = partial(init.trunc_normal_, std=0.02)


uniform_fan_in = partial(init.kaiming_uniform_, a=math.sqrt(5))  # up to 1 / √fan_in, PyTorch's own
CLASSES = 1000  # whose number two families start their classifiers by: of ten classes logits would start at ±4


def up_to(bound: float) -> Fill:
    return partial(init.uniform_, a=-bound, b=bound)


class Recipe(NamedTuple):
    """How convolutions, linear layers, and the biases of both start; `uniform` is PyTorch's, up to 1 / √fan_in."""

    convolutions: Fill
    linear: Fill
    convolution_bias: Literal["zeros", "uniform"] = "zeros"
    linear_bias: Literal["zeros", "uniform"] = "zeros"


# As torchvision and the official code start them; where they leave a part to PyTorch, it is PyTorch's own here too. A
# classifier whose start depends on the number of classes starts as that of ImageNet's, however many there are.
RECIPES: dict[Init, Recipe] = {
    "normal": Recipe(he, partial(init.normal_, std=0.01)),  # MobileNetV2 and V3, RegNet
    "resnet": Recipe(he, uniform_fan_in, linear_bias="uniform"),
    "mnasnet": Recipe(he, up_to(math.sqrt(3 / CLASSES))),
    "efficientnet": Recipe(he, up_to(CLASSES**-0.5)),
    "convnext": Recipe(narrow, narrow),
    "torch": Recipe(uniform_fan_in, uniform_fan_in, "uniform", "uniform"),  # ReXNet's official code
}


def initialise(model: nn.Module, recipe: Init) -> None:
    """Fresh weights and biases for every convolution and linear layer, in place."""
    chosen = RECIPES[recipe]
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            chosen.convolutions(part.weight)
            _start_bias(part, chosen.convolution_bias)
        elif isinstance(part, nn.Linear):
            chosen.linear(part.weight)
            _start_bias(part, chosen.linear_bias)


def _start_bias(part: nn.Conv2d | nn.Linear, kind: Literal["zeros", "uniform"]) -> None:
    if part.bias is None:
        return
    if kind == "zeros":
        init.zeros_(part.bias)
    else:
        bound = part.weight[0].numel() ** -0.5
        init.uniform_(part.bias, -bound, bound)
