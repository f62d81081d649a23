"""How long a search will take: the parts add up, and early stopping saves what it should."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nas import estimate, tuner
from nas.config import Conduct
from nas.estimate import Sample

FOUND = Sample("cpu", slots=2, before_s=1.0, run_s=0.02, epoch_s=5.0)


def test_expected_epochs_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "grace", lambda epochs: 2)
    assert estimate.expected_epochs(8, 2) == 2
    third = 1 + 1 / 2 + 6 / 3  # of eight: the first, in half of all cases the second, a third of the others
    assert estimate.expected_epochs(8, 4) == pytest.approx((8 * 2 + third * 2) / 8)
    assert estimate.expected_epochs(1000, 18) == pytest.approx(2 + 4 / 3 + 12 / 9, abs=0.05)
    assert estimate.expected_epochs(1, 18) == 18


def test_the_parts_add_up_and_the_most_is_more() -> None:
    made = estimate.parts(FOUND, Conduct(trials=16), epochs=4, done=0, read_s=3.0, layers=100)
    assert made["trials"][1] == 16 * (1 + 4 * 5) / 2
    assert made["trials"][0] < made["trials"][1]
    assert made["timing layers"] == (2.0, 2.0)
    text = estimate.sentence(made, FOUND)
    total = sum(expected for expected, _ in made.values())
    assert text.startswith(f"about {timedelta(seconds=round(total))}: reading 0:00:03, timing layers 0:00:02, starting")
    assert "1.0 s to build and audit it, 5.0 s per epoch" in text


def test_what_is_done_and_more_at_once_take_less() -> None:
    whole = estimate.parts(FOUND, Conduct(trials=16), 4, 0, 0.0, 0)
    half = estimate.parts(FOUND, Conduct(trials=16), 4, 8, 0.0, 0)
    wide = estimate.parts(FOUND, Conduct(trials=16, concurrent=4), 4, 0, 0.0, 0)
    for less in (half, wide):
        assert [2 * seconds for seconds in less["trials"]] == pytest.approx(whole["trials"])
    assert estimate.parts(FOUND, Conduct(trials=8), 4, 9, 0.0, 0)["trials"] == (0, 0)
