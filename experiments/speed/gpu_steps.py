"""Steps of a training looked at one by one: what the parts of gpu_check.py that measure them share."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.data.datasets import Split
from nas.training.trainer import Training
from searchspace import Budget, Space, build

CLASSES = 10


class EnoughError(Exception):
    """Ends a training between two of its steps."""


def watch(training: Training, each: Callable[[int, Tensor], None]) -> Callable[[], str]:
    """`each` is called after every step, with its number from 1 and its loss. Returns what says why steps are not
    replayed as CUDA graphs, if they are not."""
    carried, number = training.carry_out, count(1)

    def carry_out(step: Any, images: Tensor, labels: Tensor) -> Tensor:
        loss = carried(step, images, labels)
        each(next(number), loss)
        return loss

    training.carry_out = carry_out
    return lambda: str(getattr(carried, "why_not", ""))


def settled(device: str) -> float:
    """The time when everything that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def mobile(number: int, side: int, budget: str = "300MFLOPs") -> nn.Module:
    """The N-th random network of `mobile`, as a search trains it with images of so many pixels."""
    return build(Space.load("mobile").sample(number, Budget.parse(budget)).adapt(CLASSES, side))


def noise(images: int, side: int) -> Split:
    """Images of noise, for what does not depend on what they show."""
    random = np.random.default_rng(0)
    shown = random.integers(0, 256, (min(images, 2_000), 3, side, side), np.uint8)
    labels = random.integers(0, CLASSES, images)
    pixels = shown[np.arange(images) % len(shown)]
    return Split("noise", pixels, labels, pixels[:64], labels[:64], tuple(map(str, range(CLASSES))), flip=True)
