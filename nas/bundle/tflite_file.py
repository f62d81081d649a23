"""`model.int8.tflite`: an int8 ONNX file as TensorFlow Lite's flat buffer, for the runtimes of microcontrollers.

Its numbers are those of the ONNX file: weights are copied, maps become int8 (uint8 less 128) in the order height,
width, channels. Nonlinearities are in the ranges of the maps, so convolutions have none of their own.

The network takes images rotated by 180° (pixels in reverse order), and its kernels are rotated with them. For a stride
of 2 PyTorch pads before the first pixel and TFLite after the last one. In a rotated network these are the same, so no
padded copy of a map is needed, which would nearly double the memory of a strided depthwise convolution. Where PyTorch
leaves out the last pixels of a map, the rotated one is cut before it is convolved.

The format: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.bundle.arena import Lifetime, plan, size_of
from nas.bundle.int8_file import INT8
from searchspace.errors import InputError

Array = NDArray[Any]

FILE = "model.int8.tflite"
IDENTIFIER, VERSION, ALIGNMENT = b"TFL3", 3, 16
TYPES = {np.dtype(np.int32): 2, np.dtype(np.int8): 9}
SAME, VALID = 0, 1
PLAN = "OfflineMemoryAllocation"
SHIFT = 128  # of uint8 to int8
BIAS = 2  # the place of the bias among what an operator takes
UNSCALED: Array = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Kind:
    """An operator as the schema numbers it: its code, its version for int8, the kind of its options."""

    code: int
    version: int
    options: int


ADD = Kind(0, 2, 11)
CONV = Kind(3, 3, 1)
DEPTHWISE = Kind(4, 3, 2)
LINEAR = Kind(9, 4, 8)
RESHAPE = Kind(22, 1, 17)
MEAN = Kind(40, 2, 27)
STRIDED_SLICE = Kind(45, 2, 32)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A map, or a constant where it has data; `scales` and `zero` say what its whole numbers stand for, and `axis` what
    several scales are along."""

    shape: tuple[int, ...]
    type: int
    scales: Array
    zero: int = 0
    axis: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Operator:
    kind: Kind
    inputs: tuple[int, ...]
    output: int
    options: Mapping[int, tuple[str, int]] = field(default_factory=dict)  # by the field's number: its type, its value


@dataclass(frozen=True, slots=True)
class Written:
    """The bytes of a file and of the maps that its plan holds at one time; where TensorFlow Lite Micro is here, the
    bytes of its arena, how many images were tried and of how many both int8 files say the same class."""

    size: int
    maps: int
    arena: int | None = None
    tried: int = 0
    same: int = 0


def write(folder: Path, images: NDArray[np.float32]) -> Written:
    """Write an exported folder's `model.int8.onnx` as a TFLite file too, and try it on images as the network takes
    them; `InputError` where it cannot be written, `RuntimeError` where it cannot be run."""
    from nas.bundle import micro

    path = folder / FILE
    converter = Converter.of(folder / INT8)
    path.write_bytes(converter.flat_buffer())
    maps = list(converter.lifetimes().values())
    size, planned = path.stat().st_size, size_of(maps, plan(maps))
    if not micro.is_there():
        return Written(size, planned)
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / INT8, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"images": images})[0]
    found = micro.measure(path, images)
    same = int((found.logits.argmax(1) == expected.argmax(1)).sum())
    return Written(size, planned, found.arena, len(images), same)


def sentences(written: Written) -> list[str]:
    """What there is to say of the file."""
    lines = [f"{FILE}: {written.size:,} bytes of flash; takes int8 images (height, width, channels) rotated by 180°"]
    if written.arena is None:
        return [*lines, f"its maps take {written.maps:,} bytes; pip install tflite-micro tries it, with all its arena"]
    tried = f"the class of {INT8} for {written.same} of {written.tried} images"
    return [*lines, f"TensorFlow Lite Micro runs it in an arena of {written.arena:,} bytes; it says {tried}"]


class Converter:
    """A graph of ONNX as one of TFLite. In ONNX quantised values are float between DequantizeLinear and
    QuantizeLinear."""

    @classmethod
    def of(cls, path: Path) -> Converter:
        """Of an int8 ONNX file of `nas.bundle.int8_file`; `InputError` for an operator that has no counterpart."""
        import onnx

        return cls(onnx.load(str(path)).graph)

    def __init__(self, graph: Any) -> None:
        from onnx import helper, numpy_helper

        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.nodes = [node for node in graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
        self.attributes = {
            id(node): {one.name: helper.get_attribute_value(one) for one in node.attribute} for node in self.nodes
        }
        self.tensors: list[TensorEntry] = []
        self.operators: list[Operator] = []
        self.maps: dict[str, int] = {}
        self.stored: dict[str, tuple[str, str, str]] = {}  # a float constant: the names of its numbers, scales, zeros
        self.scaled: dict[str, tuple[str, str]] = {}  # a float map: the names of its scale and zero
        self.renamed: dict[str, str] = {}  # what DequantizeLinear puts out: the float map that was quantised
        for node in graph.node:
            if node.op_type == "QuantizeLinear":
                self.scaled[node.input[0]] = (node.input[1], node.input[2])
                self.renamed[node.output[0]] = node.input[0]
        for node in graph.node:
            if node.op_type == "DequantizeLinear":
                numbers, scale, zero = node.input
                if numbers in self.constants:
                    self.stored[node.output[0]] = (numbers, scale, zero)
                else:
                    self.renamed[node.output[0]] = self.renamed[numbers]
                    self.scaled.setdefault(node.output[0], (scale, zero))
        given = graph.input[0]
        channels, height, width = (one.dim_value for one in given.type.tensor_type.shape.dim[1:])
        self.maps[given.name] = self._map(given.name, (1, height, width, channels))
        for index, node in enumerate(self.nodes):
            make = getattr(self, f"_{node.op_type.lower()}", None)
            if make is None:
                raise InputError(f"tflite: operator {node.op_type} has no counterpart; networks of space mcu have none")
            make(node, index)
        self.input, self.output = self.maps[given.name], self.operators[-1].output

    def _conv(self, node: Any, _: int) -> None:
        given = self.attributes[id(node)]
        entered = self._find_map(node.input[0])
        weights, scales = self._constant(node.input[1])
        groups, dilation = given["group"], given["dilations"][0]
        kernel = weights.transpose(0, 2, 3, 1)[:, ::-1, ::-1]
        depthwise = groups > 1
        if depthwise and not groups == self.tensors[entered].shape[3] == len(weights):
            raise InputError("tflite: grouped convolutions are not among the fast kernels; only depthwise ones are")
        if depthwise:
            kernel = kernel.transpose(3, 1, 2, 0)
        entered, stride, outs = self._align(given, entered)
        bias = self._bias(node)
        out = self._map(node.output[0], (1, *outs, len(weights)))
        kind, options = (DEPTHWISE, {3: ("Int32", 1)}) if depthwise else (CONV, {})
        options |= {0: ("Int8", SAME if given["pads"][0] else VALID), 1: ("Int32", stride), 2: ("Int32", stride)}
        if dilation > 1:
            options |= dict.fromkeys((5, 6) if depthwise else (4, 5), ("Int32", dilation))
        inputs = (entered, self._weights(kernel, scales, axis=3 if depthwise else 0), bias)
        self.operators.append(Operator(kind, inputs, out, options))

    def _align(self, given: Mapping[str, Any], entered: int) -> tuple[int, int, list[int]]:
        """The map that a convolution reads, its stride and the sides of what it puts out, so that it samples in TFLite
        what it does in PyTorch; `InputError` where it cannot."""
        before, size, stride = (given[name][0] for name in ("pads", "kernel_shape", "strides"))
        span = (size - 1) * given["dilations"][0] + 1
        sides = self.tensors[entered].shape[1:3]
        outs = [(side + 2 * before - span) // stride + 1 for side in sides]
        padded = (outs[0] - 1) * stride + span - sides[0]  # in all: TFLite pads the smaller half before the first pixel
        left_out = max(0, before - padded)
        if before and ((padded + left_out + 1) // 2 != before or outs[0] != -(-(sides[0] - left_out) // stride)):
            raise InputError(
                f"tflite: a kernel of {size} at stride {stride} on {sides[0]} px is padded as TFLite pads none; odd "
                "kernels at strides of 1 and 2 are accepted, and kernels as large as their stride"
            )
        if not left_out:
            return entered, stride, outs
        step = stride if size == 1 else 1  # of what a kernel of 1 skips nothing is copied
        return self._cut(entered, left_out, step), stride // step, outs

    def _cut(self, entered: int, first: int, step: int) -> int:
        """A map without its first rows and columns, and of the others every so manieth."""
        given = self.tensors[entered]
        _, high, wide, channels = given.shape
        shape = (1, -(-(high - first) // step), -(-(wide - first) // step), channels)
        cut = self._tensor(shape, np.int8, given.scales, given.zero)
        corners = [(0, first, first, 0), given.shape, (1, step, step, 1)]
        self.operators.append(Operator(STRIDED_SLICE, (entered, *map(self._whole_numbers, corners)), cut))
        return cut

    def _gemm(self, node: Any, _: int) -> None:
        entered = self._find_map(node.input[0])
        weights, scales = self._constant(node.input[1])
        if not self.attributes[id(node)].get("transB"):
            weights = weights.T
        bias = self._bias(node)
        out = self._map(node.output[0], (1, len(weights)))
        self.operators.append(Operator(LINEAR, (entered, self._weights(weights, scales, 0), bias), out))

    def _add(self, node: Any, _: int) -> None:
        first, second = map(self._find_map, node.input)
        self.operators.append(Operator(ADD, (first, second), self._map(node.output[0], self.tensors[first].shape)))

    def _reducemean(self, node: Any, index: int) -> None:
        entered = self._find_map(node.input[0])
        name = node.output[0]
        if name not in self.scaled:  # its numbers are those of what it is reshaped to
            self.scaled[name] = self.scaled[self.nodes[index + 1].output[0]]
        axes, channels = self._whole_numbers([1, 2]), self.tensors[entered].shape[3]
        convolved = self.nodes[index + 1].op_type == "Conv"  # a head with a convolution of its own, as MobileNetV4's
        out = self._map(name, (1, 1, 1, channels) if convolved else (1, channels))
        self.operators.append(Operator(MEAN, (entered, axes), out, {0: ("Bool", int(convolved))}))

    def _reshape(self, node: Any, _: int) -> None:
        """Of one pixel, whose numbers a linear layer takes in whatever shape they come."""
        self.maps[node.output[0]] = self._find_map(node.input[0])

    _flatten = _squeeze = _reshape

    def _find_map(self, name: str) -> int:
        return self.maps[self.renamed.get(name, name)]

    def _map(self, name: str, shape: tuple[int, ...]) -> int:
        scale, zero = (self.constants[one] for one in self.scaled[name])
        self.maps[name] = self._tensor(shape, np.int8, scale.reshape(1), int(zero) - SHIFT)
        return self.maps[name]

    def _constant(self, name: str) -> tuple[Array, Array]:
        numbers, scales, _ = self.stored[name]
        return self.constants[numbers], self.constants[scales].reshape(-1)

    def _weights(self, numbers: Array, scales: Array, axis: int) -> int:
        return self._tensor(numbers.shape, np.int8, scales, 0, axis, numbers)

    def _bias(self, node: Any) -> int:
        """In int32. onnxruntime leaves it out where it is 0 everywhere. Its scale is that of the products, so no
        runtime reads it, and it is not written."""
        channels = len(self._constant(node.input[1])[0])
        given = len(node.input) > BIAS and bool(node.input[BIAS])
        numbers = self._constant(node.input[BIAS])[0] if given else np.zeros(channels, np.int32)
        return self._tensor((channels,), np.int32, UNSCALED, data=numbers)

    def _whole_numbers(self, numbers: Sequence[int]) -> int:
        return self._tensor((len(numbers),), np.int32, UNSCALED, data=np.array(numbers, np.int32))

    def _tensor(
        self, shape: tuple[int, ...], kind: Any, scales: Array, zero: int = 0, axis: int = 0, data: Array | None = None
    ) -> int:
        raw = b"" if data is None else np.ascontiguousarray(data, kind).tobytes()
        self.tensors.append(TensorEntry(tuple(map(int, shape)), TYPES[np.dtype(kind)], scales, zero, axis, raw))
        return len(self.tensors) - 1

    def lifetimes(self) -> dict[int, Lifetime]:
        """When each map is alive, by its number; the input before the first operator and the output after the last."""
        alive: dict[int, list[int]] = {self.input: [0, 0]}
        for step, one in enumerate(self.operators):
            for index in (*one.inputs, one.output):
                if not self.tensors[index].data:
                    alive.setdefault(index, [step, step])[1] = step
        return {index: Lifetime(math.prod(self.tensors[index].shape), *span) for index, span in alive.items()}

    def flat_buffer(self, planned: bool = True) -> bytes:
        """The file, with the plan of its arena. The first buffer is empty, as the format has it, and that of maps."""
        import flatbuffers

        made = flatbuffers.Builder(1 << 16)
        constants = [index for index, tensor in enumerate(self.tensors) if tensor.data]
        at = {index: place for place, index in enumerate(constants, 1)}
        buffers = [_table(made, {})]
        buffers += [_table(made, {0: _bytes(made, self.tensors[index].data)}) for index in constants]
        buffers += [_table(made, {0: _bytes(made, self._plan())})]
        tensors = [self._entry(made, tensor, at.get(index, 0)) for index, tensor in enumerate(self.tensors)]
        kinds = list(dict.fromkeys(one.kind for one in self.operators))
        operators = [
            _table(
                made,
                {
                    0: ("Uint32", kinds.index(one.kind)),
                    1: _numbers(made, one.inputs),
                    2: _numbers(made, (one.output,)),
                    3: ("Uint8", one.kind.options),
                    4: ("UOffsetTRelative", _table(made, one.options)),
                },
            )
            for one in self.operators
        ]
        codes = [
            _table(made, {0: ("Int8", kind.code), 2: ("Int32", kind.version), 3: ("Int32", kind.code)})
            for kind in kinds
        ]
        graph = _table(
            made,
            {
                0: _tables(made, tensors),
                1: _numbers(made, (self.input,)),
                2: _numbers(made, (self.output,)),
                3: _tables(made, operators),
            },
        )
        note = made.CreateString("takes images rotated by 180 degrees")
        noted = _table(made, {0: ("UOffsetTRelative", made.CreateString(PLAN)), 1: ("Uint32", len(buffers) - 1)})
        model = _table(
            made,
            {
                0: ("Uint32", VERSION),
                1: _tables(made, codes),
                2: _tables(made, [graph]),
                3: ("UOffsetTRelative", note),
                4: _tables(made, buffers),
                **({6: _tables(made, [noted])} if planned else {}),
            },
        )
        made.Finish(model, IDENTIFIER)
        return bytes(made.Output())

    def _plan(self) -> bytes:
        """The metadata of the plan: a version, the graph's number, and an offset of every map, -1 of constants."""
        alive = self.lifetimes()
        offsets = dict(zip(alive, plan(list(alive.values())), strict=True))
        places = [offsets.get(index, -1) for index in range(len(self.tensors))]
        return np.array([1, 0, len(places), *places], np.int32).tobytes()

    def _entry(self, made: Any, tensor: TensorEntry, buffer: int) -> int:
        fields: dict[int, tuple[str, int]] = {
            0: _numbers(made, tensor.shape),
            1: ("Int8", tensor.type),
            2: ("Uint32", buffer),
        }
        if len(tensor.scales):
            scales = {2: ("UOffsetTRelative", made.CreateNumpyVector(tensor.scales.astype(np.float32)))}
            zeros = np.full(len(tensor.scales), tensor.zero, np.int64)
            scales[3] = ("UOffsetTRelative", made.CreateNumpyVector(zeros))
            fields[4] = ("UOffsetTRelative", _table(made, scales | {6: ("Int32", tensor.axis)}))
        return _table(made, fields)


def _table(made: Any, fields: Mapping[int, tuple[str, int]]) -> int:
    """A table of fields by their numbers; one that is 0 is left out, as the format reads it so."""
    made.StartObject(max(fields, default=-1) + 1)
    for number, (kind, value) in fields.items():
        getattr(made, f"Prepend{kind}Slot")(number, value, 0)
    found: int = made.EndObject()
    return found


def _numbers(made: Any, numbers: Sequence[int]) -> tuple[str, int]:
    return "UOffsetTRelative", made.CreateNumpyVector(np.array(numbers, np.int32))


def _bytes(made: Any, data: bytes) -> tuple[str, int]:
    """Data that begins at a multiple of 16 bytes, where kernels read it in place."""
    made.StartVector(1, len(data), ALIGNMENT)
    made.head = made.head - len(data)
    made.Bytes[made.head : made.head + len(data)] = data
    return "UOffsetTRelative", made.EndVector()


def _tables(made: Any, offsets: Sequence[int]) -> tuple[str, int]:
    made.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        made.PrependUOffsetTRelative(offset)
    return "UOffsetTRelative", made.EndVector()
