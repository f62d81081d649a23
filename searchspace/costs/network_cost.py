"""`cost(arch)`: what a network costs, computed from its layers without building it (and without torch).

Blocks of one kind cost the same polynomials of their widths (`block_cost.py`), so a kind is lowered once, however many
networks are counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from searchspace import limits
from searchspace.arch import Arch, check_arch
from searchspace.blocks.blocks import BETWEEN, STRUCTURES, Block, Options, lower_block, structure
from searchspace.blocks.layers import (
    JOINS,
    Activate,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    Layer,
    LayerScale,
    Linear,
    Norm,
    Normalize,
    Parallel,
    Residual,
    Sequential,
    Shape,
    Slice,
    size,
    steps,
)
from searchspace.blocks.stem_head import Head, Stem, lower_head, lower_stem
from searchspace.budget import OWN_COSTS, Cost
from searchspace.costs.block_cost import Groups, Width, formula, function, largest, with_named_widths
from searchspace.costs.latency import LatencyTable
from searchspace.errors import InputError, reason
from searchspace.format.resolve import (
    COPIED_FIELDS,
    BlockSpec,
    Choices,
    OpenNetwork,
    block,
    hidden_and_groups,
    pointwise_groups,
    shortcut,
    squeezed_width,
)

BYTES_PER_NUMBER = 4
# Of an int8 network in TensorFlow Lite Micro, beside its maps: a multiplier and a shift for every channel, and records
# of operators and of the interpreter. And in the file, beside its weights: a bias (4 bytes), a scale (4) and a zero
# point (8) for every channel, and descriptions of operators and of the graph. What is not of channels was measured on a
# 64-bit machine (experiments/speed/arena.py); pointers of a microcontroller are half as long.
ARENA_PER_CHANNEL, ARENA_PER_OPERATOR, ARENA_AT_LEAST = 8, 240, 1100
FLASH_PER_CHANNEL, FLASH_PER_OPERATOR, FLASH_AT_LEAST = 16, 264, 1400
REMEMBERED = 1 << 16
_IN_AN_OWN_COST: ContextVar[bool] = ContextVar("in an own cost", default=False)


# The numbers of a `Part`, and pixels on a side of the map put out.
Counted = tuple[int, int, int, int, int, int, int, int, int]


class Part(NamedTuple):
    """What one part of a network costs and puts out.

    `peak` and `arena` are numbers, not bytes, alive at one time, with elementwise layers in place and with joins that
    are operators of their own. `weights` are the numbers that are stored as the runtime's type, `channels` those that
    convolutions and linear layers put out, each with a bias, and `operators` what is left once norms and
    nonlinearities are part of convolutions.
    """

    macs: int
    params: int
    activations: int
    peak: int
    arena: int
    weights: int
    channels: int
    operators: int
    output: Shape


def cost(arch: Arch, latency: LatencyTable | None = None) -> Cost:
    """Exact multiply-adds and parameters; activations and peak memory for one image; latency where a table is given.

    `macs` and `activations` (elements put out, RegNet's measure) count convolutions and linear layers only. The
    peak is of float32 feature maps alive at one time in inference, without weights: elementwise layers work in place,
    a shortcut's input lives until it is added. Flash is what weights and biases take in float32, with batch norms
    folded. In int8 it is the TensorFlow Lite file, and the arena all memory of TensorFlow Lite Micro's interpreter with
    it, but scratch buffers of processor-specific kernels. Costs of the user's own are what their functions say.
    """
    if type(arch) is not Arch:
        check_arch(arch, "cost")
    found = _total(_counts(arch), None if latency is None else latency.predict(arch))
    if not OWN_COSTS or _IN_AN_OWN_COST.get():
        return found
    return replace(found, own=tuple((name, own_cost(name, arch)) for name in OWN_COSTS))


def own_cost(name: str, arch: Arch) -> float:
    """What a registered function says of a network; `InputError` unless that is a finite number above 0. The function
    may ask for the `cost` of the network, which has no costs of the user's own then."""
    entered = _IN_AN_OWN_COST.set(True)
    try:
        said = OWN_COSTS[name].of(arch)
        spent = float(said)
    except Exception as error:
        raise InputError(f"cost {name}: {reason(error)}") from None
    finally:
        _IN_AN_OWN_COST.reset(entered)
    if not 0 < spent < math.inf:
        raise InputError(f"cost {name}: a finite number above 0 is accepted, not {said!r:.80}")
    return spent


def section_costs(arch: Arch) -> list[Part]:
    """The costs of the stem, of every block and of the head, in order."""
    check_arch(arch, "cost")
    counts = _counts(arch)
    widths = [arch.stem.width, *(block.out_channels for block in arch.blocks)]
    maps = [(width, side, side) for width, (*_, side) in zip(widths, counts, strict=False)]
    last = lower_head(arch.head, widths[-1], arch.num_classes).output(maps[-1])
    return [Part(*count[:-1], shape) for count, shape in zip(counts, [*maps, last], strict=True)]


def _counts(arch: Arch) -> list[Counted]:
    """What the stem, every block and the head cost."""
    counts = [_stem(arch.stem, arch.in_channels, arch.resolution)]
    for b in arch.blocks:
        counts.append(formula_cost(b, counts[-1][-1]))
    counts.append(_head(arch.head, arch.blocks[-1].out_channels, arch.num_classes, counts[-1][-1]))
    return counts


def formula_cost(b: Block, side: int) -> Counted:
    """What a block costs at a map of `side` pixels, by the formula of its kind."""
    squeezed = b.se.channels if b.se else 0
    _, group_width = _grouping(b.type, b.in_channels, b.hidden, b.groups)
    return _count_of(b, side)(b.in_channels, b.hidden, b.out_channels, squeezed, group_width)


def forget_formulas() -> None:
    """Formulas are worked out anew: a kind of block was registered."""
    _COUNTS.clear()
    _KINDS.clear()


def outline_cost(outline: OpenNetwork, latency: LatencyTable | None = None, own: bool = False) -> Cost:
    """The cost of the outline's network, without its blocks being made (unless a table has to time them, or `own` asks
    for the costs of the user's own)."""
    if latency is not None or own:
        return cost(outline.arch(), latency)
    stem, head = outline.ends()
    parts = [_stem(stem, outline.in_channels, outline.resolution)]
    side, out, kind = parts[0][-1], stem.width, -1
    choices: Choices = {}
    entered = 0
    for step in outline.steps():
        before, (choices, stride, width, out) = choices, step
        if choices is before and stride == 1 and entered == width == out:
            parts.append(parts[-1])  # one more of the same
            continue
        entered = width if stride == 1 else 0
        if choices["block"] in BETWEEN:
            parts.append(_count_of(block(step), side)(width, width, out, 0, 0))
            side = parts[-1][-1]
            continue
        if choices is not before:
            gate = gate_of_stage(choices) if choices["se"] else None
            kind = _kind(choices["block"], settings_of_stage(choices), choices["norm"], gate)
        hidden, groups = hidden_and_groups(choices, width, out)
        if hidden > limits.WIDTH or out > limits.WIDTH:
            raise ValueError(f"width_mult: {outline.width_mult:g} makes a block of over {limits.WIDTH:,} channels")
        added = shortcut(choices["shortcut"], width, out, stride)
        fixed, group_width = _grouping(choices["block"], width, hidden, groups)
        pointwise = pointwise_groups(choices, width, hidden, out)
        odd = _odd(choices["block"], hidden, out)
        key = (kind, side, stride, added, fixed, pointwise, hidden == width, width == out, odd)
        count = _COUNTS.get(key) or _count_of(block(_any_groups(step)), side)
        parts.append(count(width, hidden, out, squeezed_width(choices, width, hidden, out), group_width))
        side = parts[-1][-1]
    parts.append(_head(head, out, outline.num_classes, side))
    return _total(parts)


def _any_groups(step: BlockSpec) -> BlockSpec:
    """The step with a group norm that goes with all widths: it costs the same, whether its groups divide these or not.

    Else the first network of a kind would be refused for what the next ones, whose formula is known, are not.
    """
    choices, *rest = step
    if choices["norm"].kind != "group":
        return step
    return ({**choices, "norm": replace(choices["norm"], groups=1, width=0)}, *rest)  # type: ignore[return-value]


def _total(parts: Sequence[tuple[Any, ...]], latency_ms: float | None = None) -> Cost:
    columns = zip(*parts, strict=True)
    macs, params, activations, peaks, arenas, weights, channels, operators, _ = columns
    numbers, outputs, steps = sum(weights), sum(channels), sum(operators)
    return Cost(
        sum(macs),
        sum(params),
        sum(activations),
        BYTES_PER_NUMBER * max(peaks),
        latency_ms,
        flash_bytes=BYTES_PER_NUMBER * (numbers + outputs),
        int8_arena_bytes=max(arenas) + ARENA_PER_CHANNEL * outputs + ARENA_PER_OPERATOR * steps + ARENA_AT_LEAST,
        int8_flash_bytes=numbers + FLASH_PER_CHANNEL * outputs + FLASH_PER_OPERATOR * steps + FLASH_AT_LEAST,
    )


def count_layers(layer: Layer, shape: Shape) -> Part:
    """The costs of any layers at an input shape, layer by layer."""
    macs, params, activations, weights, channels, operators = _sums(layer, shape)
    peak, arena = (max(live_numbers(layer, shape, False, in_place)) for in_place in (True, False))
    return Part(macs, params, activations, peak, arena, weights, channels, operators, layer.output(shape))


def _sums(layer: Layer, shape: Shape) -> tuple[int, int, int, int, int, int]:
    """Multiply-adds, parameters, activations, weights, channels and operators of a `Part`."""
    macs = params = activations = weights = channels = operators = 0
    for step, at in steps(layer, shape):
        operators += not _is_fused(step)
        if isinstance(step, JOINS):
            continue
        macs += step.macs(at)
        params += step.params
        if isinstance(step, (Conv, Linear)):
            out = step.output(at)
            activations += size(out)
            channels += out[0]
            weights += step.weights
        elif not _is_fused(step):
            weights += step.params
    return macs, params, activations, weights, channels, operators


def _is_fused(layer: Layer) -> bool:
    """Whether runtimes make a layer part of the convolution before it, or it does nothing in inference. A slice is not
    counted: whether a ghost block has one depends on whether a width is even."""
    if isinstance(layer, Normalize):
        return layer.norm.kind == "batch"
    return isinstance(layer, (Activate, Flatten, Dropout, DropPath, Slice))


def live_numbers(layer: Layer, shape: Shape, held: bool, in_place: bool = True) -> Iterator[int]:
    """The numbers alive at each moment while a layer runs, its input included; `held`: the input must survive it.

    `in_place`: what is added to a map or multiplied with it is written over it. Runtimes of microcontrollers give the
    result memory of its own. Norms and nonlinearities are in place, or part of the convolution before, in both.
    """
    match layer:
        case Sequential(parts=parts):
            own = size(shape)
            yield own
            for index, (_, part) in enumerate(parts):
                beside = own if held and index else 0
                yield from (beside + alive for alive in live_numbers(part, shape, held and index == 0, in_place))
                shape = part.output(shape)
        case Residual(body=body, shortcut=shortcut):
            out = size(layer.output(shape))
            yield from live_numbers(body, shape, True, in_place)
            if shortcut is not None:
                yield from (out + alive for alive in live_numbers(shortcut, shape, held, in_place))
            added = out + (0 if shortcut is None else out) + (size(shape) if held or shortcut is None else 0)
            yield added + (0 if in_place else out)
        case Gate(body=body):
            yield from live_numbers(body, shape, True, in_place)
            yield (2 if held or not in_place else 1) * size(shape)
        case Parallel():
            yield from _live_branches(layer, shape, held, in_place)
        case Normalize() | Activate() | LayerScale():
            yield (2 if held else 1) * size(shape)
        case Slice():
            yield size(shape) + (size(layer.output(shape)) if held else 0)
        case Flatten() | Dropout() | DropPath():
            yield size(shape)
        case _:
            yield size(shape) + size(layer.output(shape))


def _live_branches(layer: Parallel, shape: Shape, held: bool, in_place: bool) -> Iterator[int]:
    """The same of branches: what they put out is kept until they are joined, and of those that are added up one map."""
    kept, out = 0, size(layer.output(shape))
    for index, branch in enumerate(layer.branches):
        later = index + 1 < len(layer.branches)
        yield from (kept + alive for alive in live_numbers(branch, shape, held or later, in_place))
        kept = kept + size(branch.output(shape)) if layer.join == "concat" else out
        if index:
            yield kept + (1 if in_place else 2) * out + (size(shape) if held or later else 0)


# Formulas, by what they depend on; and numbers for the kinds of blocks, quicker to look up than all their settings.
Count = Callable[..., Counted]
_COUNTS: dict[Hashable, Count] = {}
_KINDS: dict[Hashable, int] = {}
_NUMBERS = itertools.count()

BLOCK_WIDTHS = ("width", "hidden", "out", "squeezed", "group_width")
HEAD_WIDTHS = ("into", "width", "hidden")
# Nonlinearities cost nothing here.
SETTINGS = tuple(name for name in COPIED_FIELDS if name != "norm" and not name.endswith("_act"))
settings_of_block, _of_stage = attrgetter(*SETTINGS, "options"), itemgetter(*SETTINGS)
NONE = Options()
gate_of_stage = itemgetter("se_norm", "se_bias", "se_position", "se_form")
gate_of_block = attrgetter("se.norm", "se.bias", "se.position", "se.form")
settings_of_stem = attrgetter("kernel", "stride", "bias", "pool", "branches")
settings_of_head = attrgetter("pooled_norm", "hidden_norm", "output", "bias", "hidden_bias", "map_norm")


def counted_norm(norm: Norm) -> str:
    """What of a norm a cost depends on: whether it is there, and whether it can become part of a convolution."""
    return norm.kind if norm.kind in ("none", "batch") else "other"


def settings_of_stage(choices: Choices) -> tuple[Any, ...]:
    """The same as `settings_of_block` of its blocks."""
    kind = structure(choices["block"])
    return (*_of_stage(choices), Options({name: choices[name] for name in kind.options}) if kind.options else NONE)


def _kind(type: str, settings: Any, norm: Norm, gate: Any) -> int:
    """A number for all that a block's cost depends on beside widths, map, stride and shortcut."""
    described = (type, settings, counted_norm(norm), gate)
    return _KINDS.setdefault(described, next(_NUMBERS))  # no two threads are given the same


def _count_of(b: Block, side: int) -> Count:
    """The cost of blocks like this one, at a map of `side` pixels, as a function of `BLOCK_WIDTHS`."""
    kind = _kind(b.type, settings_of_block(b), b.norm, gate_of_block(b) if b.se else None)
    fixed, _ = _grouping(b.type, b.in_channels, b.hidden, b.groups)
    same = b.in_channels == b.out_channels
    added = "identity" if same and b.shortcut == "partial" else b.shortcut  # with equal widths nothing is padded
    pointwise = (b.expand_groups, b.project_groups)
    odd = _odd(b.type, b.hidden, b.out_channels)
    key = (kind, side, b.stride, added, fixed, pointwise, b.hidden == b.in_channels, same, odd)
    return _COUNTS.get(key) or compile_formula(key, *_open_block(b, side), BLOCK_WIDTHS)


def _odd(type: str, hidden: int, out: int) -> tuple[int, ...]:
    """Whether widths are odd, of a block whose layers hang on that."""
    return (hidden % 2, out % 2) if STRUCTURES[type].parity else ()


def _open_block(b: Block, side: int) -> tuple[Layer, Shape]:
    """The block's layers and its input, with named widths."""
    parity = structure(b.type).parity
    width = Width(b.in_channels, "width")
    hidden, out = Width(b.hidden, "hidden", parity), Width(b.out_channels, "out", parity)
    fixed, group_width = _grouping(b.type, b.in_channels, b.hidden, b.groups)
    groups = fixed or Groups(b.groups, Width(group_width, "group_width"))
    se = with_named_widths(b.se, channels=Width(b.se.channels, "squeezed")) if b.se else None
    block = with_named_widths(b, in_channels=width, hidden=hidden, out_channels=out, groups=groups, se=se)
    return lower_block(block), (width, side, side)


def _grouping(type: str, width: int, hidden: int, groups: int) -> tuple[int, int]:
    """The groups of the spatial convolution where its two sides differ in width, else 0 and the channels a group."""
    grouped = structure(type).grouped
    return (0, (hidden if grouped == "hidden" else width) // groups) if grouped else (groups, 0)


def _stem(stem: Stem, in_channels: int, side: int) -> Counted:
    key = (settings_of_stem(stem), counted_norm(stem.norm), in_channels, side)
    count = _COUNTS.get(key)
    if count is None:
        layers = lower_stem(with_named_widths(stem, width=Width(stem.width, "width")), in_channels)
        count = compile_formula(key, layers, (in_channels, side, side), ("width",))
    return count(stem.width)


def _head(head: Head, width: int, num_classes: int, side: int) -> Counted:
    key = (settings_of_head(head), counted_norm(head.norm), head.width > 0, head.hidden > 0, num_classes, side)
    count = _COUNTS.get(key)
    if count is None:
        into = Width(width, "into")
        open_head = with_named_widths(head, width=Width(head.width, "width"), hidden=Width(head.hidden, "hidden"))
        count = compile_formula(key, lower_head(open_head, into, num_classes), (into, side, side), HEAD_WIDTHS)
    return count(width, head.width, head.hidden)


def compile_formula(key: Hashable, layer: Layer, shape: Shape, widths: Sequence[str]) -> Count:
    """What `cost` counts of a layer, as a function of the widths that layer and shape were given by name."""
    macs, params, activations, *deployed = (str(formula(number)) for number in _sums(layer, shape))
    peaks = [
        ", ".join(str(alive) for alive in largest(live_numbers(layer, shape, False, in_place)))
        for in_place in (True, False)
    ]
    if len(_COUNTS) >= REMEMBERED:
        _COUNTS.clear()
    highest = (f"max({alive}, 0)" for alive in peaks)
    found = function(widths, [macs, params, activations, *highest, *deployed, str(layer.output(shape)[1])])
    return _COUNTS.setdefault(key, found)
