"""Networks as files for onnxruntime, in float32 or int8, and how long they take on this machine's processor."""

from __future__ import annotations

import datetime
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from nas.latency import onnx_graph, timing
from nas.latency.quantisation import quantise
from searchspace.arch import Arch
from searchspace.costs.latency import LatencyTable, Size, placed
from searchspace.errors import InputError

Timed = tuple[str, Size, float]
NOTHING = 1e-6  # milliseconds


def require() -> None:
    """`InputError` that says what to install where networks cannot be written or run."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"runtime onnxruntime needs {', '.join(missing)}: pip install 'cnn-budget-search[export]'")


def conditions(dtype: Literal["float32", "int8"], batch_size: int = 1, threads: int = 1) -> LatencyTable:
    """A table without times, of what would be timed here."""
    require()
    today = datetime.date.today().isoformat()
    release = metadata.version("onnxruntime")
    return LatencyTable(timing.device_name("cpu"), "", today, batch_size, threads, dtype, release)


def write(arch: Arch, path: Path, here: LatencyTable) -> None:
    """A network's file, with random weights."""
    from onnx import save

    if here.dtype != "int8":
        save(onnx_graph.model(arch), path)
        return
    with tempfile.TemporaryDirectory(prefix="float-") as folder:
        whole = Path(folder) / "float.onnx"
        save(onnx_graph.model(arch), whole)
        shape = (here.batch_size, arch.in_channels, arch.resolution, arch.resolution)
        noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        quantise(whole, path, iter([noise]))


@contextmanager
def write_files(archs: Sequence[Arch], here: LatencyTable) -> Iterator[list[Path]]:
    """The networks' files, for as long as they are needed."""
    with tempfile.TemporaryDirectory(prefix="networks-") as folder:
        paths = [Path(folder) / f"{number}.onnx" for number in range(len(archs))]
        for arch, path in zip(archs, paths, strict=True):
            write(arch, path, here)
        yield paths


def layer_ms(archs: Sequence[Arch], here: LatencyTable, rounds: int, each: Callable[[], None]) -> list[list[Timed]]:
    """As `timing.layer_ms`, of kernels with what is fused into them."""
    from nas.latency import onnx_timing

    with write_files(archs, here) as paths:
        found = onnx_timing.step_ms(paths, here.batch_size, here.threads, rounds, each)
    return [name_times(arch, here, times) for arch, times in zip(archs, found, strict=True)]


def name_times(arch: Arch, here: LatencyTable, times: dict[int, float]) -> list[Timed]:
    """A network's times by kernel number as a table has them; what has no kernel of its own there takes no time."""
    parts = (part for section, shape in placed(arch) for part in here.parts(section, shape))
    return [(name, size, times.get(number, NOTHING)) for number, (name, size) in enumerate(parts)]


def network_ms(archs: Sequence[Arch], here: LatencyTable, rounds: int, each: Callable[[], None]) -> list[float]:
    """As `timing.network_ms`."""
    from nas.latency import onnx_timing

    with write_files(archs, here) as paths:
        return [median(own) for own in onnx_timing.network_rounds(paths, here.batch_size, here.threads, rounds, each)]
