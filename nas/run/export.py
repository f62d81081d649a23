"""Taking a network home, of a search, a training, an export, a file or the zoo: a folder that needs nothing of us."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from torch import Tensor

from nas.analysis import confusion
from nas.analysis.finals import sentences
from nas.bundle import bundle
from nas.bundle.card import ModelCard, TrainingRecord, elsewhere, escape, is_found
from nas.bundle.int8_file import Calibration
from nas.config import CONFIG, DataConfig, SearchConfig, base_of, load_plugins, same_images
from nas.data.datasets import Split
from nas.full_training import training_folder
from nas.run.images import read_images, read_test_images
from nas.run.run import Run
from nas.run.subject import NAMELESS
from nas.study import storage
from nas.trial import TrialRecord, after_trials
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.costs.latency import LatencyTable
from searchspace.costs.network_cost import cost
from searchspace.errors import InputError
from searchspace.pytorch.source import outputs
from searchspace.space.lookup import network

Weights = dict[str, Tensor]
CALIBRATION_IMAGES = 256


def choose(given: str, trial: int | None) -> tuple[ModelCard, Weights | None]:
    """What is to be exported, with its weights where they are trained."""
    path = Path(given)
    load_plugins(path if path.is_dir() else path.parent)
    if is_search(path):
        return of_trial(Run.open(path), trial), None
    if trial is not None:
        what = "a training, not a search" if training_folder.is_folder(path) else "no search"
        raise InputError(f"trial {trial}: {given} is {what}")
    if training_folder.is_folder(path):
        return training_folder.result(path)
    if path.is_dir():
        return of_export(path)
    arch = network(given)
    name = (
        path.resolve().parent.name if path.name in ("arch.yaml", "best.yaml") else path.stem if path.suffix else given
    )
    return ModelCard(name, arch, arch), None


def is_search(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or (folder / storage.FILE).is_file()


def of_export(folder: Path) -> tuple[ModelCard, Weights | None]:
    """The network of an exported folder, with its weights where it has them."""
    if not (folder / "arch.yaml").is_file():
        raise InputError(f"{folder}: no run folder (study.db), training (training.yaml) or export (arch.yaml)")
    arch = Arch.load(folder / "arch.yaml")
    name = folder.resolve().name
    if not (folder / bundle.WEIGHTS).is_file():
        return ModelCard(name, arch, arch), None
    trained, weights = training_folder.weights_in(folder)
    commands = (trained.command,) if trained.command else ()
    data, confused = bundle.data_of(folder), confusion.load(folder)
    return ModelCard(name, arch, None, trained=trained, commands=commands, data=data, confusion=confused), weights


def check_images(int8: bool, dataset: str | None, number: int | None) -> None:
    """`InputError` where images are given to quantise with and nothing is quantised."""
    if not int8 and (dataset is not None or number is not None):
        raise InputError("dataset and calibration-images: are for --int8 or --format tflite")


def calibration(facts: ModelCard, dataset: str | None, number: int | None, console: Console) -> Calibration:
    """Images to quantise a trained network with, read as training read them, and those that it is scored on."""
    arch, trained = facts.arch, facts.trained
    number = CALIBRATION_IMAGES if number is None else number
    if trained is None:
        raise InputError(f"int8: {facts.title} has no trained weights to quantise; python -m nas.train makes them")
    if number < 1:
        raise InputError(f"calibration-images: at least 1, not {number}")
    data = facts.data
    if dataset is not None:
        data = replace(data or DataConfig(), dataset=dataset, base=base_of(dataset))
    if data is None or data.dataset in NAMELESS or not is_found(data):
        raise InputError(f"int8: nothing says which images {facts.title} was trained on; give --dataset")
    data = replace(data, data_range=trained.data_range or data.data_range)
    split = read_images(data, trained.seed, arch.resolution, console, quiet=False, channels=arch.in_channels)
    if split.classes != trained.classes:
        raise InputError(
            f"int8: {data.dataset} has other classes than {facts.title} was trained on; give its --dataset"
        )
    scored = [("validation", split.val_images, split.val_labels)]
    if not is_of(split, trained):
        if dataset is None:
            raise InputError(
                f"int8: the images of {data.dataset} are not those that {facts.title} was trained on: some of its "
                "validation images may have trained it; give the --dataset that did, or another to calibrate with"
            )
        console.print(f"{data.dataset} is not what {facts.title} was trained on, so its validation images do not score")
        scored = []
    test, _ = read_test_images(split, console, quiet=False)
    return Calibration.of(split.train_images, number, (*scored, *([("test", *test)] if test else [])))


def is_of(split: Split, trained: TrainingRecord) -> bool:
    """Whether images are those of a training, as far as its record tells: in one of before, how many score."""
    if trained.fingerprint:
        return same_images(trained.fingerprint, split.fingerprint)
    return len(split.val_labels) == trained.images


def check_earlier(
    out: Path, facts: ModelCard, weights: Weights | None, onnx: bool, int8: bool, others: Sequence[str]
) -> None:
    """`InputError` where weights or other files of an earlier export would be lost."""
    if weights is None and (out / bundle.WEIGHTS).exists():
        raise InputError(f"out {out}: holds trained weights, which this export has not; give another folder")
    confused = facts.confusion is not None
    bundle.check_replaced(out, bundle.planned_files(weights is not None, confused, onnx, int8, others))


def write(
    out: Path,
    facts: ModelCard,
    weights: Weights | None,
    onnx: bool,
    calibration: Calibration | None = None,
    others: Sequence[str] = (),
) -> list[str]:
    """Write the folder; returns what there is to say about it. Raises `DifferentError` where a file computes otherwise.

    `InputError` where weights or other files of an earlier export would be lost.
    """
    check_earlier(out, facts, weights, onnx, calibration is not None, others)
    made = bundle.write(out, facts.portable(), weights, onnx, calibration, others)
    spent, arch = cost(facts.arch), facts.arch
    ends = f"{arch.num_classes} classes" if arch.head.output == "logits" else outputs(arch)
    apart = ", ".join(f"{file} by {difference:.2g}" for file, difference in made.differences.items())
    number = "logit" if arch.head.output == "logits" else "output"
    lines = [
        f"{facts.title}: {amount(spent.macs, 'macs')}, {spent.params:,} params at {arch.resolution} px, {ends}",
        f"wrote {out}: {', '.join(made.files)}",
        f"tried in a fresh interpreter without this project; off from the network's largest {number}: {apart}",
        *made.int8,
    ]
    if weights is None:
        lines.append(
            f"its weights are not trained; python -m nas.train {shlex.quote(str(out))} --dataset … trains them"
        )
    return lines


def check_out(out: Path, given: Path | None = None) -> None:
    """`InputError` where the folder is a training's, unless that is what is exported, or somebody's files."""
    if training_folder.is_folder(out) and (given is None or out.resolve() != given.resolve()):
        raise InputError(f"out {out}: holds a training, whose files would be lost; give another folder")
    bundle.check_new(out)


def export_trial(run: Run, which: int | str, out: Path, onnx: bool) -> Path:
    """A search's network as a folder; see `Run.export`."""
    if which != "best" and (isinstance(which, bool) or not isinstance(which, int)):
        raise InputError(f'export {which!r}: "best" or the number of a trial is accepted')
    if onnx:
        bundle.require_onnx()
    check_out(out)
    write(out, of_trial(run, None if isinstance(which, str) else which), None, onnx)
    return out


def of_trial(run: Run, number: int | None) -> ModelCard:
    """A search's trial of that number, or its best."""
    if number is None and not run.ranked:
        raise InputError(f"{run.folder}: no trial is complete yet; --trial N exports any")
    record = run.best if number is None else run.trial(number)
    arch = run.network(record.number).arch
    return ModelCard(
        title=f"trial {record.number} of {run.name}",
        arch=arch,
        deployed=arch,
        budget=f"{run.config.budget}",
        scored=score_sentences(record, run.config, run.images) + of_finals(record, run),
        timed=latency_sentences(record, run.latency_table, run.busy),
        commands=(run.config.conduct.command,),
        data=run.config.identity.data,
    )


def of_finals(record: TrialRecord, run: Run) -> tuple[str, ...]:
    """What the finals say of the network that they named."""
    finals = run.finals
    named = finals is not None and finals.winner.number == record.number
    return tuple(map(escape, sentences(finals))) if finals and named else ()


def score_sentences(record: TrialRecord, config: SearchConfig, images: int) -> tuple[str, ...]:
    """How a trial did in the search, and what that is worth."""
    identity, metric = config.identity, record.metric
    if record.score is None:
        return (f"The search has no {metric.words} of it: the trial is {record.state}.",)
    within = record.interval(images)
    interval = f" [{within[0]:.4f}, {within[1]:.4f}] (90 % interval)" if within else ""
    epochs = f"{record.epochs} {'epoch' if record.epochs == 1 else 'epochs'}"
    first = f"In the search: {metric.validation} {record.score:.4f}{interval} after {epochs} "
    if identity.evaluate:
        return (f"{first}of the searcher's own training, {escape(identity.evaluate)} ({record.state}).",)
    return (
        f"{first}of brief training on {escape(elsewhere(identity.data.dataset))} ({record.state}). It is of "
        f"{images:,} images, held out of the training images by class and seed {identity.seed}; no test image "
        "was read.",
        "To be ranked, it was trained with the dataset's classes at a small resolution, where its first strides may be "
        "relaxed. Those weights were not kept: they are of that network and not of this one.",
    )


def latency_sentences(record: TrialRecord, table: LatencyTable | None, busy: str) -> tuple[str, ...]:
    """What one image takes on the search's device: predicted, and measured where it was."""
    lines = []
    if record.predicted_ms:
        device = f" on {escape(str(table))}" if table else ""
        lines.append(f"The search predicted {record.predicted_ms:.1f} ms for one image{device}.")
    if record.alone_ms:
        lines.append(f"It measured {record.alone_ms:.1f} ms {after_trials(busy)}.")
    elif record.contended_ms:
        lines.append(f"It measured {record.contended_ms:.1f} ms on a worker, while other trials ran.")
    return tuple(lines)
