"""The parts of gpu_check.py with many trainings: how fast all on one GPU are together, and a search as it is run."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import math
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from experiments import findings
from experiments.speed import throughput
from experiments.speed.gpu_rows import Note
from experiments.speed.gpu_steps import EnoughError, mobile, settled, watch
from nas.config import TrainConfig
from nas.training import gpu_layers, trainer
from nas.training.trainer import Training
from nas.views.gpu_use import query
from nas.workers.gpu_sharing import is_installed, side_by_side

# Processes that are started together, and of how many of them at a time images are counted: others wait.
MODULE = "experiments.speed.gpu_packing"
EAGER, GRAPHS, MPS = "eager", "CUDA graphs", "CUDA graphs under MPS"
SETTINGS = {MPS: (12, 8, 4, 1), GRAPHS: (8, 4, 1), EAGER: (4, 1)}
SMOKE_SETTINGS = {EAGER: (2, 1)}
BATCH, IMAGES, WARM_STEPS = 64, 51_200, 16
WINDOW_S, AHEAD_S, EVERY_S, READY_S, END_S = 5.0, 0.5, 0.2, 60.0, 5.0
REPORTS_S, START_AND_END_S = 15.0, 45.0  # of a search

Found = dict[str, Any]


def packing(args: argparse.Namespace, note: Note) -> None:
    """Images a second of all trainings on one GPU together: of one random network of `mobile`."""
    cuda = args.device == "cuda"
    settings = SETTINGS if cuda and not args.smoke else {way: SMOKE_SETTINGS.get(way, (1,)) for way in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npz"
        throughput.keep_images(args.dataset, 32, images)
        for way, numbers in settings.items():
            if why := "no GPU" if way != EAGER and not cuda else "" if way != MPS or is_installed() else "no MPS here":
                note({"left out": f"{way}: {why}"})
                continue
            reasons: list[str] = []
            with side_by_side(way == MPS, reasons.append) as environment:
                if way == MPS and environment is None:
                    note({"left out": f"{way}: {', '.join(reasons)}"})
                    continue
                together(args, note, images, way, numbers, environment or {})


def together(
    args: argparse.Namespace, note: Note, images: Path, way: str, numbers: tuple[int, ...], environment: dict[str, str]
) -> None:
    """Start as many processes as are wanted at most, and count with ever fewer of them."""
    given = {"images": str(images), "device": args.device, "graphs": way != EAGER, "smoke": args.smoke}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", MODULE, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=findings.environment(**environment),
        )
        for _ in range(max(numbers))
    ]
    late = threading.Timer(min(READY_S, max(1.0, args.ends - time.perf_counter())), ended, [children])
    late.start()
    try:
        if any(line(child) != "ready" for child in children):
            note({"way": way, "trainings": len(children), "error": "were not ready in time", "passed": False})
            return
        late.cancel()
        for number in numbers:
            window = 0.5 if args.smoke else WINDOW_S
            if time.perf_counter() + window + AHEAD_S > args.ends and not args.smoke:
                note({"left out": f"{way}, {number} at once: no time left"})
                continue
            note({"way": way, "trainings": number, **counted(children[:number], window)})
    finally:
        late.cancel()
        ended(children)


def counted(children: list[subprocess.Popen[str]], window: float) -> Found:
    """Images a second in a window of time that is the same for all."""
    start = time.monotonic() + AHEAD_S
    for child in children:
        assert child.stdin is not None
        child.stdin.write(f"{start} {start + window}\n")
        child.stdin.flush()
    late = threading.Timer(window + READY_S / 2, ended, [children])
    late.start()
    told = [line(child) for child in children]
    late.cancel()
    if not all(told):
        return {"error": f"{told.count('')} of {len(told)} trainings died or hung", "passed": False}
    each = [float(one) / window for one in told]
    return {"images/s": round(sum(each)), "least": round(min(each)), "most": round(max(each))}


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def ended(children: list[subprocess.Popen[str]]) -> None:
    """Let processes end, which they do when no window can come any more. One that is killed may harm others' MPS."""
    for child in children:
        assert child.stdin is not None
        with suppress(BrokenPipeError):
            child.stdin.close()
    for child in children:
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Counted:
    """Counts the images of a training between two moments, with whole windows of steps before and after them."""

    def __init__(self, device: str, batch: int, warm: int) -> None:
        self.device, self.batch, self.warm = device, batch, warm
        self.done, self.start, self.stop = 0, 0.0, 0.0
        self.why_not: Callable[[], str] = str
        self.marks: list[tuple[float, int]] = []

    def __call__(self, number: int, loss: Tensor) -> None:
        self.done = number * self.batch
        if number < self.warm:
            return
        if number == self.warm:
            if self.why_not():
                raise SystemExit(f"no CUDA graphs: {self.why_not()}")
            settled(self.device)
            print("ready", flush=True)
            self.next()
        elif time.monotonic() >= self.marks[-1][0] + EVERY_S:
            self.mark()
            if self.marks[-1][0] >= self.stop:
                print(self.at(self.stop) - self.at(self.start), flush=True)
                self.next()

    def next(self) -> None:
        """Wait for a window, and begin a little before it."""
        given = sys.stdin.readline().split()
        if not given:
            raise EnoughError
        self.start, self.stop = map(float, given)
        self.marks = []
        self.mark()

    def mark(self) -> None:
        settled(self.device)
        self.marks.append((time.monotonic(), self.done))

    def at(self, moment: float) -> float:
        """Images by a moment, as if they came evenly between two marks."""
        after = next(index for index, (when, _) in enumerate(self.marks) if when >= moment)
        (begun, before), (ended, done) = self.marks[max(0, after - 1)], self.marks[after]
        return done - (done - before) * (ended - moment) / max(ended - begun, 1e-9)


def child(images: str, device: str, graphs: bool, smoke: bool) -> None:
    """One training beside others, which goes on whenever a window comes; its convolutions are those of a trial."""
    trainer.PLANS_PAY = gpu_layers.PLANS_PAY = math.inf  # type: ignore[attr-defined, assignment]
    torch.set_num_threads(1)
    batch, number = (16, 320) if smoke else (BATCH, IMAGES)
    split = throughput.kept_images(images, number)
    model = mobile(0, 32, "30MFLOPs" if smoke else "300MFLOPs")
    train = TrainConfig(epochs=10_000, batch_size=batch)
    training = Training(model, split, train, 0, device, graphs=graphs)
    windows = Counted(device, batch, 2 if smoke else WARM_STEPS)
    windows.why_not = watch(training, windows)
    with suppress(EnoughError):
        for _ in training:
            pass


def search(args: argparse.Namespace, note: Note) -> None:
    """A search by its command: trials an hour, images a second of all together, how busy the GPU is meanwhile."""
    missing = [name for name in ("ray", "optuna", "fvcore") if importlib.util.find_spec(name) is None]
    if missing:
        note({"left out": f"needs {' and '.join(missing)}"})
        return
    with tempfile.TemporaryDirectory() as folder:
        run, log = Path(folder) / "run", args.out / "gpu_check_search.log"
        command = search_command(args, run)
        note({"command": shlex.join(["python", *command[1:]])})
        begun, start = datetime.now(), time.perf_counter()
        with used() as seen, log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                code = process.wait(max(5.0, args.ends - time.perf_counter() - REPORTS_S))
            except subprocess.TimeoutExpired:
                code = stopped(process)
        wall = time.perf_counter() - start
        for name, kept in (("trials.csv", ".csv"), ("finals.csv", "_finals.csv"), ("report.html", ".html")):
            if (run / name).is_file():
                shutil.copyfile(run / name, args.out / f"gpu_check_search{kept}")
        if (run / "log.txt").is_file():
            with log.open("a") as file:
                file.write("\n" + (run / "log.txt").read_text())
        if (run / "trials.csv").is_file():
            note(found_by(run, begun, log.read_text()))
    note({"code": code, "wall s": round(wall, 1), **busy(seen), "passed": code == 0})


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Ask a search to end, which writes its reports; where it does not, kill it."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(REPORTS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def search_command(args: argparse.Namespace, run: Path) -> list[str]:
    given: dict[str, Any] = {"--budget": "300MFLOPs", "--images": 12_500, "--epochs": 4, "--trials": args.search_trials}
    seconds = min(args.search_limit, args.ends - time.perf_counter() - START_AND_END_S)
    given["--time-limit"] = f"{max(20, seconds):.0f}s"
    if args.smoke:
        given = {"--budget": "20MFLOPs", "--images": 200, "--epochs": 1, "--trials": 1}
    if args.dataset == "digits":
        given.pop("--images")
    words = [str(word) for pair in given.items() for word in pair]
    more = ["--no-baselines", "--device", args.device] if args.smoke else shlex.split(args.search_options)
    return [sys.executable, "-m", "nas.search", "--dataset", args.dataset, "--run", str(run), *words, *more]


def found_by(run: Path, begun: datetime, log: str) -> Found:
    """What a search's table says of its trials. Training steps are images trained on by images a second."""
    with (run / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    trained = [row for row in rows if row["images_per_s"] and row["seconds"]]
    outcomes = [row["outcome"] for row in rows]
    found: Found = {"trials": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}}
    found["errors"] = list({row["error"][:150] for row in rows if row["error"]})[:5]
    found["without graphs"] = log.count("without CUDA graphs")
    seen, train = moments(run / "log.txt"), re.search(r"([\d,]+) train, ", log)
    if not (trained and train and seen):
        return found
    images = int(train[1].replace(",", ""))
    first, last = seen[0], seen[-1]
    window = max((last - first).total_seconds(), 1e-9)
    steps = [int(row["epochs"]) * images / float(row["images_per_s"]) for row in trained]
    seconds = [float(row["seconds"]) for row in trained]
    found |= {"s to the first trial": round((first - begun).total_seconds(), 1), "s of trials": round(window, 1)}
    found |= {"trials an hour": round(len(trained) / window * 3600)}
    found |= {"images/s together": round(sum(int(row["epochs"]) for row in trained) * images / window)}
    found |= {"at a time, mean": round(sum(seconds) / window, 2), "s a trial": round(median(seconds), 2)}
    return found | {"s of its steps": round(median(steps), 2)}


def moments(log: Path) -> list[datetime]:
    """When things happened to trials, by a run's log; not in the finals after them."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [
        datetime.fromisoformat(one[:23].replace(",", "."))
        for one in lines
        if re.match(r"[\d-]{10} [\d:,]+ trial \d", one)
    ]


@contextmanager
def used() -> Iterator[list[tuple[float, float]]]:
    """The GPU's use in percent and its used MiB, each second, as nvidia-smi says."""
    seen: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(1.0):
            with suppress(ValueError, IndexError):
                percent, memory = query().splitlines()[0].split(",")[:2]
                seen.append((float(percent), float(memory)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def busy(seen: list[tuple[float, float]]) -> Found:
    if not seen:
        return {"use of the GPU": "nvidia-smi does not say"}
    percents = [percent for percent, _ in seen if percent > 0]
    found = {"GPU %, median while busy": median(percents) if percents else 0, "seconds busy": len(percents)}
    return {**found, "GPU MiB, most": max(memory for _, memory in seen)}


if __name__ == "__main__":
    child(**json.loads(sys.argv[1]))
