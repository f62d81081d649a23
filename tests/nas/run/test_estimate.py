"""How long a search will take: the parts add up, and early stopping saves what it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nas.config import Execution
from nas.run import estimate
from nas.run.estimate import Sample

FOUND = Sample("cpu", at_once=2, at_full_speed=2, before_s=1.0, run_s=0.02, epoch_s=5.0)


def test_the_parts_add_up_and_the_most_is_more() -> None:
    made = estimate.parts(FOUND, Execution(trials=16), epochs=4, done=0, read_s=3.0, layers=100)
    assert made["trials"][1] == 16 * (1 + 4 * 5) / 2
    assert made["trials"][0] < made["trials"][1]
    assert made["timing layers"] == (2.0, 2.0)
    text = estimate.sentence(made, FOUND)
    total = sum(expected for expected, _ in made.values())
    assert text.startswith(f"about {timedelta(seconds=round(total))}: reading 0:00:03, timing layers 0:00:02, starting")
    assert "1.0 s to build and audit it, 5.0 s per epoch" in text


def test_what_is_done_and_more_at_once_take_less() -> None:
    whole = estimate.parts(FOUND, Execution(trials=16), 4, 0, 0.0, 0)
    half = estimate.parts(FOUND, Execution(trials=16), 4, 8, 0.0, 0)  # where enough have ended to stop the others early
    wide = estimate.parts(replace(FOUND, at_once=4, at_full_speed=4), Execution(trials=16), 4, 0, 0.0, 0)
    assert 2 * half["trials"][1] == whole["trials"][1]
    assert 2 * half["trials"][0] < whole["trials"][0]
    assert [2 * seconds for seconds in wide["trials"]] == pytest.approx(whole["trials"])
    assert estimate.parts(FOUND, Execution(trials=8), 4, 9, 0.0, 0)["trials"] == (0, 0)
