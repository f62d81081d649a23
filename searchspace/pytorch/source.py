"""`source(arch)`: the network as one plain PyTorch file, to take away: it imports torch and nothing of this project.

A fold over the layers of `arch.lower`, like cost and module; `expression.py` lays the code out. The layers that PyTorch
does not have are printed from `module.py`, so that they exist once. Parameters have the names and shapes that `build`
gives them, so weights load strictly, and the same seed gives the same fresh weights.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from searchspace.arch import Arch, lower
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
    Residual,
    ResponseNorm,
    Sequential,
    Slice,
)
from searchspace.costs.network_cost import cost
from searchspace.pytorch import module
from searchspace.pytorch.expression import Call, Expression, lines
from searchspace.pytorch.initialise import RECIPES, Fill, Recipe

# The layers that PyTorch does not have, printed where a network uses them.
OWN_MODULES = (
    module.SamePaddedConv,
    *(module.ChannelLayerNorm, module.ChannelScale, module.StochasticDepth, module.ChannelPad, module.ChannelGate),
    *(module.Branches, module.ChannelSlice, module.ChannelConvolution, module.GlobalResponseNorm, module.BinomialBlur),
    module.ShuffledHalves,
)
FEW = 3  # from so many equal blocks in a row on, a loop makes them

CHAIN = '''
def chain(**layers: nn.Module) -> nn.Sequential:
    """Named layers, one after the other."""
    return nn.Sequential(OrderedDict(layers))
'''
RESIDUAL = '''
class Residual(nn.Module):
    """shortcut(x) + body(x); without a shortcut layer, x + body(x)."""

    def __init__(self, shortcut: nn.Module | None = None, **body: nn.Module) -> None:
        super().__init__()
        self.body = chain(**body)
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


def residual(act: nn.Module | None = None, **parts: nn.Module) -> nn.Sequential:
    """A residual block; an activation, where one is given, follows the addition."""
    block = chain(residual=Residual(**parts))
    if act is not None:
        block.add_module("act", act)
    return block
'''
UNIT = '''
class ConvNormAct(nn.Sequential):
    """Convolution and norm, then what else is given, in that order: an activation, squeeze and excitation, a pool."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, **then: nn.Module
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = {conv}
        self.norm = {norm}
        for name, layer in then.items():
            self.add_module(name, layer)
'''
GATE = '''
class {name}(nn.Module):
    """x · body(x), one factor a channel: squeeze and excitation."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
{body}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)
'''
BRANCH = """
            {word} isinstance(part, {kinds}):
                {weights}
                if part.bias is not None:
                    {biases}"""
BIASES = {
    "zeros": "nn.init.zeros_(part.bias)",
    "uniform": """bound = part.weight[0].numel() ** -0.5
                    nn.init.uniform_(part.bias, -bound, bound)""",
}


class Name(int):
    """A number that is written as a variable, for code that is true of any number."""

    name: str

    def __new__(cls, name: str) -> Name:
        number = super().__new__(cls, 0)
        number.name = name
        return number

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Style:
    """What a file abbreviates: the convolution and norm of its ConvNormAct, and its kinds of squeeze and excitation."""

    unit: tuple[Norm, bool] | None
    gates: tuple[Sequential, ...]


def source(arch: Arch) -> str:
    """Python that defines `Network`, a module from images (N, in_channels, H, W) to what `arch.head.output` names.

    It is formatted as ruff would, has lines of at most 120 characters, and no text that a person chose.
    """
    tree = lower(arch)
    squeezing = (node for node in nodes(tree) if isinstance(node, Gate) and squeezes(node))
    style = Style(_usual(tree), tuple(dict.fromkeys(map(generic, squeezing))))
    network = _network(arch, tree, style)
    code = "\n\n\n".join(part.strip("\n") for part in (*_parts(tree, style, network), network))
    imports = [
        "from collections import OrderedDict\n" if "OrderedDict(" in code else "",
        "import torch" if re.search(r"\btorch\.", code) else "",
        "from torch import Tensor, nn" if "Tensor" in code else "from torch import nn",
        "from torch.nn import functional as F" if re.search(r"\bF\.", code) else "",
    ]
    head = "\n".join(line for line in imports if line)
    return f"{_docstring(arch)}\n\n{head}\n\n\n{code}\n"


def nodes(layer: Layer) -> Iterator[Layer]:
    """A tree's nodes, parents first."""
    yield layer
    match layer:
        case Sequential():
            for _, part in layer.parts:
                yield from nodes(part)
        case Residual():
            yield from nodes(layer.body)
            if layer.shortcut is not None:
                yield from nodes(layer.shortcut)
        case Gate():
            yield from nodes(layer.body)
        case Parallel():
            for branch in layer.branches:
                yield from nodes(branch)


def _docstring(arch: Arch) -> str:
    spent, side = cost(arch), arch.resolution
    return f'''"""A convolutional network in plain PyTorch, digest {arch.digest}.

Images (N, {arch.in_channels}, {side}, {side}) in, {outputs(arch)} out.
{spent.macs:,} multiply-adds an image, {spent.params:,} parameters.
"""'''


def outputs(arch: Arch) -> str:
    """What a network puts out, with its shape: `logits (N, 1000)`."""
    channels, *sides = lower(arch).output((arch.in_channels, arch.resolution, arch.resolution))
    shape = (channels, *sides) if arch.head.output == "map" else (channels,)
    return f"{arch.head.output} (N, {', '.join(map(str, shape))})"


def _network(arch: Arch, tree: Sequential, style: Style) -> str:
    classes = f", num_classes: int = {arch.num_classes}" if arch.head.output == "logits" else ""
    written = ["class Network(nn.Sequential):", f"    def __init__(self{classes}) -> None:"]
    written.append("        super().__init__()")
    whole = [(name, expression(_any_classes(part), style)) for name, part in tree.parts]
    for expressed, group in groupby(whole, key=lambda pair: pair[1]):
        names = [name for name, _ in group]
        if len(names) < FEW:
            for name in names:
                written += lines(expressed, f"self.{name} = ", "", 8)
        else:
            first = int(names[0].removeprefix("block"))
            written.append(f"        for index in range({first}, {first + len(names)}):")
            added = Call("self.add_module", (("", 'f"block{index}"'), ("", expressed)))
            written += lines(added, "", "", 12)
    return "\n".join([*written, "        for part in self.modules():"]) + _weights(RECIPES[arch.init]) + "\n"


def _weights(recipe: Recipe) -> str:
    """How convolutions and linear layers start, in one branch where they start alike."""
    convolutions = {"weights": fill(recipe.convolutions), "biases": BIASES[recipe.convolution_bias]}
    linear = {"weights": fill(recipe.linear), "biases": BIASES[recipe.linear_bias]}
    if convolutions == linear:
        return BRANCH.format(word="if", kinds="(nn.Conv2d, nn.Linear)", **linear)
    first = BRANCH.format(word="if", kinds="nn.Conv2d", **convolutions)
    return first + BRANCH.format(word="elif", kinds="nn.Linear", **linear)


def _any_classes(section: Layer) -> Layer:
    """A section with its classifier for any number of classes."""
    if not isinstance(section, Sequential):
        return section
    parts = (
        (n, replace(p, out_features=Name("num_classes")) if isinstance(p, Linear) else p) for n, p in section.parts
    )
    return Sequential(tuple(parts))


def fill(weights: Fill) -> str:
    """How one kind of weight starts, as `initialise.py` says."""
    assert isinstance(weights, partial), f"{weights} cannot be written as a call"
    options = ((name, _literal(option)) for name, option in weights.keywords.items())
    return Call(f"nn.init.{weights.func.__name__}", (("", "part.weight"), *options)).flat


def _literal(option: object) -> str:
    return f'"{option}"' if isinstance(option, str) else repr(option)


def _parts(tree: Sequential, style: Style, network: str) -> list[str]:
    """The definitions that the network uses."""
    made = [_gate(gate, _gate_name(index), style) for index, gate in enumerate(style.gates)]
    if style.unit is not None:
        norm, bias = style.unit
        conv = "nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups"
        conv += ")" if bias else ", bias=False)"
        made.append(UNIT.format(conv=conv, norm=normalization(Name("out_channels"), norm).flat))
    if "residual(" in network.lower():
        made.append(RESIDUAL)
    code = "".join([*made, network])
    made += [inspect.getsource(leaf) for leaf in OWN_MODULES if f"{leaf.__name__}(" in code]
    return [CHAIN, *made] if "chain(" in code else made


def expression(layer: Layer, style: Style) -> Expression:
    """The code that makes a layer."""
    match layer:
        case Sequential() if unit_kind(layer) == style.unit is not None:
            return _unit(layer, style)
        case Sequential(parts=(("residual", Residual() as first), *then)) if _plain(first, then):
            call = expression(first, style)
            assert isinstance(call, Call)
            acts = ((name, expression(act, style)) for name, act in then)
            return replace(call, function="residual", arguments=(*call.arguments, *acts))
        case Sequential():
            return _chain("chain", layer, style)
        case Residual(body=body, shortcut=shortcut):
            call = _chain("Residual", body, style)
            beside = () if shortcut is None else (("shortcut", expression(shortcut, style)),)
            return replace(call, arguments=(*call.arguments, *beside), tall=True)
        case Parallel(branches=branches, join=join):
            made = (("", expression(branch, style) if branch.parts else "nn.Identity()") for branch in branches)
            return Call(module.Branches.__name__, (("", f'"{join}"'), *made), tall=True)
        case Gate(body=body) if not squeezes(layer):
            return Call(module.ChannelGate.__name__, (("", expression(body, style)),))
        case Gate():
            channels, squeezed = _gate_widths(layer)
            return Call(_gate_name(style.gates.index(generic(layer))), (("", repr(channels)), ("", repr(squeezed))))
    return primitive(layer)


def primitive(layer: Layer) -> Expression:
    """The code that makes a layer which has no others in it."""
    match layer:
        case Conv(same=True):
            name = module.SamePaddedConv.__name__
            return replace(convolution(layer), function=name)
        case Conv():
            return convolution(layer)
        case Linear():
            return _call("nn.Linear", layer.in_features, layer.out_features)
        case Normalize(channels=channels, norm=norm):
            return normalization(channels, norm)
        case Activate(function=function):
            return _call(f"nn.{module.ACTIVATIONS[function].__name__}")
        case MaxPool(kernel=kernel, stride=stride):
            return _call("nn.MaxPool2d", kernel, stride, **_unless(padding=(layer.padding, 0)))
        case GlobalAvgPool():
            return _call("nn.AdaptiveAvgPool2d", 1)
        case Flatten():
            return _call("nn.Flatten")
        case Dropout(rate=rate):
            return _call("nn.Dropout", rate)
        case DropPath(rate=rate, mode=mode):
            return _call(module.StochasticDepth.__name__, rate, *([] if mode == "row" else [mode]))
        case LayerScale(channels=channels, init=init):
            return _call(module.ChannelScale.__name__, channels, init)
        case AvgPool(stride=stride):
            return _call("nn.AvgPool2d", stride, stride, ceil_mode=True, count_include_pad=False)
        case Blur(channels=channels, stride=stride, zeros=zeros):
            return _call(module.BinomialBlur.__name__, channels, stride, *(["constant"] if zeros else []))
        case Slice(start=start, channels=channels):
            return _call(module.ChannelSlice.__name__, start, channels)
        case ChannelShuffle(channels=channels):
            return _call(module.ShuffledHalves.__name__, channels)
        case ResponseNorm(channels=channels):
            return _call(module.GlobalResponseNorm.__name__, channels)
        case ChannelConv(kernel=kernel):
            return _call(module.ChannelConvolution.__name__, kernel)
        case PadChannels(in_channels=low, out_channels=high):
            return _call(module.ChannelPad.__name__, high - low)
    raise TypeError(f"no source for the layer {layer!r}")


def _plain(first: Residual, then: Sequence[tuple[str, Layer]]) -> bool:
    """Whether a residual and what follows it can be one call."""
    taken = {"act", "shortcut"}.intersection(name for name, _ in first.body.parts)
    return not taken and [name for name, _ in then] in ([], ["act"])


def convolution(conv: Conv) -> Call:
    options = _unless(
        stride=(conv.stride, 1),
        padding=(conv.padding, 0),
        dilation=(conv.dilation, 1),
        groups=(conv.groups, 1),
        bias=(conv.bias, True),
    )
    return _call("nn.Conv2d", conv.in_channels, conv.out_channels, conv.kernel, **options)


def normalization(channels: int, norm: Norm) -> Call:
    match norm.kind:
        case "batch":
            return _call("nn.BatchNorm2d", channels, **_unless(eps=(norm.eps, 1e-5), momentum=(norm.momentum, 0.1)))
        case "layer":
            return _call(module.ChannelLayerNorm.__name__, channels, norm.eps)
        case _:
            return _call("nn.GroupNorm", norm.groups, channels, **_unless(eps=(norm.eps, 1e-5)))


def unit_kind(layer: Layer) -> tuple[Norm, bool] | None:
    """The norm and bias of what ConvNormAct can make; None of other layers."""
    match layer:
        case Sequential(parts=((_, Conv() as conv), (_, Normalize() as norm), *then)) if (
            [name for name, _ in layer.parts[:2]] == ["conv", "norm"]
            and all(isinstance(part, (Activate, Gate, MaxPool, AvgPool, Blur)) for _, part in then)
            and conv.dilation == 1
            and not conv.same
            and conv.padding == (conv.kernel - 1) // 2
        ):
            return norm.norm, conv.bias
    return None


def _usual(tree: Sequential) -> tuple[Norm, bool] | None:
    """The kind of unit that a network has most of."""
    kinds = Counter(kind for kind in map(unit_kind, nodes(tree)) if kind is not None)
    most = max(kinds, key=lambda kind: kinds[kind], default=None)
    return most if most is not None and kinds[most] > 1 else None


def _unit(layer: Sequential, style: Style) -> Call:
    (_, conv), _, *then = layer.parts
    assert isinstance(conv, Conv)
    sizes = [conv.in_channels, conv.out_channels, *([conv.kernel] if conv.kernel > 1 else [])]
    call = _call("ConvNormAct", *sizes, **_unless(stride=(conv.stride, 1), groups=(conv.groups, 1)))
    return replace(call, arguments=(*call.arguments, *((name, expression(part, style)) for name, part in then)))


def _chain(function: str, layer: Sequential, style: Style) -> Call:
    """Named layers; those of a block or of a head stand one a line."""
    compound = any(isinstance(part, (Sequential, Residual, Parallel)) for _, part in layer.parts)
    named = tuple((name, expression(part, style)) for name, part in layer.parts)
    return Call(function, named, tall=compound or len(named) > FEW)


def squeezes(gate: Gate) -> bool:
    """Whether a gate has two convolutions, to its squeezed width and back."""
    return sum(isinstance(part, Conv) for _, part in gate.body.parts) == 2


def generic(gate: Gate) -> Sequential:
    """A gate's body for any widths: what two gates of one kind have in common."""
    return _with_widths(gate, Name("channels"), Name("squeezed"))


def _with_widths(gate: Gate, channels: int, squeezed: int) -> Sequential:
    """A gate's body with other widths, which its two convolutions change from and to."""
    here, other = channels, squeezed
    parts: list[tuple[str, Layer]] = []
    for name, part in gate.body.parts:
        match part:
            case Conv():
                parts.append((name, replace(part, in_channels=here, out_channels=other)))
                here, other = other, here
            case Normalize():
                parts.append((name, replace(part, channels=here)))
            case _:
                parts.append((name, part))
    return Sequential(tuple(parts))


def _gate_widths(gate: Gate) -> tuple[int, int]:
    first = next(part for _, part in gate.body.parts if isinstance(part, Conv))
    return first.in_channels, first.out_channels


def _gate_name(index: int) -> str:
    return "SqueezeExcite" + (str(index + 1) if index else "")


def _gate(body: Sequential, name: str, style: Style) -> str:
    made = replace(_chain("chain", body, style), tall=True)
    return GATE.format(name=name, body="\n".join(lines(made, "self.body = ", "", 8)))


def _call(function: str, *arguments: object, **options: object) -> Call:
    return Call(function, (*(("", repr(a)) for a in arguments), *((name, repr(o)) for name, o in options.items())))


def _unless(**options: tuple[object, object]) -> dict[str, object]:
    """Options that are not at the default that stands beside them."""
    return {name: given for name, (given, default) in options.items() if given != default}
