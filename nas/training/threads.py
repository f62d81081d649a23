"""How many CPU threads a training is given: chosen by a few timed steps, since no rule knows network and machine.

Small networks gain little from more threads, and where other programs have the cores all threads wait for the slowest.
The last digits of a training depend on the number, so it is chosen once and kept when the training is carried on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.latency.timing import threads
from nas.training.trainer import DivergedError, Epoch, Training
from searchspace import machine
from searchspace.arch import Arch
from searchspace.pytorch.module import build

LIMIT_S = 4.0
TIE, HOPELESS = 0.95, 0.7


def usual() -> int:
    """PyTorch's own number, a thread per core, but no more than there is time for on this process's cores."""
    return min(torch.get_num_threads(), machine.cores())


def counts(most: int) -> list[int]:
    """Numbers of threads to compare: `most`, and the powers of two below."""
    return [most, *(2**power for power in reversed(range(most.bit_length())) if 2**power < most)]


def speeds(
    arch: Arch, split: Split, config: TrainConfig, numbers: Sequence[int], device: str = "cpu", limit_s: float = LIMIT_S
) -> dict[int, float]:
    """Images per second of training by number of threads. They take turns; of each the fastest step counts."""
    found = dict.fromkeys(numbers, 0.0)
    with torch.random.fork_rng([]), suppress(DivergedError):  # which the training itself will say
        _time(iter(_steps(arch, split, config, device)), found, limit_s)
    return {number: speed for number, speed in found.items() if speed} or {numbers[0]: 1.0}


def _time(steps: Iterator[Epoch], found: dict[int, float], limit_s: float) -> None:
    """Fill in what was found of each number of threads; after a first round only of those that may be the fastest."""
    begun, left = time.monotonic(), list(found)
    with threads(left[0]):
        next(steps)  # which makes what later ones use
    while True:
        for number in left:
            with threads(number):
                found[number] = max(found[number], next(steps).images_per_s)
        best = max(found.values())
        left = [number for number in left if found[number] >= HOPELESS * best]
        if time.monotonic() - begun > limit_s or len(left) == 1:
            return


def _steps(arch: Arch, split: Split, config: TrainConfig, device: str) -> Training:
    """A training of single steps, on one batch."""
    one = slice(0, min(config.batch_size, len(split.train_labels)))
    few = replace(
        split,
        train_images=split.train_images[one],
        train_labels=split.train_labels[one],
        val_images=split.val_images[:1],
        val_labels=split.val_labels[:1],
    )
    return Training(build(arch), few, replace(config, epochs=10**6), 0, device, pixels=arch.resolution)


def fewest(found: Mapping[int, float]) -> int:
    """The fewest threads that are about as fast as the fastest: the others are left to whoever else works here."""
    return min(number for number, speed in found.items() if speed >= TIE * max(found.values()))


def sentence(found: Mapping[int, float], number: int) -> str:
    """`2 threads: 140 images/s; 1: 95`, what was chosen first."""
    others = (f"{other}: {speed:.0f}" for other, speed in sorted(found.items(), reverse=True) if other != number)
    return "; ".join([f"{number} thread{'s' * (number > 1)}: {found[number]:.0f} images/s", *others])
