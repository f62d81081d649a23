"""Brief training beside long."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.search import proxy_rank
from tests.support.tables import rows


@pytest.mark.slow
def test_proxy_rank(tmp_path: Path) -> None:
    proxy_rank.main(["--smoke", "--out", str(tmp_path)])
    assert len(rows(tmp_path / "proxy_rank.csv")) == 3
    found = {row["what"]: row for row in rows(tmp_path / "proxy_rank_correlations.csv")}
    assert {"1 epoch", "ceiling: 2 epochs, one seed against another", "synflow", "params"} <= found.keys()
    assert all(-1 <= float(row["spearman"]) <= 1 for row in found.values())
    assert (tmp_path / "proxy_rank.png").stat().st_size > 10_000
