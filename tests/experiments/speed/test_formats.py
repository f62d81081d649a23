"""The zoo in every format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.speed import formats
from searchspace import Budget, cost
from tests.support.tables import rows


def test_what_cannot_be_scaled_stays_as_it_is() -> None:
    budget = Budget.parse("100MFLOPs")
    small, large = formats.network("rexnet_100", budget), formats.network("efficientnet_v2_l", budget)
    assert small.resolution == large.resolution == formats.PIXELS
    assert cost(small).params < 4.8e6 < 100e6 < cost(large).params


def test_a_file_that_computes_something_else_does_not_work() -> None:
    row = formats.Row("a", "onnx", 1e-6)
    assert formats.works(row)
    assert not formats.works(formats.Row("a", "onnx", 1e-2))
    assert formats.works(formats.Row("a", "int8", 1e-2))
    assert not formats.works(formats.Row("a", "int8", -1.0, "NotImplementedError"))
    failed = [formats.Row("b", "onnx", 1e-2), *(formats.Row(name, "tflite", -1.0, "no") for name in "bc")]
    assert formats.failures([row, *failed]) == ["onnx, off by more than float32 loses: b", "tflite, no: b, c"]
    (onnx, tflite) = formats.summary([row, *failed])
    assert (onnx["networks"], onnx["work"], onnx["largest difference"]) == (2, 1, "1.0e-02 (b)")
    assert (tflite["networks"], tflite["work"], tflite["run"]) == (2, 0, 0)


def test_the_source_is_compared_with_weights_that_have_an_effect(tmp_path: Path) -> None:
    arch = formats.network("mobilenet_v2", Budget.parse("20MFLOPs"))
    with torch.no_grad():
        model = formats.disturb(formats.build(arch, deployed=True)).eval()
        images = torch.randn(2, 3, formats.PIXELS, formats.PIXELS)
        assert formats.try_source(tmp_path, arch, model, images) < 1e-6


@pytest.mark.slow
def test_formats(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    formats.main(["--smoke", "--out", str(tmp_path)])
    found = {(row["network"], row["format"]): row for row in rows(tmp_path / "formats.csv")}
    for name in ("mobilenet_v2", "rexnet_100"):
        for way in ("model.py", "onnx", "int8", "pt2"):
            row = found[name, way]
            assert not row["error"]
            assert 0 <= float(row["difference"]) < (1 if way == "int8" else formats.CLOSE)
