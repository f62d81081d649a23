"""The training images as batches on the device, wherever they lie."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from nas.data.decoding import Images, Mapped

RESIDENT_SHARE = 0.25


class BatchLoader:
    """Images (N, 3, H, W) as uint8, batch by batch.

    On a GPU they lie in its memory where they take at most a quarter of what is free; else, and on a CPU, they stay
    where they are, in memory that all trials of a machine share or in a file, and the next batch is fetched while the
    network trains on this one.
    """

    def __init__(self, images: Images, device: str) -> None:
        self.images, self.device = images, device
        self.tensor = None if isinstance(images, Mapped) else as_tensor(images)
        if self.tensor is not None and device.startswith("cuda") and self._fits():
            self.tensor = self.tensor.to(device)

    def _fits(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.images.nbytes <= RESIDENT_SHARE * free

    def at(self, index: Tensor) -> Tensor:
        """The images of an index (B,), on the device."""
        if self.tensor is not None and self.tensor.device.type == index.device.type:
            return self.tensor[index]
        return self._fetched(index.cpu()).to(self.device, non_blocking=True)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, images) of every full batch of an order (N,), which lies on the device."""
        chunks = torch.split(order, size)[: len(order) // size]
        if self.tensor is not None and self.tensor.device.type == order.device.type:
            yield from ((chunk, self.tensor[chunk]) for chunk in chunks)
            return
        with ThreadPoolExecutor(1) as ahead:
            waiting = None
            for chunk in chunks:
                ready, waiting = waiting, (chunk, ahead.submit(self._fetched, chunk.cpu()))
                if ready is not None:
                    yield ready[0], ready[1].result().to(self.device, non_blocking=True)
            if waiting is not None:
                yield waiting[0], waiting[1].result().to(self.device, non_blocking=True)

    def _fetched(self, index: Tensor) -> Tensor:
        found = as_tensor(self.images[index.numpy()]) if self.tensor is None else self.tensor[index]
        return found.pin_memory() if self.device.startswith("cuda") else found


def as_tensor(images: object) -> Tensor:
    """An array as a tensor, without a copy; what Ray shares between workers may not be written to, and is not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)
