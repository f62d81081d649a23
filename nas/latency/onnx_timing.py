"""How long networks take in onnxruntime: as a whole, and kernel by kernel while they run.

onnxruntime fuses layers and rearranges maps between them, so that no layer has a time of its own: what is timed are its
kernels, each charged to the layer that its name says (`onnx_graph`), and those it adds itself to the layer before. Only
onnxruntime and numpy are needed: a kit carries these functions to other machines.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

STEP = r"\bs(\d+)\."
KERNEL = "_kernel_time"
WATCHED = 2  # runs a round whose kernels are timed
ERRORS_ALONE = 3  # onnxruntime's level of severity


def session(path: Path, threads: int, profile: str = "") -> Any:
    """A network ready to run; with a prefix of files to write, its kernels are timed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS_ALONE
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_ms(network: Any, batch_size: int, threads: int) -> float:
    """Milliseconds of a run on black images; of one thread by its own clock, which stands still while it waits."""
    (images,) = network.get_inputs()
    given = {images.name: np.zeros((batch_size, *images.shape[1:]), np.float32)}
    clock = time.thread_time if threads == 1 else time.perf_counter
    begun = clock()
    network.run(None, given)
    return 1000 * (clock() - begun)


def network_rounds(
    paths: Sequence[Path], batch_size: int, threads: int, rounds: int, each: Callable[[], None]
) -> list[list[float]]:
    """Milliseconds of networks in every round; they take turns, and a timed run follows one that warms up."""
    networks = [session(path, threads) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(rounds):
        for network, own in zip(networks, times, strict=True):
            run_ms(network, batch_size, threads)
            own.append(run_ms(network, batch_size, threads))
            each()
    return times


def step_ms(
    paths: Sequence[Path], batch_size: int, threads: int, rounds: int, each: Callable[[], None]
) -> list[dict[int, float]]:
    """Of every network the milliseconds of its timed steps, which add up to its median; networks take turns.

    Kernels are timed by the wall clock, so of each the least time counts: what disturbs makes it longer. A step that is
    not among them is part of another one's kernel here, as an addition may be.
    """
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder:
        watched = [session(path, threads, os.path.join(folder, f"{number}-")) for number, path in enumerate(paths)]
        plain = [session(path, threads) for path in paths]
        totals: list[list[float]] = [[] for _ in paths]
        for _ in range(rounds):
            for one, other, own in zip(watched, plain, totals, strict=True):
                for _ in range(WATCHED):
                    run_ms(one, batch_size, threads)
                run_ms(other, batch_size, threads)
                own.append(run_ms(other, batch_size, threads))
                each()
        found = []
        for one, own in zip(watched, totals, strict=True):
            with open(one.end_profiling(), encoding="utf-8") as file:
                kernels = by_step(json.load(file), rounds * WATCHED)
            share = median(own) / sum(kernels.values())
            found.append({step: share * ms for step, ms in kernels.items()})
        return found


def by_step(events: Sequence[dict[str, Any]], runs: int) -> dict[int, float]:
    """The least time of every kernel over the runs, added up by step; of the whole microseconds that onnxruntime writes
    the rest is lost, which is half of one on average."""
    timed = [(event["name"], event["dur"] + 0.5) for event in events if event["name"].endswith(KERNEL)]
    number = len(timed) // runs
    times: dict[int, float] = {}
    step = 0
    for at in range(number):
        said = re.search(STEP, timed[at][0])
        step = int(said[1]) if said else step
        times[step] = times.get(step, 0.0) + min(ms for _, ms in timed[at::number])
    return times
