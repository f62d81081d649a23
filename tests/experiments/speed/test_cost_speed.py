"""The speed of costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import cost_speed
from tests.support.tables import rows


@pytest.mark.slow
def test_cost_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost_speed.main(["--smoke", "--out", str(tmp_path)])
    assert "pre-flight of mobile over 1,000 random points" in capsys.readouterr().out
    assert (tmp_path / "cost_speed.png").stat().st_size > 10_000
    found = {row["what"]: row for row in rows(tmp_path / "cost_speed.csv")}
    assert found["build + fvcore"]["counts"] == found["build + torch's counter, meta"]["counts"] == "exact"
