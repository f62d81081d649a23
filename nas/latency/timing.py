"""How long a network takes on a device: as a whole, and layer by layer while it runs.

Times are of inference of one batch with weights and images in `channels_last`, as deployed code runs them. Networks
that are compared take turns, round after round, so that a busy moment of the machine touches all of them alike, and
of each its median counts. A single CPU thread is timed by its own clock, which stands still while another process has
the core: on an idle machine that is the wall clock's time, on a busy one nearly still (measured with 5 processes on 2
cores: within 5 %, where the wall clock doubled). On a GPU the time is the GPU's own, in bfloat16: the queue is full
before the first layer, so that no layer waits for its launch, as in a runtime that launches whole networks.
"""

from __future__ import annotations

import datetime
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas import torch_private
from searchspace.arch import Arch, lower
from searchspace.blocks.layers import Gate, Layer, Parallel, Residual, Sequential, steps
from searchspace.costs.latency import LatencyTable, Size, operator, size_of
from searchspace.errors import InputError
from searchspace.pytorch.module import build

LARGE_BYTES = 30 << 20
BUSY_CYCLES = 40_000_000  # some 20 ms of a GPU, in which a network's kernels are launched
FINE_S = 1e-6


def is_here(wanted: str) -> bool:
    """Whether this machine has the device; a driver of a Ray cluster may have no GPU itself."""
    return wanted != "cuda" or torch.cuda.is_available()


def device_for(wanted: str) -> str:
    """`cpu` or `cuda` for auto, cpu or cuda; `InputError` where there is no GPU."""
    if not is_here(wanted):
        raise InputError("device cuda: PyTorch sees no GPU here; cpu and auto are accepted")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """The name of a GPU, or of the processor."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else processor_name()


def processor_name() -> str:
    """The processor's name as its maker writes it, with its model, since names such as AMD EPYC stand for many."""
    facts = _cpu_facts()
    name = facts.get("model name") or platform.processor() or platform.machine() or "cpu"
    name = " ".join(re.sub(r"\((R|TM|r|tm)\)", "", name).split())
    kinds = {"cpu family": "family", "model": "model", "stepping": "stepping", "CPU part": "part"}
    details = ", ".join(f"{word} {facts[field]}" for field, word in kinds.items() if facts.get(field))
    return f"{name} ({details})" if details else name


def _cpu_facts() -> dict[str, str]:
    """What Linux says of its first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text().strip().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): said.strip() for name, _, said in pairs}


def conditions(device: str, batch_size: int = 1, threads: int = 1) -> LatencyTable:
    """A table without times, of what would be timed here."""
    today = datetime.date.today().isoformat()
    name: Literal["float32", "bfloat16"] = "bfloat16" if dtype(device) == torch.bfloat16 else "float32"
    return LatencyTable(device_name(device), torch.__version__, today, batch_size, threads, name)


def alike(table: LatencyTable, here: LatencyTable) -> bool:
    """Whether times of two tables may be compared; tables of earlier versions name a processor without its model."""
    earlier = replace(here, device=here.device.partition(" (")[0])
    return str(table) in (str(here), str(earlier))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for PyTorch, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settle_allocator() -> None:
    """Let the C library keep freed memory, as it does in a process that has run for a while.

    glibc returns the top of the heap to the system until it has seen a large block freed, and pays for fresh pages in
    every run after that: up to 1.4 × the time of a network with large maps.
    """
    torch.empty(LARGE_BYTES, dtype=torch.uint8).fill_(0)


def dtype(device: str) -> torch.dtype:
    """Of weights and images as they are timed."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def ready(arch: Arch, device: str) -> nn.Module:
    """The network, freshly initialised, as it is timed."""
    return as_deployed(build(arch), device)


def as_deployed(model: nn.Module, device: str) -> nn.Module:
    """A network as it is timed."""
    return model.eval().to(device, dtype(device), memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def batch(arch: Arch, batch_size: int, device: str) -> Tensor:
    """A new batch of black images."""
    shape = batch_size, arch.in_channels, arch.resolution, arch.resolution
    return torch.zeros(shape, dtype=dtype(device), device=device)


class Stopwatch:
    """Marks in time, on a GPU marks in its queue; `splits` are the milliseconds between them."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        alone = torch.get_num_threads() == 1 and time.get_clock_info("thread_time").resolution <= FINE_S
        self.clock = time.thread_time if alone else time.perf_counter
        self.marks: list[Any] = []
        if self.cuda:
            torch.cuda.synchronize()
            torch_private.occupy_gpu(BUSY_CYCLES)
        self.mark()

    def mark(self) -> None:
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(self.clock())

    def splits(self) -> list[float]:
        if self.cuda:
            torch.cuda.synchronize()
            return [start.elapsed_time(end) for start, end in zip(self.marks, self.marks[1:], strict=False)]
        return [1000 * (end - start) for start, end in zip(self.marks, self.marks[1:], strict=False)]


def network_ms(
    models: Sequence[nn.Module],
    archs: Sequence[Arch],
    device: str,
    batch_size: int = 1,
    rounds: int = 5,
    each: Callable[[], None] = lambda: None,
) -> list[float]:
    """Median milliseconds of a batch, of networks that take turns."""
    return [median(own) for own in network_rounds(models, archs, device, batch_size, rounds, each)]


@torch.inference_mode()
def network_rounds(
    models: Sequence[nn.Module],
    archs: Sequence[Arch],
    device: str,
    batch_size: int = 1,
    rounds: int = 5,
    each: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Milliseconds of a batch in every round, of networks that take turns; a timed run follows one that warms up."""
    settle_allocator()
    times: list[list[float]] = [[] for _ in models]
    for _ in range(rounds):
        for model, arch, own in zip(models, archs, times, strict=True):
            model(batch(arch, batch_size, device))
            images = batch(arch, batch_size, device)
            watch = Stopwatch(device)
            model(images)
            watch.mark()
            own.extend(watch.splits())
            each()
    return times


@torch.inference_mode()
def layer_ms(
    archs: Sequence[Arch],
    device: str,
    batch_size: int = 1,
    rounds: int = 5,
    each: Callable[[], None] = lambda: None,
) -> list[list[tuple[str, Size, float]]]:
    """For every network its layers in the order they run, (operator, size, median milliseconds); they take turns."""
    settle_allocator()
    models = [ready(arch, device) for arch in archs]
    programs = [list(program(lower(arch), model)) for arch, model in zip(archs, models, strict=True)]
    times: list[list[list[float]]] = [[] for _ in archs]
    for _ in range(rounds):
        for model, marked, arch, own in zip(models, programs, archs, times, strict=True):
            model(batch(arch, batch_size, device))
            images = batch(arch, batch_size, device)
            watch = Stopwatch(device)
            run_marked(marked, images, watch.mark)
            own.append(watch.splits())
            each()
    found = []
    for arch, own in zip(archs, times, strict=True):
        layers = steps(lower(arch), (arch.in_channels, arch.resolution, arch.resolution))
        medians = [median(splits) for splits in zip(*own, strict=True)]
        found.append([(operator(part), size_of(part, at), ms) for (part, at), ms in zip(layers, medians, strict=True)])
    return found


Step = tuple[Literal["run", "hold", "swap", "again", "add", "multiply", "join"], nn.Module]


def program(layer: Layer, module: nn.Module) -> Iterator[Step]:
    """A tree as a flat list of steps for `run_marked`, which costs about what the module's own nesting does."""
    match layer:
        case Sequential(parts=parts):
            for (_, part), child in zip(parts, module.children(), strict=True):
                yield from program(part, child)
        case Residual(body=body, shortcut=shortcut):
            yield "hold", module
            yield from program(body, module.get_submodule("body"))
            if shortcut is not None:
                yield "swap", module
                yield from program(shortcut, module.get_submodule("shortcut"))
            yield "add", module
        case Gate(body=body):
            yield "hold", module
            yield from program(body, module.get_submodule("body"))
            yield "multiply", module
        case Parallel(branches=branches):
            yield "hold", module
            children = module.get_submodule("branches").children()
            for index, (branch, child) in enumerate(zip(branches, children, strict=True)):
                if index:
                    yield "again", module
                yield from program(branch, child)
            yield "join", module
        case _:
            yield "run", module


def run_marked(steps_of: Sequence[Step], x: Tensor, mark: Callable[[], None]) -> Tensor:
    """What a program's module computes, with a mark after each of the `layers.steps` of its tree."""
    held: list[Tensor] = []
    for action, module in steps_of:
        if action == "run":
            x = module(x)
        elif action == "hold":
            held.append(x)
            continue
        elif action == "swap":
            held[-1], x = x, held[-1]
            continue
        elif action == "again":  # what a branch put out is kept below the branches' input
            held.insert(-1, x)
            x = held[-1]
            continue
        elif action == "add":
            x = held.pop() + x
        elif action == "join":
            held.pop()
            first = len(held) - len(module.branches) + 1  # type: ignore[arg-type]
            x = module.joined([*held[first:], x])  # type: ignore[operator]
            del held[first:]
        else:
            x = held.pop() * x
        mark()
    return x
