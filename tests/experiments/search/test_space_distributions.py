"""Random networks of several spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.search import space_distributions
from tests.support.tables import rows


def test_space_distributions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space_distributions.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "space_distributions.csv")
    assert [row["space"] for row in found] == ["plain_mobilenet", "mobile_wide", "mobile"]
    assert found[0]["median − plain"] == ""
    assert len(rows(tmp_path / "space_distributions_networks.csv")) == 9
    assert "rexnet_100" in capsys.readouterr().out
    assert (tmp_path / "space_distributions.png").stat().st_size > 10_000
