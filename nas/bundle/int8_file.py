"""`model.int8.onnx`: a trained network in 8-bit numbers, quantised after training, with its scores beside float's.

Training images give the ranges of its maps. Nothing of this machine is in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.bundle.card import TrainingRecord
from nas.bundle.onnx_file import strip
from nas.data.decoding import Images, part
from nas.data.labelled import Labels
from nas.latency.quantisation import quantise
from nas.metric import DEFAULT_METRIC
from searchspace.errors import InputError

FLOAT, INT8 = "model.onnx", "model.int8.onnx"
BATCH = 32
SEED = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Training images (N, C, H, W) that give the maps their ranges; and by name (validation, test) those that both
    files are scored on."""

    images: Images
    scored: tuple[tuple[str, Images, Labels], ...] = ()

    @classmethod
    def of(cls, images: Images, number: int, scored: tuple[tuple[str, Images, Labels], ...] = ()) -> Calibration:
        """A random part of the training images, always the same; all of them where there are fewer."""
        rows = np.random.default_rng(SEED).permutation(len(images))[:number]
        return cls(part(images, np.sort(rows)), scored)


@dataclass(frozen=True, slots=True)
class Compared:
    """The two files beside each other: on how many images ranges were measured, the share of right answers of each
    (float, int8) by the name of the images and their number, and the bytes of each."""

    calibrated_on: int
    right: tuple[tuple[str, int, float, float], ...]
    sizes: tuple[int, int]


def write(folder: Path, trained: TrainingRecord, calibration: Calibration) -> None:
    """Quantise a folder's `model.onnx`; `InputError` where there is no image to calibrate on."""
    from onnx import load

    if not len(calibration.images):
        raise InputError("int8: no training image is there to calibrate on")
    quantise(folder / FLOAT, folder / INT8, batches(calibration.images, trained))
    proto = load(str(folder / INT8))
    strip(proto)
    (folder / INT8).write_bytes(proto.SerializeToString(deterministic=True))


def batches(images: Images, trained: TrainingRecord) -> Iterator[NDArray[np.float32]]:
    """Images as the network takes them: normalised as in training, a few at a time."""
    mean, std = (np.array(given, np.float32).reshape(1, -1, 1, 1) for given in (trained.mean, trained.std))
    for first in range(0, len(images), BATCH):
        yield (images[first : first + BATCH].astype(np.float32) - mean) / std


def compare(folder: Path, trained: TrainingRecord, calibration: Calibration) -> Compared:
    """How a folder's two files do, both with onnxruntime."""
    found = []
    for name, images, labels in calibration.scored:
        shares = [float((answers(folder / file, images, trained) == labels).mean()) for file in (FLOAT, INT8)]
        found.append((name, len(labels), shares[0], shares[1]))
    sizes = (folder / FLOAT).stat().st_size, (folder / INT8).stat().st_size
    return Compared(len(calibration.images), tuple(found), sizes)


def answers(path: Path, images: Images, trained: TrainingRecord) -> NDArray[np.int64]:
    """The class that a file takes each image for."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = (session.run(None, {"images": batch})[0] for batch in batches(images, trained))
    return np.concatenate([batch.argmax(1) for batch in logits])


def section(found: Compared, milliseconds: Mapping[str, float]) -> tuple[str, ...]:
    """What the card says of the file: how it was made, and a table beside float's."""
    rows = [["", f"`{FLOAT}`", f"`{INT8}`"], ["---", "---:", "---:"]]
    rows += [
        [f"{name} {DEFAULT_METRIC.words} ({number:,} images)", f"{float32:.4f}", f"{int8:.4f}"]
        for name, number, float32, int8 in found.right
    ]
    rows += [["bytes", *(f"{size:,}" for size in found.sizes)]]
    rows += [["ms of one image, one thread", *(f"{milliseconds[file]:.3g}" for file in (FLOAT, INT8))]]
    return (
        f"`{INT8}` is `{FLOAT}` quantised after training by onnxruntime: int8 weights with a scale per output channel, "
        f"uint8 maps, whose ranges {found.calibrated_on:,} training images gave. Both were scored with onnxruntime.",
        "\n".join(f"| {' | '.join(row)} |" for row in rows),
    )


def sentences(found: Compared, milliseconds: Mapping[str, float]) -> list[str]:
    """The same for a terminal."""
    scores = [
        f"{name} {DEFAULT_METRIC.words} {int8:.4f} (float {float32:.4f}, {100 * (int8 - float32):+.1f} points) on "
        f"{number:,} images"
        for name, number, float32, int8 in found.right
    ]
    (whole, quarter), (float32, int8) = found.sizes, (milliseconds[file] for file in (FLOAT, INT8))
    return [
        f"{INT8}, calibrated on {found.calibrated_on:,} training images: {'; '.join(scores)}",
        f"{INT8}: {quarter / 1000:,.0f} kB (float {whole / 1000:,.0f}); one image with onnxruntime on one thread "
        f"{int8:.3g} ms (float {float32:.3g})",
    ]
