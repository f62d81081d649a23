"""The recipe and its neighbours."""

from __future__ import annotations

from pathlib import Path

from experiments.search import recipe
from tests.support.tables import rows


def test_recipe(tmp_path: Path) -> None:
    recipe.main(["--smoke", "--out", str(tmp_path)])
    found = {row["recipe"]: row for row in rows(tmp_path / "recipe.csv")}
    assert float(found["as it is"]["difference"]) == 0
    assert set(found) == {"as it is", "rate 0.016"}
    assert (tmp_path / "recipe.png").stat().st_size > 10_000
