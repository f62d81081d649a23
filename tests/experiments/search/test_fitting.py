"""Proposals within budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.search import fitting
from tests.support.tables import rows


def test_fitting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitting.main(["--smoke", "--out", str(tmp_path)])
    assert "rexnet.yaml: at 102 % of the smallest network" in capsys.readouterr().out
    assert (tmp_path / "fitting.png").stat().st_size > 10_000
    assert all(row["inside"] == row["proposals"] for row in rows(tmp_path / "fitting.csv"))
