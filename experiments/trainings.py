"""Many trainings for one table: logged, taken up where they were cut off, shared by as many processes as are started.

A script says which networks it trains, with which recipe and from which seeds. Every finished training is a line in its
log, an unfinished one a checkpoint of its last epoch. The same command started twice trains two networks at a time: a
training is held by the process that carries it out, and free again when that dies. On a GPU that several trainings fit
on, a script starts as many processes by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from nas.config import DataConfig, TrainConfig
from nas.data.datasets import Split, load, load_test
from nas.training import checkpoint
from nas.training.trainer import DivergedError, Training
from nas.workers import gpu_sharing
from searchspace import Arch, build
from searchspace.errors import InputError

VALIDATION_IMAGES = 4_000
POLL_S = 5.0

Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One training: what the table calls it, the network as it is deployed, the recipe, the seed.

    `smallest_map` is what the proxy keeps of the last map (`Arch.adapt`). Images of another resolution than their own
    are those of the split that `carry_out` is given, and the recipe has to say so.
    """

    name: str
    arch: Arch
    train: TrainConfig
    seed: int = 0
    smallest_map: int = 2

    @property
    def key(self) -> str:
        """Equal for equal trainings, whatever they are called."""
        what = [self.arch.digest, asdict(self.train), self.seed, self.smallest_map]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def repeated(archs: Mapping[str, Arch], train: TrainConfig, seeds: int, smallest_map: int = 2) -> list[Job]:
    """Every network from every seed; all networks once before any a second time, so that an early look is fair."""
    return [Job(name, arch, train, seed, smallest_map) for seed in range(seeds) for name, arch in archs.items()]


def grouped(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each name, in the names' order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["name"], []).append(record)
    return found


def accuracies(records: Sequence[Record]) -> dict[str, list[float]]:
    """The validation accuracies of each name."""
    return {name: [record["accuracy"] for record in own] for name, own in grouped(records).items()}


def described(split: Split) -> str:
    """What is trained on, in words: 10,000 images of cifar10."""
    return f"{len(split.train_labels):,} images of {Path(split.name).name}"


def held_out(images: int) -> int:
    """How many validation images go with so many to train on."""
    return VALIDATION_IMAGES if images > VALIDATION_IMAGES else images // 2


def images(dataset: str, number: int, resolution: int | None = None, seed: int = 0, scored: int | None = None) -> Split:
    """So many images to train on and `scored` to score (VALIDATION_IMAGES, or half as many where there are few), the
    same for all scripts, each class with its share; test images are not touched."""
    scored = held_out(number) if scored is None else scored
    config = DataConfig(dataset, images=number + scored, validation=scored / (number + scored))
    return load(config, seed=seed, resolution=resolution)


def begun(job: Job, split: Split, device: str) -> Training:
    torch.manual_seed(job.seed)
    model = build(job.arch.adapt(split.num_classes, split.resolution, job.smallest_map))
    seed = int(hashlib.sha256(f"{job.arch.digest} {job.seed}".encode()).hexdigest()[:8], 16)
    return Training(model, split, job.train, seed, device, graphs=device.startswith("cuda"))


def carry_out(
    jobs: Sequence[Job],
    split: Split,
    device: str,
    log: Path,
    console: Console,
    measure: Callable[[Training], Record] | None = None,
    keep: Path | None = None,
    at_once: int | None = None,
) -> list[Record]:
    """A record for each job, in their order: those of earlier starts and other processes from the log. `at_once`
    trainings at a time, each in a process of its own where there are several: what a GPU has room for, without it.

    `accuracy` after every epoch is `curve`; a training that diverged has the accuracy of guessing, and says so.
    `measure` adds to a record what it finds in the trained network. `keep` is a folder for the weights; a training
    that is in the log and not there is carried out again.
    """
    assert all(job.train.resolution in (None, split.resolution) for job in jobs)
    torch.set_num_threads(1)
    log.parent.mkdir(parents=True, exist_ok=True)
    state = log.with_suffix(".partial")
    left = {job.key: job for job in jobs}
    waiting = left.keys() - _ended(log, keep)
    at_once = min(len(waiting), room(device, split.resolution) if at_once is None else at_once)
    columns = (TextColumn("epochs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    given = (jobs, split, device, log, measure, keep)
    with (
        _helpers(at_once if at_once > 1 else 0, given) as helpers,
        Progress(*columns, console=console, speed_estimate_period=3600) as bar,
    ):
        task = bar.add_task("epochs", total=sum(job.train.epochs for job in left.values()))
        while True:
            for key in _ended(log, keep) & left.keys():
                bar.advance(task, left.pop(key).train.epochs)
            if not left:
                break
            for job in () if helpers else list(left.values()):
                with _held(state, job.key) as ours:
                    if ours and job.key not in _ended(log, keep):
                        record = _carried_out(job, split, device, state, bar, task, measure, keep)
                        with log.open("a") as file:
                            file.write(json.dumps(record) + "\n")
                        (state / f"{job.key}.safetensors").unlink(missing_ok=True)
                        del left[job.key]
                        break
            else:
                time.sleep(POLL_S)  # the rest is in other processes
                if helpers and not any(helper.is_alive() for helper in helpers) and left.keys() - _ended(log, keep):
                    raise RuntimeError(f"{log}: all processes that train ended before their trainings did")
    for job in jobs:  # and no others: another process may be at work on what comes next
        (state / f"{job.key}.lock").unlink(missing_ok=True)
    with suppress(OSError):
        state.rmdir()
    found = finished(log)
    return [{**found[job.key], "name": job.name} for job in jobs]


def room(device: str, pixels: int) -> int:
    """How many trainings go on at a time: on a GPU as many as a search has trials on it, else one."""
    if not device.startswith("cuda"):
        return 1
    share = gpu_sharing.share_of_gpu(pixels, os.cpu_count() or 1, gpu_sharing.is_installed())
    return gpu_sharing.room(1, share)


@contextmanager
def _helpers(number: int, given: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Processes that carry out the same trainings, side by side on a GPU; what they have begun is kept when they are
    ended."""
    spawn, helpers = multiprocessing.get_context("spawn"), []
    with gpu_sharing.side_by_side(number > 1) as environment:
        with patch.dict(os.environ, environment or {}):
            for _ in range(number):
                helpers.append(spawn.Process(target=_help, args=given, daemon=True))
                helpers[-1].start()
        try:
            yield helpers
        finally:
            for helper in helpers:
                helper.terminate()
                helper.join()


def _help(jobs: Sequence[Job], split: Split, device: str, log: Path, measure: Any, keep: Path | None) -> None:
    """One process of several that carry out trainings; what they tell is in the log."""
    carry_out(jobs, split, device, log, Console(quiet=True), measure, keep, at_once=1)


def finished(log: Path) -> dict[str, Record]:
    """The records of a log by key; a last line that was cut off counts as none."""
    found = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            record = json.loads(line)
            found[record["key"]] = record
        except (ValueError, KeyError):
            continue
    return found


def _ended(log: Path, keep: Path | None) -> set[str]:
    """The trainings of a log whose weights, where they are kept, are there."""
    return {key for key in finished(log) if keep is None or (keep / f"{key}.safetensors").exists()}


def _carried_out(
    job: Job,
    split: Split,
    device: str,
    state: Path,
    bar: Progress,
    task: Any,
    measure: Callable[[Training], Record] | None,
    keep: Path | None,
) -> Record:
    start, path, training, curve = time.perf_counter(), state / f"{job.key}.safetensors", begun(job, split, device), []
    before, error = 0.0, ""
    if path.exists():
        try:
            tensors, notes = checkpoint.read(path)
            training.restore(tensors)
            curve, before = json.loads(notes["curve"]), float(notes["seconds"])
        except (InputError, KeyError, RuntimeError, ValueError):
            training, curve = begun(job, split, device), []
    epoch: Record = {}
    bar.advance(task, len(curve))
    try:
        for one in training:
            epoch = {"loss": one.loss, "train_loss": one.train_loss, "images_per_s": round(one.images_per_s, 1)}
            curve.append(one.accuracy)
            notes = {"curve": json.dumps(curve), "seconds": str(before + time.perf_counter() - start)}
            if len(curve) < job.train.epochs:
                checkpoint.write(path, training.state(), notes, durable=False)
            bar.advance(task)
    except DivergedError as diverged:
        error = str(diverged)
        bar.advance(task, job.train.epochs - len(curve))
        curve += [1 / split.num_classes] * (job.train.epochs - len(curve))
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        checkpoint.write(keep / f"{job.key}.safetensors", training.model.state_dict())
    seconds = round(before + time.perf_counter() - start, 1)
    record = {"key": job.key, "name": job.name, "digest": job.arch.digest, "epochs": job.train.epochs}
    record |= {
        "seed": job.seed,
        "accuracy": curve[-1],
        "curve": curve,
        **epoch,
        "seconds": seconds,
        "ended": round(time.time(), 1),
    }
    return record | ({"diverged": error} if error else {}) | (measure(training) if measure and not error else {})


@contextmanager
def _held(folder: Path, key: str) -> Iterator[bool]:
    """Whether this process holds a training; the lock goes with it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"{key}.lock").open("w")
    except FileNotFoundError:  # another process has just tidied up
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def features(training: Training) -> Tensor:
    """What the classifier of a trained network is given for each validation image, (N, C)."""
    *_, classifier = (part for part in training.model.modules() if isinstance(part, nn.Linear))
    seen: list[Tensor] = []
    with classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().float().cpu())):
        split = training.split
        training.evaluate(split.val_images, split.val_labels)
    return torch.cat(seen)


def tested(jobs: Sequence[Job], split: Split, device: str, keep: Path, log: Path) -> list[float]:
    """The test accuracy of every job's kept weights.

    Test images are read here and nowhere else, when all trainings are done; what is in the log is not tested again.
    """
    left = [job for job in jobs if job.key not in finished(log)]
    test = load_test(split) if left else None
    if left and test is None:
        raise InputError(f"dataset {split.name}: has no test images")
    for job in left:
        assert test is not None
        training = begun(job, split, device)
        training.model.load_state_dict(checkpoint.read(keep / f"{job.key}.safetensors")[0])
        accuracy, _ = training.evaluate(*test)
        with log.open("a") as file:
            file.write(json.dumps({"key": job.key, "accuracy": accuracy, "images": len(test[1])}) + "\n")
    found = finished(log)
    return [found[job.key]["accuracy"] for job in jobs]
