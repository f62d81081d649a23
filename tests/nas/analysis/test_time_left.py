"""The time left, on a simulated clock: from the first epoch on it is never three times too much or too little."""

from __future__ import annotations

import random

import pytest

from nas.analysis.time_left import TimeLeft
from nas.study.early_stopping import EarlyStopping


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def carried_out(
    total: int, epochs: int, slots: int, earlier: int = 0, chance: float = 0.5, seed: int = 0
) -> list[tuple[float, float]]:
    """(seconds left as estimated, seconds left indeed) after every epoch of a run of which some trials are stopped."""
    rng, clock = random.Random(seed), Clock()
    rule = EarlyStopping(epochs)
    ends = [epochs] * 6 + [rule.rung if rng.random() < chance else epochs for _ in range(earlier - 6)]
    pace = TimeLeft(total, epochs, ends[:earlier], clock)
    running: dict[int, list[float]] = {}  # trial: seconds an epoch takes, its epochs, its start, its next end
    told: list[tuple[float, float]] = []
    started, ended = earlier, earlier
    while ended < total:
        while len(running) < slots and started < total:
            each = rng.uniform(5, 20)
            running[started] = [each, 0, clock.now, clock.now + each + 2]
            pace.started(started)
            started += 1
        trial = min(running, key=lambda n: running[n][3])
        each, done, begun, clock.now = running[trial]
        pace.epoch(trial, int(done) + 1, clock.now - begun)
        running[trial] = [each, done + 1, begun, clock.now + each]
        stop = done + 1 == rule.rung and ended >= 6 and rng.random() < chance
        if done + 1 == epochs or stop:
            pace.ended(trial)
            del running[trial]
            ended += 1
        left = pace.seconds_left()
        assert left is not None
        told.append((left, clock.now))
    return [(left, clock.now - at) for left, at in told]


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize(("total", "epochs", "earlier"), [(16, 6, 0), (48, 4, 0), (16, 3, 0), (200, 12, 100)])
@pytest.mark.parametrize("chance", [0.3, 0.7])
def test_the_time_left_is_about_right_from_the_first_epoch_on(
    total: int, epochs: int, earlier: int, slots: int, chance: float
) -> None:
    pairs = carried_out(total, epochs, slots, earlier, chance)
    most = pairs[0][1]
    for left, indeed in pairs:
        assert left < 2.5 * indeed + 0.1 * most
        assert left > indeed / 2.5 - 0.1 * most
    assert pairs[-1][0] == 0


def test_before_the_first_epoch_nothing_is_said_and_between_epochs_it_counts_down() -> None:
    clock = Clock()
    pace = TimeLeft(2, 3, clock=clock)
    assert pace.seconds_left() is None
    pace.started(0)
    clock.now += 5
    assert pace.seconds_left() is None
    pace.epoch(0, 1, 5.0)
    assert pace.seconds_left() == 5 * 5.0
    clock.now += 3
    assert pace.seconds_left() == 5 * 5.0 - 3
    pace.epoch(0, 2, 10.0)
    pace.started(1)
    assert pace.seconds_left() == pytest.approx(3 * 5.0), "two at once: until the second ends"


def test_the_share_grows_with_epochs_and_ends_at_one() -> None:
    pace = TimeLeft(2, 4)
    assert pace.share() == 0
    pace.started(0)
    pace.epoch(0, 1, 1.0)
    assert pace.share() == 1 / 8
    pace.epoch(0, 4, 4.0)
    pace.ended(0)
    assert pace.share() == 0.5
    pace.started(1)
    pace.epoch(1, 2, 2.0)
    pace.ended(1, counts=False)
    assert pace.share() == 0.5, "what was interrupted begins again"
    pace.started(2)
    pace.epoch(2, 4, 4.0)
    pace.ended(2)
    assert pace.share() == 1
    assert pace.seconds_left() == 0


def test_trials_that_take_no_measured_time_divide_nothing_by_zero() -> None:
    pace = TimeLeft(3, 1)
    pace.ended(7)
    pace.started(8)
    pace.epoch(8, 1, 0.0)
    pace.ended(8)
    assert pace.seconds_left() is not None
    assert TimeLeft(0, 1).share() == 0
