"""What a person reads: a network as its paper's table, and as one line."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from searchspace.arch import Arch, lower
from searchspace.blocks import Block
from searchspace.costs import cost, section_costs


class Row(NamedTuple):
    operator: str
    output: str
    kernel: str
    hidden: str
    se: str
    activations: str
    shortcut: str
    macs: int
    params: int


def table(arch: Arch) -> list[Row]:
    """One row for the stem, every block and the head; the last row is the total."""
    parts = section_costs(arch)
    first, last, total = parts[0], parts[-1], cost(arch)
    stem, head = arch.stem, arch.head
    stride = f" s{stem.stride}" if stem.stride > 1 else ""
    rows = [
        Row(
            "stem",
            _shape(first.output),
            f"{stem.kernel}×{stem.kernel}{stride}",
            "",
            "",
            _act(stem.act),
            "",
            first.macs,
            first.params,
        )
    ]
    for block, part in zip(arch.blocks, parts[1:-1], strict=True):
        rows.append(_block_row(block, _shape(part.output), part.macs, part.params))
    features = f"{head.width or ''}"
    rows.append(Row("head", f"{arch.num_classes}", "", features, "", _act(head.act), "", last.macs, last.params))
    rows.append(Row("total", "", "", "", "", "", "", total.macs, total.params))
    return rows


def _block_row(block: Block, output: str, macs: int, params: int) -> Row:
    stride = f" s{block.stride}" if block.stride > 1 else ""
    acts = (block.expand_act, block.spatial_act, block.project_act, block.add_act)
    names = "/".join(_act(act) for act in acts)
    se = f"{block.se.channels} {block.se.position}" if block.se else ""
    kernel = f"{block.kernel}×{block.kernel}{stride}"
    shortcut = "" if block.shortcut == "none" else block.shortcut
    return Row(block.type, output, kernel, str(block.hidden), se, names, shortcut, macs, params)


def _shape(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]}×{shape[1]}×{shape[2]}"


def _act(name: str) -> str:
    return "–" if name == "none" else name


def summary(arch: Arch) -> str:
    """A network in one line: for every run of alike blocks, their type, number, kernel and widths."""
    parts = []
    for (kind, kernel), group in groupby(arch.blocks, key=lambda b: (b.type, b.kernel)):
        blocks = list(group)
        widths = (
            f"{blocks[0].out_channels}" if len(blocks) == 1 else f"{blocks[0].out_channels}-{blocks[-1].out_channels}"
        )
        parts.append(f"{len(blocks)}×{kind} k{kernel} {widths}")
    return f"{len(lower(arch).parts) - 2} blocks: " + ", ".join(parts)
