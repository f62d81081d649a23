"""Images as batches on the device, wherever they lie."""

from __future__ import annotations

import math
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from nas.data.decoding import Images, Mapped

RESIDENT_SHARE = 0.25
COPIED = 4096  # images at a time
FETCHERS, FETCHERS_CPU = 2, 1  # threads that fetch ahead of a training

_resident: list[tuple[weakref.ref[Images], str, Tensor]] = []


class BatchLoader:
    """Images (N, C, H, W) as uint8, batch by batch.

    On a GPU they lie in its memory where there is room (see `resident`), those of a file too; else, and on a CPU, they
    stay where they are, in memory that all trials of a machine share or in a file, and the next batches are fetched
    while the network trains on this one. `share` is the part of the GPU's memory that this training may have.
    """

    def __init__(self, images: Images, device: str, share: float = 1.0) -> None:
        self.images, self.device = images, device
        self.on_gpu = device.startswith("cuda")
        self.tensor = None if isinstance(images, Mapped) else as_tensor(images)
        there = resident(images, device, share) if self.on_gpu else None
        self.near = there is not None or (self.tensor is not None and not self.on_gpu)
        self.tensor = self.tensor if there is None else there

    def at(self, index: Tensor) -> Tensor:
        """The images of an index (B,), which lies on the CPU, on the device."""
        if self.near and self.tensor is not None:
            return self.tensor[index.to(self.device)]
        return self._send(self._fetch(index))

    def between(self, first: int, stop: int) -> Tensor:
        """The images from one to another, on the device."""
        if self.near and self.tensor is not None:
            return self.tensor[first:stop]
        return self._send(self._fetch(torch.arange(first, stop)))

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, images), both on the device, of every full batch of an order (N,), which lies on the CPU."""
        number = len(order) // size
        here = torch.split(order, size)[:number]
        there = torch.split(order.to(self.device), size)[:number]
        if self.near and self.tensor is not None:
            yield from ((chunk, self.tensor[chunk]) for chunk in there)
            return
        fetchers = FETCHERS if self.on_gpu else FETCHERS_CPU
        with ThreadPoolExecutor(fetchers) as ahead:
            waiting = deque((ahead.submit(self._fetch, chunk)) for chunk in here[:fetchers])
            for step, chunk in enumerate(there):
                if step + fetchers < number:
                    waiting.append(ahead.submit(self._fetch, here[step + fetchers]))
                yield chunk, self._send(waiting.popleft().result())

    def _send(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True)

    def _fetch(self, index: Tensor) -> Tensor:
        found = as_tensor(self.images[index.numpy()]) if self.tensor is None else self.tensor[index]
        return found.pin_memory() if self.on_gpu else found


def resident(images: Images, device: str, share: float) -> Tensor | None:
    """The images in a GPU's memory; None where they take more than a quarter of what is free of the training's share.

    They stay there for this process's next trial, as long as the images themselves live.
    """
    _resident[:] = [kept for kept in _resident if kept[0]() is not None]
    for source, where, tensor in _resident:
        if source() is images and where == device:
            return tensor
    free, total = torch.cuda.mem_get_info(device)
    if images.nbytes > RESIDENT_SHARE * min(free, share * total):
        return None
    there = torch.empty(images.shape, dtype=as_tensor(images[:1]).dtype, device=device)
    for first in range(0, len(images), COPIED):  # what lies in a file does not come into memory whole
        there[first : first + COPIED] = as_tensor(images[first : first + COPIED]).to(device)
    _resident.append((weakref.ref(images), device, there))
    return there


def as_tensor(images: object) -> Tensor:
    """An array as a tensor, without a copy; what Ray shares between workers may not be written to, and is not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


def equal_parts(part: slice, most: int) -> Iterator[tuple[int, int, int]]:
    """(first, stop, how many of its first ones were in the part before) of parts of at most so many, all equally long.

    A GPU plans its convolutions anew for every size of a batch.
    """
    number = math.ceil((part.stop - part.start) / most)
    size = math.ceil((part.stop - part.start) / max(1, number))
    for start in range(part.start, part.stop, max(1, size)):
        first = max(part.start, min(start, part.stop - size))
        yield first, first + size, start - first
