"""How long a search will take, in its parts, from one network that is built, audited and trained for a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from nas.config import Execution, SearchConfig, TrainConfig
from nas.data.datasets import Split
from nas.data.labelled import count_of
from nas.latency.timing import as_deployed as timed_as
from nas.latency.timing import is_here, network_ms, threads
from nas.study.early_stopping import EarlyStopping
from nas.study.finals import effort, finalists, rounds
from nas.training.trainer import SCORING_COST, Training
from nas.trial import proxy
from nas.workers import gpu_sharing, tuner
from nas.workers.evaluate import LATENCY_ROUNDS, audit
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.costs.network_cost import cost, section_costs
from searchspace.pytorch.module import build
from searchspace.space.space import Space

TIMED_STEPS = 4
LONGEST_S = 1e13  # of which a timedelta is made
RAY_S = 10.0  # to start Ray and its workers, on two cores
# Trials on one GPU that do not slow each other down: carried out kernel by kernel (estimated by reading), and as graphs
# beside each other (four on an H200 trained 42,000 images/s together, one alone 14,000).
EAGER, SIDE_BY_SIDE = 3, 3
BEST, BEST_ROUNDS = 5, 2 * 9  # networks that are timed at the end; how often each is run


@dataclass(frozen=True, slots=True)
class Sample:
    """What one trial takes on a device, alone: before it trains, to run once, per epoch. So many run `at_once`, and
    as many of them as `at_full_speed` do not slow each other down."""

    device: str
    at_once: int
    at_full_speed: int
    before_s: float
    run_s: float
    epoch_s: float


def concurrency(conduct: Execution, pixels: int | None) -> tuple[str, int, int]:
    """The device that trials run on here, how many at once, and how many of them do not slow each other down."""
    there, side_by_side = gpu_sharing.here(), conduct.mps and gpu_sharing.is_installed()
    planned = tuner.plan(there, replace(conduct, ray_address=None), pixels, side_by_side)
    at_once = planned.concurrent or 1
    if planned.device == "cpu" or planned.gpus >= 1:
        return planned.device, at_once, at_once
    each = (SIDE_BY_SIDE if side_by_side else 1) if conduct.cuda_graphs else EAGER
    return planned.device, at_once, min(at_once, int(there["GPU"]) * each)


def sample(
    arch: Arch, trained: Arch, split: Split, config: TrainConfig, conduct: Execution, pixels: int | None = None
) -> Sample:
    """A network's times on this machine's device, as a trial has them: one CPU thread, or a GPU of its own. Trials
    train on images of so many pixels."""
    device, at_once, at_full_speed = concurrency(conduct, pixels)
    cuda = device == "cuda"
    few = config.batch_size * TIMED_STEPS
    part = replace(split, train_images=split.train_images[:few], train_labels=split.train_labels[:few])
    part = replace(part, val_images=split.val_images[:1], val_labels=split.val_labels[:1])
    with threads(1):
        begun = time.perf_counter()
        deployed = build(arch, deployed=True)
        audit(deployed, arch, cost(arch))
        (ms,) = network_ms([timed_as(deployed, device)], [arch], device, rounds=LATENCY_ROUNDS)
        before = time.perf_counter() - begun
        twice = replace(config, epochs=2)
        graphs = cuda and conduct.cuda_graphs
        epochs = iter(Training(build(trained), part, twice, 0, device, graphs=graphs, pixels=trained.resolution))
        if cuda:
            next(epochs)  # which plans and captures
        speed = next(epochs).images_per_s
    images = len(split.train_labels) + SCORING_COST * len(split.val_labels)
    return Sample(device, at_once, at_full_speed, before, ms / 1000, images / speed)


def parts(
    found: Sample,
    conduct: Execution,
    epochs: int,
    done: int,
    read_s: float,
    layers: int,
    of_finals: tuple[int, int] = (0, 0),
) -> dict[str, tuple[float, float]]:
    """(expected, most) seconds of every part of a search that has `done` trials; `layers` runs of a network time the
    device's layers, and finals are so many trainings and epochs."""
    left = max(conduct.trials - done, 0)
    slots, trained_in = (min(number, conduct.trials) for number in (found.at_once, found.at_full_speed))
    expected = EarlyStopping(epochs, conduct.early_stopping).expected(left, done) / max(left, 1)
    trials = [left * (found.before_s / slots + each * found.epoch_s / trained_in) for each in (expected, epochs)]
    trainings, trained = of_finals
    last = min(trained_in, 2)  # the last rounds are of two
    finals = (trainings * found.before_s + trained * found.epoch_s) / last
    return {
        "reading": (read_s, read_s),
        "timing layers": (layers * found.run_s, layers * found.run_s),
        "starting Ray": (RAY_S, RAY_S),
        "trials": (trials[0], trials[1]),
        "finals": (finals, finals),
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
    return str(timedelta(seconds=round(min(seconds, LONGEST_S))))


def print_plan(
    console: Console,
    config: SearchConfig,
    space: Space,
    split: Split,
    run: Path,
    read_s: float = 0.0,
    done: int = 0,
    layers: int = 0,
) -> None:
    """What a search would do, and how long that takes, from steps timed on this machine (see `nas.run.estimate`)."""

    identity, conduct = config.identity, config.conduct
    arch = space.sample(identity.seed, config.budget, identity.band)
    trained = proxy(arch, split.num_classes, split.resolution, space.extremes)
    found = None
    if is_here(conduct.device):
        pixels = None if identity.evaluate else split.resolution
        found = sample(arch, trained, split, identity.train, conduct, pixels)
    last, deployed = (section_costs(a)[-2].output[1] for a in (trained, arch))
    known = [count_of(identity.baselines, "textbook network")] if identity.baselines else []
    known.append(count_of(identity.controls, "random control"))
    stride = f"total stride {trained.total_stride}"
    if trained.total_stride != arch.total_stride:
        stride += f", not {arch.total_stride} (early strides are relaxed)"
    least = proxy(arch.adapt(resolution=space.resolutions[0]), 2, split.resolution, space.extremes).resolution
    narrower = f"; last maps are {last} px wide, not {deployed}, so wide kernels gain less there"
    console.print(
        f"trains at {f'{least} to ' if space.extremes else ''}{split.resolution} px: "
        f"{amount(cost(trained).macs, 'macs')}, {stride}" + (narrower if last < deployed else "")
    )
    where = "a cluster's GPUs"
    if found is not None:
        where = f"{found.at_once} at once on {found.device}"
    finals = effort(min(finalists(config), conduct.trials), identity.train.epochs, identity.baselines)
    longest = rounds(identity.train.epochs)[-1].epochs
    then = f", then finals: {finals[0]} trainings of up to {longest} epochs" if finals[0] else ""
    most = "up to " if conduct.early_stopping else ""
    console.print(
        f"plan: {count_of(conduct.trials, 'trial')} ({', '.join(known)}) of {most}"
        f"{count_of(identity.train.epochs, 'epoch')}, {where}, in {run}{then}"
    )
    if found is None:
        console.print("how long that takes cannot be said here: there is no GPU to time a network on")
        return
    made = parts(found, conduct, identity.train.epochs, done, read_s, layers, finals)
    console.print(sentence(made, found))
