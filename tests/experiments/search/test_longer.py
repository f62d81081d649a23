"""What is better after brief training, beside what is better after a longer one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.search import longer
from tests.support.tables import rows


def test_longer(tmp_path: Path) -> None:
    longer.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "longer.csv")
    assert [row["what tells"] for row in found] == [
        *("as a search's trials", "a trial whose branches start as all else"),
        *("longer training, its own first epochs", "what the prior expects"),
        "the trial and the prior, in equal parts",
        *("blocks", "parameters", "activations"),
    ]
    assert found[0]["as a search's trials"] == found[4]["as a search's trials"] == ""
    networks = rows(tmp_path / "longer_networks.csv")
    assert [row["network"] for row in networks] == ["random 0", "random 1", "random 2", "rexnet_100"]
    assert len({row["digest"] for row in networks}) == 4
    assert (tmp_path / "longer.png").stat().st_size > 10_000


def test_one_agrees_more_than_the_other() -> None:
    judge = np.arange(20.0)
    worse = np.where(judge < 6, judge, -judge)
    change, low, high = longer.advantage(judge, worse, judge)
    assert 0 < low < change < high
    assert longer.advantage(judge, judge**3, judge) == (0.0, 0.0, 0.0)


def test_a_correlation_has_an_interval() -> None:
    numbers = np.arange(20.0)
    assert longer.correlation(numbers, numbers**3) == "+1.00 [+1.00, +1.00]"
    assert longer.correlation(numbers, -numbers).startswith("-1.00 [-1.00, -1.00")
    low, high = map(float, longer.correlation(numbers, np.sin(7 * numbers)).split("[")[1].rstrip("]").split(","))
    assert low < 0 < high


def test_as_now_has_a_page_of_its_dataset(tmp_path: Path) -> None:
    longer.main(["--smoke", "--as-now", "--times", "2", "--out", str(tmp_path)])
    networks = rows(tmp_path / "longer-digits_networks.csv")
    assert "a trial whose branches start as all else" not in networks[0]
    page = (tmp_path / "longer-digits.md").read_text(encoding="utf-8")
    assert "e times as many activations are worth" in page
    assert "1 against 2 epochs" in page


def test_what_activations_are_worth_is_found_where_it_is_known() -> None:
    rng = np.random.default_rng(0)
    brief, amounts = rng.normal(0.5, 0.03, 40), np.exp(rng.normal(14, 0.4, 40))
    worth, error = longer.worth_of(amounts, brief, 0.7 * brief + 0.03 * np.log(amounts) + rng.normal(0, 0.005, 40))
    assert abs(worth - 0.03) < 3 * error < 0.01
    assert np.isnan(longer.worth_of(amounts[:3], brief[:3], brief[:3])[0])
