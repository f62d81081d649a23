"""Claim: a network that keeps to the rules of a compiler loses at most a point of accuracy in int8.

    python -m experiments.speed.int8 --dataset path/to/cifar10  # an hour of one core; run again to carry on
    python -m experiments.speed.int8 --smoke                    # a minute: a network of each kind, 200 digits

Random networks of `mobile` within one budget, of three kinds: those that keep to the rules of `--deploy edgetpu` (ReLU6
alone), those of `--deploy mobile` (hard swish too), and those with SiLU everywhere and squeeze and excitation in every
stage. Each is trained, written as ONNX, and quantised as `nas.export --int8` does it, with ranges from 256 training
images. Both files answer the test images with onnxruntime; then all files take turns in being timed, one image on one
thread. Intervals of 90 % are over networks.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import track

from experiments import comparisons, findings, trainings
from experiments.trainings import Job
from nas.bundle import int8_file, onnx_file
from nas.bundle.card import TrainingRecord
from nas.bundle.int8_file import FLOAT, INT8, Calibration
from nas.config import full_recipe
from nas.data.datasets import Split, load_test
from nas.latency.onnx_timing import network_rounds
from nas.training import checkpoint
from searchspace import Budget, Space
from searchspace.errors import InputError

RANGES = 256  # training images that give maps their ranges, as many as `nas.export --int8` takes
ROUNDS = 15
POINT = 0.01
WITHOUT = "SiLU and squeeze-and-excitation"
KINDS = {"edgetpu": "ReLU6 alone (--deploy edgetpu)", "mobile": "hard swish (--deploy mobile)", "": WITHOUT}
SPACE, SILU, SQUEEZE = "mobile", "silu", 0.25


@dataclass(frozen=True, slots=True)
class Row:
    """A network: the share of test images that either file answers right, and milliseconds and bytes of both."""

    kind: str
    network: int
    float32: float
    int8: float
    float32_ms: float
    int8_ms: float
    float32_bytes: int
    int8_bytes: int

    @property
    def drop(self) -> float:
        return self.float32 - self.int8


def spaces() -> dict[str, Space]:
    """The space of each kind: `mobile` by the rules of a deployment, or with SiLU and squeezes wherever it has any."""
    mobile = Space.load(SPACE)
    acts = [f"{name}={SILU}" for name, options in mobile.choices.items() if SILU in options]
    squeezes = [f"{name}={SQUEEZE}" for name in mobile.choices if name.endswith(".se")]
    return {title: mobile.deploy(rules) if rules else mobile.fix(acts + squeezes) for rules, title in KINDS.items()}


def jobs(budget: Budget, number: int, split: Split, epochs: int) -> list[Job]:
    """Of every kind the first network, then the second, so that an early look is fair."""
    train = replace(full_recipe(split.name), epochs=epochs)
    kinds = spaces()
    return [
        Job(f"{title} {n}", space.sample_point(Random(n), budget).arch, train)
        for n in range(number)
        for title, space in kinds.items()
    ]


def write(folder: Path, job: Job, weights: Path, split: Split) -> TrainingRecord:
    """The trained network's float file, where it is not there yet; returns what its int8 file has to know."""
    training = trainings.begun(job, split, "cpu")
    training.model.load_state_dict(checkpoint.read(weights)[0])
    mean, std = (tuple(one.flatten().tolist()) for one in (training.mean, training.std))
    if not (folder / FLOAT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        like = torch.zeros(2, split.channels, split.resolution, split.resolution)
        onnx_file.write(folder / FLOAT, training.model.eval(), like, "logits")
    scored = len(split.val_labels)
    return TrainingRecord(split.name, job.seed, job.train.epochs, 0.0, scored, None, 0, mean, std, split.classes)


def measure(of: Sequence[Job], split: Split, out: Path, rounds: int, page: findings.Page) -> list[Row]:
    """Every network's files, answered and timed; test images are read here and nowhere else."""
    test = load_test(split)
    if test is None:
        raise InputError(f"dataset {split.name}: has no test images")
    folders, compared = [out / "int8-weights" / job.key for job in of], []
    calibration = Calibration.of(split.train_images, RANGES, (("test", *test),))
    for job, folder in track(list(zip(of, folders, strict=True)), "quantising, testing", console=page.console):
        trained = write(folder, job, out / "int8-weights" / f"{job.key}.safetensors", split)
        int8_file.write(folder, trained, calibration)
        compared.append(int8_file.compare(folder, trained, calibration))
    files = [folder / name for folder in folders for name in (FLOAT, INT8)]
    times = [median(own) for own in network_rounds(files, 1, 1, rounds, lambda: None)]
    rows = []
    for n, (job, found) in enumerate(zip(of, compared, strict=True)):
        kind, _, number = job.name.rpartition(" ")
        _, _, float32, int8 = found.right[0]
        slow, fast = (round(ms, 4) for ms in times[2 * n : 2 * n + 2])
        rows.append(Row(kind, int(number), float32, int8, slow, fast, *found.sizes))
    return rows


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each kind: what int8 loses, and what it saves."""
    found = []
    for kind in KINDS.values():
        own = [row for row in rows if row.kind == kind]
        lost, low, high = comparisons.difference([row.float32 for row in own], [row.int8 for row in own])
        found.append(
            {
                "kind": kind,
                "n": len(own),
                "float32": f"{np.mean([row.float32 for row in own]):.4f}",
                "int8 loses": f"{lost:+.4f} [{low:+.4f}, {high:+.4f}]",
                "at most": f"{max(row.drop for row in own):+.4f}",
                "within a point": sum(row.drop <= POINT for row in own),
                "times as fast": comparisons.middle([row.float32_ms / row.int8_ms for row in own]),
                "times as small": comparisons.middle([row.float32_bytes / row.int8_bytes for row in own]),
            }
        )
    return found


def draw(rows: Sequence[Row]) -> Figure:
    """What is lost beside what is gained, a dot for each network."""
    figure = findings.figure(7, 4.2)
    axes = figure.subplots()
    for kind, colour in zip(KINDS.values(), (findings.ACCENT, findings.QUIET, findings.WARM), strict=True):
        own = [row for row in rows if row.kind == kind]
        faster, lost = [row.float32_ms / row.int8_ms for row in own], [100 * row.drop for row in own]
        axes.scatter(faster, lost, color=colour, s=26, label=kind)
    axes.axhline(100 * POINT, color=findings.QUIET, linewidth=1, linestyle="--")
    axes.set_xlabel("times as fast as float32, one image on one thread")
    axes.set_ylabel("points of test accuracy that int8 loses")
    axes.legend(frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "a network of each kind on 200 digits, 1 epoch")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=5, help="of each kind (5)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=6, help="of every training (6)")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.epochs = "digits", 1, 200, 1
    onnx_file.require_onnx()
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    split = trainings.images(args.dataset, args.images)
    of, weights = jobs(Budget.parse(args.budget), args.networks, split, args.epochs), args.out / "int8-weights"
    page.trained(trainings.carry_out(of, split, page.device, args.out / "int8.jsonl", page.console, keep=weights))
    rows = measure(of, split, args.out, 3 if args.smoke else ROUNDS, page)
    title = f"{args.epochs} epochs of {trainings.described(split)}, within {args.budget}"
    page.table("int8", title, [asdict(row) for row in rows], summary(rows))
    page.figure("int8", draw(rows))
    page.write(n=f"{args.networks} networks of each kind, one training each")


if __name__ == "__main__":
    findings.run(main)
