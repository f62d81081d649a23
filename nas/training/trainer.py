"""Training as an iterator of epochs: whoever iterates decides when to stop. Knows no Ray and no Optuna."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas import torch_private
from nas.config import TrainConfig
from nas.data.datasets import Labels, Split
from nas.data.decoding import Images
from nas.training import gpu_layers
from nas.training.augment import mix_pairs, randaugment
from nas.training.batches import BatchLoader, equal_parts
from nas.training.bfloat16_weights import Bfloat16Weights
from nas.training.cpu_convolutions import use_fast_convolutions
from nas.training.cuda_graphs import CudaGraphStep, eager
from nas.training.fake_quantisation import FakeQuantisation
from nas.training.gpu_convolutions import PLANS_PAY, use_unplanned_convolutions
from nas.training.gpu_layers import use_triton_layers
from nas.training.ranks import SINGLE_PROCESS, SingleProcess
from nas.training.residuals import start_residuals_at_zero
from searchspace.errors import InputError

EVAL_BATCH, EVAL_BATCH_CPU = 512, 128  # a core is 1.2 to 1.45 times as fast with what its caches hold
CALIBRATION_BATCHES = 8
SAMPLED, SUMMED = 5000, 64  # images of which means and deviations are, and how many of them at a time
SCORING_COST = 1 / 3  # of an image, of its cost in training, which goes through the network forwards and backwards
OPTIMIZER_STATE = {"sgd": ("momentum_buffer",), "adamw": ("step", "exp_avg", "exp_avg_sq")}


Each = Callable[[str, int, int], None]
"""Is told after every batch what goes on, how many images are done and of how many. It must not wait for a GPU."""


def ignore_progress(what: str, done: int, total: int) -> None:
    """Nobody is told."""


class DivergedError(RuntimeError):
    """The training loss is no longer a number."""


class DeadlineError(RuntimeError):
    """The time that a training has is over."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training images, and the validation score after it; `other` is the score by another metric
    than accuracy, where a full training measures that too."""

    number: int
    train_loss: float
    accuracy: float
    loss: float
    images_per_s: float
    other: float | None = None

    @property
    def score(self) -> float:
        """What every training measures."""
        return self.accuracy


def fit(
    model: nn.Module,
    split: Split,
    config: TrainConfig,
    seed: int,
    device: str,
    graphs: bool = False,
    share: float = 1.0,
) -> Iterator[Epoch]:
    """Train with AdamW, or SGD and Nesterov momentum, a linear warm-up and a cosine to zero; yields after every epoch.

    The images come to the device as uint8 and are augmented there in batches (shift by up to 1/8, flip where classes
    allow); bfloat16 autocast on a GPU, float32 on a CPU, channels last on both. Raises `DivergedError`. On a CPU the
    same seed gives the same numbers.
    """
    yield from Training(model, split, config, seed, device, graphs=graphs, share=share)


class Training:
    """`fit` as an object, for a training that is put aside after an epoch and taken up again in another process.

    Iterating gives the epochs that are left. Between two of them the model holds the weights that were scored. In a
    process group every rank iterates, and gets the same epochs. With `graphs`, which needs a GPU and one process, whole
    steps are replayed as CUDA graphs; `why_no_graphs` says why, where that cannot be. `share` is the part of the GPU's
    memory that it may have. Images that have other than `pixels` a side are brought to these on the device, augmented.
    `each` is told of every batch. The model's weights are fresh: with the recipe's `zero_residuals` some become 0.
    """

    def __init__(
        self,
        model: nn.Module,
        split: Split,
        config: TrainConfig,
        seed: int,
        device: str,
        group: SingleProcess = SINGLE_PROCESS,
        graphs: bool = False,
        pixels: int | None = None,
        share: float = 1.0,
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.group, self.share = seed, group, share
        self.shuffle = torch.Generator().manual_seed(seed)
        self.model, self.split, self.config, self.device, self.pixels = model, split, config, device, pixels
        self.batch = min(config.batch_size, len(split.train_labels))
        if self.batch < 2 * group.size:
            _check_alone(model, split.channels, pixels or split.resolution)
        if config.zero_residuals:
            start_residuals_at_zero(model)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device == "cpu":
            use_fast_convolutions(model)
        on_gpu = device.startswith("cuda")
        own_kernels = on_gpu and graphs and not config.qat
        self.why_no_kernels = gpu_layers.why_not(device) if own_kernels else ""
        seen = config.epochs * len(split.train_labels) * (pixels or split.resolution) ** 2
        if own_kernels and not self.why_no_kernels:
            use_triton_layers(model, depthwise=seen < gpu_layers.PLANS_PAY)
        elif on_gpu and seen < PLANS_PAY:
            use_unplanned_convolutions(model)
        self.lower = Bfloat16Weights(model) if graphs and on_gpu else None
        self.learning = self.lower or group.wrap(model)
        self.norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
        self.feed, self.labels = BatchLoader(split.train_images, device, share), _on(device, split.train_labels)
        self.mean, self.std = statistics(self.feed)
        self.rate = torch.zeros((), device=device)
        self.optimizer = _optimizer(model, config, device, self.rate if graphs else 0.0)
        self.carry_out = CudaGraphStep() if graphs else eager
        self.fake, self.rounding = FakeQuantisation(model) if config.qat else None, False
        # While an epoch runs the averaged weights, between epochs the trained ones.
        self.aside = [p.detach().clone() for p in model.parameters()] if config.ema else []
        self.policy = randaugment(config.randaugment)
        self.done = 0
        self.each: Each = ignore_progress
        self.deadline = math.inf  # by `time.perf_counter`; a step that ends after it raises `DeadlineError`

    @property
    def why_no_graphs(self) -> str:
        """Why steps that were to be replayed as CUDA graphs are not; empty where they are, or were not to be."""
        return self.carry_out.why_not if isinstance(self.carry_out, CudaGraphStep) else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What would have made it faster on a GPU and could not be had, and why."""
        missing = {"CUDA graphs": self.why_no_graphs, "Triton's kernels": self.why_no_kernels}
        return tuple(f"trained without {what}: {why}" for what, why in missing.items() if why)

    def __iter__(self) -> Iterator[Epoch]:
        while self.done < self.config.epochs:
            self.done += 1
            yield self._epoch(self.done)

    def _begin_rounding(self) -> None:
        """From now on steps are of rounded numbers: another graph, and of the weights themselves, not of copies."""
        self.rounding = True
        if self.lower:
            self.lower, self.learning = None, self.model
        if isinstance(self.carry_out, CudaGraphStep):
            self.carry_out = CudaGraphStep()

    def _epoch(self, number: int) -> Epoch:
        labels, split, config, device, group = self.labels, self.split, self.config, self.device, self.group
        batch = self.batch
        if self.fake and not self.rounding and number > config.epochs - max(1, round(config.qat * config.epochs)):
            self._begin_rounding()
        steps, own = len(labels) // batch, group.part(batch)
        self.model.train()
        self._keep_statistics(False)
        self._exchange()
        start, total = time.perf_counter(), torch.zeros((), device=device)
        order = torch.randperm(len(labels), generator=self.shuffle)
        for step, (chosen, images) in enumerate(self.feed.batches(order, batch)):
            done = (number - 1) * steps + step
            self._set_rate(_learning_rate(config, done, config.epochs * steps))
            x = resize(self.policy(_augment(images, self.split.flip, self.shuffle)), self.pixels)
            x, targets = mix_pairs(_normalise(x, self.mean, self.std), labels[chosen], self.split.num_classes, config)
            with group.apart(self.seed, done, device):
                total += self.carry_out(self._step, x[own], targets[own])
            self._average(done)
            self.each("training", (step + 1) * batch, steps * batch)
            if time.perf_counter() > self.deadline:
                raise DeadlineError
        train_loss = float(group.total(total)) / (steps * group.size)
        seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise DivergedError(f"training loss is {train_loss} in epoch {number}")
        self._exchange()
        self._keep_statistics(True)
        some = resize(self.feed.at(order[: CALIBRATION_BATCHES * batch]), self.pixels)
        recalibrate(self.model, _normalise(some, self.mean, self.std), batch)
        group.agree(self.model)
        return Epoch(number, train_loss, *self.evaluate(split.val_images, split.val_labels), steps * batch / seconds)

    @torch.no_grad()
    def evaluate(self, images: Images, labels: Labels) -> tuple[float, float]:
        """(accuracy, cross-entropy) on images, with the weights as they are; every rank scores a part."""
        own, targets = self.group.part(len(labels)), _on(self.device, labels)
        right, loss = torch.zeros((2, 1), dtype=torch.float64, device=self.device)
        done = own.start
        for logits in self._logits(images, own):
            y = targets[done : done + len(logits)]
            right += (logits.argmax(1) == y).sum()
            loss += F.cross_entropy(logits, y, reduction="sum")
            done += len(logits)
            self.each("scoring", done - own.start, own.stop - own.start)
        sums = self.group.total(torch.cat([right, loss])).tolist()
        return sums[0] / len(labels), sums[1] / len(labels)

    def answers(self, images: Images, each: Each = ignore_progress) -> Tensor:
        """The class that the network takes each image for, with the weights as they are. `each` is told of batches."""
        found, done = list[Tensor](), 0
        for logits in self._logits(images, slice(0, len(images))):
            found.append(logits.argmax(1))
            done += len(logits)
            each("scoring", done, len(images))
        return torch.cat(found).cpu()

    def probabilities(self, images: Images) -> Tensor:
        """What the network says of every class (N, classes), with the weights as they are, on the CPU."""
        return torch.cat([logits.softmax(1).cpu() for logits in self._logits(images, slice(0, len(images)))])

    @torch.no_grad()
    def _logits(self, images: Images, part: slice) -> Iterator[Tensor]:
        """Answers (N, classes) to a part of the images, in eval mode; all batches on the device are equally large."""
        self.model.eval()
        on_gpu = self.device.startswith("cuda")
        loader = BatchLoader(images, self.device, self.share)
        for first, stop, seen in equal_parts(part, EVAL_BATCH if on_gpu else EVAL_BATCH_CPU):
            x = _normalise(resize(loader.between(first, stop), self.pixels), self.mean, self.std)
            with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
                logits = self.model(x).float()
            yield logits[seen:]

    def _step(self, x: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, from which the network has learnt."""
        with self.fake.rounding() if self.fake and self.rounding else nullcontext():
            with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
                loss = F.cross_entropy(self.learning(x), targets, label_smoothing=self.config.label_smoothing)
                loss = loss * self.group.share(self.batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        if self.lower:
            self.lower.return_gradients()
        self.optimizer.step()
        return loss.detach()

    def _keep_statistics(self, kept: bool) -> None:
        """Whether norms keep running means; while a network trains nobody reads them (see `recalibrate`)."""
        for norm in self.norms:
            norm.track_running_stats = kept

    def _set_rate(self, rate: float) -> None:
        self.rate.fill_(rate)
        for group in self.optimizer.param_groups:
            if group["lr"] is not self.rate:
                group["lr"] = rate

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Move the averages towards the weights, at first faster, so that they forget the initial ones."""
        if self.aside:
            decay = min(self.config.ema, (1 + step) / (10 + step))
            torch_private.lerp_all_(self.aside, list(self.model.parameters()), 1 - decay)

    @torch.no_grad()
    def _exchange(self) -> None:
        for p, other in zip(self.model.parameters(), self.aside, strict=False):
            kept = p.clone()
            p.copy_(other)
            other.copy_(kept)

    def state(self) -> dict[str, Tensor]:
        """Everything that the epochs to come depend on, as tensors alone, so that no file of it has to be pickled."""
        parameters = list(self.model.parameters())
        kept = [self.optimizer.state[p] for p in parameters]
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"optimizer.{index}.{name}": t for index, state in enumerate(kept) for name, t in state.items()},
            **{f"aside.{index}": tensor for index, tensor in enumerate(self.aside)},
            **({"rounding.ranges": self.fake.ranges, "rounding.seen": self.fake.seen} if self.fake else {}),
            "done": torch.tensor(self.done),
            "shuffle": self.shuffle.get_state(),
            **{f"random.{kind}": tensor for kind, tensor in _random_states(self.device).items()},
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on where `state` was taken; `KeyError`, `RuntimeError` or `TypeError` where it is of another training."""
        prefix = "model."
        weights = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
        self.model.load_state_dict(weights)
        for index, p in enumerate(self.model.parameters()):
            for name in OPTIMIZER_STATE[self.config.optimizer]:
                kept = state[f"optimizer.{index}.{name}"]
                like = torch.empty_like(p) if kept.ndim else torch.empty((), device=p.device)
                self.optimizer.state[p][name] = like.copy_(kept)
        for index, tensor in enumerate(self.aside):
            tensor.copy_(state[f"aside.{index}"])
        if self.fake:
            self.fake.ranges.copy_(state["rounding.ranges"])
            self.fake.seen.copy_(state["rounding.seen"])
        self.done = int(state["done"])
        self.shuffle.set_state(state["shuffle"])
        torch.set_rng_state(state["random.cpu"])
        if self.device.startswith("cuda"):
            torch.cuda.set_rng_state(state["random.cuda"], self.device)


def _random_states(device: str) -> dict[str, Tensor]:
    """The global generators that dropout and stochastic depth draw from."""
    states = {"cpu": torch.get_rng_state()}
    return {**states, "cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else states


@torch.no_grad()
def recalibrate(model: nn.Module, x: Tensor, batch: int) -> None:
    """Batch-norm statistics as plain means over some training images, with the weights as they are now.

    After few steps at a high learning rate the running averages describe weights long gone, and scores in eval mode
    are chance: a network at 0.1 accuracy by them may be at 0.9 by these. An image that is left over is left out: alone
    it has no variance on a map of one pixel.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    model.train()
    with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
        for number, first in enumerate(range(0, max(1, len(x) - 1), batch), 1):
            for norm in norms:
                norm.momentum = 1 / number  # a plain mean; None is one too, but waits for the GPU
            model(x[first : first + batch])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def _check_alone(model: nn.Module, channels: int, pixels: int) -> None:
    """`InputError` for a network that cannot learn from one image at a time: a norm on a map of one pixel has no
    variance then."""
    try:
        with torch.random.fork_rng([]):
            deepcopy(model).cpu().train()(torch.zeros(1, channels, pixels, pixels))
    except ValueError:
        said = "of this network, which has a norm on a map of one pixel, at least 2 images on each device, not 1"
        raise InputError(f"batch-size: {said}") from None


def _on(device: str, array: object) -> Tensor:
    return torch.tensor(array).to(device)


def statistics(feed: BatchLoader) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation a channel, in 0…255, as (1, C, 1, 1), of at most so many images, a few at a time."""
    number = len(feed.images)
    sums, squares, count = list[Tensor](), list[Tensor](), 0
    for chosen in torch.split(torch.arange(0, number, -(-number // SAMPLED)), SUMMED):
        x = feed.at(chosen).double()
        sums.append(x.sum((0, 2, 3)))
        squares.append(x.square().sum((0, 2, 3)))
        count += x.shape[0] * x.shape[2] * x.shape[3]
    total, total_squares = torch.stack(sums).sum(0), torch.stack(squares).sum(0)
    std = ((total_squares - total.square() / count) / (count - 1)).clamp_min(1.0).sqrt()
    return (total / count).float().reshape(1, -1, 1, 1), std.float().reshape(1, -1, 1, 1)


def resize(images: Tensor, pixels: int | None) -> Tensor:
    """Images (N, C, H, W) brought to so many pixels a side, antialiased; as they are where they have these."""
    if pixels is None or images.shape[-1] == pixels:
        return images
    return F.interpolate(images.float(), size=(pixels, pixels), mode="bilinear", antialias=True)


def _normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def _augment(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Every image shifted by its own offset of up to 1/8 of its size, edges repeated, and flipped by a coin."""
    count, _, height, width = images.shape
    far = max(1, height // 8)
    offset = torch.randint(-far, far + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5 if flip else torch.zeros(count, 1, dtype=torch.bool)
    # What is sent to a GPU is so little that nothing has to wait for it.
    offset, mirrored = (drawn.to(images.device, non_blocking=True) for drawn in (offset, mirrored))
    there = images.device
    rows = (torch.arange(height, device=there) + offset[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=there) + offset[1]).clamp(0, width - 1)
    columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(count, device=there)[:, None, None]
    picked: Tensor = images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _optimizer(model: nn.Module, config: TrainConfig, device: str, rate: Tensor | float) -> torch.optim.Optimizer:
    """Fused where that was measured to be faster. With a `rate` that is a tensor its steps can be captured."""
    groups, on_gpu = _groups(model, config.weight_decay), device.startswith("cuda")
    if config.optimizer == "adamw":
        captured = on_gpu and isinstance(rate, Tensor)
        optimizer = torch.optim.AdamW(groups, lr=rate, fused=True, capturable=captured)
        torch_private.allow_steps_without_graphs(optimizer)
        return optimizer
    return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=True, fused=on_gpu)


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
