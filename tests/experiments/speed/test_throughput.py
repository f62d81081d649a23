"""Images a second of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import throughput
from tests.support.oracle import library
from tests.support.tables import rows


def test_torchvision_is_helped_beside_a_cpu_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.library.Library", lambda *names: pytest.fail("declared twice beside CUDA"))
    throughput.allow_torchvision()


@pytest.mark.slow
def test_throughput(tmp_path: Path) -> None:
    library("timm")
    throughput.main(["--smoke", "--out", str(tmp_path)])
    assert all(float(row["images_per_s"]) > 0 for row in rows(tmp_path / "throughput.csv"))
    assert len(rows(tmp_path / "throughput.csv")) >= 4
    assert (tmp_path / "throughput.png").stat().st_size > 10_000
