"""The images of a run, read with lines that say what was found, what is used and what was left out."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from nas.config import LARGEST, DataConfig
from nas.data.datasets import Labels, Split, load, load_test
from nas.data.decoding import Images
from nas.data.labelled import NO_TEST, inequality
from nas.metric import Metric
from nas.views.meter import meter

EQUAL_CLASSES = ": --metric f1_macro counts all as much"


def read_images(
    data: DataConfig,
    seed: int,
    resolution: int | None,
    console: Console,
    quiet: bool,
    largest: int = LARGEST,
    channels: int = 3,
    metric: Metric | None = None,
) -> Split:
    """The training images, with lines that say what was found, what is used and what was left out. `metric` is what a
    search scores by."""
    with meter(console, f"reading {data.location}", quiet) as progress:
        split = load(data, seed, resolution, progress, largest, channels)
    if not quiet:
        for text in describe(split, metric):
            console.print(text, markup=False)
    return split


def read_test_images(
    split: Split, console: Console, quiet: bool
) -> tuple[tuple[Images, Labels] | None, tuple[str, ...]]:
    """The test images of a split's dataset, None where there are none, and what was left out, which is printed too."""
    notes = list[str]()
    with meter(console, "reading the test images", quiet) as progress:
        found = load_test(split, progress, notes.append)
    for note in notes:
        console.print(note, markup=False)
    return found, tuple(notes)


def describe(split: Split, metric: Metric | None = None) -> list[str]:
    """What was found of a dataset and what is used of it; then what was left out, and what the rest is for.

    Where classes are unequal, a search whose `metric` is a share of images is advised of another.
    """
    labels = np.concatenate([split.train_labels, split.val_labels])
    unequal = inequality(labels, split.classes, EQUAL_CLASSES if metric and metric.is_share else "")
    train, score = len(split.train_labels), len(split.val_labels)
    channels = {1: ", grey", 3: ""}.get(split.channels, f", {split.channels} channels")
    why = f" ({split.mirroring})" if split.mirroring else ""
    line = (
        f"data {split.name}: {split.found:,} images in {split.num_classes} classes found, {train + score:,} used: "
        f"{train:,} train, {score:,} score; {split.resolution} px{channels}; "
        f"{'mirrored at random' if split.flip else 'not mirrored'}{why}{f'; {NO_TEST}' * (NO_TEST in split.notes)}"
    )
    return [line, *(f"data: {note}" for note in (*split.notes, *unequal) if note != NO_TEST)]
