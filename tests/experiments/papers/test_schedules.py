"""Schedules of widths at equal cost."""

from __future__ import annotations

from pathlib import Path

from experiments.papers import schedules
from tests.support.tables import rows


def test_schedules(tmp_path: Path) -> None:
    schedules.main(["--smoke", "--out", str(tmp_path)])
    found = {row["network"]: row for row in rows(tmp_path / "schedules.csv")}
    assert len(found) == 8
    assert all(29.4 <= float(row["MMACs"]) <= 30 for row in found.values())
    assert found["linear"]["p"] == ""
    assert 0 < float(found["doubling stages"]["p"]) <= float(found["doubling stages"]["p (Holm)"]) <= 1
    assert (tmp_path / "schedules.png").stat().st_size > 10_000
