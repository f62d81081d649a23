"""Brief training as a generator of epochs: whoever iterates decides when to stop. Knows no Ray and no Optuna."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.config import TrainConfig
from nas.data import Split

EVAL_BATCH = 512
CALIBRATION_BATCHES = 8


class DivergedError(RuntimeError):
    """The training loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training images, and the validation score after it."""

    number: int
    train_loss: float
    accuracy: float
    loss: float
    images_per_s: float


def fit(model: nn.Module, split: Split, config: TrainConfig, seed: int, device: str) -> Iterator[Epoch]:
    """Train with SGD and Nesterov momentum, linear warm-up and a cosine to zero; yields after every epoch.

    The images lie on the device as uint8 and are augmented in batches (shift by up to 1/8, flip where classes allow);
    bfloat16 autocast on a GPU, float32 on a CPU, channels last on both. Raises `DivergedError`. On a CPU the
    same seed gives the same numbers.
    """
    torch.manual_seed(seed)
    shuffle = torch.Generator().manual_seed(seed)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = _on(device, split.train_images), _on(device, split.train_labels)
    mean, std = _statistics(images)
    batch = min(config.batch_size, len(labels))
    steps = len(labels) // batch
    optimizer = torch.optim.SGD(_groups(model, config.weight_decay), lr=1.0, momentum=config.momentum, nesterov=True)
    for number in range(1, config.epochs + 1):
        model.train()
        start, total = time.perf_counter(), torch.zeros((), device=device)
        order = torch.randperm(len(labels), generator=shuffle).to(device)
        for step in range(steps):
            done = (number - 1) * steps + step
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(config, done, config.epochs * steps)
            chosen = order[step * batch : (step + 1) * batch]
            x = _normalised(_augmented(images[chosen], split.flip, shuffle), mean, std)
            with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
                loss = F.cross_entropy(model(x), labels[chosen], label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
        train_loss = float(total) / steps
        seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise DivergedError(f"training loss is {train_loss} in epoch {number}")
        recalibrate(model, _normalised(images[order[: CALIBRATION_BATCHES * batch]], mean, std), batch)
        accuracy, val_loss = score(model, split, mean, std, device)
        yield Epoch(number, train_loss, accuracy, val_loss, steps * batch / seconds)


@torch.no_grad()
def recalibrate(model: nn.Module, x: Tensor, batch: int) -> None:
    """Batch-norm statistics as plain means over some training images, with the weights as they are now.

    After few steps at a high learning rate the running averages describe weights long gone, and scores in eval mode
    are chance: a network at 0.1 accuracy by them may be at 0.9 by these.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
        for first in range(0, len(x), batch):
            model(x[first : first + batch])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def score(model: nn.Module, split: Split, mean: Tensor, std: Tensor, device: str) -> tuple[float, float]:
    """(accuracy, cross-entropy) on the validation images."""
    model.eval()
    right, loss = 0, 0.0
    for first in range(0, len(split.val_labels), EVAL_BATCH):
        x = _on(device, split.val_images[first : first + EVAL_BATCH])
        y = _on(device, split.val_labels[first : first + EVAL_BATCH])
        with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
            logits = model(_normalised(x, mean, std)).float()
        right += int((logits.argmax(1) == y).sum())
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
    return right / len(split.val_labels), loss / len(split.val_labels)


def _on(device: str, array: object) -> Tensor:
    return torch.tensor(array).to(device)


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation a channel, in 0…255, as (1, 3, 1, 1)."""
    sample = images[:: max(1, len(images) // 5000)].float()
    mean, std = sample.mean((0, 2, 3), keepdim=True), sample.std((0, 2, 3), keepdim=True)
    return mean, std.clamp_min(1.0)


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def _augmented(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Every image shifted by its own offset of up to 1/8 of its size, edges repeated, and flipped by a coin."""
    count, _, height, width = images.shape
    far = max(1, height // 8)
    offset = torch.randint(-far, far + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + offset[0]).clamp(0, height - 1)
    columns = (torch.arange(width) + offset[1]).clamp(0, width - 1)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(count)[:, None, None]
    rows, columns, index = (t.to(images.device, non_blocking=True) for t in (rows, columns, index))
    picked: Tensor = images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on convolution and linear weights; none on norms, biases and scales."""
    decayed = [p for p in model.parameters() if p.ndim in (2, 4)]
    others = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
