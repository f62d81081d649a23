"""From ResNet-50 to ConvNeXt-T."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import roadmap
from tests.support.tables import rows


def test_roadmap(tmp_path: Path) -> None:
    roadmap.main(["--smoke", "--out", str(tmp_path)])
    costs = rows(tmp_path / "roadmap_costs.csv")
    assert len(costs) == 16
    assert all(abs(float(row["difference"])) < 0.06 for row in costs)
    first, last = rows(tmp_path / "roadmap.csv")
    assert (first["step"], last["step"]) == ("resnet50", "separate downsampling")
    assert float(last["change"]) == pytest.approx(float(last["accuracy"]) - float(first["accuracy"]))
    assert (tmp_path / "roadmap.png").stat().st_size > 10_000
