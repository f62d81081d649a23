"""Claim: every network of the zoo leaves in every format, and computes there what it does here.

    pip install openvino executorch tflite-micro    # what is not there is left out
    python -m experiments.speed.formats             # an hour of one core; run again to carry on
    python -m experiments.speed.formats --smoke     # a minute: two networks

Every network of the zoo, scaled in width to a budget (where its rounded widths allow that, else as in its paper), at 64
px, with weights of which each has an effect. It is written as plain PyTorch and in every format that `nas.export`
writes, each by the function of the export, and run by the format's own runtime. Beside the number of networks for which
that works stands the largest difference from the network's output, as a share of the largest number in it. Of int8
files, whose numbers are rounded, it is the median over networks; of TFLite files the difference from the int8 file.
Those run with reference kernels, in which a large network takes minutes, so that only those of small networks are run.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from experiments import findings
from experiments.search.headline import scaled
from nas.bundle import formats, micro, onnx_file, tflite_file
from nas.bundle.bundle import disturb
from nas.bundle.int8_file import FLOAT, INT8
from nas.latency.onnx_timing import session
from nas.latency.quantisation import quantise
from searchspace import Arch, Budget, build, zoo
from searchspace.errors import InputError
from searchspace.networks import names
from searchspace.pytorch.source import source

PIXELS, IMAGES = 64, 2
CLOSE = 1e-4  # of the largest number in the output: what float32 loses over so many layers
SMALL = 2_000_000  # parameters of a network that reference kernels run within a minute
ROUNDED = ("int8", "tflite")

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """A network in a format: how far its output is off, -1 where it was only written; or why that cannot be."""

    network: str
    format: str
    difference: float
    error: str = ""


def network(name: str, budget: Budget) -> Arch:
    """A network of the zoo at a budget, or as it is."""
    try:
        arch = scaled(name, budget)
    except InputError:
        arch = zoo(name)
    return replace(arch, resolution=PIXELS)


def off(found: Numbers, expected: Tensor) -> float:
    wanted = expected.numpy()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def run(path: Path, images: Tensor) -> Numbers:
    output: Numbers = session(path, 1).run(None, {"images": images.numpy()})[0]
    return output


def try_source(folder: Path, arch: Arch, model: nn.Module, images: Tensor) -> float:
    """The one file of plain PyTorch, run in a namespace of its own."""
    space: dict[str, Any] = {"__name__": "model"}
    exec(compile(source(arch), "model.py", "exec"), space)
    plain = space["Network"]().eval()
    plain.load_state_dict(model.state_dict())
    return off(plain(images).numpy(), model(images))


def try_onnx(folder: Path, arch: Arch, model: nn.Module, images: Tensor) -> float:
    onnx_file.write(folder / FLOAT, model, images, "logits")
    return off(run(folder / FLOAT, images), model(images))


def try_int8(folder: Path, arch: Arch, model: nn.Module, images: Tensor) -> float:
    quantise(folder / FLOAT, folder / INT8, iter([images.numpy()]))
    return off(run(folder / INT8, images), model(images))


def try_tflite(folder: Path, arch: Arch, model: nn.Module, images: Tensor) -> float:
    path = folder / tflite_file.FILE
    path.write_bytes(tflite_file.Converter.of(folder / INT8).flat_buffer())
    if sum(one.numel() for one in model.parameters()) > SMALL:
        return -1.0
    return off(micro.measure(path, images.numpy()).logits, torch.from_numpy(run(folder / INT8, images)))


def try_other(name: str) -> Callable[[Path, Arch, nn.Module, Tensor], float]:
    return lambda folder, arch, model, images: formats.write(folder, name, model, images)


def ways() -> dict[str, Callable[[Path, Arch, nn.Module, Tensor], float]]:
    """What writes and tries each format whose runtime is here, in an order in which files that need others follow."""
    found = {"model.py": try_source, "onnx": try_onnx, "int8": try_int8}
    if micro.is_there():
        found["tflite"] = try_tflite
    there = [name for name, one in formats.FORMATS.items() if importlib.util.find_spec(one.package)]
    return found | {name: try_other(name) for name in there}


def rows_of(name: str, arch: Arch) -> list[Row]:
    """A network in every format."""
    torch.manual_seed(0)
    images, found = torch.randn(IMAGES, arch.in_channels, PIXELS, PIXELS), []
    with torch.no_grad(), tempfile.TemporaryDirectory(prefix="formats-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = disturb(build(arch, deployed=True)).eval()
        for way, tried in ways().items():
            try:
                found.append(Row(name, way, tried(Path(scratch), arch, model, images)))
            except Exception as error:  # of any kind: a converter's own
                found.append(Row(name, way, -1.0, " ".join(f"{type(error).__name__}: {error}".split())[:160]))
    return found


def works(row: Row) -> bool:
    return not row.error and (row.format in ROUNDED or row.difference <= CLOSE)


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each format."""
    found = []
    for way in dict.fromkeys(row.format for row in rows):
        own = [row for row in rows if row.format == way]
        run = [row for row in own if not row.error and row.difference >= 0]
        worst = max(run, key=lambda row: row.difference, default=None)
        if way in ROUNDED:
            apart = f"median {median(row.difference for row in run):.2g}" if run else ""
        else:
            apart = f"{worst.difference:.1e} ({worst.network})" if worst else ""
        found.append(
            {
                "format": way,
                "networks": len(own),
                "work": sum(map(works, own)),
                "run": len(run),
                "largest difference": apart,
            }
        )
    return found


def failures(rows: Sequence[Row]) -> list[str]:
    """What does not work, and why; networks that have a reason in common in one line."""
    why: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not works(row):
            why.setdefault((row.format, row.error or "off by more than float32 loses"), []).append(row.network)
    return [f"{way}, {error}: {', '.join(own)}" for (way, error), own in why.items()]


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two networks", dataset=False)
    parser.add_argument("--budget", default="100MFLOPs", help="what networks are scaled to (100MFLOPs, at 224 px)")
    args = parser.parse_args(arguments)
    onnx_file.require_onnx()
    torch.set_num_threads(1)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    log, budget = args.out / "formats.jsonl", Budget.parse(args.budget)
    chosen = ["mobilenet_v2", "rexnet_100"] if args.smoke else names()
    known = [Row(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    left = [name for name in chosen if name not in {row.network for row in known}]
    for name in track(left, "networks", console=page.console):
        rows = rows_of(name, network(name, budget))
        with log.open("a") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
        known += rows
    rows = [row for row in known if row.network in chosen]
    page.table("formats", "formats of networks of the zoo", [asdict(row) for row in rows], summary(rows))
    for line in failures(rows):
        page.say(line)
    page.write(n=f"{len(chosen)} networks, {len(ways())} formats")


if __name__ == "__main__":
    findings.run(main)
