"""Where a nonlinearity stands, and of which kind it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import nonlinearity
from tests.support.tables import rows


def test_nonlinearity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nonlinearity.main(["--smoke", "--out", str(tmp_path)])
    assert "14 trainings" in capsys.readouterr().out
    assert len(rows(tmp_path / "nonlinearity.csv")) == 14
    assert [row["pairs"] for row in rows(tmp_path / "nonlinearity_effects.csv")] == ["4"] * 3
    assert (tmp_path / "nonlinearity.png").stat().st_size > 10_000


def test_the_effect_of_a_place_is_what_it_adds() -> None:
    """In whatever combination: here 0.1 after the 1×1, and 0.02 lost after the addition."""
    added = {"expand_act": 0.1, "spatial_act": 0.0, "add_act": -0.02}
    scores = {
        name: [0.5 + sum(added[place] for place, act in acts.items() if act == "silu") + seed / 100 for seed in (0, 1)]
        for name, acts in nonlinearity.where().items()
    }
    effects = {row["SiLU after"]: row for row in nonlinearity.effects(scores)}
    assert {title: row["effect"] for title, row in effects.items()} == {
        "1×1": "+0.1000",
        "depthwise": "+0.0000",
        "addition": "-0.0200",
    }
    assert effects["1×1"]["p"] == "0.008"  # 2 of 2^8 sign flips are as far from zero
