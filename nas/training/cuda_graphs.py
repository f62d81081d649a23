"""Whole training steps as one CUDA graph: with small images a GPU waits for the launches of single kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

EAGER_STEPS = 3

Step = Callable[[Tensor, Tensor], Tensor]


class CaptureError(RuntimeError):
    """A step cannot be captured, as one that waits for the GPU."""


class CudaGraphStep:
    """Carries a step from images and labels to a loss out as it is EAGER_STEPS times, captures it then, and replays it.

    Images and labels have the same shape at every step. What the step reads and writes besides stays where it is:
    weights, the optimizer's state, a learning rate that is a tensor. The loss is overwritten by the next step. A step
    that cannot be captured is carried out as it is from then on, and `why_not` says why.
    """

    def __init__(self) -> None:
        self.done, self.why_not = 0, ""

    def __call__(self, step: Step, images: Tensor, labels: Tensor) -> Tensor:
        self.done += 1
        if self.why_not:
            return step(images, labels)
        if self.done <= EAGER_STEPS:
            return on_side_stream(step, images, labels)
        if self.done == EAGER_STEPS + 1:
            self.images, self.labels = images.clone(), labels.clone()
            try:
                self.replay, self.loss = capture(step, self.images, self.labels)
            except CaptureError as error:
                self.why_not = str(error)
                check_usable(images.device)
                return step(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.replay()
        return self.loss


def eager(step: Step, images: Tensor, labels: Tensor) -> Tensor:
    return step(images, labels)


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """This process's one stream beside the default: cuBLAS keeps memory for every stream that it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def on_side_stream(step: Step, images: Tensor, labels: Tensor) -> Tensor:
    """A step on a stream of its own, as those before a capture have to be."""
    stream = side_stream(images.device)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = step(images, labels)
    torch.cuda.current_stream().wait_stream(stream)
    return loss


def capture(step: Step, images: Tensor, labels: Tensor) -> tuple[Callable[[], None], Tensor]:
    """What repeats a step with what lies in these tensors then, and where its loss will be. Carries nothing out.

    Other threads may use the GPU meanwhile, as one that fetches images. `CaptureError` where it cannot be.
    """
    graph, random = torch.cuda.CUDAGraph(), torch.cuda.get_rng_state(images.device)
    try:
        with torch.cuda.graph(graph, stream=side_stream(images.device), capture_error_mode="thread_local"):
            loss = step(images, labels)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        renew_generator(images.device, random)
        cause = error.__context__ or error  # the end of a capture that failed raises an error of its own
        raise CaptureError(next(iter(str(cause).splitlines()), type(cause).__name__)[:200]) from error
    return graph.replay, loss


def renew_generator(device: torch.device, state: Tensor) -> None:
    """Give a GPU's generator this state, and nothing else of what it was: a capture that fails leaves it waiting for
    the capture's end, and every later dropout of the process would fail."""
    fresh = torch.Generator(device)
    fresh.set_state(state)
    torch.cuda.default_generators[device.index].graphsafe_set_state(fresh.graphsafe_get_state())


def check_usable(device: torch.device) -> None:
    """Raises where a capture that failed has left the GPU, or its random numbers, unusable for this process."""
    torch.cuda.synchronize(device)
    torch.rand(1, device=device)
