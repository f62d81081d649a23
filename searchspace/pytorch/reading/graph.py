"""`layers_of(module)`: what a PyTorch module computes, as layers of this project, traced and not looked up by class.

torch.fx records the operations of a forward pass. Each becomes a layer or is refused, and branches that meet again (an
addition, a product, a concatenation) become one node with a tree for every branch, from the last operation that all
of them share (their immediate dominator). So it reads timm's networks, torchvision's and anybody's, as long as they
are made of operations that a network of this project can have.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from searchspace.blocks.layers import (
    Activate,
    ChannelShuffle,
    Conv,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool,
    Layer,
    LayerScale,
    PadChannels,
    Parallel,
    Residual,
    Sequential,
    Slice,
    leaves,
)
from searchspace.pytorch.reading.modules import (
    WHOLE,
    UnreadableError,
    check_settings,
    evaluating,
    initial_value,
    layers_of_module,
    linear_layer,
)

Source = tuple[str, ...]


class Item(NamedTuple):
    """A layer, the path of the module that runs it, and where the weights of the layers in it come from: for each that
    has some, in order, the module or parameter; several where they are put one after the other."""

    layer: Layer
    path: str
    sources: tuple[Source, ...] = ()


FUNCTIONS: dict[Any, Any] = {
    F.relu: "relu",
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hard_swish",
    F.gelu: "gelu",
    F.sigmoid: "sigmoid",
    F.hardsigmoid: "hard_sigmoid",
    torch.relu: "relu",
    torch.sigmoid: "sigmoid",
    "sigmoid": "sigmoid",
    "relu": "relu",
}
IN_PLACE = (F.relu, F.relu6, F.silu, F.hardswish, F.hardsigmoid)  # whose second argument says so, and nothing more
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
VIEWS = ("view", "reshape", torch.reshape, "flatten", torch.flatten, "unflatten")
SPLITS = ("split", "chunk", torch.split, torch.chunk)
SAME = ("contiguous", "clone", "to", "float", "type_as")  # methods that change no numbers
SIDE = 256  # pixels of the images by which channels are counted, where an operation does not say them
TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class Tracer(fx.Tracer):
    """Looks into everything but PyTorch's own layers and those of timm that are one here."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.Sequential, nn.ModuleList)):
            return False
        return type(m).__module__.startswith("torch.nn") or type(m).__name__ in WHOLE


def layers_of(module: nn.Module) -> list[Item]:
    """The layers of a module that has one image batch as input, in order; `InputError` says which part has no place."""
    with evaluating(module):
        try:
            graph = Tracer().trace(module)
        except Exception as error:
            raise UnreadableError(f"cannot be traced ({' '.join(str(error).split())[:120]})") from None
        return _Reader(dict(module.named_modules()), dict(module.named_parameters()), graph, module).items()


class Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every map."""

    def __init__(self, module: fx.GraphModule, shapes: dict[str, torch.Size]) -> None:
        super().__init__(module)
        self.shapes = shapes

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if isinstance(found, Tensor):
            self.shapes[n.name] = found.shape
        return found


@dataclass
class _Reader:
    modules: Mapping[str, nn.Module]
    parameters: Mapping[str, Tensor]
    graph: fx.Graph
    root: nn.Module

    def __post_init__(self) -> None:
        self.shapes: dict[str, torch.Size] = {}
        run = (self._part(node) for node in self.graph.nodes if node.op == "call_module")
        self.in_channels = next((part.in_channels for part in run if isinstance(part, nn.Conv2d)), 1)

    def items(self) -> list[Item]:
        """All layers from the input to the output."""
        nodes = list(self.graph.nodes)
        self.order = {node: index for index, node in enumerate(nodes)}
        self.last: set[fx.Node] = set()  # maps whose channels are their last dimension
        self.above: dict[fx.Node, fx.Node] = {}
        self.inputs: dict[fx.Node, list[fx.Node]] = {}
        self.seen: set[fx.Node] = set()
        start = next(node for node in nodes if node.op == "placeholder")
        for node in nodes:
            self._place(node, start)
        end = nodes[-1].args[0]
        while isinstance(end, (tuple, list)):
            end = end[0]
        if not isinstance(end, fx.Node) or end not in self.inputs:
            raise UnreadableError("its output does not follow from its input")
        return self._chain(end, start)

    def _place(self, node: fx.Node, start: fx.Node) -> None:
        """Note what a node takes from nodes that follow from the input, and the last node that all of these share."""
        if node is start:
            self.inputs[node] = []
            return
        taken = [one for one in node.all_input_nodes if one in self.inputs]
        if not taken or node.op == "output":
            return
        if node.target is getattr or node.target == "size":  # shapes, which are numbers
            return
        self.inputs[node] = taken
        shared = taken[0]
        for other in taken[1:]:
            shared = self._common_node(shared, other)
        self.above[node] = shared
        if node.target == "permute":
            is_last = list(_numbers(node.args[1:])) == TO_LAST
        else:
            is_last = taken[0] in self.last and node.target not in ("mean", "flatten")
        if is_last:
            self.last.add(node)

    def _common_node(self, one: fx.Node, other: fx.Node) -> fx.Node:
        while one is not other:
            if self.order[one] > self.order[other]:
                one = self.above[one]
            else:
                other = self.above[other]
        return one

    def _chain(self, end: fx.Node, start: fx.Node) -> list[Item]:
        """The layers from one node to another that dominates it."""
        found: list[Item] = []
        while end is not start:
            items, before = self._step(end)
            found = [*items, *found]
            end = before
        return found

    def _step(self, node: fx.Node) -> tuple[list[Item], fx.Node]:
        """The layers of a node, and the node that they follow."""
        if node.op == "call_module":
            if node in self.seen:
                raise UnreadableError(f"{node.target}: its output goes into more than one branch")
            self.seen.add(node)
            return self._items(node, self._module(node), str(node.target)), self.inputs[node][0]
        if node.op == "placeholder":
            raise UnreadableError("it has more than one input")
        if node.target in ADDITIONS and 0 in node.args:
            return [], self.inputs[node][0]
        if node.target in ADDITIONS and len(self._operands(node)) == 2:
            return self._read_addition(node), self.above[node]
        if node.target in PRODUCTS:
            return self._product(node)
        if node.target in VIEWS and (shuffled := self._read_shuffle(node)) is not None:
            return [Item(ChannelShuffle(self._channels(node)), _path(node))], shuffled
        if node.target in (torch.cat, torch.concat):
            return [self._read_concatenation(node)], self.above[node]
        if node.target is F.linear:
            return self._linear(node), self.inputs[node][0]
        return self._items(node, self._function(node), ""), self.inputs[node][0]

    def _items(self, node: fx.Node, layers: Iterable[Layer], source: str) -> list[Item]:
        """Layers of one node, of which one may have weights."""
        path = _path(node)
        return [Item(layer, path, ((source,),) if _has_weights(layer) else ()) for layer in layers]

    def _branch(self, end: fx.Node, start: fx.Node) -> Branch:
        items = self._chain(end, start)
        return Branch(tree(items), tuple(source for item in items for source in item.sources))

    def _read_addition(self, node: fx.Node) -> list[Item]:
        """An addition: `Residual` of the longer branch beside the shorter, or `Parallel` of more than two. Longer ones,
        and of these the larger kernels, come first."""
        above = self.above[node]
        branches = [self._branch(end, above) for end in self._addends(node, above)]
        branches.sort(key=lambda branch: (weight(branch.layers), kernel(branch.layers)), reverse=True)
        if len(branches) > 2:
            return [_join(node, Parallel(tuple(branch.layers for branch in branches), "add"), branches)]
        body, beside = branches
        return [_join(node, Residual(body.layers, beside.layers if beside.layers.parts else None), [body, beside])]

    def _addends(self, node: fx.Node, above: fx.Node) -> list[fx.Node]:
        """What an addition adds up, with the additions that it alone adds up in turn."""
        found: list[fx.Node] = []
        for operand in self._operands(node):
            one = self._through_identities(operand)
            nested = one.target in ADDITIONS and len(one.users) == 1 and one in self.above
            if nested and self.above[one] is above and len(self.inputs[one]) == 2:
                found += self._addends(one, above)
            else:
                found.append(operand)
        return found

    def _through_identities(self, node: fx.Node) -> fx.Node:
        """The node that a node is, where modules that do nothing stand between."""
        while node.op == "call_module" and isinstance(self._part(node), nn.Identity) and len(node.users) == 1:
            (node,) = self.inputs[node]
        return node

    def _part(self, node: fx.Node) -> nn.Module:
        return self.modules[str(node.target)]

    def _operands(self, node: fx.Node) -> list[fx.Node]:
        """A node's operands, one and the same twice where it stands twice."""
        operands = node.args[0] if isinstance(node.args[0], (tuple, list)) else node.args
        return [one for one in operands if isinstance(one, fx.Node) and one in self.inputs]

    def _product(self, node: fx.Node) -> tuple[list[Item], fx.Node]:
        """A gate x · f(x), a layer scale, or the product of two branches."""
        operands = self._operands(node)
        if len(operands) == 1:
            scale = next((one for one in node.args if isinstance(one, fx.Node) and one is not operands[0]), None)
            values = None if scale is None else self._parameter(scale)
            if values is None:
                factor = next((one for one in node.args if isinstance(one, (int, float))), None)
                if factor == 1:
                    return [], operands[0]
                other = "what is computed" if factor is None else factor
                raise UnreadableError(f"{_path(node)}: a product with {other}")
            layer = LayerScale(values.numel(), initial_value(values))
            return self._items(node, [layer], self._name(scale)), operands[0]
        above = self.above[node]
        first, second = operands
        if above in operands:
            body = self._branch(second if above is first else first, above)
            if any(isinstance(part, GlobalAvgPool) for _, part in body.layers.parts):
                return [_join(node, Gate(body.layers), [body])], above
            branches = [Branch(Sequential(()), ()), body]
        else:
            branches = [self._branch(end, above) for end in operands]
        return [_join(node, Parallel(tuple(branch.layers for branch in branches), "multiply"), branches)], above

    def _name(self, node: fx.Node | None) -> str:
        """The name of the parameter that a node is, in whatever shape; empty where it is none."""
        while node is not None and node.op == "call_method" and node.target in ("reshape", "view", "unsqueeze", "to"):
            node = node.args[0]  # type: ignore[assignment]
        return str(node.target) if node is not None and node.op == "get_attr" else ""

    def _parameter(self, node: fx.Node) -> Tensor | None:
        return self.parameters.get(self._name(node))

    def _linear(self, node: fx.Node) -> list[Item]:
        """A linear layer that is called as a function of its weights."""
        weight, bias = (self._parameter(one) if isinstance(one, fx.Node) else None for one in _linear(node))
        if weight is None:
            raise UnreadableError(f"{_path(node)}: a linear layer whose weights are computed")
        layer = linear_layer(weight.shape[1], weight.shape[0], bias is not None, node in self.last)
        return self._items(node, [layer], self._name(_linear(node)[0]).rpartition(".")[0])

    def _read_concatenation(self, node: fx.Node) -> Item:
        dimension = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if dimension not in ((-1, 3) if node in self.last else (1, -3)):
            raise UnreadableError(f"{_path(node)}: a concatenation of dimension {dimension}")
        above = self.above[node]
        read = self._read_partial_addition(node)
        if read is not None:
            return read
        branches = [self._branch(end, above) for end in self._operands(node)]
        layer = Parallel(tuple(branch.layers for branch in branches), "concat")
        one = as_grouped(layer)
        if one is not None:
            return Item(one, _path(node), (tuple(name for branch in branches for (name,) in branch.sources),))
        return _join(node, layer, branches)

    def _read_partial_addition(self, node: fx.Node) -> Item | None:
        """ReXNet's partial addition: the first channels of a map with a shortcut added, then the rest of that map."""
        operands = self._operands(node)
        if len(operands) != 2 or operands[0].target not in ADDITIONS:
            return None
        added, rest = operands
        parts = [one for one in self._operands(added) if one.target is operator.getitem]
        others = [one for one in self._operands(added) if one.target is not operator.getitem]
        if len(parts) != 1 or len(others) != 1 or rest.target is not operator.getitem:
            return None
        source, shortcut = self.inputs[parts[0]][0], others[0]
        low, high = self._read_slices(parts[0])[0], self._read_slices(rest)[0]
        if low.start or high.start != low.channels:
            return None
        if self.inputs[rest][0] is not source or self._common_node(source, shortcut) is not shortcut:
            return None
        body = self._branch(source, shortcut)
        return _join(node, Residual(body.layers, PadChannels(low.channels, low.channels + high.channels)), [body])

    def _module(self, node: fx.Node) -> list[Layer]:
        part, name = self._part(node), str(node.target)
        try:
            return layers_of_module(part, node in self.last)
        except UnreadableError as error:
            raise UnreadableError(f"{name}: {error}") from None

    def _function(self, node: fx.Node) -> list[Layer]:
        """The layers of an operation that is no module."""
        target = node.target
        if isinstance(target, Callable | str) and target in FUNCTIONS:  # type: ignore[arg-type]
            return self._activation(node, FUNCTIONS[target])
        if target in SAME:
            return []
        if target == "permute" and list(_numbers(node.args[1:])) in (TO_LAST, TO_FIRST):
            return []
        if target == "mean":
            return self._mean(node)
        if target in ("flatten", torch.flatten):
            return [Flatten()]
        if target is F.dropout or target is F.dropout2d:
            rate = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            return [Dropout(float(rate))] if rate else []  # type: ignore[arg-type]
        if target is F.adaptive_avg_pool2d and node.args[1] in (1, (1, 1)):
            return [GlobalAvgPool()]
        if target is operator.getitem:
            return self._part_of(node)
        if target is F.pad and list(_numbers(node.args[1:2]))[:-1] == [0, 0, 0, 0, 0]:
            channels = self._channels(self.inputs[node][0])
            return [PadChannels(channels, channels + list(_numbers(node.args[1:2]))[-1])]
        if target in SPLITS:
            return []
        raise UnreadableError(f"{_path(node)}: an operation {getattr(target, '__name__', target)}")

    def _channels(self, node: fx.Node) -> int:
        """How many channels a map has."""
        return self._shape(node)[1]

    def _shape(self, node: fx.Node) -> torch.Size:
        """The shape of a map, by a run without numbers."""
        if not self.shapes:
            images = torch.empty(1, self.in_channels, SIDE, SIDE, device="meta")
            on_meta = copy.deepcopy(self.root).to("meta")
            Shapes(fx.GraphModule(on_meta, self.graph), self.shapes).run(images)
        return self.shapes[node.name]

    def _activation(self, node: fx.Node, name: Any) -> list[Layer]:
        if len(node.args) > 1 and node.target not in IN_PLACE:
            raise UnreadableError(f"{_path(node)}: a {name} with settings")
        try:
            check_settings(name, node.kwargs)
        except UnreadableError as error:
            raise UnreadableError(f"{_path(node)}: {error}") from None
        return [Activate(name)]

    def _mean(self, node: fx.Node) -> list[Layer]:
        dims = sorted(_numbers([node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())]))
        wanted = [[1, 2]] if node.args[0] in self.last else [[2, 3], [-2, -1]]
        if dims not in wanted:
            raise UnreadableError(f"{_path(node)}: a mean of dimensions {dims}")
        kept = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
        return [GlobalAvgPool()] if kept else [GlobalAvgPool(), Flatten()]

    def _read_shuffle(self, node: fx.Node) -> fx.Node | None:
        """The map whose channels a view has as `ChannelShuffle` puts them; None where it is another view."""
        turned = self.inputs[node][0]
        while turned.target in SAME:
            turned = self.inputs[turned][0]
        if turned.target not in ("transpose", torch.transpose) or sorted(_numbers(turned.args[1:])) != [1, 2]:
            return None
        halves = self.inputs[turned][0]
        source = self.inputs[halves][0] if halves.target in VIEWS else halves
        batch, channels, *sides = self._shape(source)
        if list(self._shape(halves)) != [batch, 2, channels // 2, *sides] or self._shape(node) != self._shape(source):
            return None
        return source

    def _part_of(self, node: fx.Node) -> list[Layer]:
        """Some channels of a map; nothing is done where they are all."""
        (part,) = self._read_slices(node)
        source = self.inputs[node][0]
        whole = source if source.target not in SPLITS else self.inputs[source][0]
        return [] if part == Slice(0, self._channels(whole)) else [part]

    def _read_slices(self, node: fx.Node) -> list[Slice]:
        source, index = node.args
        assert isinstance(source, fx.Node)
        if isinstance(index, int) and source.target in ("split", torch.split):
            sizes = source.args[1]
            if isinstance(sizes, (list, tuple)):
                return [Slice(sum(sizes[:index]), sizes[index])]  # type: ignore[arg-type]
        if isinstance(index, int) and source.target in ("chunk", torch.chunk):
            dimension = source.kwargs.get("dim", source.args[2] if len(source.args) > 2 else 0)
            whole = self._channels(self.inputs[source][0])
            size = -(-whole // int(source.args[1]))  # type: ignore[arg-type]
            if dimension == 1:
                return [Slice(index * size, min(size, whole - index * size))]
        if isinstance(index, tuple) and len(index) > 1 and isinstance(index[1], slice):
            start, stop = index[1].start or 0, index[1].stop
            if isinstance(start, int) and isinstance(stop, int | None) and index[1].step is None:
                return [Slice(start, (self._channels(source) if stop is None else stop) - start)]
        raise UnreadableError(f"{_path(node)}: a part [{index}] of a map")


class Branch(NamedTuple):
    """The layers of a branch, and where their weights come from."""

    layers: Sequential
    sources: tuple[Source, ...]


def _join(node: fx.Node, layer: Layer, branches: Iterable[Branch]) -> Item:
    return Item(layer, _path(node), tuple(source for branch in branches for source in branch.sources))


def _has_weights(layer: Layer) -> bool:
    return any(leaf.params for leaf, _ in leaves(layer, (1, 1, 1)))


def as_grouped(layer: Parallel) -> Conv | None:
    """Convolutions that share the channels of a map out evenly, and do the same, as one grouped convolution."""
    branches = [[part for _, part in branch.parts] for branch in layer.branches]
    start = 0
    for parts in branches:
        if len(parts) != 2 or not isinstance(parts[0], Slice) or parts[0].start != start:
            return None
        start += parts[0].channels
    convs = {parts[1] for parts in branches}
    conv = convs.pop()
    if convs or not isinstance(conv, Conv) or conv.groups > 1:
        return None
    times = len(branches)
    return replace(conv, in_channels=conv.in_channels * times, out_channels=conv.out_channels * times, groups=times)


def _numbers(nested: Iterable[Any]) -> Iterable[int]:
    for one in nested:
        if isinstance(one, (tuple, list)):
            yield from _numbers(one)
        elif isinstance(one, int):
            yield one


def _path(node: fx.Node) -> str:
    """The path of the module that an operation stands in."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack")
    return (list(stack.values())[-1][0] if stack else "") or "forward"


def tree(items: Iterable[Item]) -> Sequential:
    """Layers without their paths; their names are numbers."""
    return Sequential(tuple((f"layer{index}", item.layer) for index, item in enumerate(items)))


def weight(branch: Sequential) -> int:
    """How much is in a branch, so that the longer one is a residual's body."""
    return sum(1 + (weight(part.body) if isinstance(part, (Residual, Gate)) else 0) for _, part in branch.parts)


def kernel(branch: Sequential) -> int:
    """The first convolution's kernel; 0 of a branch that has none."""
    return next((part.kernel for _, part in branch.parts if isinstance(part, Conv)), 0)


def _linear(node: fx.Node) -> tuple[Any, Any]:
    """The weight and bias of a functional linear layer."""
    weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    return weight, bias
