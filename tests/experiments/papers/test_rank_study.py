"""Ranks of random networks' features."""

from __future__ import annotations

from pathlib import Path

from experiments.papers import rank_study
from tests.support.tables import rows


def test_rank_study(tmp_path: Path) -> None:
    rank_study.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "rank_study.csv")
    assert len(found) == 2 * 4 * 3 * 8  # conditions, panels, ratios, nonlinearities
    assert all(0 < float(row["rank ratio"]) <= 1 for row in found)
    assert {
        row["paper"] for row in found if (row["panel"], row["ratio"], row["nonlinearity"]) == ("a", "0.1", "SiLU")
    } == {"0.958"}
    assert (tmp_path / "rank_study.png").stat().st_size > 10_000


def test_ranks_of_linear_networks_are_their_input_channels() -> None:
    sizes = rank_study.Sizes(20, 20, 1.2, None)
    condition = rank_study.Condition(norm=False, shortcut=False, expansion=(1.0, 3.0))
    for panel in rank_study.PANELS:
        found = rank_study.rank_ratios(panel, 0.3, condition, sizes, seed=0)
        assert found["Linear"] == 0.3, panel
        assert found["SiLU"] >= 0.3, panel
    assert (
        rank_study.rank_ratios("b", 0.3, rank_study.CONDITIONS["literal, maps of 3×3"], sizes, seed=0)["Linear"] == 1.0
    )
