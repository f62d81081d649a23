"""An int8 TFLite file tried with TensorFlow Lite Micro on this machine: the arena that it takes, and what it computes.

Its interpreter runs the reference kernels here, which compute what those of microcontrollers do. It writes what it
allocates to standard error, so it has a process of its own.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searchspace.errors import InputError

PACKAGE = "tflite_micro"
SECONDS = 600
PART = re.compile(r"Arena allocation (head|tail) (\d+) bytes")
RUN = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
network, given = runtime.Interpreter.from_file(sys.argv[1]), np.load(sys.argv[2])
network.print_allocations()
scale, zero = (network.get_input_details(0)["quantization_parameters"][name][0] for name in ("scales", "zero_points"))
found = []
for image in given["images"]:
    numbers = np.clip(np.round(image / scale) + zero, -128, 127).astype(np.int8)
    network.set_input(numbers[:, ::-1, ::-1].transpose(1, 2, 0)[None], 0)
    network.invoke()
    found.append(network.get_output(0)[0])
scale, zero = (network.get_output_details(0)["quantization_parameters"][name][0] for name in ("scales", "zero_points"))
np.save(sys.argv[3], scale * (np.array(found).astype(np.float32) - zero))
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """The bytes of the arena that hold maps, and those that hold the interpreter's own records; and the logits."""

    maps: int
    records: int
    logits: NDArray[np.float32]

    @property
    def arena(self) -> int:
        return self.maps + self.records


def is_there() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def measure(path: Path, images: NDArray[np.float32]) -> Measured:
    """Run a file for images (N, C, H, W) as the float network takes them; `InputError` where the package is missing,
    `RuntimeError` where it cannot be run."""
    if not is_there():
        raise InputError("TensorFlow Lite Micro is not here: pip install tflite-micro")
    with tempfile.TemporaryDirectory(prefix="micro-") as scratch:
        given, out = Path(scratch) / "images.npz", Path(scratch) / "logits.npy"
        np.savez(given, images=images)
        command = [sys.executable, "-c", RUN, str(path), str(given), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            last = next(iter(reversed(done.stderr.strip().splitlines())), "it was killed")[:200]
            raise RuntimeError(f"TensorFlow Lite Micro cannot run {path.name}: {last}")
        parts = {name: int(size) for name, size in PART.findall(done.stdout + done.stderr)}
        return Measured(parts["head"], parts["tail"], np.load(out))
