"""ReXNet's two blocks, changed one thing after another."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import factor_analysis
from searchspace import cost
from tests.support.tables import rows


def test_factor_analysis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factor_analysis.main(["--smoke", "--out", str(tmp_path)])
    assert "8 trainings" in capsys.readouterr().out
    assert (tmp_path / "factor_analysis.png").stat().st_size > 10_000
    found = rows(tmp_path / "factor_analysis.csv")
    assert [row["n"] for row in found] == ["2"] * 4
    assert all(0 < float(row["share"]) <= 1 <= float(row["directions"]) <= 512 for row in found)


def test_the_two_blocks_cost_what_the_paper_says() -> None:
    for row in factor_analysis.ROWS.values():
        arch = factor_analysis.two_blocks(row, factor_analysis.matched(row))
        assert cost(arch).macs == pytest.approx(row.macs, rel=0.005)
        for block in arch.blocks:
            assert block.hidden == row.expansion * block.in_channels
            assert block.in_channels / block.out_channels == pytest.approx(row.ratio, rel=0.02)
