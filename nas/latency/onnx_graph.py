"""A network as an ONNX graph written straight from its layers, with random weights, to time a runtime with.

The graph is what `bundle.onnx_file` exports (a test holds them together), in milliseconds instead of the exporter's
many seconds; batch norm is folded. The name of every node begins with the number of its kernel (`costs.kernels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspace.arch import Arch, lower
from searchspace.blocks.layers import (
    Activate,
    AvgPool,
    Blur,
    ChannelConv,
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
    Normalize,
    PadChannels,
    Parallel,
    Residual,
    ResponseNorm,
    Sequential,
    Slice,
)
from searchspace.costs.kernels import number_kernels
from searchspace.costs.latency import placed

OPSET, IR_VERSION = 18, 10
SIMPLE = {"relu": "Relu", "leaky_relu": "LeakyRelu", "elu": "Elu", "softplus": "Softplus"}
MAGNITUDE = 0.05


class Graph:
    """Nodes and weights as they are added. `kernels` says which kernel each of the network's steps belongs to."""

    def __init__(self, kernels: Sequence[int]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.kernels, self.at = kernels, 0
        self.random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node; returns the name of what it puts out, which like its own begins with the kernel's number."""
        from onnx import helper

        name = f"s{self.kernels[self.at]}.{len(self.nodes)}."
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}out"], name=f"{name}{kind}", **attributes))
        return f"{name}out"

    def done(self, output: str) -> str:
        """The next step follows."""
        self.at += 1
        return output

    @property
    def in_the_one_before(self) -> bool:
        """Whether the step has no kernel of its own."""
        return self.at > 0 and self.kernels[self.at] == self.kernels[self.at - 1]

    def constant(self, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return str(self.weights[-1].name)

    def weight(self, *shape: int) -> str:
        """Random numbers around 0: small ones, so that they grow in no network and vanish in none."""
        return self.constant(self.random.uniform(-MAGNITUDE, MAGNITUDE, shape).astype(np.float32))

    def floats(self, *numbers: float) -> list[str]:
        return [self.constant(np.array(number, np.float32)) for number in numbers]

    def whole(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))


def model(arch: Arch) -> Any:
    """The network as an `onnx.ModelProto` for any number of images: `images` to `logits`."""
    from onnx import TensorProto, helper

    graph = Graph(kernel_numbers(arch))
    output = write(graph, lower(arch), "images")
    shape = ["batch", arch.in_channels, arch.resolution, arch.resolution]
    graph.nodes[-1].output[0] = "logits"
    for node in graph.nodes:
        node.input[:] = ["logits" if name == output else name for name in node.input]
    made = helper.make_graph(
        graph.nodes,
        arch.digest,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        graph.weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def kernel_numbers(arch: Arch) -> list[int]:
    """Of every step of a network, in order, the kernel that computes it: numbers from 0 on."""
    numbers: list[int] = []
    for section, shape in placed(arch):
        first = numbers[-1] + 1 if numbers else 0
        numbers += [first + number for number, _, _ in number_kernels(section, shape)]
    return numbers


def write(graph: Graph, layer: Layer, x: str) -> str:
    """A tree of layers, from what is called `x`; returns the name of what it puts out."""
    match layer:
        case Sequential(parts=parts):
            for _, part in parts:
                x = write(graph, part, x)
            return x
        case Residual(body=body, shortcut=shortcut):
            first = len(graph.nodes)
            branch, second = write(graph, body, x), len(graph.nodes)
            x = x if shortcut is None else write(graph, shortcut, x)
            graph.nodes[first:] = graph.nodes[second:] + graph.nodes[first:second]  # the module runs its shortcut first
            return graph.done(graph.add("Add", x, branch))
        case Gate(body=body):
            return graph.done(graph.add("Mul", x, write(graph, body, x)))
        case Parallel(branches=branches, join=join):
            ends = [write(graph, branch, x) for branch in branches]
            if join == "concat":
                return graph.done(graph.add("Concat", *ends, axis=1))
            return graph.done(reduce(partial(graph.add, "Add" if join == "add" else "Mul"), ends))
        case _:
            return graph.done(primitive(graph, layer, x))


def primitive(graph: Graph, layer: Layer, x: str) -> str:
    match layer:
        case Conv(in_channels=inside, out_channels=outside, kernel=kernel, groups=groups):
            weight, bias = graph.weight(outside, inside // groups, kernel, kernel), graph.weight(outside)
            sizes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "dilations": [layer.dilation] * 2}
            sizes |= {"auto_pad": "SAME_UPPER"} if layer.same else {"pads": [layer.padding] * 4}
            return graph.add("Conv", x, weight, bias, group=groups, strides=[layer.stride] * 2, **sizes)
        case Linear(in_features=inside, out_features=outside):
            return graph.add("Gemm", x, graph.weight(outside, inside), graph.weight(outside), transB=1)
        case Normalize(channels=channels):
            return normalisation(graph, layer, channels, x)
        case Activate(function=function):
            return activation(graph, function, x)
        case MaxPool(kernel=kernel, stride=stride):
            sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [layer.padding] * 4}
            return graph.add("MaxPool", x, **sizes)
        case AvgPool(stride=stride):
            sizes = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
            return graph.add("AveragePool", x, ceil_mode=1, count_include_pad=0, **sizes)
        case Blur(channels=channels, stride=stride, zeros=zeros):
            mode = "constant" if zeros else "reflect"
            edges = graph.add("Pad", x, graph.whole(0, 0, 1, 1, 0, 0, 1, 1), mode=mode)
            weight = graph.weight(channels, 1, 3, 3)
            return graph.add("Conv", edges, weight, kernel_shape=[3, 3], group=channels, strides=[stride] * 2)
        case GlobalAvgPool():
            return graph.add("ReduceMean", x, graph.whole(-1, -2), keepdims=1)
        case Flatten():
            return graph.add("Reshape", x, graph.whole(0, -1))
        case PadChannels(in_channels=low, out_channels=high):
            return graph.add("Pad", x, graph.whole(0, 0, 0, 0, 0, high - low, 0, 0), mode="constant")
        case Slice(start=start, channels=channels):
            return graph.add("Slice", x, graph.whole(start), graph.whole(start + channels), graph.whole(1))
        case ChannelConv(kernel=kernel):
            row = graph.add("Reshape", x, graph.whole(0, 1, -1))
            row = graph.add("Conv", row, graph.weight(1, 1, kernel), kernel_shape=[kernel], pads=[kernel // 2] * 2)
            return graph.add("Reshape", row, graph.whole(0, -1, 1, 1))
        case ResponseNorm(channels=channels):
            spread = graph.add("ReduceL2", x, graph.whole(2, 3), keepdims=1)
            mean = graph.add("Add", graph.add("ReduceMean", spread, graph.whole(1), keepdims=1), *graph.floats(1e-6))
            scaled = graph.add("Mul", graph.add("Mul", x, graph.add("Div", spread, mean)), graph.weight(channels, 1, 1))
            return graph.add("Add", x, graph.add("Add", scaled, graph.weight(channels, 1, 1)))
        case LayerScale(channels=channels):
            return graph.add("Mul", x, graph.weight(channels, 1, 1))
        case Dropout() | DropPath():
            return x
    raise TypeError(f"no ONNX for the layer {layer!r}")


def activation(graph: Graph, function: str, x: str) -> str:
    if function in SIMPLE:
        return graph.add(SIMPLE[function], x)
    if function == "relu6":
        return graph.add("Clip", x, *graph.floats(0, 6))
    if function == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    if function == "sigmoid":
        return graph.add("Sigmoid", x)
    if function == "hard_sigmoid":
        return graph.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    if function == "hard_swish":  # as onnxruntime spells ONNX's HardSwish out, whose nodes then have no names
        return graph.add("Mul", x, graph.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    if function == "gelu":
        root, one, half = graph.floats(2**0.5, 1, 0.5)
        gate = graph.add("Add", graph.add("Erf", graph.add("Div", x, root)), one)
        return graph.add("Mul", x, graph.add("Mul", half, gate))
    return x


def normalisation(graph: Graph, layer: Normalize, channels: int, x: str) -> str:
    norm = layer.norm
    if norm.kind == "batch" and graph.in_the_one_before:
        return x  # folded into its weights
    scale, bias = graph.weight(channels), graph.weight(channels)
    if norm.kind == "batch":
        mean, variance = graph.weight(channels), graph.constant(np.ones(channels, np.float32))
        return graph.add("BatchNormalization", x, scale, bias, mean, variance, epsilon=norm.eps)
    if norm.kind == "layer":
        last = graph.add("Transpose", x, perm=[0, 2, 3, 1])
        return graph.add(
            "Transpose", graph.add("LayerNormalization", last, scale, bias, epsilon=norm.eps), perm=[0, 3, 1, 2]
        )
    ones, zeros = (graph.constant(np.full(norm.groups, number, np.float32)) for number in (1, 0))
    flat = graph.add("Reshape", x, graph.whole(0, norm.groups, -1))
    flat = graph.add("InstanceNormalization", flat, ones, zeros, epsilon=norm.eps)
    shaped = graph.add("Reshape", flat, graph.add("Shape", x))
    spread = [graph.weight(channels, 1, 1) for _ in range(2)]
    return graph.add("Add", graph.add("Mul", shaped, spread[0]), spread[1])
