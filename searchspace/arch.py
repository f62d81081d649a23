"""`Arch`: one network, complete, in integers. Everything after a search space sees this and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from searchspace import limits
from searchspace.blocks.blocks import BETWEEN, Block, lower_block
from searchspace.blocks.layers import Conv, Gate, Layer, Parallel, Residual, Sequential
from searchspace.blocks.stem_head import Head, Stem, lower_head, lower_stem
from searchspace.document import parse, plain, read_yaml, user_path, value, write_yaml
from searchspace.errors import InputError
from searchspace.limits import check_int

Padding = Literal["centred", "same"]
Init = Literal["normal", "resnet", "mnasnet", "efficientnet", "convnext", "torch"]


@value
class Arch:
    """A network: stem, blocks and head, at a square input of `resolution` pixels.

    Frozen and validated: widths that do not chain, or a resolution below the total stride, raise `ValueError`.
    `padding` of strided convolutions is the same on both sides, or TensorFlow's (`same`): more on the right and below.
    `init` says what weights a built network starts from; networks that differ in nothing else have equal digests.
    """

    stem: Stem
    blocks: tuple[Block, ...]
    head: Head = Head()
    resolution: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    init: Init = "normal"
    padding: Padding = "centred"

    def __post_init__(self) -> None:
        check_int(self, "resolution", "in_channels", "num_classes")
        if not 1 <= len(self.blocks) <= limits.BLOCKS:
            raise ValueError(
                f"blocks: a network has at least one and at most {limits.BLOCKS:,}, not {len(self.blocks)}"
            )
        width = self.stem.width
        for index, block in enumerate(self.blocks):
            if block.in_channels != width:
                raise ValueError(f"blocks.{index}.in_channels: {width} channels come in, not {block.in_channels}")
            width = block.out_channels
        if self.resolution < self.total_stride:
            raise ValueError(f"resolution: at least the total stride {self.total_stride}, not {self.resolution}")
        if self.last_side < 1:
            raise ValueError(f"resolution: {self.resolution} leaves nothing for the last even kernel")
        if self.head.norm.kind == "group":
            _head(self.head, width, self.num_classes)  # raises where its groups do not divide the width

    @property
    def total_stride(self) -> int:
        """Input pixels a pixel of the last map: the product of all strides."""
        return self.stem.stride * self.stem.pool * math.prod(block.stride for block in self.blocks)

    @property
    def last_side(self) -> int:
        """Pixels on a side of the last map. Odd kernels are padded and keep a map; even ones may shorten it by one."""
        side = _stem(self.stem, self.in_channels).output((self.in_channels, self.resolution, self.resolution))[1]
        for block in self.blocks:
            if block.type in BETWEEN:
                side = _block(block).output((block.in_channels, side, side))[1]
            else:
                side = (side - 1) // block.stride + 1
        return side

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, equal exactly for networks with equal layers, however they were written."""
        text = json.dumps([self.resolution, self.in_channels, [_signature(part) for part in sections(self)]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def adapt(
        self,
        num_classes: int | None = None,
        resolution: int | None = None,
        smallest_map: int = 2,
        relaxed_at: int | None = None,
    ) -> Arch:
        """The proxy for brief training: other classes, other resolution, all other weights of the same shapes (where a
        block of kind `ghost` or `shuffle` has its stride relaxed, it is the block without one, which has fewer).

        Where the last map would be smaller than `smallest_map` pixels a side, early strides are relaxed, the first
        ones first (halved until 1): at 32 px a network for 224 px otherwise ends in a 1×1 map, on which kernels 3
        and 7 compute the same function. Shortcuts stay as they are, so none appears that the network does not have.
        `relaxed_at` relaxes them as for a smaller resolution, so that networks of several are treated alike.
        A network without a classifier gets one for `num_classes`.
        """
        resolution = self.resolution if resolution is None else resolution
        relaxed_at = resolution if relaxed_at is None else relaxed_at
        for name, pixels in (("resolution", resolution), ("smallest_map", smallest_map), ("relaxed_at", relaxed_at)):
            if not isinstance(pixels, int) or isinstance(pixels, bool) or pixels < 1:
                raise InputError(f"adapt: {name}: a whole number, at least 1, is accepted, not {pixels!r:.80}")
        strides = [self.stem.stride, self.stem.pool, *(block.stride for block in self.blocks)]
        kernels = [self.stem.kernel, 1, *map(_striding_kernel, self.blocks)]
        stride, pool, *rest = relax(strides, kernels, relaxed_at, smallest_map)
        blocks = tuple(replace(b, stride=s) for b, s in zip(self.blocks, rest, strict=True))
        stem = replace(self.stem, stride=stride, pool=pool)
        head = self.head if num_classes is None else replace(self.head, output="logits")
        classes = self.num_classes if num_classes is None else num_classes
        try:
            return replace(self, stem=stem, blocks=blocks, head=head, resolution=resolution, num_classes=classes)
        except ValueError as error:
            raise InputError(f"adapt: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML or JSON; fields at their default are left out."""
        data: dict[str, Any] = plain(self)
        return data

    @classmethod
    def from_dict(cls, data: Any, source: str = "arch") -> Arch:
        """The reverse of `to_dict`; `InputError` names the field that is wrong."""
        return parse(cls, data, source)

    def save(self, path: str | Path, title: str = "") -> None:
        """Write the network as YAML."""
        write_yaml(user_path(path), self.to_dict(), title)

    @classmethod
    def load(cls, path: str | Path) -> Arch:
        """Read what `save` wrote; `InputError` names file, line and field."""
        data, lines = read_yaml(user_path(path))
        if isinstance(data, dict) and "stages" in data:
            raise InputError(f"{path}: written in stages: load it with Space.load(path).arch()")
        return parse(cls, data, str(path), lines)


def check_arch(thing: Any, asked: str) -> None:
    """`InputError` where what should be a network is none: it says how to make one."""
    if isinstance(thing, Arch):
        return
    said = f"{thing!r}" if isinstance(thing, str) else f"a {type(thing).__name__}"
    raise InputError(
        f"{asked}: an Arch is accepted, not {said}; zoo(name), Arch.load(path) and Space.sample(seed, budget) make one"
    )


def relax(strides: Sequence[int], kernels: Sequence[int | None], resolution: int, smallest_map: int) -> list[int]:
    """Strides from input to output, halved (the first ones first, until 1) where the last map would be smaller. A
    kernel of None is always the stride, as of layers that make patches."""
    kept = list(strides)

    def too_small() -> bool:
        side = resolution
        for stride, kernel in zip(kept, kernels, strict=True):
            side = _leave(side, stride, stride if kernel is None else kernel)
        return side < smallest_map or resolution < math.prod(kept)

    for index in range(len(kept)):
        while kept[index] > 1 and too_small():
            kept[index] //= 2
    return kept


def _leave(side: int, stride: int, kernel: int) -> int:
    """Pixels on a side behind a layer. One that makes patches, or has an even kernel, leaves out what is over; an even
    kernel without a stride takes a pixel."""
    even = kernel > 0 and kernel % 2 == 0
    if even and stride == 1:
        return side - 1
    return side // stride if even or kernel == stride else -(-side // stride)


def _striding_kernel(block: Block) -> int:
    """The kernel of the layer that takes a block's stride; 1 where padding makes that stride leave nothing out."""
    return block.kernel if block.type in ("downsample", "merge") or block.kernel % 2 == 0 else 1


def sections(arch: Arch) -> list[Sequential]:
    """The layers of the stem, of every block and of the head, in order."""
    last = arch.blocks[-1].out_channels
    found = [
        _stem(arch.stem, arch.in_channels),
        *(_block(block) for block in arch.blocks),
        _head(arch.head, last, arch.num_classes),
    ]
    return [pad_as(section, "same") for section in found] if arch.padding == "same" else found


@lru_cache(1 << 14)
def pad_as(layer: Layer, padding: Padding) -> Any:
    """The layers with their strided convolutions padded this way; patchifying ones (kernel = stride) never are."""
    match layer:
        case Conv() if layer.stride > 1 and layer.kernel % 2 and layer.kernel not in (1, layer.stride):
            return replace(layer, same=padding == "same")
        case Sequential(parts=parts):
            return Sequential(tuple((name, pad_as(part, padding)) for name, part in parts))
        case Residual(body=body, shortcut=shortcut):
            return Residual(pad_as(body, padding), None if shortcut is None else pad_as(shortcut, padding))
        case Gate(body=body):
            return Gate(pad_as(body, padding))
        case Parallel(branches=branches, join=join):
            return Parallel(tuple(pad_as(branch, padding) for branch in branches), join)
    return layer


def lower(arch: Arch) -> Sequential:
    """The whole network as one tree of layers; its parts are `stem`, `block1`, …, `head`."""
    names = ["stem", *(f"block{i + 1}" for i in range(len(arch.blocks))), "head"]
    return Sequential(tuple(zip(names, sections(arch), strict=True)))


# Blocks repeat, within a network and between the proposals of a search, so what was lowered is remembered.
_stem = lru_cache(1 << 10)(lower_stem)
_block = lru_cache(1 << 14)(lower_block)
_head = lru_cache(1 << 10)(lower_head)


def forget_blocks() -> None:
    """Blocks are lowered anew: a kind of block was registered."""
    _block.cache_clear()


@lru_cache(1 << 14)
def _signature(layer: Layer) -> str:
    """A text that says what a layer computes and nothing of how it was named or nested."""
    match layer:
        case Sequential():
            return "".join(f"{_signature(part)};" for _, part in layer.parts)
        case Residual():
            shortcut = "" if layer.shortcut is None else _signature(layer.shortcut)
            return f"({_signature(layer.body)}+{shortcut})"
        case Gate():
            return f"(*{_signature(layer.body)})"
        case Parallel():
            return f"({layer.join}{'|'.join(map(_signature, layer.branches))})"
        case _:
            return type(layer).__name__ + json.dumps(
                plain(layer)
            )  # a field added later, at its default, changes nothing
