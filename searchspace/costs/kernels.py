"""What of a network has a kernel of its own in a runtime that fuses layers, as onnxruntime does (no torch).

Batch norm becomes part of the convolution before, and so do the simplest activations; what only trains is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

from searchspace.blocks.layers import Activate, Conv, Dropout, DropPath, Flatten, Layer, Normalize, Shape, steps

FUSED = ("none", "relu", "relu6", "leaky_relu", "sigmoid", "hard_sigmoid")  # activations, behind a convolution


def is_fused(before: Layer | None, layer: Layer) -> bool:
    """Whether a layer is computed in the kernel of the last one that has one, or not at all."""
    match layer:
        case Normalize(norm=norm):
            return isinstance(before, Conv) and norm.kind == "batch"
        case Activate(function=function):
            return before is not None and (function == "none" or (isinstance(before, Conv) and function in FUSED))
        case _:
            return before is not None and isinstance(layer, (Dropout, DropPath, Flatten))


def number_kernels(section: Layer, shape: Shape) -> Iterator[tuple[int, Layer, Shape]]:
    """The `layers.steps` of a section, each with its input shape and the number of the kernel that computes it."""
    number, before = -1, None
    for part, at in steps(section, shape):
        if not is_fused(before, part):
            number, before = number + 1, part
        yield number, part, at


def kernels(section: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """The layers of a section that have a kernel of their own, each with its input shape."""
    last = -1
    for number, part, at in number_kernels(section, shape):
        if number > last:
            yield part, at
        last = number
