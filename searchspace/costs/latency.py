"""`LatencyTable`: layer times of one device, and what a network takes there, predicted without running it (no torch).

Layers are timed while whole networks run, every moment of a run charged to the layer that ends it, so that their times
sum up to the network's. (Timed alone, a layer finds its weights in the cache: such sums were a quarter too low.)
Widths are any integers, so no table holds every layer. For every operator (a 3×3 convolution with stride 2, a SiLU, …)
the time is a sum of six quantities of a layer, such as its multiply-adds and the numbers it reads and writes, times
what each costs on the device, fitted to the operator's times: never negative, so that a wider layer never takes less.
`nas/measure.py` fills the table.

onnxruntime fuses layers, so its tables are of kernels (`kernels.py`), each with what is fused into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from searchspace.arch import Arch, sections
from searchspace.blocks.layers import (
    Activate,
    AvgPool,
    Blur,
    ChannelConv,
    Conv,
    Layer,
    Linear,
    MaxPool,
    Normalize,
    Parallel,
    Residual,
    Shape,
    steps,
)
from searchspace.costs.kernels import kernels
from searchspace.document import check_no_pipe, parse, user_path, write_text, writing
from searchspace.errors import InputError

LANES = 16
FUSING_LANES = 8  # of onnxruntime's memory formats
ALIGNED = 4
REWEIGHTINGS = 4
BUSY = 0.5
REMEMBERED = 1 << 16


class Size(NamedTuple):
    """What decides a layer's time beside its operator; pixels are of a whole map."""

    in_channels: int
    out_channels: int
    groups: int
    in_pixels: int
    out_pixels: int


Row = tuple[int, int, int, int, int, float]
"""A size and the milliseconds measured for it."""


class Session(NamedTuple):
    """When so many networks were timed, and how busy the machine was with other things: its load average."""

    date: str
    networks: int
    load: float
    cores: int

    @property
    def busy(self) -> bool:
        return self.load > BUSY * self.cores


@dataclass(frozen=True)
class LatencyTable:
    """Layer times of one device, by operator, and the conditions they were measured under.

    What ran the networks is PyTorch or onnxruntime, whose release is given. `spaces` counts the networks that were
    timed, by where they came from. Times are of one batch of `batch_size`. `sessions` are empty in tables of earlier
    versions. `checked` has whole networks that were measured beside, as JSON, and their milliseconds.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    device: str
    torch: str
    date: str
    batch_size: int = 1
    threads: int = 1
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    onnxruntime: str = ""
    spaces: Mapping[str, int] = field(default_factory=dict)
    sessions: tuple[Session, ...] = ()
    times: Mapping[str, tuple[Row, ...]] = field(default_factory=dict, repr=False)
    checked: Mapping[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if bool(self.torch) == bool(self.onnxruntime):
            raise ValueError("torch and onnxruntime: the release of one of them is accepted")
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1, not {getattr(self, name)}")
        for operator, rows in self.times.items():
            if not rows or min(map(min, rows)) <= 0:
                raise ValueError(f"times.{operator}: one row or more of numbers above 0 is accepted")

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """What `save` wrote; `InputError` for a file that is broken, or of something else."""
        path = user_path(path)
        try:
            check_no_pipe(path)
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"latency table {path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"latency table {path}: not JSON ({error})") from None
        return parse(cls, data, f"latency table {path}")

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, a row a line, in one step; raises as `writing`."""
        path, write = user_path(path), partial(json.dumps, ensure_ascii=False)
        rest = {name: thing for name, thing in asdict(self).items() if name != "times"}
        rows = {operator: ",\n".join(map(write, rows)) for operator, rows in self.times.items()}
        times = ",\n".join(f"{write(operator)}: [{text}]" for operator, text in rows.items())
        with writing(f"latency table {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, f'{write(rest)[:-1]}, "times": {{{times}}}}}\n')

    def with_times(self, space: str, networks: int, times: Iterable[tuple[str, Size, float]]) -> LatencyTable:
        """The table with the times of more networks; of two times of one layer the later one stays."""
        known = {operator: {Size(*row[:-1]): row for row in rows} for operator, rows in self.times.items()}
        for operator, size, ms in times:
            known.setdefault(operator, {})[size] = (*size, round(ms, 6))
        spaces = {**self.spaces, space: self.spaces.get(space, 0) + networks}
        return replace(self, spaces=spaces, times={name: tuple(rows.values()) for name, rows in known.items()})

    def with_session(self, session: Session) -> LatencyTable:
        """The table with a note of when and how its latest times were measured, or a longer one of the same date."""
        before = self.sessions
        if before and before[-1].date == session.date:
            networks, load = before[-1].networks + session.networks, max(before[-1].load, session.load)
            before, session = before[:-1], session._replace(networks=networks, load=load)
        return replace(self, sessions=(*before, session))

    @property
    def busiest(self) -> Session | None:
        """The session with the highest load, if one was too high for times to be trusted."""
        busy = [session for session in self.sessions if session.busy]
        return max(busy, key=lambda session: session.load / session.cores, default=None)

    def predict(self, arch: Arch) -> float:
        """Milliseconds that one batch takes; `InputError` naming the operators that were never timed."""
        missing = self.missing(arch)
        if missing:
            raise InputError(
                f"latency on {self.device}: no times of {', '.join(missing)} in its table; python -m nas.measure "
                "--space with a space that has them adds them"
            )
        return sum(self._section(section, shape) for section, shape in placed(arch))

    def missing(self, arch: Arch) -> list[str]:
        """The operators of a network that the table does not have."""
        return sorted(self.operators(arch) - self.times.keys())

    def operators(self, arch: Arch) -> set[str]:
        """The names of all operators that a network has in the table's runtime."""
        return {name for section, shape in placed(arch) for name, _ in self.parts(section, shape)}

    def parts(self, section: Layer, shape: Shape) -> Iterator[tuple[str, Size]]:
        """What of a section is timed by itself in the table's runtime, in the order in which it runs."""
        if self.onnxruntime:
            return ((kernel(part), size_of(part, at)) for part, at in kernels(section, shape))
        return ((operator(part), size_of(part, at)) for part, at in steps(section, shape))

    def layer_ms(self, operator: str, size: Size) -> float:
        """What one layer takes."""
        return sum(c * q for c, q in zip(self._costs[operator], quantities(size, self.lanes), strict=True))

    @property
    def lanes(self) -> int:
        """In how many channels its runtime counts."""
        return FUSING_LANES if self.onnxruntime else LANES

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        runtime = f"onnxruntime {self.onnxruntime}" if self.onnxruntime else f"torch {self.torch}"
        return f"{self.device}, batch {self.batch_size}, {threads}, {self.dtype}, {runtime}"

    @cached_property
    def _costs(self) -> dict[str, list[float]]:
        return {operator: fit_line(rows, self.lanes) for operator, rows in self.times.items()}

    @cached_property
    def _sections(self) -> dict[tuple[Layer, Shape], float]:
        return {}

    def _section(self, section: Layer, shape: Shape) -> float:
        """What a block takes, remembered, since blocks repeat between the proposals of a search."""
        key = (section, shape)
        if key not in self._sections:
            if len(self._sections) >= REMEMBERED:
                self._sections.clear()
            self._sections[key] = sum(self.layer_ms(name, size) for name, size in self.parts(section, shape))
        return self._sections[key]


def placed(arch: Arch) -> Iterator[tuple[Layer, Shape]]:
    """The stem, every block and the head, each with its input shape."""
    shape: Shape = (arch.in_channels, arch.resolution, arch.resolution)
    for section in sections(arch):
        yield section, shape
        shape = section.output(shape)


def operator(layer: Layer) -> str:
    """What a layer does but for its widths and map: "conv 3×3 s2 depthwise", "silu", "batch norm", "Gate"."""
    match layer:
        case Conv():
            dilation = f" d{layer.dilation}" if layer.dilation > 1 else ""
            groups = "" if layer.groups == 1 else " depthwise" if layer.groups == layer.in_channels else " grouped"
            return f"conv {layer.kernel}×{layer.kernel} s{layer.stride}{dilation}{groups}"
        case MaxPool():
            return f"max-pool {layer.kernel}×{layer.kernel} s{layer.stride}"
        case Normalize():
            return f"{layer.norm.kind} norm"
        case Activate():
            return layer.function
        case AvgPool() | Blur():
            return f"{type(layer).__name__} s{layer.stride}"
        case ChannelConv():
            return f"{type(layer).__name__} {layer.kernel}"
        case Parallel():
            return f"{layer.join} of {len(layer.branches)}"
        case _:
            return type(layer).__name__


def kernel(layer: Layer) -> str:
    """The same in onnxruntime, which has a faster memory format for convolutions of few channels or channels in fours
    (`nchwc_transformer.cc`): a depthwise one takes several times as long without it."""
    if isinstance(layer, Conv) and layer.in_channels % ALIGNED and (layer.groups > 1 or layer.in_channels >= LANES):
        return f"{operator(layer)}, unaligned"
    return operator(layer)


def size_of(layer: Layer, shape: Shape) -> Size:
    """A layer's size at an input shape; an addition reads what it writes. Layers that mix no channels are depthwise."""
    out = layer.output(shape)
    of = out if isinstance(layer, (Residual, Parallel)) else shape
    match layer:
        case Conv():
            groups = layer.groups
        case Linear():
            groups = 1
        case _:
            groups = of[0]
    return Size(of[0], out[0], groups, of[1] * of[2], out[1] * out[2])


def quantities(size: Size, lanes: int = LANES) -> tuple[float, ...]:
    """What a layer's time may grow with: a call, numbers read, written, multiply-adds, weights, padded multiply-adds.

    A convolution's k² is the same for all of an operator, so it is left out. Padded to `lanes` channels, in which
    vector units and memory formats count.
    """
    inside, outside = size.in_channels // size.groups, max(size.out_channels // size.groups, 1)
    weights = inside * size.out_channels
    if inside == outside == 1:
        padded = ceil(size.out_channels, lanes)
    else:
        padded = size.groups * ceil(inside, lanes) * ceil(outside, lanes)
    return (
        1.0,
        size.in_channels * size.in_pixels,
        size.out_channels * size.out_pixels,
        weights * size.out_pixels,
        weights,
        padded * size.out_pixels,
    )


def ceil(channels: int, lanes: int) -> int:
    """The multiple of `lanes` at or above a width."""
    return -(-channels // lanes) * lanes


def fit_line(rows: Sequence[Row], lanes: int) -> list[float]:
    """Milliseconds a unit of each quantity: least squares without negative costs, by which the times add up.

    Errors grow with the time itself; so each row is weighted by 1 / its predicted time, found in a few rounds.
    """
    import numpy as np
    from scipy.optimize import nnls

    matrix = np.array([quantities(Size(*row[:-1]), lanes) for row in rows], dtype=float)
    times = np.array([row[-1] for row in rows])
    scale = np.maximum(matrix.max(axis=0), 1.0)
    matrix /= scale
    expected = times
    for _ in range(REWEIGHTINGS):
        weights = 1 / np.sqrt(np.maximum(expected, times.mean() / 100))
        costs, _ = nnls(matrix * weights[:, None], times * weights)
        expected = matrix @ costs
    return [float(cost) for cost in costs / scale]
