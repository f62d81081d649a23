"""A network in the formats of runtimes beside ONNX, each by its own converter, and tried in a fresh interpreter.

A converter is imported only where its format is asked for; one line says what to install where it is missing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from searchspace.errors import InputError

SECONDS = 600

TRY = """
import sys
sys.modules.update(dict.fromkeys(("nas", "searchspace")))  # an import of either is an error
import numpy as np
path, given = sys.argv[1], np.load(sys.argv[2])
{load}
expected = given["outputs"]
found = np.concatenate([np.asarray(run(one[None])) for one in given["images"]])
print(float(np.abs(found - expected).max() / np.abs(expected).max()))
"""


@dataclass(frozen=True, slots=True)
class Format:
    """A file's name, with others that it is of; its runtime and what to install; what writes it, and Python that loads
    what is at `path` into `run`, from an image (1, C, H, W) to its output."""

    files: tuple[str, ...]
    runtime: str
    package: str
    write: Callable[[Path, nn.Module, Tensor], None]
    load: str


def write_pt2(path: Path, model: nn.Module, images: Tensor) -> None:
    torch.export.save(_program(model, images), path)


def write_openvino(path: Path, model: nn.Module, images: Tensor) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(_program(model, images)), path, compress_to_fp16=False)


def write_executorch(path: Path, model: nn.Module, images: Tensor) -> None:
    """For one image, by the kernels of XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(model, (images[:1],))
    path.write_bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def _program(model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """The network for any number of images, without the places of this machine that its nodes were traced at."""
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


FORMATS = {
    "pt2": Format(
        ("model.pt2",),
        "torch.export.load",
        "torch",
        write_pt2,
        "import torch\nmodel = torch.export.load(path).module()\n"
        "run = lambda image: model(torch.from_numpy(image)).detach().numpy()",
    ),
    "openvino": Format(
        ("model.xml", "model.bin"),
        "OpenVINO",
        "openvino",
        write_openvino,
        "import openvino\n"
        'model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})\n'
        "run = lambda image: model(image)[0]",
    ),
    "executorch": Format(
        ("model.pte",),
        "ExecuTorch, one image at a time",
        "executorch",
        write_executorch,
        "import torch\nfrom executorch.runtime import Runtime\n"
        'program = Runtime.get().load_program(path)\nmodel = program.load_method("forward")\n'
        "run = lambda image: model.execute([torch.from_numpy(image)])[0].numpy()",
    ),
}
FILES = tuple(file for one in FORMATS.values() for file in one.files)


def require(names: Sequence[str]) -> None:
    """`InputError` that says what to install where a format can be neither written nor tried."""
    for name in names:
        package = FORMATS[name].package
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--format {name} needs {package}: pip install 'cnn-budget-search[{name}]'")


def write(folder: Path, name: str, model: nn.Module, images: Tensor) -> float:
    """Write a network in a format; returns how far what it computes of images in a fresh interpreter is from the
    network's output, as a share of the largest number in it. `RuntimeError` where it cannot be written or run."""
    made = FORMATS[name]
    path = folder / made.files[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.write(path, model, images)
    except Exception as error:  # converters raise errors of many kinds, of operators that they lack
        said = " ".join(str(error).split())[:200]
        raise RuntimeError(f"{path.name} cannot be written: {type(error).__name__}: {said}") from error
    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "given.npz"
        np.savez(given, images=images.numpy(), outputs=model(images).numpy())
        command = [sys.executable, "-I", "-c", TRY.replace("{load}", made.load), str(path), str(given)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"a fresh interpreter has not run {path.name} within {SECONDS} s") from None
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), "it was killed")[:200]
        raise RuntimeError(f"a fresh interpreter cannot run {path.name}: {last}")
    return float(done.stdout.splitlines()[-1])


def describe(names: Sequence[str]) -> tuple[str, ...]:
    """What the card says of the files."""
    return tuple(f"`{'` and `'.join(FORMATS[name].files)}`: for {FORMATS[name].runtime}." for name in names)
