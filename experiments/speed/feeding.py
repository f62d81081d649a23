"""Claim: images that lie in a file feed a GPU with 20,000 images a second at 128 px, on ImageNet's sizes too.

    python -m experiments.speed.feeding  # a few minutes; needs 7 GB of disk, and memory to hold one file
    python -m experiments.speed.feeding --smoke  # seconds, small files

Decoded images that do not fit in memory lie in one file, from which the batches that come next are fetched by threads
while a network trains on this one. Here generated files of one size are read in a random order, in batches of 64 and
with nothing trained beside: how many images a second come, once the file is in the operating system's memory, with one
thread as on a CPU and with two as beside a GPU. Copying from there to the GPU is not part of it. What ImageNet takes
at these sizes is worked out beside it: the bytes of a pixel are three, nothing is compressed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.progress import track

from experiments import findings
from nas.data.decoding import MEMORY_LIMIT_BYTES, Mapped
from nas.training import batches
from nas.training.batches import RESIDENT_SHARE, BatchLoader

DATASETS = {"ImageNet-100": 126_689, "ImageNet-1k": 1_281_167}  # training images
SIDES, BATCH, ROUNDS = (64, 128, 160, 224), 64, 5
FILE_BYTES, GPU_BYTES = 3_000_000_000, 80_000_000_000
WANTED, AT = 20_000, 128


def generated(folder: Path, side: int, size: int) -> Mapped:
    """A file of so many bytes with images of noise, part by part."""
    number = max(BATCH * 4, size // (3 * side * side))
    path = folder / f"{side}.npy"
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (number, 3, side, side))
    draw = np.random.default_rng(side)
    for first in range(0, number, 4096):
        part = file[first : first + 4096]
        part[:] = draw.integers(0, 256, part.shape, np.uint8)
    file.flush()
    return Mapped(path)


def fed(images: Mapped, threads: int, seed: int, most: int) -> float:
    """Images a second, in a random order."""
    batches.FETCHERS_CPU = threads  # a loader beside a GPU would pin what it has fetched, which needs one
    loader = BatchLoader(images, "cpu")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:most]
    start, total = time.perf_counter(), 0
    for _, batch in loader.batches(order, BATCH):
        total += len(batch)
    return total / (time.perf_counter() - start)


def measured(folder: Path, side: int, size: int, rounds: int) -> dict[str, Any]:
    """One thread and two take turns; the first time all of the file is read, it comes into memory."""
    images, found = generated(folder, side, size), {1: list[float](), 2: list[float]()}
    fed(images, 1, 0, len(images))
    for number in range(rounds):
        for threads, speeds in found.items():
            speeds.append(fed(images, threads, number, 20_000))
    images.path.unlink()
    return {
        "px": side,
        "kB an image": f"{3 * side * side / 1e3:.1f}",
        "images in the file": f"{len(images):,}",
        "images/s, 1 thread": f"{median(found[1]):,.0f}",
        "images/s, 2 threads": f"{median(found[2]):,.0f}",
        "GB/s, 2 threads": f"{median(found[2]) * 3 * side * side / 1e9:.2f}",
    }


def on_paper(name: str, number: int, side: int) -> dict[str, Any]:
    size = number * 3 * side * side
    places = []
    if size <= RESIDENT_SHARE * GPU_BYTES:
        places.append("GPU")
    if size <= MEMORY_LIMIT_BYTES:
        places.append("memory")
    return {
        "dataset": name,
        "px": side,
        "GB": f"{size / 1e9:.1f}",
        "lies in": " or ".join(places) or "a file",
        f"s an epoch at {WANTED:,} images/s": f"{number / WANTED:.0f}",
    }


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "files of 20 MB, one round", dataset=False)
    args = parser.parse_args(arguments)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    size, rounds = (20_000_000, 1) if args.smoke else (FILE_BYTES, ROUNDS)
    torch.set_num_threads(1)
    before = batches.FETCHERS_CPU
    try:
        with tempfile.TemporaryDirectory(prefix="nas-feeding-", dir=args.out) as folder:
            rows = [
                measured(Path(folder), side, size, rounds)
                for side in track(SIDES, "reading generated files", console=page.console)
            ]
    finally:
        batches.FETCHERS_CPU = before
    page.table("feeding", f"Files of {size / 1e9:g} GB, in batches of {BATCH}: medians of {rounds}", rows)
    paper = [on_paper(name, number, side) for name, number in DATASETS.items() for side in SIDES]
    gpu = f"a GPU of {GPU_BYTES / 1e9:g} GB that a trial has to itself"
    page.table("feeding_sizes", f"On paper; {gpu}, at most {MEMORY_LIMIT_BYTES / 1e9:g} GB in memory", paper)
    (row,) = (row for row in rows if row["px"] == AT)
    reached = float(row["images/s, 2 threads"].replace(",", ""))
    page.say(f"at {AT} px {reached:,.0f} images a second with 2 threads: {reached / WANTED:.1f} times {WANTED:,}")
    page.write(n=f"{rounds} rounds of 20,000 images at each of {len(SIDES)} sizes")


if __name__ == "__main__":
    findings.run(main)
