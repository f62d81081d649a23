"""Convolutions beside PyTorch's."""

from __future__ import annotations

from pathlib import Path

from experiments.speed import convolutions
from tests.support.tables import rows


def test_convolutions(tmp_path: Path) -> None:
    convolutions.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "convolutions.csv")
    assert [row["what"].split()[0] for row in found] == ["depthwise", "depthwise", "1×1,", "mobile"]
    assert all(float(row["ours ms"]) > 0 for row in found)
    assert (tmp_path / "convolutions.png").stat().st_size > 10_000
