"""One training on several devices: a process for each, its ranks, which do the same but for their part of every batch.

Every rank holds the network and all images, and draws the same batches and augmentations. It takes its own part of a
batch through the network; gradients are averaged, so that the weights stay equal. Knows no Ray: whoever starts the
ranks has joined them in torch's process group.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class SingleProcess:
    """The process group of one process: everything is its own part, and nobody has to be told."""

    rank, size = 0, 1

    def part(self, count: int) -> slice:
        """Which of so many images are this rank's: all equally many, or one more."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def share(self, count: int) -> float:
        """What this rank's mean over its part counts in the plain mean of all ranks, so that this is that of images."""
        part = range(count)[self.part(count)]
        return len(part) * self.size / count

    def wrap(self, model: nn.Module) -> nn.Module:
        """The network whose backward pass leaves every rank the gradients averaged over ranks."""
        return model

    @contextmanager
    def apart(self, seed: int, step: int, device: str) -> Iterator[None]:
        """While ranks draw what has to differ: the dropout of their own images."""
        yield

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over ranks."""
        return tensor

    def agree(self, model: nn.Module) -> None:
        """Give every rank the first one's buffers."""


class ProcessGroup(SingleProcess):
    """This process among those of torch's process group."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def wrap(self, model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, broadcast_buffers=False)

    @contextmanager
    def apart(self, seed: int, step: int, device: str) -> Iterator[None]:
        """Afterwards the generators are where they were, so that ranks go on drawing the same."""
        devices = [device] if device.startswith("cuda") else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(random.Random(f"{seed} {step} {self.rank}").getrandbits(63))
            yield

    def total(self, tensor: Tensor) -> Tensor:
        distributed.all_reduce(tensor)
        return tensor

    def agree(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


SINGLE_PROCESS = SingleProcess()
