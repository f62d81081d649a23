"""Where a search's time goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import efficiency
from tests.support.tables import rows


@pytest.mark.slow
def test_efficiency(tmp_path: Path) -> None:
    efficiency.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "efficiency.csv")
    of_search = [float(row["share"].split()[0]) for row in found if row["what"].startswith("search, 2 trials")]
    assert len(of_search) == 3
    assert sum(of_search) == pytest.approx(100, abs=0.2)
    assert found[-1]["part"] == "after 10 trials"
    assert (tmp_path / "efficiency.png").stat().st_size > 10_000
