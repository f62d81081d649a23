"""Claim: nearly all of a search's time is training: 90 % of it with trials of 20 s, and a first score after 10 s.

    python -m experiments.speed.efficiency --dataset path/to/cifar10  # twenty minutes, on an otherwise idle machine
    python -m experiments.speed.efficiency --smoke  # a minute: two trials, one start, ten trials' memory

Three parts. A search with its workers, by the clock: the time of all its slots from the command to its end, and the
part of it that is training steps, the rest of trials, and neither: start-up, data, bookkeeping. A trial in one process,
stage by stage. Memory: trial after trial in one process, as a worker that is used again has them. Starts are timed from
the command to the first score that is in the study.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from matplotlib.figure import Figure
from rich.progress import track

from experiments import findings, trainings
from nas.config import TrainConfig, recipe
from nas.data.datasets import Split
from nas.trial import Result, Trial
from nas.workers.evaluate import Context, brief_training, guard, trial_seed
from searchspace import Budget, Space, cost

BUDGET = "30MFLOPs"
POLL_S = 0.02
# What a trial consists of, by the functions that do it; what is in none of them is the training steps and the rest.
STAGES = {
    "build": "building and audit",
    "audit": "building and audit",
    "network_ms": "latency of one image",
    "save_checkpoint": "checkpoints",
    "recalibrate": "scoring",
    "score": "scoring",
}


def command(dataset: str, images: int, epochs: int, trials: int, run: Path) -> list[str]:
    made = [sys.executable, "-m", "nas.search", "--budget", BUDGET, "--dataset", dataset, "--epochs", str(epochs)]
    return [
        *made,
        "--images",
        str(images),
        "--trials",
        str(trials),
        "--run",
        str(run),
        "--num-classes=1000",
        "--quiet",
        "--no-baselines",
    ]


def search(dataset: str, images: int, epochs: int, trials: int, slots: int) -> list[dict[str, Any]]:
    """Where the time of all slots went."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        start = time.perf_counter()
        subprocess.run(command(dataset, images, epochs, trials, run), check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        with (run / "trials.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["images_per_s"]]
    train_images = round(0.8 * images)
    steps = sum(int(row["epochs"]) * train_images / float(row["images_per_s"]) for row in rows)
    inside = sum(float(row["seconds"]) for row in rows)
    parts = {"training steps": steps, "the rest of trials": inside - steps, "outside of trials": slots * wall - inside}
    title = f"search, {len(rows)} trials of {median(float(row['seconds']) for row in rows):.0f} s, {slots} at once"
    return [line(title, part, found, slots * wall) for part, found in parts.items()]


def line(what: str, part: str, seconds: float, of: float) -> dict[str, Any]:
    return {"what": what, "part": part, "seconds": f"{seconds:.3g}", "share": f"{100 * seconds / of:.1f} %"}


def first_scores(number: int, images: int) -> list[dict[str, Any]]:
    """Seconds from the command to the first score of a network in the study, on digits."""
    found = []
    for _ in range(number):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            start = time.perf_counter()
            with subprocess.Popen(command("digits", images, 1, 2, run), stdout=subprocess.DEVNULL) as process:
                while not scored(run / "study.db"):
                    if process.poll() is not None:
                        raise SystemExit(f"the search ended with code {process.returncode} before a score")
                    time.sleep(POLL_S)
                found.append(time.perf_counter() - start)
    what = f"from the command to the first score, digits, n {number}"
    return [
        {"what": what, "part": name, "seconds": f"{of(found):.1f}", "share": ""}
        for name, of in (("median", median), ("least", min), ("most", max))
    ]


def scored(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1) as connection:
            return bool(connection.execute("select 1 from trial_intermediate_values limit 1").fetchone())
    except sqlite3.OperationalError:
        return False


@contextmanager
def clocked(seconds: dict[str, float]) -> Iterator[None]:
    """Adds up what each stage takes."""

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - start

        return call

    from nas.training import trainer as inside
    from nas.workers import evaluate as outside

    with ExitStack() as patches:
        for name, stage in STAGES.items():
            module = inside if hasattr(inside, name) else outside
            patches.enter_context(patch.object(module, name, timed(stage, getattr(module, name))))
        yield


def drawn(number: int) -> list[Trial]:
    space, budget = Space.load("mobile"), Budget.parse(BUDGET)
    archs = [space.sample(seed=index, budget=budget) for index in range(number)]
    return [Trial(index, arch, cost(arch), "search") for index, arch in enumerate(archs)]


def evaluate(
    trial: Trial, split: Split, train: TrainConfig, device: str, folder: Path | None = None
) -> Iterator[Result]:
    """What a worker does with a trial."""
    kept = folder / f"{trial.digest}.safetensors" if folder else None
    seed = trial_seed(0, trial.digest)
    return guard(trial, Context(split, device, seed, train.epochs, train=train, checkpoint=kept), brief_training)


def stages(split: Split, train: TrainConfig, number: int, device: str) -> list[dict[str, Any]]:
    """Seconds of a trial's stages, medians over trials; the first one, which loads what is loaded once, is left out."""
    rows: dict[str, list[float]] = defaultdict(list)
    trials = drawn(number + 1)
    with tempfile.TemporaryDirectory() as folder:
        for trial in track(trials, "trials", transient=True):
            seconds: dict[str, float] = dict.fromkeys(STAGES.values(), 0.0)
            start, steps = time.perf_counter(), 0.0
            with clocked(seconds):
                for result in evaluate(trial, split, train, device, Path(folder)):
                    assert result.images_per_s
                    steps += len(split.train_labels) / result.images_per_s
            seconds |= {"training steps": steps, "whole trial": time.perf_counter() - start}
            if trial.number:
                for stage, found in seconds.items():
                    rows[stage].append(found)
    whole = median(rows["whole trial"])
    return [line(f"a trial in one process, n {number}", stage, median(found), whole) for stage, found in rows.items()]


def memory(number: int, split: Split, train: TrainConfig, device: str) -> list[dict[str, Any]]:
    """Resident megabytes, and the GPU's where there is one, after trial upon trial in one process."""
    seen = {}
    for trial in track(drawn(number), "memory", transient=True):
        for _ in evaluate(trial, split, train, device):
            pass
        seen[trial.number + 1] = resident_mb(), torch.cuda.memory_allocated() / 1e6 if device == "cuda" else 0.0
    shown = sorted({max(1, number * share // 10) for share in (1, 2, 4, 6, 8, 10)})
    return [
        {"what": "memory of one process", "part": f"after {n} trials", "seconds": "", "share": told(*seen[n])}
        for n in shown
    ]


def told(resident: float, on_gpu: float) -> str:
    return f"{resident:.0f} MB" + (f", {on_gpu:.0f} MB of the GPU's" if on_gpu else "")


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def draw(rows: list[dict[str, Any]]) -> Figure:
    figure = findings.figure(9, 2.6)
    axes = figure.subplots()
    groups = dict.fromkeys(row["what"] for row in rows if "%" in row["share"])
    for place, what in enumerate(groups):
        left = 0.0
        for row in rows:
            if row["what"] == what and row["part"] != "whole trial":
                share = float(row["share"].split()[0])
                colour = findings.ACCENT if row["part"] == "training steps" else None
                axes.barh(place, share, left=left, color=colour, edgecolor="white")
                if share > 3:
                    label = f"{row['part'].replace(' of ', chr(10) + 'of ')}\n{share:.1f} %"
                    axes.text(left + share / 2, place, label, ha="center", va="center", fontsize=7)
                left += share
    axes.set_yticks(range(len(groups)), [what.replace(", ", ",\n") for what in groups])
    axes.invert_yaxis()
    axes.set_xlabel("percent of the time")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two trials, one start, ten trials' memory")
    parser.add_argument("--images", type=int, default=10_000, help="of the dataset, a fifth of them to score (10,000)")
    parser.add_argument("--epochs", type=int, default=1, help="of a trial, so that it takes some 20 s (1)")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--memory", type=int, default=200, help="trials in one process (200)")
    args = parser.parse_args(arguments)
    few = 400
    if args.smoke:
        args.dataset, args.images, args.trials, args.starts, args.memory, few = "digits", 400, 2, 1, 10, 60
    torch.set_num_threads(1)
    page = findings.Page(__doc__, __file__, args, arguments)
    slots = torch.cuda.device_count() if page.device == "cuda" else os.cpu_count() or 1
    train = replace(recipe(args.dataset), epochs=args.epochs)
    rows = first_scores(args.starts, few)
    rows += search(args.dataset, args.images, args.epochs, args.trials, slots)
    rows += stages(trainings.images(args.dataset, round(0.8 * args.images)), train, args.trials // 2, page.device)
    small = trainings.images("digits", few)
    rows += memory(args.memory, small, replace(recipe("digits"), epochs=1), page.device)
    page.table("efficiency", "Where a search's time goes", rows)
    page.figure("efficiency", draw(rows))
    page.write(n=f"a search of {args.trials} trials, {args.starts} starts, {args.memory} trials for memory")


if __name__ == "__main__":
    findings.run(main)
