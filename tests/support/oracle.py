"""torchvision's and timm's networks as oracles: import them, give theirs and ours the same weights.

`pip install --no-deps torchvision==0.28.0 timm==1.0.31` beside torch 2.13 gives both (timm also needs huggingface_hub
and safetensors). They are no extra of this project: left to itself, pip takes another torch and all of CUDA with them.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from searchspace.pytorch.module import ChannelLayerNorm, ResidualAdd

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, ChannelLayerNorm)
_declared: list[torch.library.Library] = []


def library(name: str) -> Any:
    """torchvision, timm or triton; where it is missing the test is skipped, or fails where CI says it has to run."""
    try:
        _torchvision()
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"an oracle is missing: {error}")
        pytest.skip(f"an oracle is missing: {error}")


def _torchvision() -> None:
    """Its wheel is built for CUDA: beside a CPU torch its operators are not registered, and the import fails on two.

    Declaring those two first is enough. Does nothing where torchvision imports by itself.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        if not _declared:
            _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
            for operator in ("nms", "qnms"):
                _declared[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


def oracle(source: str, name: str) -> nn.Module:
    """A network of torchvision or timm, or put together from theirs, with its own initial weights."""
    if source == "reference":
        return importlib.import_module("tests.support.references").REFERENCES[name]()  # type: ignore[no-any-return]
    found = library(source)
    made = found.models.get_model(name) if source == "torchvision" else found.create_model(name)
    return made  # type: ignore[no-any-return]


def disturb(model: nn.Module, resolution: int) -> None:
    """Random affines, biases and layer scales, and running statistics near those of random images, but not equal.

    Fresh networks have norms that do nothing and layer scales of 1e-6: with them, agreement would say little. The
    classifier is scaled to logits of about 1, so that an absolute tolerance means the same for all.
    """
    torch.manual_seed(0)
    scales, norms, weights = parameters(model, shortcut_first=False)
    for scale in scales:
        nn.init.uniform_(scale, 0.2, 1.0)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, 0.0, 0.2)
        norm.momentum = 1.0
    for part in weights:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, part.in_features**-0.5)
        if part.bias is not None:
            nn.init.normal_(part.bias, 0.0, 0.2)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, resolution, resolution))
        for norm in norms:
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
                norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
        spread = model.eval()(torch.randn(4, 3, resolution, resolution)).std()
        weights[-1].weight /= spread
        weights[-1].bias /= spread


def copy(theirs: nn.Module, ours: nn.Module, shortcut_first: bool) -> list[tuple[Tensor, Tensor]]:
    """Give ours the weights of theirs, in order, kind by kind; returns the pairs of parameters.

    Shapes have to be equal but for dimensions of 1: a linear layer may stand for a 1×1 convolution.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    for kind_a, kind_b in zip(parameters(theirs, False), parameters(ours, shortcut_first), strict=True):
        for a, b in zip(kind_a, kind_b, strict=True):
            found = [(a, b)] if isinstance(a, nn.Parameter) else _tensors(a, b)
            for x, y in found:
                assert [n for n in x.shape if n > 1] == [n for n in y.shape if n > 1], (a, b)
                with torch.no_grad():
                    y.copy_(x.reshape(y.shape))
            pairs += [(x, y) for x, y in found if x.requires_grad]
    return pairs


def _tensors(a: nn.Module, b: nn.Module) -> list[tuple[Tensor, Tensor]]:
    names = ("weight", "bias", "running_mean", "running_var")
    found = [(getattr(a, name, None), getattr(b, name, None)) for name in names]
    assert all((x is None) == (y is None) for x, y in found), (a, b)
    return [(x, y) for x, y in found if x is not None and y is not None]


def parameters(model: nn.Module, shortcut_first: bool) -> tuple[list[Any], list[Any], list[Any]]:
    """A model's layer scales, norms, and convolutions and linear layers, each in order."""
    scales: list[Any] = []
    norms: list[Any] = []
    weights: list[Any] = []
    for part in walk(model, shortcut_first):
        if isinstance(part, NORMS):
            norms.append(part)
        elif isinstance(part, (nn.Conv2d, nn.Linear)):
            weights.append(part)
        else:
            scales += part.parameters(recurse=False)
    return scales, norms, weights


def walk(model: nn.Module, shortcut_first: bool) -> Iterator[nn.Module]:
    """All modules, parents first; torchvision's RegNet has a block's shortcut before its body."""
    yield model
    children = list(model.children())
    for child in reversed(children) if shortcut_first and isinstance(model, ResidualAdd) else children:
        yield from walk(child, shortcut_first)
