"""How long a search will take: the parts add up, and early stopping saves what it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nas.config import Execution
from nas.run import estimate
from nas.run.estimate import Sample
from nas.workers import gpu_sharing

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


def test_where_no_trial_is_stopped_early_all_are_expected_to_last() -> None:
    expected, most = estimate.parts(FOUND, Execution(trials=16, early_stopping=False), 9, 8, 0.0, 0)["trials"]
    assert expected == most


def test_what_is_done_and_more_at_once_take_less() -> None:
    whole = estimate.parts(FOUND, Execution(trials=16), 4, 0, 0.0, 0)
    half = estimate.parts(FOUND, Execution(trials=16), 4, 8, 0.0, 0)  # where enough have ended to stop the others early
    wide = estimate.parts(replace(FOUND, at_once=4, at_full_speed=4), Execution(trials=16), 4, 0, 0.0, 0)
    assert 2 * half["trials"][1] == whole["trials"][1]
    assert 2 * half["trials"][0] < whole["trials"][0]
    assert [2 * seconds for seconds in wide["trials"]] == pytest.approx(whole["trials"])
    assert estimate.parts(FOUND, Execution(trials=8), 4, 9, 0.0, 0)["trials"] == (0, 0)


@pytest.mark.parametrize(
    ("gpus", "daemon", "conduct", "pixels", "found"),
    [
        (1, True, Execution(), 32, ("cuda", 8, 3)),
        (1, False, Execution(), 32, ("cuda", 4, 1)),  # graphs leave nothing for another in turn
        (1, True, Execution(mps=False), 32, ("cuda", 4, 1)),
        (1, False, Execution(cuda_graphs=False), 32, ("cuda", 4, 3)),
        (2, False, Execution(), 128, ("cuda", 4, 2)),
        (2, True, Execution(), None, ("cuda", 2, 2)),
        (1, False, Execution(gpus_per_trial=0.5), 32, ("cuda", 2, 1)),
        (1, True, Execution(device="cpu"), 32, ("cpu", 16, 16)),
        (0, False, Execution(concurrent=3), 32, ("cpu", 3, 3)),
    ],
)
def test_a_dry_run_counts_trials_as_the_search_will_run_them(
    gpus: int,
    daemon: bool,
    conduct: Execution,
    pixels: int | None,
    found: tuple[str, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_sharing, "here", lambda: {"CPU": 16.0, "GPU": float(gpus)})
    monkeypatch.setattr(gpu_sharing, "is_installed", lambda: daemon)
    assert estimate.concurrency(conduct, pixels) == found


def test_what_shares_a_gpu_builds_at_once_but_trains_no_faster() -> None:
    shared = estimate.parts(Sample("cuda", 4, 1, 1.0, 0.02, 5.0), Execution(trials=16), 4, 0, 0.0, 0)
    assert shared["trials"][1] == 16 * (1 / 4 + 4 * 5)
