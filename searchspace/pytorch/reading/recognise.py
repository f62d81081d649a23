"""`arch_of(layers)`: layers in a row as an `Arch`: stem, blocks and head.

A stretch of layers is a block where a block of some kind, lowered, gives the same layers: the kinds are described once,
where they are declared, and what is read here are only the integers. Where a network may be cut in several ways, it
is cut where its modules end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from searchspace.arch import Arch, Padding, pad_as
from searchspace.blocks.blocks import Block, SqueezeExcite, lower_block, structure
from searchspace.blocks.layers import (
    Activate,
    AvgPool,
    Blur,
    ChannelConv,
    ChannelShuffle,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    GlobalAvgPool,
    Layer,
    LayerScale,
    Linear,
    MaxPool,
    Norm,
    Normalize,
    PadChannels,
    Parallel,
    Reparametrised,
    Residual,
    ResponseNorm,
    Sequential,
    Shape,
    Slice,
    share,
)
from searchspace.blocks.stem_head import Head, Stem, lower_head, lower_stem
from searchspace.pytorch.reading.graph import Item
from searchspace.pytorch.reading.modules import UnreadableError

LONGEST = 24  # layers of a block, at most
STARTS = (Conv, Residual, Parallel, MaxPool, AvgPool, Blur, Normalize)
Layers = tuple[Layer, ...]
Kind = TypeVar("Kind", bound=Layer)


@dataclass(frozen=True)
class Unit:
    """A convolution and what follows it, up to the next."""

    conv: Conv
    kernels: tuple[int, ...] = ()
    norm: Norm | None = None
    act: str = "none"
    gate: Gate | None = None
    gated_before: bool = False
    pool: Layer | None = None
    response_norm: bool = False
    product: bool = False
    ghosts: int = 0  # channels of a ghost module's both halves
    part_of: int = 0  # channels of which the convolution takes the first

    @property
    def stride(self) -> int:
        pooled = self.pool.stride if isinstance(self.pool, (AvgPool, Blur)) else 1
        return self.conv.stride * pooled

    @property
    def width(self) -> int:
        """The channels that it puts out."""
        return self.ghosts or self.part_of or self.conv.out_channels

    @property
    def depthwise(self) -> bool:
        return self.conv.groups == self.conv.in_channels == self.conv.out_channels

    @property
    def pointwise(self) -> bool:
        return self.conv.kernel == 1 and not self.kernels and not (self.depthwise and self.conv.groups > 1)


def arch_of(items: Sequence[Item], in_channels: int, resolution: int) -> Arch:
    """The network of these layers; `InputError` says which of them have no place in one."""
    padding: Padding = "same" if any(map(_pads_as_tensorflow, items)) else "centred"
    if padding == "same":
        if any(pad_as(item.layer, "same") != item.layer for item in items):
            raise UnreadableError("some of its strided convolutions are padded as TensorFlow does, and some are not")
        items = [item._replace(layer=pad_as(item.layer, "centred")) for item in items]
    stem, taken = _stem(items)
    end = next((index for index, item in enumerate(items) if isinstance(item.layer, GlobalAvgPool)), len(items))
    ways = [(*_Blocks(items, taken, start, stem.width).cut(), start) for start in _head_starts(items, taken, end)]
    found = [way for way in ways if way[1]]
    if not found:
        raise UnreadableError(_Blocks(items, taken, end, stem.width).reason())
    _, blocks, start = min(found, key=lambda way: (way[0], way[2]))
    head, classes = _head([item.layer for item in items[start:]], blocks[-1].out_channels)
    return Arch(stem, tuple(blocks), head, resolution, in_channels, classes, padding=padding)


def _pads_as_tensorflow(item: Item) -> bool:
    return bool(pad_as(item.layer, "centred") != item.layer)


def _stem(items: Sequence[Item]) -> tuple[Stem, int]:
    """The stem, and how many layers are in it."""
    layers = [as_deployed(flatten(item.layer)) for item in items[:5]]
    if not layers or not isinstance(layers[0], Conv):
        raise UnreadableError("it does not begin with a convolution")
    conv = layers[0]
    rest, norm, act, pool = layers[1:], Norm("none"), "none", 1
    branches = 0
    if isinstance(conv, Reparametrised):
        norm, branches = conv.norm, conv.copies
    elif rest and isinstance(rest[0], Normalize):
        norm, rest = rest[0].norm, rest[1:]
    if rest and isinstance(rest[0], Activate):
        act, rest = rest[0].function, rest[1:]
    if rest and isinstance(rest[0], MaxPool) and rest[0].kernel == 3 and rest[0].stride > 1:
        pool = rest[0].stride
    bias = conv.bias and not branches
    stem = Stem(conv.out_channels, conv.kernel, conv.stride, act, norm, bias, pool, branches)  # type: ignore[arg-type]
    length = len(lower_stem(stem, conv.in_channels).parts)
    if flat(lower_stem(stem, conv.in_channels)) != tuple(map(flatten, layers[:length])):
        raise UnreadableError(f"{items[0].path}: a first convolution that has no place in a stem")
    return stem, length


def _head_starts(items: Sequence[Item], first: int, pool: int) -> list[int]:
    """Where the head may begin: at the pool, or at a norm, an activation or a 1×1 convolution before it."""
    starts = [pool]
    layers = [item.layer for item in items]
    for length in (1, 2, 3):
        start = pool - length
        if start <= first:
            break
        if isinstance(layers[start], Conv) and layers[start].kernel == layers[start].stride == 1:  # type: ignore[attr-defined]
            starts.append(start)
        if length == 1 and isinstance(layers[start], Normalize):
            starts.append(start)
    return starts


class _Rest:
    """Layers that are still to be read."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def take(self, kind: type[Kind]) -> Kind | None:
        """The next layer, where it is of this kind."""
        if not self.layers or not isinstance(self.layers[0], kind):
            return None
        first = self.layers.pop(0)
        assert isinstance(first, kind)
        return first

    def activation(self) -> Any:
        act = self.take(Activate)
        return "none" if act is None else act.function


def _head(layers: Sequence[Layer], width: int) -> tuple[Head, int]:
    """The head, and the number of classes."""
    end = next((index for index, layer in enumerate(layers) if isinstance(layer, GlobalAvgPool)), len(layers))
    before, after = _Rest(layers[:end]), _Rest([one for one in layers[end + 1 :] if not isinstance(one, Flatten)])
    fields: dict[str, Any] = {}
    conv, norm = before.take(Conv), before.take(Normalize)
    norms = [Norm("none") if norm is None else norm.norm] if conv or norm else []
    if conv:
        fields |= {"width": conv.out_channels, "bias": conv.bias, "act": before.activation()}
    elif norm:
        fields["map_norm"] = True
    if end == len(layers):
        return _check(Head(**fields, norm=(norms or [Norm()])[0], output="map"), layers, width, 1000)
    pooled = after.take(Normalize)
    hidden = after.take(Conv)
    if hidden is None and sum(isinstance(one, Linear) for one in after.layers) > 1:
        first = after.take(Linear)
        assert first is not None
        hidden = Conv(first.in_features, first.out_features, bias=True)
    if hidden is not None:
        inner = after.take(Normalize)
        fields |= {"hidden": hidden.out_channels, "hidden_bias": hidden.bias, "hidden_norm": inner is not None}
        fields["hidden_act"] = after.activation()
        norms += [inner.norm] if inner else []
    norms += [pooled.norm] if pooled else []
    dropout, last = after.take(Dropout), after.take(Linear)
    fields |= {"pooled_norm": pooled is not None, "dropout": dropout.rate if dropout else 0.0}
    fields["output"] = "features" if last is None else "logits"
    head = Head(**fields, norm=(norms or [Norm()])[0])
    return _check(head, layers, width, last.out_features if last else 1000)


def _check(head: Head, layers: Sequence[Layer], width: int, classes: int) -> tuple[Head, int]:
    lowered = flat(lower_head(head, width, classes))
    if _as_head(lowered) != _as_head(tuple(map(flatten, layers))):
        raise UnreadableError(f"a head of {describe(layers)} has no place in the grammar")
    return head, classes


def _as_head(layers: Layers) -> Layers:
    """A head's layers with what is the same on pooled maps and on flat features written one way."""
    found: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Flatten):
            continue
        if isinstance(layer, Linear):
            layer = Conv(layer.in_features, layer.out_features, bias=True)
        found.append(layer)
    return tuple(found)


class _Blocks:
    """Layers between stem and head, and the best way to cut them into blocks."""

    def __init__(self, items: Sequence[Item], first: int, end: int, width: int) -> None:
        self.items = items[first:]
        self.layers = [flatten(item.layer) for item in items[first:end]]
        self.widths = [width]
        for layer in self.layers:
            self.widths.append(_width(layer, self.widths[-1]))
        self.reached = 0

    def cut(self) -> tuple[float, list[Block]]:
        """How bad the best way is, and its blocks; none where there is no way. Few cuts are good, and such as lie
        between modules."""
        total = len(self.layers)
        best: list[tuple[float, int, tuple[Block, ...]] | None] = [None] * (total + 1)
        best[0] = (0.0, 0, ())
        for start in range(total):
            if best[start] is None:
                continue
            self.reached = start
            for end in range(start + 1, min(total, start + LONGEST) + 1):
                if end < total and not isinstance(self.layers[end], STARTS):
                    continue
                found = blocks_of(tuple(self.layers[start:end]), self.widths[start])
                if not found:
                    continue
                spent = best[start][0] + 1 + self._depth(end) + self._span_penalty(start, end)  # type: ignore[index]
                if best[end] is None or spent < best[end][0]:  # type: ignore[index]
                    best[end] = (spent, start, found)
        ways: list[tuple[Block, ...]] = []
        at = total
        while at and best[at] is not None:
            _, before, found = best[at]  # type: ignore[misc]
            ways.append(found)
            at = before
        last = best[total]
        return (0.0, []) if last is None else (last[0], alike(ways[::-1]))

    def _depth(self, cut: int) -> int:
        """How many modules a cut goes through."""
        if cut == len(self.items):
            return 0
        one, other = (self.items[index].path.split(".") for index in (cut - 1, cut))
        return next((depth for depth, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 1)

    def _span_penalty(self, start: int, end: int) -> float:
        """How bad it is that modules end within a block, at the places that might be cut as well as its ends."""
        outside = max(self._depth(start) if start else 0, self._depth(end))
        inside = (cut for cut in range(start + 1, end) if isinstance(self.layers[cut], STARTS[:3]))
        return 1.5 * sum(self._depth(cut) <= outside for cut in inside)

    def reason(self) -> str:
        self.cut()
        if self.reached == len(self.layers):
            return "it has no blocks"
        length = 1 if isinstance(self.layers[self.reached], Residual) else 6
        stretch = self.layers[self.reached : self.reached + length]
        return f"{self.items[self.reached].path}: {describe(stretch)} is no block of the grammar"


def alike(ways: Sequence[tuple[Block, ...]]) -> list[Block]:
    """Of the blocks that each stretch may be, the first; universal ones where the network has others that are no more
    common kind of block: MobileNetV4's. In the same way re-parametrised ones: RepVGG's first block of a stage is also a
    convolution with a projection beside it."""
    universal = any(block.options.get("first_kernel") for found in ways if len(found) == 1 for block in found)
    branched = any(all(block.branches for block in found) for found in ways)

    def fits(block: Block) -> tuple[bool, bool]:
        return branched == bool(block.branches), universal and block.type == "universal"

    return [max(found, key=fits) for found in ways]


@lru_cache(1 << 14)
def blocks_of(layers: Layers, width: int) -> tuple[Block, ...]:
    """The blocks, of one kind or another, that these layers are; none where they are no block."""
    found: dict[tuple[str, bool], Block] = {}
    for read in dict.fromkeys((layers, tuple(map(as_deployed, layers)))):
        for fields in _candidates(read, width):
            for branches in dict.fromkeys((fields.get("branches", 0), 1)):
                kind = (fields["type"], branches > 0)
                if kind not in found and (block := _block(read, width, {**fields, "branches": branches})) is not None:
                    found[kind] = block
    return tuple(found.values())


def _block(layers: Layers, width: int, fields: dict[str, Any]) -> Block | None:
    """The block with these fields, if it has these layers."""
    try:
        block = Block(in_channels=width, **fields)
        return block if flat(lower_block(block)) == layers else None
    except ValueError:
        return None


def as_deployed(layer: Layer) -> Layer:
    """A layer in which every sum of convolutions and batch norms is the one convolution that it may be deployed as."""
    match layer:
        case Sequential(parts=parts):
            return Sequential(tuple((name, as_deployed(part)) for name, part in parts))
        case Gate(body=body):
            return Gate(as_deployed(body))  # type: ignore[arg-type]
        case Residual(body=body, shortcut=shortcut):
            one = _one_convolution((body, shortcut)) if isinstance(shortcut, Sequential) else None
            return one or Residual(as_deployed(body), shortcut)  # type: ignore[arg-type]
        case Parallel(branches=branches, join=join):
            one = _one_convolution(branches) if join == "add" else None
            return one or Parallel(tuple(map(as_deployed, branches)), join)  # type: ignore[arg-type]
    return layer


def _one_convolution(branches: tuple[Sequential, ...]) -> Reparametrised | None:
    """The convolution that has these branches while it is trained; None where there is none."""
    match [part for _, part in branches[0].parts]:
        case [Conv(bias=False) as conv, Normalize(norm=Norm(kind="batch") as norm)]:
            sizes = (conv.in_channels, conv.out_channels, conv.kernel, conv.stride, conv.groups, conv.dilation)
            copies = sum(branch == branches[0] for branch in branches)
            whole = Reparametrised(*sizes, bias=True, copies=copies, norm=norm)
            return whole if tuple(map(flatten, whole.branches)) == branches else None
    return None


def _candidates(layers: Layers, width: int) -> Iterator[dict[str, Any]]:
    """What the fields of a block with these layers may be."""
    first, *rest = layers
    if not rest:
        yield from _between(first, width)
    match layers:
        case [Normalize(norm=norm), Conv() as conv]:
            yield _downsample("downsample", conv, norm)
        case [Conv() as conv] if conv.kernel == conv.stride > 1:
            yield _downsample("downsample", conv, Norm("none"))
        case [Conv() as conv, Normalize(norm=norm)] if conv.kernel == conv.stride > 1:
            yield _downsample("merge", conv, norm)
        case [Parallel(branches=(_, second)), ChannelShuffle(channels=out), *_]:
            yield from _shuffle([part for _, part in second.parts], width, out)
    if isinstance(first, Residual):
        if len(rest) > 1 or not all(isinstance(layer, Activate) for layer in rest):
            return
        add_act = rest[0].function if rest else "none"  # type: ignore[attr-defined]
        shortcut = _shortcut(first.shortcut)
        if shortcut is None:
            return
        body, own = _tail([part for _, part in first.body.parts])
        yield from ({**found, **own, **shortcut, "add_act": add_act} for found in _bodies(body, width))
    else:
        yield from _bodies(list(layers), width)


def _between(layer: Layer, width: int) -> Iterator[dict[str, Any]]:
    same = {"hidden": width, "out_channels": width}
    match layer:
        case MaxPool(kernel=kernel, stride=stride):
            yield {"type": "max_pool", "kernel": kernel, "stride": stride, **same}
        case AvgPool(stride=stride):
            yield {"type": "avg_pool", "stride": stride, **same}
        case Blur(stride=stride):
            yield {"type": "blur", "stride": stride, **same}


def _shuffle(branch: list[Layer], width: int, out: int) -> Iterator[dict[str, Any]]:
    """The fields of a shuffled block, by the branch that is the body of an mbconv."""
    body = branch[1:] if isinstance(branch[0], Slice) else branch
    inside = body[0].in_channels if isinstance(body[0], Conv) else width
    for fields in _bodies(body, inside):
        if fields["type"] == "mbconv":
            yield {**fields, "type": "shuffle", "out_channels": out}


def _downsample(kind: str, conv: Conv, norm: Norm) -> dict[str, Any]:
    return {
        **{"type": kind, "hidden": conv.out_channels, "out_channels": conv.out_channels, "norm": norm},
        **{"kernel": conv.kernel, "stride": conv.stride, "groups": conv.groups, "dilation": conv.dilation},
        "bias": conv.bias,
    }


def _tail(body: list[Layer]) -> tuple[list[Layer], dict[str, Any]]:
    """A residual's body without layer scale and stochastic depth, and these as fields."""
    own: dict[str, Any] = {}
    if body and isinstance(body[-1], DropPath):
        last = body.pop()
        assert isinstance(last, DropPath)
        own |= {"drop_path": last.rate, "drop_path_mode": last.mode}
    if body and isinstance(body[-1], LayerScale):
        scale = body.pop()
        assert isinstance(scale, LayerScale)
        own["layer_scale"] = scale.init
    return body, own


def _shortcut(layer: Sequential | PadChannels | None) -> dict[str, Any] | None:
    """A shortcut's fields; None where it is no shortcut."""
    if layer is None:
        return {"shortcut": "identity"}
    if isinstance(layer, PadChannels):
        return {"shortcut": "partial"}
    parts = [part for _, part in layer.parts]
    convs = [part for part in parts if isinstance(part, Conv)]
    found: dict[str, Any] = {"shortcut": "projection" if len(convs) == 1 else "separable"}
    if parts and isinstance(parts[0], PadChannels):
        return {"shortcut": "partial"}
    if parts and isinstance(parts[0], AvgPool):
        found, parts = {"shortcut": "pooled"}, parts[1:]
    if not parts or not isinstance(parts[0], Conv):
        return None
    found["shortcut_kernel"] = parts[0].kernel
    found["shortcut_norm"] = any(isinstance(part, Normalize) for part in parts)
    acts = [part.function for part in parts if isinstance(part, Activate)]
    return {**found, "shortcut_act": acts[0] if acts else "none"}


def units_of(layers: Sequence[Layer]) -> list[Unit] | None:
    """Layers as units; None where they do not begin with a convolution, or have something else between."""
    units: list[Unit] = []
    for layer in layers:
        if isinstance(layer, Conv):
            units.append(Unit(layer, norm=layer.norm if isinstance(layer, Reparametrised) else None))
        elif isinstance(layer, Parallel) and not _is_ghost(layer):
            joined = _read_mixed_kernels(layer) or _partial(layer) if layer.join == "concat" else _product(layer)
            if joined is None:
                return None
            units.append(joined)
        elif not units:
            return None
        else:
            grown = _extend(units[-1], layer)
            if grown is None:
                return None
            units[-1] = grown
    return units


def _extend(unit: Unit, layer: Layer) -> Unit | None:
    """A unit with one more layer."""
    match layer:
        case Normalize(norm=norm, channels=channels) if unit.norm is None:
            shared = norm.kind == "group" and norm.groups > 1 and channels % norm.groups == 0
            return replace(unit, norm=replace(norm, groups=1, width=channels // norm.groups) if shared else norm)
        case Activate(function=function) if unit.act == "none":
            return replace(unit, act=function, gated_before=unit.gate is not None)
        case Gate() if unit.gate is None:
            return replace(unit, gate=layer)
        case AvgPool() | Blur() if unit.pool is None:
            return replace(unit, pool=layer)
        case Parallel() if not unit.ghosts:
            return replace(unit, ghosts=2 * unit.conv.out_channels)
        case Slice(start=0, channels=channels) if unit.ghosts - 1 == channels:
            return replace(unit, ghosts=channels)
        case ResponseNorm() if not unit.response_norm:
            return replace(unit, response_norm=True)
    return None


def _read_mixed_kernels(layer: Parallel) -> Unit | None:
    """A concatenation that is a depthwise convolution of several kernels, as one unit."""
    branches = [[part for _, part in branch.parts] for branch in layer.branches]
    if any(len(parts) != 2 or not isinstance(parts[0], Slice) or not isinstance(parts[1], Conv) for parts in branches):
        return None
    convs = [parts[1] for parts in branches]
    total = sum(conv.out_channels for conv in convs)  # type: ignore[attr-defined]
    first = convs[0]
    assert isinstance(first, Conv)
    whole = replace(first, in_channels=total, out_channels=total, groups=total)
    return Unit(whole, tuple(conv.kernel for conv in convs))  # type: ignore[attr-defined]


def _is_ghost(layer: Parallel) -> bool:
    """Whether channels and what one convolution makes of them are put one after the other."""
    match layer:
        case Parallel(branches=(Sequential(parts=()), Sequential(parts=((_, Conv()), *_))), join="concat"):
            return True
    return False


def _partial(layer: Parallel) -> Unit | None:
    """A convolution of the first channels, before those that are left as they are, as one unit."""
    match [[part for _, part in branch.parts] for branch in layer.branches]:
        case [[Slice(start=0), Conv() as conv], [Slice(channels=rest)]]:
            return Unit(conv, part_of=conv.out_channels + rest)
    return None


def _product(layer: Parallel) -> Unit | None:
    """The product of two equal convolutions, a nonlinearity behind the first, as one unit."""
    branches = [units_of([part for _, part in branch.parts]) or [] for branch in layer.branches]
    if layer.join == "add" or [len(units) for units in branches] != [1, 1]:
        return None
    (first,), (second,) = branches
    return replace(first, product=True) if replace(first, act="none") == second else None


def _bodies(layers: list[Layer], width: int) -> Iterator[dict[str, Any]]:
    """The fields of a block's body, by the number and kind of its convolutions."""
    units = units_of(layers)
    if not units or len(units) > 4 or (units[0].part_of or units[0].conv.in_channels) != width:
        return
    last = units[-1]
    for kind, places in _kinds(units):
        norm_sets = _norms(places)
        spatial = places.get("spatial") or places.get("start") or places["expand"]
        hidden_of = "spatial" if kind in ("basic", "fused_mbconv") and len(units) > 1 else "expand"
        hidden = places[hidden_of].width if hidden_of in places else width
        if kind == "conv":
            hidden = last.width
        fields: dict[str, Any] = {
            **{"type": kind, "hidden": hidden, "out_channels": last.width},
            "stride": math.prod(unit.stride for unit in units),
            **{"kernel": spatial.conv.kernel, "kernels": spatial.kernels, "dilation": spatial.conv.dilation},
            **{"groups": spatial.conv.groups, "bias": last.conv.bias and not isinstance(last.conv, Reparametrised)},
            "branches": max((unit.conv.copies for unit in units if isinstance(unit.conv, Reparametrised)), default=0),
            "stride_at": "expand" if "expand" in places and places["expand"].stride > 1 else "spatial",
            "anti_alias": _anti_alias(spatial.pool),
            **{f"{at}_act": places[at].act if at in places else "none" for at in ("expand", "spatial", "project")},
            **{f"{at}_groups": places[at].conv.groups for at in ("expand", "project") if at in places},
        }
        if kind == "basic":
            fields["project_groups"] = 1
        if kind == "universal":
            start = places.get("start")
            fields["options"] = {"first_kernel": start.conv.kernel if start else 0}
            fields["kernel"] = places["spatial"].conv.kernel if "spatial" in places else 0
            fields["groups"] = hidden
        if kind == "ghost":
            fields |= {"groups": hidden, "kernel": places["spatial"].conv.kernel if "spatial" in places else 3}
        if kind == "faster":
            parts = structure(kind).options["convolved"]
            fields["options"] = {
                "convolved": next((n for n in parts if share(width, int(n)) == spatial.conv.in_channels), 0)
            }
        if kind == "convnext":
            fields["options"] = {"response_norm": places["expand"].response_norm}
        fields["se"] = _gate(places)
        for norm in norm_sets:
            yield {**fields, **norm}


def _anti_alias(pool: Layer | None) -> str:
    match pool:
        case AvgPool():
            return "average"
        case Blur(zeros=zeros):
            return "zero_blur" if zeros else "blur"
    return "none"


def _kinds(units: list[Unit]) -> Iterator[tuple[str, dict[str, Unit]]]:
    """The kinds of blocks that have such convolutions, each with the convolution at every position."""
    match units:
        case [one, *between, last] if one.ghosts and last.ghosts:
            yield "ghost", {"expand": one, **dict(zip(["spatial"], between, strict=False)), "project": last}
        case [one, two, three] if one.part_of and two.pointwise and three.pointwise:
            yield "faster", {"spatial": one, "expand": two, "project": three}
        case [one]:
            yield "conv", {"spatial": one}
        case [one, two] if one.pointwise and two.pointwise:
            yield "universal", {"expand": one, "project": two}
        case [one, two] if two.pointwise and one.depthwise:
            yield "mbconv", {"spatial": one, "project": two}
        case [one, two] if two.pointwise:
            yield "fused_mbconv", {"spatial": one, "project": two}
            yield "inverted", {"spatial": one, "project": two}
        case [one, two]:
            yield "basic", {"spatial": one, "project": two}
        case [one, two, three] if one.pointwise and three.pointwise:
            places = {"expand": one, "spatial": two, "project": three}
            if two.depthwise:
                yield "mbconv", places
                yield "universal", places
            wide = one.conv.out_channels > three.conv.out_channels and two.conv.groups == 1
            first = ("inverted", "bottleneck") if wide else ("resnext" if two.conv.groups > 1 else "bottleneck",)
            for kind in (*first, "inverted", "bottleneck"):
                yield kind, places
        case [one, two, three] if one.depthwise and two.pointwise and three.pointwise:
            yield "convnext", {"spatial": one, "expand": two, "project": three}
            yield "universal", {"start": one, "expand": two, "project": three}
        case [one, two, three, _] if one.depthwise and two.product and three.pointwise:
            yield "star", {"spatial": one, "expand": two, "project": three}
        case [one, two, three, four] if one.depthwise and two.pointwise and three.depthwise and four.pointwise:
            yield "universal", {"start": one, "expand": two, "spatial": three, "project": four}


def _norms(places: dict[str, Unit]) -> Iterator[dict[str, Any]]:
    """The norm of a block and where it has it; of a group norm, by its groups and by their width."""
    found = {at: unit.norm for at, unit in places.items()}
    kept = [norm for norm in found.values() if norm is not None]
    if not kept:
        yield {"norm": Norm("none")}
        yield {"norm_at": ()}
        return
    at = tuple(position for position in ("expand", "spatial", "project") if found.get(position, kept[0]) is not None)
    yield {"norm": kept[0], "norm_at": at}
    if kept[0].width:
        channels = next(unit.conv.out_channels for unit in places.values() if unit.norm is not None)
        yield {"norm": replace(kept[0], groups=channels // kept[0].width, width=0), "norm_at": at}


def _gate(places: dict[str, Unit]) -> SqueezeExcite | None:
    """Squeeze and excitation, wherever a block may have it."""
    for at, unit in places.items():
        if unit.gate is not None:
            position = "output" if at == "project" else "before" if unit.gated_before else "after"
            return gate_of(unit.gate, position)
    return None


def gate_of(gate: Gate, position: Any) -> SqueezeExcite | None:
    """A gate's fields; None where it is of no known form."""
    parts = [part for _, part in gate.body.parts]
    convs = [part for part in parts if isinstance(part, (Conv, ChannelConv))]
    acts: list[Any] = [part.function for part in parts if isinstance(part, Activate)]
    if len(convs) == 1 and len(acts) == 1:
        conv = convs[0]
        if isinstance(conv, ChannelConv):
            return SqueezeExcite(conv.kernel, position, gate=acts[-1], form="eca")
        return SqueezeExcite(1, position, gate=acts[-1], bias=conv.bias, form="effective")
    if len(convs) == 2 and isinstance(convs[0], Conv) and len(acts) in (1, 2):
        normed = any(isinstance(part, Normalize) for part in parts)
        act: Any = acts[0] if len(acts) == 2 else "none"
        return SqueezeExcite(convs[0].out_channels, position, act, acts[-1], normed, convs[0].bias)
    return None


def _width(layer: Layer, width: int) -> int:
    shape: Shape = (width, 64, 64)
    return int(layer.output(shape)[0])


def flat(layer: Layer) -> Layers:
    """A tree's layers in order, without names and without nesting that computes nothing."""
    if isinstance(layer, Reparametrised) and len(layer.branches) == 1:
        return flat(layer.branches[0])
    if isinstance(layer, Sequential):
        return tuple(inner for _, part in layer.parts for inner in flat(part))
    return (flatten(layer),)


def flatten(layer: Layer) -> Layer:
    """A layer with its branches flat, so that equal functions are equal values."""
    match layer:
        case Sequential():
            return _rename(flat(layer))
        case Residual(body=body, shortcut=shortcut):
            return Residual(_rename(flat(body)), None if shortcut is None else _rename(flat(shortcut)))
        case Gate(body=body):
            return Gate(_rename(flat(body)))
        case Parallel(branches=branches, join=join):
            return Parallel(tuple(_rename(flat(branch)) for branch in branches), join)
    return layer


def _rename(layers: Layers) -> Sequential:
    return Sequential(tuple((str(index), layer) for index, layer in enumerate(layers)))


def describe(layers: Sequence[Layer]) -> str:
    """Layers in words, for a message."""
    words = []
    for layer in layers[:6]:
        if isinstance(layer, Conv):
            words.append(f"{layer.kernel}×{layer.kernel} convolution" + (" grouped" if layer.groups > 1 else ""))
        elif isinstance(layer, Activate):
            words.append(layer.function)
        elif isinstance(layer, Normalize):
            words.append(f"{layer.norm.kind} norm")
        elif isinstance(layer, Residual):
            words.append(f"({describe([part for _, part in layer.body.parts])} + shortcut)")
        elif isinstance(layer, Parallel):
            words.append(f"{layer.join} of {len(layer.branches)} branches")
        else:
            words.append(type(layer).__name__)
    return ", ".join(words)
