"""The memory of a microcontroller, counted and measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import arena
from nas.bundle import micro
from tests.support.tables import rows


@pytest.mark.slow
def test_arena(tmp_path: Path) -> None:
    pytest.importorskip(micro.PACKAGE)
    arena.main(["--smoke", "--out", str(tmp_path)])
    for row in rows(tmp_path / "arena.csv"):
        assert 0.95 <= float(row["measured_arena"]) / float(row["arena"]) <= 1
        assert 0 <= float(row["flash"]) - float(row["measured_flash"]) <= 1500
    assert (tmp_path / "arena.png").stat().st_size > 10_000
