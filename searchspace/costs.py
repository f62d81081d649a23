"""`cost(arch)`: what a network costs, computed from its layers without building it (and without torch)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from searchspace.arch import Arch, sections
from searchspace.budget import Cost
from searchspace.latency import LatencyTable
from searchspace.layers import (
    Activate,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    Layer,
    LayerScale,
    Linear,
    Normalize,
    Residual,
    Sequential,
    Shape,
    leaves,
    size,
)

BYTES_PER_NUMBER = 4


class Part(NamedTuple):
    """What one part of a network puts out and costs; `peak` in numbers, not bytes."""

    output: Shape
    macs: int
    params: int
    activations: int
    peak: int


def cost(arch: Arch, latency: LatencyTable | None = None) -> Cost:
    """Exact multiply-adds and parameters; activations and peak memory for one image; latency where a table is given.

    `macs` and `activations` (elements put out, RegNet's measure) count convolutions and linear layers only. The
    peak is of float32 feature maps alive at one time in inference, without weights: elementwise layers work in place,
    a shortcut's input lives until it is added.
    """
    parts = section_costs(arch)
    return Cost(
        macs=sum(part.macs for part in parts),
        params=sum(part.params for part in parts),
        activations=sum(part.activations for part in parts),
        peak_memory_bytes=BYTES_PER_NUMBER * max(part.peak for part in parts),
        latency_ms=None if latency is None else latency.predict(arch),
    )


def section_costs(arch: Arch) -> list[Part]:
    """The costs of the stem, of every block and of the head, in order."""
    shape: Shape = (arch.in_channels, arch.resolution, arch.resolution)
    parts = []
    for section in sections(arch):
        parts.append(_measure(section, shape))
        shape = parts[-1].output
    return parts


@lru_cache(1 << 16)
def _measure(layer: Layer, shape: Shape) -> Part:
    macs = params = activations = 0
    for leaf, at in leaves(layer, shape):
        macs += leaf.macs(at)
        params += leaf.params
        if isinstance(leaf, (Conv, Linear)):
            activations += size(leaf.output(at))
    return Part(layer.output(shape), macs, params, activations, _peak(layer, shape, held=False))


def _peak(layer: Layer, shape: Shape, held: bool) -> int:
    """The most numbers alive while a layer runs, its input included; `held` says that the input must survive it."""
    match layer:
        case Sequential(parts=parts):
            most, own = size(shape), size(shape)
            for index, (_, part) in enumerate(parts):
                beside = own if held and index else 0
                most = max(most, beside + _peak(part, shape, held and index == 0))
                shape = part.output(shape)
            return most
        case Residual(body=body, shortcut=shortcut):
            out = size(layer.output(shape))
            added = 0 if shortcut is None else out
            beside = 0 if shortcut is None else _peak(shortcut, shape, held)
            kept = size(shape) if held or shortcut is None else 0
            return max(_peak(body, shape, held=True), out + beside, out + added + kept)
        case Gate(body=body):
            return max(_peak(body, shape, held=True), 2 * size(shape) if held else size(shape))
        case Normalize() | Activate() | LayerScale():
            return 2 * size(shape) if held else size(shape)
        case Flatten() | Dropout() | DropPath():
            return size(shape)
        case _:
            return size(shape) + size(layer.output(shape))
