"""The words of the commands that `nas.deploy` is made of, and what they would refuse too late."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from nas.analysis import agreement
from nas.bundle import bundle
from nas.bundle.bundle import TFLITE
from nas.config import OWN_DATA, SearchConfig, TrainConfig
from nas.data.datasets import load, load_test
from nas.data.labelled import count_of
from nas.full_training import training_folder
from nas.run.run import Run
from nas.run.search import Search
from nas.study.objectives import format_cost
from nas.views.meter import meter
from searchspace.errors import InputError
from searchspace.space.target import SPACE as TARGET_SPACE

TRAINED = agreement.DEPLOYED
OWN = ("--out", "--full-epochs")


def check_epochs(number: int) -> None:
    """`InputError` for a number of epochs that the full training would refuse, once the search is done."""
    try:
        TrainConfig(epochs=number)
    except ValueError as error:  # epochs: at least 1, …
        raise InputError(f"full-{error}") from None


def check_dataset(config: SearchConfig) -> None:
    """`InputError` for a search whose training has images of its own, which the full training cannot have."""
    if config.identity.data.dataset == OWN_DATA:
        raise InputError(
            "evaluate: a training of your own without --dataset leaves no images to train in full on; give --dataset, "
            "or use nas.search and nas.export"
        )


def check_images(begun: Search) -> None:
    """`InputError` where test images cannot be read, which the full training would say once the search is done, or the
    images are not those of the trials that there are."""
    i = begun.config.identity
    channels = begun.config.space.network.in_channels
    with meter(begun.console, f"reading {i.data.dataset}", begun.quiet) as progress:
        split = load(i.data, i.seed, i.train.resolution, progress, i.largest, channels)
        load_test(split, progress)
    begun.check_same_images(split)


def export_words(config: SearchConfig) -> list[str]:
    """The options of the export: networks of the space for boards are written for microcontrollers too."""
    return ["--format", TFLITE] if config.space_name == f"{TARGET_SPACE}.yaml" else ["--onnx"]


def check_out(out: Path, config: SearchConfig, run: Path) -> None:
    """`InputError` for a folder that the export would refuse, once the training is done."""
    bundle.check_new(out)
    there, searched = out.resolve(), run.resolve()
    if there in (searched, searched / TRAINED):
        raise InputError(f"out {out}: is the folder of the search or of its training; give another")
    if there in searched.parents and not (out / bundle.CARD).exists():
        raise InputError(f"out {out}: the folder of the search is in it; give another")
    others = [TFLITE] if TFLITE in export_words(config) else []
    made = bundle.planned_files(trained=True, confused=True, onnx=True, int8=bool(others), others=others)
    bundle.check_replaced(out, made)


def describe_choice(run: Run) -> str:
    """Which network of a front is trained in full, and how to take another."""
    best, front = run.best, run.front
    spent = ", ".join(format_cost(name, value) for name, value in best.minimized.items())
    return (
        f"of the front of {count_of(len(front), 'network')} the one with the best {best.metric.words} is trained in "
        f"full: trial {best.number}, {best.score:.4f}, {spent}; python -m nas.export {shlex.quote(str(run.folder))} "
        "--trial N --out DIR takes another"
    )


def search_words(arguments: Sequence[str]) -> list[str]:
    """The arguments that are the search's."""
    words: list[str] = []
    value_follows = False
    for word in arguments:
        if value_follows:
            value_follows = False
        elif word.partition("=")[0] in OWN:
            value_follows = "=" not in word
        else:
            words.append(word)
    return words


def training_words(run: Path, dataset: str, args: argparse.Namespace) -> list[str]:
    """The full training of a search's best network; once it has begun, of the network that it began with."""
    trained, epochs = run / TRAINED, args.full_epochs
    arch = trained if training_folder.is_folder(trained) else run
    if arch == trained:
        began = training_folder.load_plan(trained).train.epochs
        if epochs not in (None, began):
            anew = f"python -m nas.train {shlex.quote(str(run))} --epochs {epochs} --out DIR"
            raise InputError(f"full-epochs: the training in {trained} began with {began}; {anew} trains for {epochs}")
        epochs = began
    words = [str(arch), f"--dataset={dataset}", f"--out={trained}", f"--device={args.device}"]
    if epochs is not None:
        words.append(f"--epochs={epochs}")
    flags = (("--skip-bad", args.skip_bad), ("--quiet", args.quiet), ("--dry-run", args.dry_run))
    return words + [flag for flag, on in flags if on]
