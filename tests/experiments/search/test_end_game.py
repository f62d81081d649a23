"""Replicates, and what is returned."""

from __future__ import annotations

from pathlib import Path

from experiments.search import end_game
from tests.support.tables import rows


def test_end_game(tmp_path: Path) -> None:
    end_game.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "end_game.csv")
    assert len(found) == 4 * len(end_game.RETURNED)
    regret = {row["returned"]: float(row["regret@50"]) for row in found if row["budget"] == "all"}
    assert regret["best network tried"] <= min(regret[end_game.SCORE], regret[end_game.EXPECTED])
    end_game.main(["--smoke", "--out", str(tmp_path)])  # from its log
    assert rows(tmp_path / "end_game.csv") == found
    assert (tmp_path / "end_game.png").stat().st_size > 10_000
