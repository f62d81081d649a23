"""How fast images come from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import feeding
from nas.training import batches
from tests.support.tables import rows


def test_feeding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = batches.FETCHERS_CPU
    feeding.main(["--smoke", "--out", str(tmp_path)])
    assert before == batches.FETCHERS_CPU
    assert "at 128 px" in capsys.readouterr().out
    assert [int(row["px"]) for row in rows(tmp_path / "feeding.csv")] == [64, 128, 160, 224]
    found = {(row["dataset"], int(row["px"])): row for row in rows(tmp_path / "feeding_sizes.csv")}
    assert found["ImageNet-1k", 128]["GB"] == "63.0"
    assert found["ImageNet-1k", 128]["lies in"] == "a file"
    assert found["ImageNet-100", 128]["lies in"] == "GPU or memory"
    assert not list(tmp_path.glob("nas-feeding-*"))
