"""Whole training steps as one CUDA graph: with small images a GPU waits for the launches of single kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EAGER_STEPS = 3

Step = Callable[[Tensor, Tensor], Tensor]


class CudaGraphStep:
    """Carries a step from images and labels to a loss out as it is EAGER_STEPS times, captures it then, and replays it.

    Images and labels have the same shape at every step. What the step reads and writes besides stays where it is:
    weights, the optimizer's state, a learning rate that is a tensor. The loss is overwritten by the next step.
    """

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, step: Step, images: Tensor, labels: Tensor) -> Tensor:
        self.done += 1
        if self.done <= EAGER_STEPS:
            return on_side_stream(step, images, labels)
        if self.done == EAGER_STEPS + 1:
            self.images, self.labels = images.clone(), labels.clone()
            self.replay, self.loss = captured(step, self.images, self.labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.replay()
        return self.loss


def eager(step: Step, images: Tensor, labels: Tensor) -> Tensor:
    return step(images, labels)


def on_side_stream(step: Step, images: Tensor, labels: Tensor) -> Tensor:
    """A step on a stream of its own, as those before a capture have to be."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = step(images, labels)
    torch.cuda.current_stream().wait_stream(stream)
    return loss


def captured(step: Step, images: Tensor, labels: Tensor) -> tuple[Callable[[], None], Tensor]:
    """What repeats a step with what lies in these tensors then, and where its loss will be. Carries nothing out."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(images, labels)
    return graph.replay, loss
