"""What a person reads: a network as its paper's table, and as one line."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from searchspace.arch import Arch, lower
from searchspace.blocks.blocks import BETWEEN, STRUCTURES, Block
from searchspace.costs.costs import cost, section_costs
from searchspace.format.network import with_defaults


class Row(NamedTuple):
    operator: str
    output: str
    kernel: str
    expansion: str
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
    kernel = _kernel(stem.kernel, stem.stride) + (f" + pool s{stem.pool}" if stem.pool > 1 else "")
    rows = [Row("stem", _shape(first.output), kernel, "", "", "", _act(stem.act), "", first.macs, first.params)]
    for block, part in zip(arch.blocks, parts[1:-1], strict=True):
        rows.append(_block_row(block, _shape(part.output), part.macs, part.params))
    widths = "/".join(str(width) for width in (head.width, head.hidden) if width)
    acts = "/".join(_act(a) for a, width in ((head.act, head.width), (head.hidden_act, head.hidden)) if width)
    output = _shape(last.output) if head.output == "map" else f"{last.output[0]}"
    rows.append(Row("head", output, "", "", widths, "", acts, "", last.macs, last.params))
    rows.append(Row("total", "", "", "", "", "", "", "", total.macs, total.params))
    return rows


def _block_row(block: Block, output: str, macs: int, params: int) -> Row:
    kernel = _kernel(block.kernel, block.stride)
    if block.groups > 1:
        depthwise = block.groups == getattr(block, STRUCTURES[block.type].grouped or "hidden")
        kernel += " dw" if depthwise else f" g{block.groups}"
    if block.dilation > 1:
        kernel += f" d{block.dilation}"
    if block.type in BETWEEN:
        return Row(block.type, output, kernel, "", "", "", "", "", macs, params)
    se = f"{block.se.channels} {block.se.position}" if block.se else ""
    shortcut = "" if block.shortcut == "none" else block.shortcut
    hidden, acts = str(block.hidden), _activations(block)
    return Row(block.type, output, kernel, _expansion(block), hidden, se, acts, shortcut, macs, params)


def _activations(block: Block) -> str:
    """The nonlinearities of the block's convolutions in their order, and after + the one that follows the addition."""
    acts = {"expand": block.expand_act, "spatial": block.spatial_act, "project": block.project_act}
    text = "/".join(_act(acts[name]) for name, _ in STRUCTURES[block.type].layers(block).parts)
    return text if block.shortcut == "none" or block.add_act == "none" else f"{text} + {block.add_act}"


def _expansion(block: Block) -> str:
    """The hidden width by the reference of the block's paper: × input, × output (convnext), or output ÷."""
    of_input = with_defaults({"block": block.type})["expansion_from"] == "input"
    reference = block.in_channels if of_input else block.out_channels
    divides = STRUCTURES[block.type].divides
    return f"÷{reference / block.hidden:.3g}" if divides else f"×{block.hidden / reference:.3g}"


def _kernel(kernel: int, stride: int) -> str:
    return f"{kernel}×{kernel}" + (f" s{stride}" if stride > 1 else "")


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
