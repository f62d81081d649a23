"""What changes of a textbook network add, told from a design in which each is in half of the networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.search import changes
from searchspace import Budget, Space, cost
from tests.support.tables import rows


def test_changes(tmp_path: Path) -> None:
    changes.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "changes-digits.csv")
    assert sorted(row["change"] for row in found) == sorted(changes.CHANGES)
    assert [float(row["effect"]) for row in found] == sorted((float(row["effect"]) for row in found), reverse=True)
    networks = rows(tmp_path / "changes-digits-networks.csv")
    assert networks[0]["network"] == "rexnet_100"
    assert len({row["digest"] for row in networks}) == 16
    assert (tmp_path / "changes.md").exists()
    assert (tmp_path / "changes-digits.png").stat().st_size > 10_000


def test_every_change_is_told_apart_from_all_others() -> None:
    design = changes.design()
    assert design.shape == (32, 15)
    assert not design[0].any()
    signs = np.where(design, 1, -1)
    assert (signs.T @ signs == 32 * np.eye(15)).all()
    assert (signs.sum(0) == 0).all()
    pairs = np.array([signs[:, one] * signs[:, other] for one in range(15) for other in range(one)])
    assert (pairs @ signs == 0).all()  # nor do two changes together look like a third


def test_an_effect_is_what_a_change_adds() -> None:
    design, rng = changes.design(), np.random.default_rng(0)
    real = np.linspace(-0.02, 0.02, 15)
    found = changes.effects(design, 0.7 + design @ real + rng.normal(0, 0.001, 32))
    assert max(abs(one - added) for (one, _), added in zip(found, real, strict=True)) < 0.002
    assert sum(abs(one - added) <= half for (one, half), added in zip(found, real, strict=True)) >= 11
    assert all(np.isnan(half) for _, half in changes.effects(design[:4], np.arange(4.0)))


def test_every_network_keeps_the_budget() -> None:
    space, budget, design = Space.load("mobile"), Budget.parse("30MFLOPs"), changes.design()
    chosen = changes.networks(space, budget, design)
    assert all(0.97 * 30e6 <= cost(candidate.arch).macs <= 30e6 for candidate in chosen.values())
    made = [dict(zip(changes.CHANGES, row, strict=True)) for row in design]
    wrong = [changes.misfits(space, one, row) for one, row in zip(chosen.values(), made, strict=True)]
    assert wrong[0] == 0
    assert np.median(wrong) <= 1


def test_a_budget_that_the_textbook_network_cannot_meet() -> None:
    with pytest.raises(changes.InputError, match="rexnet_100 cannot be scaled to it"):
        changes.networks(Space.load("mobile"), Budget.parse("1MFLOPs"), changes.design())
