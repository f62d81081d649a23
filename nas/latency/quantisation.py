"""Static quantisation to 8 bits of an ONNX file by onnxruntime's own tools.

Weights become int8 with a scale per output channel, maps uint8 with ranges that batches of images give: onnxruntime's
kernels of x86 take uint8 maps, and leave a convolution with int8 maps in float where its output is read twice, as SiLU
does. Batch norm is folded into the convolutions before.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantise(path: Path, out: Path, batches: Iterator[NDArray[np.float32]]) -> None:
    """Write a network, whose input is `images`, in 8-bit numbers."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="int8-") as scratch, _quiet():
        folded = Path(scratch) / "folded.onnx"
        quant_pre_process(str(path), str(folded))
        quantize_static(
            str(folded),
            str(out),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


class _Reader:
    """Batches as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterator[NDArray[np.float32]]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tools' advice, which has been taken."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
