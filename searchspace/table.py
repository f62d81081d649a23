"""What a person reads: a network as its paper's table, and as one line."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from searchspace.arch import Arch, lower
from searchspace.blocks.blocks import BETWEEN, Block, structure
from searchspace.blocks.layers import Activate, Conv, Layer, Reparametrised, Sequential, leaves
from searchspace.costs.network_cost import cost, section_costs
from searchspace.format.network import block_defaults


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
    kernel = _kernels(block)
    if block.type in BETWEEN:
        return Row(block.type, output, kernel, "", "", "", "", "", macs, params)
    se = f"{block.se.channels} {block.se.position}" if block.se else ""
    shortcut = "" if block.shortcut == "none" else block.shortcut
    hidden, acts = str(block.hidden), _activations(block)
    return Row(block.type, output, kernel, _expansion(block), hidden, se, acts, shortcut, macs, params)


def spatial_convolutions(block: Block) -> list[Conv]:
    """The block's convolutions wider than 1×1; where it has none, the one with the most groups."""
    body, side = structure(block.type).layers(block), 64
    found = [leaf for leaf, _ in leaves(body, (block.in_channels, side, side)) if isinstance(leaf, Conv)]
    return [conv for conv in found if conv.kernel > 1] or sorted(found, key=lambda conv: -conv.groups)[:1]


def _kernels(block: Block) -> str:
    """The block's kernels in their order, each with its stride, groups and dilation, and its number of branches where
    it is re-parametrised."""
    convs = spatial_convolutions(block)
    if not convs:
        return _kernel(block.kernel, block.stride)
    elsewhere = block.stride if all(conv.stride == 1 for conv in convs) else 1  # a 1×1 takes it
    texts = [_conv(conv, conv.stride if index else max(conv.stride, elsewhere)) for index, conv in enumerate(convs)]
    return " + ".join(texts)


def _conv(conv: Conv, stride: int) -> str:
    text = _kernel(conv.kernel, stride)
    if conv.groups > 1:
        text += " dw" if conv.groups == conv.in_channels else f" g{conv.groups}"
    if isinstance(conv, Reparametrised):
        text += f" of {len(conv.branches)}"
    return f"{text} d{conv.dilation}" if conv.dilation > 1 else text


def _activations(block: Block) -> str:
    """The nonlinearities of the block's parts in their order, and after + the one that follows the addition."""
    text = "/".join(_act(_function(part)) for _, part in structure(block.type).layers(block).parts)
    return text if block.shortcut == "none" or block.add_act == "none" else f"{text} + {block.add_act}"


def _function(part: Layer) -> str:
    """The nonlinearity that a part of a block applies itself."""
    layers = [layer for _, layer in part.parts] if isinstance(part, Sequential) else [part]
    return next((layer.function for layer in layers if isinstance(layer, Activate)), "none")


def _expansion(block: Block) -> str:
    """The hidden width by the reference of the block's paper: × input, × output (convnext), or output ÷."""
    of_input = block_defaults(block.type)["expansion_from"] == "input"
    reference = block.in_channels if of_input else block.out_channels
    divides = structure(block.type).divides
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
    for (kind, kernel), group in groupby(arch.blocks, key=lambda b: (b.type, _sizes(b))):
        blocks = list(group)
        widths = (
            f"{blocks[0].out_channels}" if len(blocks) == 1 else f"{blocks[0].out_channels}-{blocks[-1].out_channels}"
        )
        parts.append(f"{len(blocks)}×{kind} k{kernel} {widths}")
    return f"{len(lower(arch).parts) - 2} blocks: " + ", ".join(parts)


def _sizes(block: Block) -> str:
    """The block's different kernels in their order: 3, or 5/3."""
    sizes = [conv.kernel for conv in spatial_convolutions(block)] or [block.kernel]
    return "/".join(map(str, dict.fromkeys(sizes)))
