"""The network that a search names."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.search import winner
from tests.support.tables import rows


@pytest.mark.slow
def test_winner(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    winner.main(["--smoke", "--out", str(tmp_path)])
    (row,) = rows(tmp_path / "winner-digits-8MFLOPs.csv")
    assert float(row["gain"]) == pytest.approx(float(row["trained"]) - float(row["its"]), abs=2e-4)
    assert "printed minus fresh" in capfd.readouterr().out
