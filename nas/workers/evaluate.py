"""What a worker does with a trial: build, audit, time, train. `brief_training` is the training that searches have where
nobody gives another. Knows no Ray and no Optuna.

An `Evaluate` is a generator of one `Result` per epoch; `guard` gives any of them what every trial is promised: an
audited network, a seed of its own, an end in time, and an `error` instead of an exception.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.latency import timing
from nas.metric import DEFAULT_METRIC, Metric
from nas.training import checkpoint, scoring
from nas.training.trainer import DeadlineError, DivergedError, Training
from nas.trial import Result, Trial, proxy
from nas.workers import ray_private
from searchspace.arch import Arch
from searchspace.budget import Cost
from searchspace.errors import InputError
from searchspace.pytorch.module import build

LATENCY_ROUNDS = 3
CHECKPOINT_EVERY_S = {"cpu": 0.0, "cuda": 20.0}  # at least; an epoch on a GPU may take less than its checkpoint
PROCESS_BYTES = 600 << 20  # of a GPU's memory that every process takes before its first tensor
OUT_OF_MEMORY = 2  # CUDA's code for it


@dataclass(frozen=True, slots=True)
class Context:
    """What a training is given beside its trial.

    `data` are the run's: a `Split` of images, or whatever the search was given as `data=`. `seed` is the trial's own:
    the same network in the same run has the same, whenever and wherever it is trained. `epochs` is how many results are
    wanted; fewer end the trial too. `checkpoint` is a file of the trial's own to go on from when it was cut off; None
    where the worker cannot reach the folder of checkpoints. `gpu_share` is the part of a GPU that the trial may use;
    `graphs` says whether training steps are replayed as CUDA graphs, `timed` whether the deployment network is timed
    beside the other trials.
    """

    data: Any
    device: str
    seed: int
    epochs: int
    metric: Metric = DEFAULT_METRIC
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: Path | None = None
    timeout_s: float = math.inf
    gpu_share: float = 1.0
    graphs: bool = False
    timed: bool = True
    started: float = 0.0  # by `time.perf_counter`
    contended_ms: float = 0.0  # of one image through the deployment network, while other trials run


# Yields a `Result`, or a score alone, after every epoch.
Evaluate = Callable[[Trial, Context], Iterator[Result | float]]


class AuditError(RuntimeError):
    """The built module does not cost what the search space says."""


class EvaluateError(RuntimeError):
    """What a training yields is no result."""


ENDED = object()  # what comes after the last result of a training


def guard(trial: Trial, context: Context, evaluate: Evaluate) -> Generator[Result]:
    """One result per epoch; the last one says so or has an `error`. Never raises for what a training can do wrong.

    A trial that takes longer than the context's `timeout_s` has failed, and one that asks for more than its share of a
    GPU's memory is out of it.
    """
    start, failed = time.perf_counter(), ""
    if context.device == "cpu":
        torch.set_num_threads(1)  # trials run side by side, one per core
    try:
        yield from _results(trial, replace(context, started=start), evaluate)
    except AuditError as error:
        failed = f"audit: {error}"
    except EvaluateError as error:
        failed = f"evaluate: {error}"
    except DivergedError as error:
        failed = f"diverged: {error}"
    except DeadlineError:
        failed = f"timeout: it took longer than {context.timeout_s:g} s"
    except (torch.OutOfMemoryError, MemoryError) as error:
        failed = f"out of memory: {first_line(error)}"
    except torch.AcceleratorError as error:
        if getattr(error, "error_code", 0) != OUT_OF_MEMORY:
            raise  # the device is lost to this process: the worker has to be replaced
        failed = f"out of memory: {first_line(error)}"
    except SystemExit as error:
        if ray_private.ends_process(error):
            raise
        failed = f"evaluate: it called sys.exit({error.code!r:.80})"
    except Exception as error:
        if context.device.startswith("cuda"):
            torch.cuda.synchronize()  # raises where the device is lost, whatever was said of it first
        failed = f"{type(error).__name__}: {first_line(error)}"
    finally:  # by now nothing holds what the trial had
        gc.collect()
        if context.device.startswith("cuda"):
            torch.cuda.empty_cache()
    if failed:
        yield Result(error=failed)


def _results(trial: Trial, context: Context, evaluate: Evaluate) -> Generator[Result]:
    """The results of a trial, which raises what its audit and its training do."""
    if context.device.startswith("cuda"):
        bound_memory(context.device, context.gpu_share)
    torch.manual_seed(context.seed)
    with auditing(trial, context) as (ms, wait):
        yield from _scores(trial, replace(context, contended_ms=ms), evaluate, wait)


def _scores(
    trial: Trial, context: Context, evaluate: Evaluate, wait_for_audit: Callable[[], None]
) -> Generator[Result]:
    """What a training yields, as results; none before the audit is over."""
    running = evaluate(trial, context)
    if not isinstance(running, Iterator):
        raise EvaluateError(
            f"a generator that yields a score after every epoch is accepted, not {type(running).__name__}"
        )
    last = Result()
    try:
        while not last.last:
            given = next(running, ENDED)
            if given is ENDED:
                if not last.epoch:
                    raise EvaluateError("it yielded nothing")
                yield replace(last, last=True)
                break
            last = complete(given, last, time.perf_counter() - context.started, context)
            wait_for_audit()
            yield last
            if time.perf_counter() - context.started > context.timeout_s and not last.last:
                raise DeadlineError
    finally:
        if isinstance(running, Generator):
            running.close()


def bound_memory(device: str, share: float) -> None:
    """Let this process have no more than its share of a GPU's memory, of which every process takes some unasked."""
    total = torch.cuda.get_device_properties(device).total_memory
    own = max(share * total - PROCESS_BYTES, share * total / 2)
    torch.cuda.set_per_process_memory_fraction(min(1.0, own / total) if share < 1 else 1.0)


@contextmanager
def auditing(trial: Trial, context: Context) -> Iterator[tuple[float, Callable[[], None]]]:
    """The deployment network, built and counted; gives its milliseconds for one image while others run, 0 where they
    are not wanted, and what waits until it is counted.

    A GPU does not wait for it: there it is counted beside the training's first epoch, unless it is timed too. No result
    is told before, so that a network that costs something else has no score.
    """
    deployed = build(trial.arch, deployed=True)  # it draws weights, and so not in another thread
    if context.device.startswith("cuda") and not context.timed:
        with ThreadPoolExecutor(1) as beside:
            counted = beside.submit(audit, deployed, trial.arch, trial.cost)
            yield 0.0, counted.result
        return
    audit(deployed, trial.arch, trial.cost)
    ms = 0.0
    if context.timed:
        timed = timing.as_deployed(deployed, context.device)
        (ms,) = timing.network_ms([timed], [trial.arch], context.device, rounds=LATENCY_ROUNDS)
    yield ms, lambda: None


def complete(given: object, last: Result, seconds: float, context: Context) -> Result:
    """A yielded score or result with what it leaves out; `EvaluateError` where it is none that a trial can have."""
    try:
        given = (given if isinstance(given, Result) else Result(score=given)).plain()  # type: ignore[arg-type]
    except InputError as error:
        wrong = error if isinstance(given, Result) else f"a Result or a number is accepted, not {given!r:.80}"
        raise EvaluateError(str(wrong)) from None
    epoch = given.epoch or last.epoch + 1
    if given.error:
        return replace(given, epoch=epoch)
    if epoch <= last.epoch:
        raise EvaluateError(f"epochs that rise are accepted, not {epoch} after {last.epoch}")
    try:
        if not math.isfinite(given.score):
            raise EvaluateError(f"the {context.metric.words} of epoch {epoch} is {given.score}")
        context.metric.check(given.score)
    except InputError as error:
        raise EvaluateError(str(error)) from None
    return replace(
        given,
        epoch=epoch,
        seconds=given.seconds or seconds,
        contended_ms=given.contended_ms or context.contended_ms,
        last=given.last or epoch >= context.epochs,
    )


def brief_training(trial: Trial, context: Context) -> Generator[Result]:
    """The built-in training: the trial's proxy, on a `Split`, by the context's recipe, scored on its validation images.

    Where the checkpoint can be reached, training goes on where an earlier trial of the same network was cut off: what
    that had measured comes first, unchanged, and the rest is what it would have been.
    """
    split: Split = context.data
    trained = proxy(trial.arch, split.num_classes, split.resolution, trial.resolutions)

    def begin() -> Training:
        torch.manual_seed(context.seed)
        return Training(
            build(trained),
            split,
            context.train,
            context.seed,
            context.device,
            graphs=context.graphs,
            pixels=trained.resolution,
            share=context.gpu_share,
        )

    kept = context.checkpoint
    notes = seed_and_recipe(context)
    training, results = begin(), list[Result]()
    if kept and kept.is_file():
        results = load_checkpoint(training, kept, notes)
        training = training if results else begin()
    yield from results
    training.deadline = context.started + context.timeout_s
    before, kept_at = results[-1].seconds if results else 0.0, context.started
    for epoch in training:
        score = epoch.score
        if context.metric != DEFAULT_METRIC:
            answers = training.probabilities(split.val_images).double().numpy()
            score = scoring.score(context.metric, split.val_labels, answers)
        result = Result(
            epoch=epoch.number,
            score=score,
            loss=epoch.loss,
            train_loss=epoch.train_loss,
            images_per_s=epoch.images_per_s,
            seconds=before + time.perf_counter() - context.started,
            contended_ms=context.contended_ms,
            images=len(split.val_labels),
            correct=correct(training, split) if trial.final and epoch.number == context.epochs else "",
            note="; ".join(training.notes),
        )
        results.append(result)
        due = time.perf_counter() - kept_at >= CHECKPOINT_EVERY_S[context.device]
        if kept and due and epoch.number < context.epochs:
            save_checkpoint(training, kept, notes, results)
            kept_at = time.perf_counter()
        yield result


def correct(training: Training, split: Split) -> str:
    """Which validation images the network answers right; see `Result.correct`."""
    right = training.answers(split.val_images).numpy() == split.val_labels
    return f"{len(right)}:{np.packbits(right).tobytes().hex()}"


def seed_and_recipe(context: Context) -> str:
    """What a checkpoint is of, as it was also written before there was `zero_residuals`, so that trials that were cut
    off then go on."""
    return f"seed {context.seed}, {context.train}".replace(", zero_residuals=False", "")


def save_checkpoint(training: Training, path: Path, notes: str, results: list[Result]) -> None:
    """Write a checkpoint; where that cannot be, the trial goes on without."""
    scores = json.dumps([asdict(result) for result in results])
    try:
        checkpoint.write(path, training.state(), {"of": notes, "results": scores}, durable=False)
    except OSError:
        path.with_name(path.name + ".part").unlink(missing_ok=True)


def load_checkpoint(training: Training, path: Path, notes: str) -> list[Result]:
    """The results up to a checkpoint, to which the training is brought; none where the file is of something else."""
    try:
        state, found = checkpoint.read(path)
        if found["of"] != notes:
            return []
        results = [Result(**result) for result in json.loads(found["results"])]
        training.restore(state)
    except (InputError, KeyError, RuntimeError, TypeError, ValueError):
        return []
    return results


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no reason given")[:200]


def trial_seed(seed: int, training: str) -> int:
    """The same training (see `Trial.training`) in the same run has the same seed, whenever and wherever it happens."""
    return int(hashlib.sha256(f"{seed} {training}".encode()).hexdigest()[:8], 16)


def audit(model: nn.Module, arch: Arch, expected: Cost) -> None:
    """Count the module's parameters, and its multiply-adds with fvcore; `AuditError` where either differs.

    fvcore's `conv` and `linear` operators in eval mode: its total also has norms and pools in other units.
    """
    from fvcore.nn import FlopCountAnalysis

    params = sum(p.numel() for p in model.parameters())
    model.eval()
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    image = torch.zeros(1, arch.in_channels, arch.resolution, arch.resolution)
    analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = analysis.by_operator()
    macs = round(counted["conv"] + counted["linear"])
    if (macs, params) != (expected.macs, expected.params):
        computed = f"{expected.macs} MACs and {expected.params} params"
        raise AuditError(f"computed {computed}, but the module has {macs} MACs and {params} params")
