"""A full training as a folder: what it is, where it stands, what came of it. Killed at any time, it carries on.

`training.yaml` says what is trained, `checkpoint.safetensors` is replaced after every epoch, `metrics.csv` has a line
an epoch; at the end the folder is a `bundle` and the checkpoint goes.
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nas.analysis import confusion
from nas.analysis.confusion import Confusion
from nas.bundle import bundle
from nas.bundle.card import ModelCard, TrainingRecord
from nas.config import (
    SAVED_IN_FULL,
    DataConfig,
    TrainConfig,
    as_begun,
    as_written,
    differences,
    same_images,
    without_pixels,
)
from nas.data.datasets import Labels, Split
from nas.data.decoding import Images
from nas.metric import DEFAULT_METRIC, Metric
from nas.plugins import load_named
from nas.training import checkpoint, scoring
from nas.training.ranks import SINGLE_PROCESS, SingleProcess
from nas.training.trainer import Each, Epoch, Training, ignore_progress
from nas.trial import proxy
from searchspace.arch import Arch
from searchspace.document import REFUSED_BY_DISK, parse, plain, read_yaml, value, write_text, write_yaml, writing
from searchspace.errors import InputError
from searchspace.pytorch.module import build

ANOTHER = "give nas.train another --out, or remove that folder"
PLAN, STATE, METRICS = "training.yaml", "checkpoint.safetensors", "metrics.csv"


@value
class TrainingPlan:
    """What makes two trainings the same, and by what `name` and `command` they go. `resolutions` are the smallest and
    the largest of the networks that it is compared with, where these have several (see `trial.proxy`); `metric` is what
    they were scored by. `plugins` are the files that register its blocks where they are the user's own."""

    arch: Arch
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    seed: int = 0
    name: str = "network"
    command: str = ""
    resolutions: tuple[int, int] | None = None
    metric: Metric = DEFAULT_METRIC
    plugins: tuple[str, ...] = ()

    def adapt(self, split: Split) -> Arch:
        """The network that is trained: this dataset's classes and resolution, all other weights of the same shapes."""
        if self.arch.in_channels != split.channels:
            takes = f"the network takes {self.arch.in_channels}"
            raise InputError(f"{self.name}: images have {split.channels} channels, {takes}")
        try:
            return proxy(self.arch, split.num_classes, split.resolution, self.resolutions)
        except ValueError as error:
            raise InputError(f"{self.name} at {split.resolution} px: {error}") from None


def is_folder(folder: Path) -> bool:
    return (folder / PLAN).is_file()


def load_plan(folder: Path) -> TrainingPlan:
    data, lines = read_yaml(folder / PLAN)
    with suppress(KeyError, TypeError):
        as_begun(data["data"], data.get("train"))
    with suppress(KeyError, TypeError):
        load_named(data["plugins"])
    return parse(TrainingPlan, data, str(folder / PLAN), lines)


def keep_preparation(folder: Path, plan: TrainingPlan) -> TrainingPlan:
    """The plan with images of the size and mirrored, and residual branches started, as they were when the folder's
    training began, where nothing else is asked and an epoch of it is kept."""
    if not has_epochs(folder):
        return plan
    begun = load_plan(folder)
    flip = begun.data.flip if plan.data.flip is None else plan.data.flip
    train = replace(plan.train, zero_residuals=begun.train.zero_residuals)
    return replace(plan, data=replace(plan.data, flip=flip, typical=begun.data.typical), train=train)


def check(folder: Path, plan: TrainingPlan) -> None:
    """`InputError` for a folder of something else, or of another training that has come as far as a whole epoch."""
    if not is_folder(folder):
        bundle.check_free(folder)
        if (folder / bundle.WEIGHTS).exists():
            raise InputError(f"out {folder}: has the weights of another training; {ANOTHER}")
        others = [name for name in (STATE, METRICS) if (folder / name).exists()]
        if others:
            raise InputError(f"out {folder}: has a {others[0]} that no training here wrote; give another folder")
        bundle.check_replaced(folder, bundle.planned_files(trained=True, confused=True, onnx=False))
    elif has_epochs(folder):
        old = load_plan(folder)
        old = replace(old, data=replace(old.data, skip_bad=plan.data.skip_bad))  # the images' fingerprint tells
        plan = replace(plan, data=as_written(plan.data, old.data))
        changed = differences(replace(old, name=plan.name, command=plan.command, plugins=plan.plugins), plan)
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise InputError(f"out {folder} is another training ({'; '.join(changed[:3])}{more}); {ANOTHER}")


def check_several(base: Path) -> None:
    """`InputError` for a folder that cannot hold those of several trainings: it is one, or of something else."""
    bundle.check_free(base)
    if has_epochs(base) or (base / bundle.WEIGHTS).exists():
        raise InputError(f"out {base}: has another training; give another --out, for several")


@contextmanager
def open_folder(folder: Path, plan: TrainingPlan) -> Iterator[None]:
    """The folder, made and held: one training at a time. `InputError` for a folder of something else.

    A start that ends with an `InputError` before a whole epoch leaves nothing behind.
    """
    check(folder, plan)
    held = _lock(folder)
    try:
        if not has_epochs(folder):
            write_yaml(folder / PLAN, plain(plan, SAVED_IN_FULL), "what is trained; the same command carries on")
        yield
    except InputError:
        if not has_epochs(folder):
            discard(folder)
        raise
    except OSError as error:
        if error.errno in REFUSED_BY_DISK or error.filename is None or folder not in Path(error.filename).parents:
            raise
        raise InputError(f"out {folder}: cannot be written ({error.strerror})") from None
    finally:
        os.close(held)


def has_epochs(folder: Path) -> bool:
    """Whether a training in a folder has come as far as a whole epoch, so that there is something to lose."""
    return is_folder(folder) and ((folder / STATE).exists() or (folder / bundle.WEIGHTS).exists())


def discard(folder: Path) -> None:
    """Take away what a start has made, so that another one may start there."""
    for name in (PLAN, METRICS):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()


def _lock(folder: Path) -> int:
    """A lock on a folder, which is made where there is none; it goes with the process."""
    with writing(f"out {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise InputError(f"out {folder}: another training is running in it") from None
    return held


def is_finished(folder: Path) -> bool:
    return (folder / bundle.WEIGHTS).is_file() and not (folder / STATE).is_file()


def epochs_done(folder: Path) -> list[Epoch]:
    """The epochs that are behind a training."""
    path = folder / STATE
    if not path.is_file():
        return []
    try:
        return [Epoch(**row) for row in json.loads(checkpoint.notes(path)["history"])]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _foreign(path, error) from None


def threads_behind(folder: Path) -> int | None:
    """The CPU threads that a training began with, by which its last digits go; None where that was not kept."""
    path = folder / STATE
    kept = checkpoint.notes(path).get("threads", "") if path.is_file() else ""
    return int(kept) if kept.isdecimal() and int(kept) > 0 else None


def resume(
    folder: Path, plan: TrainingPlan, split: Split, device: str, group: SingleProcess = SINGLE_PROCESS
) -> Training:
    """A training as its folder has it, ready for the epochs that are left."""
    torch.manual_seed(plan.seed)
    arch = plan.adapt(split)
    alone = device.startswith("cuda") and group.size == 1
    training = Training(build(arch), split, plan.train, plan.seed, device, group, graphs=alone, pixels=arch.resolution)
    path = folder / STATE
    if path.is_file():
        state, notes = checkpoint.read(path)
        if not same_images(notes.get("images", split.fingerprint), split.fingerprint):
            raise InputError(
                f"out {folder}: its first {len(epochs_done(folder))} epochs were trained on other images: the dataset "
                f"has changed since ({split.found:,} images in {split.num_classes} classes now); {ANOTHER}"
            )
        try:
            training.restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise _foreign(path, error) from None
    return training


def _foreign(path: Path, error: Exception) -> InputError:
    said = " ".join(str(error).split())[:120]
    return InputError(f"{path}: not of this training ({said}); without it the training starts anew")


def train_remaining(
    folder: Path, training: Training, watch: Callable[[Epoch], None], metric: Metric = DEFAULT_METRIC
) -> None:
    """Train what is left, leaving a state to go on from after every epoch; of several processes rank 0 alone writes,
    and measures the other metric."""
    history = epochs_done(folder)
    images, labels = training.split.val_images, training.split.val_labels
    for epoch in training:
        if training.group.rank == 0:
            epoch = replace(epoch, other=score_by(metric, training, images, labels))
            history.append(epoch)
            notes = {"history": json.dumps([dataclasses.asdict(e) for e in history])}
            notes["images"] = training.split.fingerprint
            if training.device == "cpu":
                notes["threads"] = str(torch.get_num_threads())
            write_metrics(folder / METRICS, history, metric)
            checkpoint.write(folder / STATE, training.state(), notes)  # last: whoever sees it may end this process
        watch(epoch)


def score_by(metric: Metric, training: Training, images: Images, labels: Labels) -> float | None:
    """The score of the weights as they are by another metric than the default one, which is always measured; None of
    that, and where the metric cannot be computed of these labels."""
    if metric == DEFAULT_METRIC:
        return None
    try:
        return scoring.score(metric, labels, training.probabilities(images).double().numpy())
    except ValueError:
        return None


def write_metrics(path: Path, history: list[Epoch], metric: Metric = DEFAULT_METRIC) -> None:
    """One line an epoch, replaced in one step; with a column for a metric that is not the default one."""
    fields = [field.name for field in dataclasses.fields(Epoch) if field.name != "other" or metric != DEFAULT_METRIC]
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow({"number": "epoch", "other": metric.name}.get(name, name) for name in fields)
    rows.writerows([getattr(epoch, name) for name in fields] for epoch in history)
    write_text(path, text.getvalue())


def outcome(
    plan: TrainingPlan,
    split: Split,
    history: Sequence[Epoch],
    training: Training,
    test: tuple[Images, Labels] | None,
    test_notes: tuple[str, ...] = (),
    each: Each = ignore_progress,
) -> ModelCard:
    """What came of a training; the weights are the last epoch's, so that the validation images chose nothing."""
    mean, std, arch = training.mean, training.std, plan.adapt(split)
    of = [(split.val_images, split.val_labels, ignore_progress), *([(*test, each)] if test else [])]
    given = [(labels, training.answers(images, progress)) for images, labels, progress in of]
    right = [float((found.numpy() == labels).mean()) for labels, found in given]
    other = [score_by(plan.metric, training, images, labels) for images, labels, _ in of]
    trained = TrainingRecord(
        split.name,
        plan.seed,
        len(history),
        history[-1].score,
        len(split.val_labels),
        None if test is None else right[1],
        0 if test is None else len(test[1]),
        mean=tuple(mean.flatten().tolist()),
        std=tuple(std.flatten().tolist()),
        classes=split.classes,
        command=plan.command,
        recipe=plan.train.words(),
        data_range=plan.data.data_range,
        metric=str(plan.metric),
        score=other[0],
        test_score=other[-1] if test else None,
        test_notes=test_notes,
        # At another size than the network takes, images are read again at that, and show something else.
        fingerprint=split.fingerprint if arch.resolution == split.resolution else without_pixels(split.fingerprint),
    )
    confused = Confusion(split.classes, *(confusion.count(*pair) for pair in given))
    return facts(plan, arch, trained, confused)


def facts(plan: TrainingPlan, arch: Arch, trained: TrainingRecord, confused: Confusion | None) -> ModelCard:
    title = f"{plan.name} trained on {Path(trained.dataset).name}"
    commands = (plan.command,) if plan.command else ()
    return ModelCard(title, arch, plan.arch, trained=trained, commands=commands, confusion=confused, data=plan.data)


def finish(folder: Path, training_facts: ModelCard, weights: dict[str, Tensor]) -> bundle.Export:
    """Make a bundle of the folder; the checkpoint is no longer needed."""
    made = bundle.write(folder, training_facts, weights)
    (folder / STATE).unlink(missing_ok=True)
    return made


def result(folder: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """The network of a finished training and its weights; `InputError` where it is not finished."""
    plan = load_plan(folder)
    if not is_finished(folder):
        raise InputError(f"{folder}: the training is not finished; the same nas.train command carries on")
    trained, weights = weights_in(folder)
    return facts(plan, Arch.load(folder / "arch.yaml"), trained, confusion.load(folder)), weights


def weights_in(folder: Path) -> tuple[TrainingRecord, dict[str, Tensor]]:
    """The weights of a folder, and what made them."""
    path = folder / bundle.WEIGHTS
    weights, notes = checkpoint.read(path)
    try:
        trained = parse(TrainingRecord, json.loads(notes["trained"]), str(path))
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not of a training ({error})") from None
    return trained, weights
