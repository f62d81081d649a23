"""The driver's work, by the number of trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import scale
from tests.support.tables import rows


@pytest.mark.slow
def test_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scale.main(["--smoke", "--out", str(tmp_path)])
    assert "ms at 40 trials" in capsys.readouterr().out
    assert (tmp_path / "scale.png").stat().st_size > 10_000
    assert [row["trials"] for row in rows(tmp_path / "scale.csv")] == ["20", "40"]
