"""What is better after brief training, beside what is better after a longer one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.search import longer
from tests.support.tables import rows


def test_longer(tmp_path: Path) -> None:
    longer.main(["--smoke", "--known", "2", "--out", str(tmp_path)])
    found = rows(tmp_path / "longer.csv")
    assert {row["networks"]: row["n"] for row in found} == {"random": "3", "tried": "2", "all": "6"}
    assert [row["what tells"] for row in found[:3]] == [
        "brief score",
        "longer training, after its first epochs",
        "blocks",
    ]
    networks = rows(tmp_path / "longer_networks.csv")
    assert [row["network"] for row in networks[2:5]] == ["random 2", "rexnet_100", "tried 0"]
    assert len({row["digest"] for row in networks}) == 6
    assert (tmp_path / "longer.png").stat().st_size > 10_000


def test_a_correlation_has_an_interval() -> None:
    numbers = np.arange(20.0)
    assert longer.correlation(numbers, numbers**3) == "+1.00 [+1.00, +1.00]"
    assert longer.correlation(numbers, -numbers).startswith("-1.00 [-1.00, -1.00")
    low, high = map(float, longer.correlation(numbers, np.sin(7 * numbers)).split("[")[1].rstrip("]").split(","))
    assert low < 0 < high
