"""Networks whose channels alone are free."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import channel_search
from searchspace import Budget, cost
from tests.support.tables import rows


def test_channel_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    channel_search.main(["--smoke", "--out", str(tmp_path)])
    assert "the straight line, 34-39-45-51-57, is number" in capsys.readouterr().out
    assert (tmp_path / "channel_search.png").stat().st_size > 10_000
    found = rows(tmp_path / "channel_search.csv")
    assert [row["group"] for row in found if row["group"]] == ["top", "middle", "bottom"]
    accuracies = [float(row["accuracy"]) for row in found]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize("name", "abcd")
def test_channel_search_keeps_both_bounds(name: str) -> None:
    """And the paper's own networks cost, with the strides that are assumed, what it prints."""
    constraint, budget = channel_search.CONSTRAINTS[name], Budget.parse(channel_search.CONSTRAINTS[name].budget)
    for widths in channel_search.models(constraint, 1 if name == "d" else 2, seed=1):
        spent = cost(channel_search.network(widths, constraint.strided))
        assert list(widths) == sorted(widths)
        assert all(0.97 <= limit.of(spent) / limit.high <= 1 for limit in budget.limits)
    printed = {"a": (30e6, 30e6), "b": (101e6, 97e6), "c": (210e6, 200e6), "d": (351e6, 351e6)}[name]
    for widths, macs in zip((constraint.best, constraint.worst), printed, strict=True):
        assert cost(channel_search.network(widths, constraint.strided)).macs == pytest.approx(macs, rel=0.052)


def test_linearity_of_widths() -> None:
    assert channel_search.linearity((10, 20, 30, 40)) == pytest.approx(1)
    assert channel_search.linearity((10, 10, 10, 40)) == pytest.approx(0.6)
    assert channel_search.first_half((10, 20, 30)) == pytest.approx(20 / 60)
