"""How long a search will take, in its parts, from one network that is built, audited and trained for a few steps."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import timedelta

import torch

from nas.config import Conduct, TrainConfig
from nas.data import Split
from nas.early_stopping import EarlyStopping
from nas.evaluate import LATENCY_ROUNDS, audit
from nas.timing import network_ms, threads
from nas.trainer import Training
from searchspace.arch import Arch
from searchspace.costs import cost
from searchspace.module import build

TIMED_STEPS = 4
SCORING = 1 / 3  # of what an image costs in training, which goes through the network forwards and backwards
RAY_S = 10.0  # to start Ray and its workers, on two cores
BEST, BEST_ROUNDS = 5, 2 * 9  # networks that are timed at the end; how often each is run


@dataclass(frozen=True, slots=True)
class Sample:
    """What one trial takes on a device, of which there are so many: before it trains, to run once, per epoch."""

    device: str
    slots: int
    before_s: float
    run_s: float
    epoch_s: float


def sample(arch: Arch, proxy: Arch, split: Split, config: TrainConfig, wanted: str) -> Sample:
    """A network's times on this machine's `wanted` device, as a trial has them: one CPU thread, or a GPU."""
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    device, slots = ("cuda", torch.cuda.device_count()) if cuda else ("cpu", os.cpu_count() or 1)
    few = config.batch_size * TIMED_STEPS
    part = replace(split, train_images=split.train_images[:few], train_labels=split.train_labels[:few])
    part = replace(part, val_images=split.val_images[:1], val_labels=split.val_labels[:1])
    with threads(1):
        begun = time.perf_counter()
        deployed = build(arch)
        audit(deployed, arch, cost(arch))
        deployed.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        (ms,) = network_ms([deployed], [arch], device, rounds=LATENCY_ROUNDS)
        before = time.perf_counter() - begun
        training = Training(build(proxy), part, config, 0, device, pixels=proxy.resolution)
        speed = next(iter(training)).images_per_s
    images = len(split.train_labels) + SCORING * len(split.val_labels)
    return Sample(device, slots, before, ms / 1000, images / speed)


def parts(
    found: Sample, conduct: Conduct, epochs: int, done: int, read_s: float, layers: int
) -> dict[str, tuple[float, float]]:
    """(expected, most) seconds of every part of a search that has `done` trials; `layers` runs of a network time the
    device's layers."""
    slots, left = min(conduct.concurrent or found.slots, conduct.trials), max(conduct.trials - done, 0)
    expected = EarlyStopping(epochs).expected(left, done) / max(left, 1)
    trials = [left * (found.before_s + each * found.epoch_s) / slots for each in (expected, epochs)]
    return {
        "reading": (read_s, read_s),
        "timing layers": (layers * found.run_s, layers * found.run_s),
        "starting Ray": (RAY_S, RAY_S),
        "trials": (trials[0], trials[1]),
        "timing the best": (BEST * BEST_ROUNDS * found.run_s,) * 2,
    }


def sentence(made: dict[str, tuple[float, float]], found: Sample) -> str:
    """`about 0:00:55: reading 0:00:06, …; 0:01:05 where no trial is stopped early (…)`."""
    expected, most = (clock(sum(seconds[place] for seconds in made.values())) for place in (0, 1))
    each = ", ".join(f"{name} {clock(seconds)}" for name, (seconds, _) in made.items() if seconds)
    return (
        f"about {expected}: {each}; {most} where no trial is stopped early (one network was timed: "
        f"{found.before_s:.1f} s to build and audit it, {found.epoch_s:.1f} s per epoch)"
    )


def clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
