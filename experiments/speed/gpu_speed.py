"""The parts of gpu_check.py that say how fast one training is on a GPU, and what its steps are made of."""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from experiments import findings
from experiments.speed import throughput
from experiments.speed.gpu_rows import Note, noting
from experiments.speed.gpu_steps import CLASSES, EnoughError, mobile, noise, settled, watch
from nas.config import TrainConfig
from nas.training.gpu_convolutions import use_unplanned_convolutions
from nas.training.trainer import Training
from searchspace import build, zoo

MODULE = "experiments.speed.gpu_speed"
WARM_S, MEASURED_S = 1.0, 2.5
EAGER_IMAGES, GRAPHS_IMAGES = 6_400, 25_600  # an epoch of ours: a second or two
WARM_STEPS, PROFILED_STEPS, TIMED_STEPS = 8, 5, 25
PLANNED = (("1x1", 1, False), ("depthwise 3x3", 3, True), ("depthwise 5x5", 5, True), ("3x3", 3, False))
PLANNED_WIDTHS, BATCH, SIDE = (17, 24, 33, 40, 57, 64, 100, 128), 64, 16
SPANS = ("Optimizer.", "ProfilerStep")  # what the profiler names beside kernels
PROFILED = ("mobilenet_v2", "rexnet_100", "mobile 0")
SPEEDS = (
    ("mobilenet_v2", 32), ("rexnet_100", 32), ("mobilenet_v2", 128), ("rexnet_100", 128), ("mobile 0", 32),
    ("efficientnet_b0", 32), ("mobile 1", 32), ("mobile 2", 32),
)  # fmt: skip

Found = dict[str, Any]


def network(name: str, side: int, relaxed: bool = False) -> nn.Module:
    """A network of the zoo, or `mobile N`. Strides of the former are relaxed only where that is asked for: as they
    are, it is timm's network."""
    if name.startswith("mobile "):
        return mobile(int(name.split()[1]), side)
    arch = zoo(name, num_classes=CLASSES, resolution=side)
    return build(arch.adapt(CLASSES, side) if relaxed else arch)


def plans(args: argparse.Namespace, note: Note) -> None:
    """Milliseconds of a convolution of a shape that the process has not seen, forward and backward, and of the next."""
    widths = PLANNED_WIDTHS[: 1 if args.smoke else None]
    for name, kernel, grouped in PLANNED:
        for way in ("cuDNN", "without plans"):
            first: list[float] = []
            again: list[float] = []
            for channels in widths:
                layer = nn.Conv2d(
                    channels, channels, kernel, padding=kernel // 2, groups=channels if grouped else 1, bias=False
                )
                model = nn.Sequential(layer).to(args.device, torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
                if way == "without plans":
                    use_unplanned_convolutions(model)
                shape = (BATCH, channels, SIDE, SIDE)
                x = torch.randn(shape, device=args.device, dtype=torch.bfloat16)
                x = x.to(memory_format=torch.channels_last).requires_grad_()
                for found in (first, again):
                    start = settled(args.device)
                    model(x).backward(torch.ones_like(x))
                    found.append(1000 * (settled(args.device) - start))
            row: Found = {"convolution": name, "way": way, "channels": widths}
            note({**row, "ms of the first": rounded(first), "ms of the next": rounded(again)})


def rounded(numbers: list[float]) -> list[float]:
    return [round(number, 1) for number in numbers]


def profile(args: argparse.Namespace, note: Note) -> None:
    """What a step at 32 px is made of: kernels, milliseconds, and how long the GPU has nothing to do."""
    torch.set_num_threads(1)
    os.environ |= {"TEARDOWN_CUPTI": "0", "DISABLE_CUPTI_LAZY_REINIT": "1"}  # graphs outlive a profile
    cuda = args.device == "cuda"
    activities = [ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]
    with profiled(activities=activities):  # before any graph is captured
        torch.ones(1, device=args.device).add_(1)
    for name in ("mobile 0",) if args.smoke else PROFILED:
        for graphs in (False, True) if cuda else (False,):
            for batch in (8,) if args.smoke else (128,):
                if time.perf_counter() > args.ends:
                    note({"left out": f"{name}, graphs {graphs}, batch {batch}: no time left"})
                    continue
                row = {"network": name, "graphs": graphs, "batch": batch}
                note({**row, **step(name, batch, args.device, graphs, activities)})
    if not cuda:
        note({"left out": "CUDA graphs: no GPU; kernels are PyTorch's operators"})


def step(name: str, batch: int, device: str, graphs: bool, activities: list[ProfilerActivity]) -> Found:
    """Steps of a training, first under the profiler, then by the clock alone."""
    model, profiler, marks = network(name, 32, relaxed=True), profiled(activities=activities), {}
    train = TrainConfig(epochs=1, batch_size=batch)
    timed = TIMED_STEPS if device == "cuda" else 2
    run = Training(model, noise(batch * (WARM_STEPS + PROFILED_STEPS + timed + 1), 32), train, 0, device, graphs=graphs)

    def each(number: int, loss: Tensor) -> None:
        if number == WARM_STEPS:
            settled(device)
            profiler.start()
        elif number == WARM_STEPS + PROFILED_STEPS:
            settled(device)
            profiler.stop()
            marks["start"] = settled(device)
        elif number == WARM_STEPS + PROFILED_STEPS + timed:
            marks["end"] = settled(device)
            raise EnoughError

    why_not = watch(run, each)
    with suppress(EnoughError):
        list(run)
    ms = 1000 * (marks["end"] - marks["start"]) / timed
    wanted = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    events = [event for event in profiler.events() if event.device_type == wanted]
    times = sorted(event.time_range.elapsed_us() for event in events if not event.name.startswith(SPANS))
    found = {"ms a step": round(ms, 3), "images/s": round(1000 * batch / ms), "why no graphs": why_not()}
    if times:
        busy = sum(times) / PROFILED_STEPS / 1000
        found |= {"kernels a step": round(len(times) / PROFILED_STEPS, 1), "median us": times[len(times) // 2]}
        found |= {"kernels' ms a step": round(busy, 3), "idle share": round(1 - busy / ms, 3)}
    if times and batch == 128 and not graphs and name == "mobile 0":
        spent: dict[str, float] = defaultdict(float)
        for event in events:
            spent[event.name[:90]] += event.time_range.elapsed_us() / PROFILED_STEPS
        most = sorted(spent, key=lambda kernel: -spent[kernel])[:10]
        found["most us a step"] = {kernel: round(spent[kernel], 1) for kernel in most}
    return found


def speed(args: argparse.Namespace, note: Note) -> None:
    """Images a second of one training, one process a network. The next one gets ready while one is measured."""
    left = [("mobilenet_v2", 32)] if args.smoke else list(SPEEDS)
    with tempfile.TemporaryDirectory() as folder:
        for side in dict.fromkeys(side for _, side in left):
            throughput.keep_images(args.dataset, side, Path(folder) / f"{side}.npz")
        ready: list[tuple[str, int, subprocess.Popen[str]]] = []
        while left or ready:
            while left and len(ready) < 2:
                name, side = left.pop(0)
                ready.append((name, side, getting_ready(args, name, side, Path(folder) / f"{side}.npz")))
            name, side, process = ready.pop(0)
            seconds = args.ends - time.perf_counter()
            if seconds < (0 if args.smoke else 8):
                note({"left out": f"{name} at {side} px: no time left"})
                process.kill()
                process.communicate()
                continue
            process.communicate(f"{seconds}\n")
            if process.returncode:
                note({"network": name, "side": side, "error": f"code {process.returncode}", "passed": False})


def getting_ready(args: argparse.Namespace, name: str, side: int, images: Path) -> subprocess.Popen[str]:
    given = {"name": name, "side": side, "images": str(images), "device": args.device}
    given |= {"out": str(args.out), "smoke": args.smoke}
    command = [sys.executable, "-m", MODULE, json.dumps(given)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=findings.environment())


def child(name: str, side: int, images: str, device: str, out: str, smoke: bool) -> None:
    """One network's process: imports, waits for a line with the seconds that it has, measures row after row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    theirs = name in throughput.NETWORKS and all(importlib.util.find_spec(one) for one in ("timm", "torchvision"))
    if theirs:
        throughput.allow_torchvision()
        importlib.import_module("timm")
        importlib.import_module("torchvision")
    ends = time.perf_counter() + float(sys.stdin.readline() or 0)
    note = noting(Path(out), "speed")
    if name in throughput.NETWORKS and not theirs:
        note({"left out": f"{name}, user's and plain loops: need timm and torchvision"})
    for way, batch in ways(name, side, device, theirs, smoke):
        if time.perf_counter() + 2 * MEASURED_S > ends and not smoke:
            note({"left out": f"{name} at {side} px, {way}, batch {batch}: no time left"})
            continue
        start, row = time.perf_counter(), {"network": name, "side": side, "way": way, "batch": batch}
        try:
            found: Found = {"images/s": round(measured(way, name, side, batch, images, device, smoke), 1)}
        except torch.AcceleratorError:
            raise
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:300], "passed": False}
        note({**row, **found, "seconds of it": round(time.perf_counter() - start, 1)})


USERS_2, USERS_8, PLAIN = "user's loop, 2 workers", "user's loop, 8 workers", "plain bfloat16 loop"
OURS, GRAPHS, RELAXED = "ours, eager", "ours, CUDA graphs", "ours, CUDA graphs, strides as in a search"


def ways(name: str, side: int, device: str, theirs: bool, smoke: bool) -> Iterator[tuple[str, int]]:
    """(what is measured, with which batches)"""
    if theirs and side == 32:
        yield from [(USERS_2, 128)] if smoke else [(USERS_2, 128), (USERS_8, 128)]
    if theirs:
        yield PLAIN, 128
    yield OURS, 128
    if device == "cuda":
        yield GRAPHS, 128
        if side == 32:
            yield GRAPHS, 64
        if side == 32 and name in throughput.NETWORKS:
            yield RELAXED, 128


def measured(way: str, name: str, side: int, batch: int, images: str, device: str, smoke: bool) -> float:
    seconds, warm = (0.3, 0.0) if smoke else (MEASURED_S, WARM_S)
    if way in (USERS_2, USERS_8, PLAIN):
        split = throughput.kept_images(images)
        workers = 8 if way == USERS_8 else 2
        loop = throughput.plain_loop if way == PLAIN else throughput.users_loop
        steps = loop(name, split, device, *(() if way == PLAIN else (workers,)))
        with closing(steps):
            found = throughput.speed_of_steps(steps, seconds, device, warm)
        for process in multiprocessing.active_children():  # of a data loader, where one did not end
            process.terminate()
        return found
    graphs = way in (GRAPHS, RELAXED)
    number = 2 * batch if smoke else GRAPHS_IMAGES if graphs else EAGER_IMAGES
    split = throughput.kept_images(images, number if side == 32 else number // 2)
    return throughput.speed_of_ours(network(name, side, way == RELAXED), split, seconds, device, graphs, batch)


if __name__ == "__main__":
    child(**json.loads(sys.argv[1]))
    os._exit(0)  # whatever a data loader has left
