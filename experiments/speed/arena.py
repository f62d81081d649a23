"""Claim: the memory that an int8 network takes on a microcontroller is known before it is built, within 5 %.

    pip install tflite-micro
    python -m experiments.speed.arena  # five minutes
    python -m experiments.speed.arena --smoke  # half a minute

Random networks of the space `mcu`, of three sizes of images and many budgets, with fresh weights: built, exported to
ONNX, quantised to int8 and written as a TFLite file, which TensorFlow Lite Micro's interpreter then loads and runs on
this machine. Its arena and the file's bytes are compared with what was counted. Its own planner is tried as well, with
the same files without the plan that they bring along.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.progress import track

from experiments import findings
from nas.bundle import micro, onnx_file
from nas.bundle.bundle import disturb
from nas.bundle.int8_file import INT8
from nas.bundle.tflite_file import Converter
from nas.latency.quantisation import quantise
from searchspace import Arch, Space, build, cost
from searchspace.errors import InputError

NETWORKS = 48
IMAGES = 8
PIXELS = (32, 64, 96)
BUDGETS = ("48kB int8", "64kB int8", "128kB int8", "256kB int8")


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes of one network: counted and measured. `own_plan` is the arena with the interpreter's own planner; `same`
    the share of images for which it says the class that onnxruntime says."""

    network: int
    pixels: int
    budget: str
    arena: int
    measured_arena: int
    own_plan: int
    flash: int
    measured_flash: int
    onnx: int
    same: float


def row(number: int) -> Row:
    """The network of that number, counted and measured."""
    rng = random.Random(number)
    pixels, budget = PIXELS[number % len(PIXELS)], rng.choice(BUDGETS)
    space = Space.load("mcu").fix([f"resolution={pixels}", f"in_channels={rng.choice((1, 3))}"])
    arch = space.sample(number, budget, 0.5)
    spent = cost(arch)
    assert spent.int8_arena_bytes is not None, "counted for every network"
    assert spent.int8_flash_bytes is not None, "counted for every network"
    with tempfile.TemporaryDirectory(prefix="arena-") as name:
        folder = Path(name)
        images = quantised(arch, folder, number)
        converter, path = Converter.of(folder / INT8), folder / "planned.tflite"
        path.write_bytes(converter.flat_buffer())
        found = micro.measure(path, images)
        (folder / "plain.tflite").write_bytes(converter.flat_buffer(planned=False))
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / INT8, providers=["CPUExecutionProvider"])
        expected = session.run(None, {"images": images})[0]
        return Row(
            network=number,
            pixels=pixels,
            budget=budget,
            arena=spent.int8_arena_bytes,
            measured_arena=found.arena,
            own_plan=micro.measure(folder / "plain.tflite", images[:1]).arena,
            flash=spent.int8_flash_bytes,
            measured_flash=path.stat().st_size,
            onnx=(folder / INT8).stat().st_size,
            same=float((found.logits.argmax(1) == expected.argmax(1)).mean()),
        )


def quantised(arch: Arch, folder: Path, seed: int) -> Any:
    """Write the network as an int8 ONNX file, with norms that do something; returns images that it may be given."""
    torch.manual_seed(seed)
    images = torch.randn(IMAGES, arch.in_channels, arch.resolution, arch.resolution)
    onnx_file.write(folder / "model.onnx", disturb(build(arch)).eval(), images, "logits")
    found = images.numpy()
    quantise(folder / "model.onnx", folder / INT8, iter([found]))
    return found


def errors(rows: list[Row]) -> list[dict[str, Any]]:
    """Counted less measured, as a share of measured."""
    pairs = {
        "arena": [(one.arena, one.measured_arena) for one in rows],
        "flash": [(one.flash, one.measured_flash) for one in rows],
        "arena, the interpreter's own planner": [(one.arena, one.own_plan) for one in rows],
        "flash, of the ONNX file": [(one.flash, one.onnx) for one in rows],
    }
    found: list[dict[str, Any]] = []
    for what, both in pairs.items():
        off = [(counted - measured) / measured for counted, measured in both]
        found.append(
            {
                "what": what,
                "mean error, %": f"{100 * fmean(map(abs, off)):.2f}",
                "least, %": f"{100 * min(off):+.2f}",
                "most, %": f"{100 * max(off):+.2f}",
                "bytes, least": min(counted - measured for counted, measured in both),
                "bytes, most": max(counted - measured for counted, measured in both),
                "measured is more": sum(one < 0 for one in off),
            }
        )
    return found


def scatter(rows: list[Row]) -> Figure:
    figure = findings.figure(6, 4.5)
    axes = figure.subplots()
    measured = [one.measured_arena / 1000 for one in rows]
    axes.plot([0, max(measured)], [0, max(measured)], color=findings.QUIET, linewidth=1)
    axes.scatter(measured, [one.arena / 1000 for one in rows], color=findings.ACCENT, s=14, label="the file's plan")
    own = [one.own_plan / 1000 for one in rows]
    axes.scatter(own, [one.arena / 1000 for one in rows], color=findings.WARM, s=14, marker="x", label="own planner")
    axes.set_xlabel("kB that TensorFlow Lite Micro takes")
    axes.set_ylabel("kB counted")
    axes.legend(frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "three networks", dataset=False)
    args = parser.parse_args(arguments)
    if not micro.is_there():
        raise InputError("TensorFlow Lite Micro is not here: pip install tflite-micro")
    torch.set_num_threads(1)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    rows = [row(number) for number in track(range(3 if args.smoke else NETWORKS), "networks", console=page.console)]
    page.table("arena", "Bytes counted, and bytes measured", [asdict(one) for one in rows], errors(rows))
    page.say(f"images whose class both int8 files agree on: {100 * fmean(one.same for one in rows):.1f} %")
    page.figure("arena", scatter(rows))
    page.write(n=f"{len(rows)} random networks of mcu")


if __name__ == "__main__":
    findings.run(main)
