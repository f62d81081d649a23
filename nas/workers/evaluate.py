"""`evaluate(trial, …)`: what a worker does with a trial: build, audit, time, train. Knows no Ray and no Optuna."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.latency.timing import network_ms
from nas.training import checkpoint
from nas.training.trainer import DivergedError, Training
from nas.trial import Result, Trial, proxy
from searchspace.arch import Arch
from searchspace.budget import Cost
from searchspace.errors import InputError
from searchspace.pytorch.module import build

LATENCY_ROUNDS = 3


class AuditError(RuntimeError):
    """The built module does not cost what the search space says."""


def evaluate(
    trial: Trial,
    split: Split,
    config: TrainConfig,
    seed: int,
    device: str,
    folder: Path | None = None,
    timeout_s: float = math.inf,
    gpu_share: float = 1.0,
    graphs: bool = False,
) -> Generator[Result]:
    """One result an epoch; the last is `done` or has an `error`. Never raises for what a network can do wrong.

    A trial that trains for longer than `timeout_s` has failed, and one that asks for more than its share of a GPU's
    memory is out of it. With `graphs`, on a GPU, steps are replayed as CUDA graphs.

    Where the `folder` for checkpoints can be reached, training goes on where an earlier trial of the same network was
    cut off: what that had measured comes first, unchanged, and the rest is what it would have been.
    """
    start = time.perf_counter()
    if device == "cpu":
        torch.set_num_threads(1)  # trials run side by side, one a core
    elif gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(gpu_share)
    own_seed = trial_seed(seed, trial.digest)
    try:
        torch.manual_seed(own_seed)
        deployed = build(trial.arch)
        audit(deployed, trial.arch, trial.cost)
        deployed.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        (latency_ms,) = network_ms([deployed], [trial.arch], device, rounds=LATENCY_ROUNDS)
        del deployed
        trained = proxy(trial.arch, split.num_classes, split.resolution, trial.resolutions)

        def begin() -> Training:
            torch.manual_seed(own_seed)
            return Training(build(trained), split, config, own_seed, device, graphs=graphs, pixels=trained.resolution)

        kept = folder / f"{trial.digest}.safetensors" if folder and folder.is_dir() else None
        notes = f"seed {own_seed}, {config}"
        training, results = begin(), []
        if kept and kept.is_file():
            results = load_checkpoint(training, kept, notes)
            training = training if results else begin()
        yield from results
        training.deadline = start + timeout_s
        before = results[-1].seconds if results else 0.0
        for epoch in training:
            result = Result(
                epoch=epoch.number,
                accuracy=epoch.accuracy,
                loss=epoch.loss,
                train_loss=epoch.train_loss,
                images_per_s=epoch.images_per_s,
                seconds=before + time.perf_counter() - start,
                latency_ms=latency_ms,
                done=epoch.number == config.epochs,
            )
            results.append(result)
            if kept and not result.done:
                save_checkpoint(training, kept, notes, results)
            yield result
    except AuditError as error:
        yield Result(error=f"audit: {error}", done=True)
    except DivergedError as error:
        yield Result(error=f"diverged: {error}", done=True)
    except TimeoutError:
        yield Result(error=f"timeout: it took longer than {timeout_s:g} s", done=True)
    except (torch.OutOfMemoryError, MemoryError) as error:
        yield Result(error=f"out of memory: {first_line(error)}", done=True)
    except torch.AcceleratorError:
        raise  # the device is lost to this process: the worker has to be replaced
    except Exception as error:
        yield Result(error=f"{type(error).__name__}: {first_line(error)}", done=True)
    finally:
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def save_checkpoint(training: Training, path: Path, notes: str, results: list[Result]) -> None:
    """Write a checkpoint; where that cannot be, the trial goes on without."""
    told = json.dumps([asdict(result) for result in results])
    try:
        checkpoint.write(path, training.state(), {"of": notes, "results": told}, durable=False)
    except (OSError, SafetensorError):
        path.with_name(path.name + ".part").unlink(missing_ok=True)


def load_checkpoint(training: Training, path: Path, notes: str) -> list[Result]:
    """The results up to a checkpoint, to which the training is brought; none where the file is of something else."""
    try:
        state, told = checkpoint.read(path)
        if told["of"] != notes:
            return []
        results = [Result(**result) for result in json.loads(told["results"])]
        training.restore(state)
    except (InputError, KeyError, RuntimeError, TypeError, ValueError):
        return []
    return results


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no reason given")[:200]


def trial_seed(seed: int, digest: str) -> int:
    """The same network in the same run trains from the same seed, whenever and wherever that happens."""
    return int(hashlib.sha256(f"{seed} {digest}".encode()).hexdigest()[:8], 16)


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
