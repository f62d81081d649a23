"""The report's progress beside random networks, and ReXNet's figure of channels over depth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas.analysis.channels import FEWEST, channel_profile
from nas.analysis.comparison import progress
from nas.trial import TrialRecord
from nas.views import figures
from tests.support.records import record


def outcome(number: int, role: str, accuracy: float, channels: list[int], epochs: int = 2) -> TrialRecord:
    arch = json.dumps({"blocks": [{"out_channels": width} for width in channels]})
    curve = dict.fromkeys(range(1, epochs + 1), accuracy)
    return record(number, score=accuracy, curve=curve, role=role, arch_text=arch, baseline="r")


def test_progress_is_the_best_so_far_over_the_best_of_as_many_random_networks() -> None:
    control = [0.1, 0.4, 0.2, 0.3]
    trials = [outcome(n, "control", accuracy, [8]) for n, accuracy in enumerate(control)]
    trials += [outcome(9, "baseline", 0.35, [8])]
    trials += [outcome(10 + n, "search", accuracy, [8]) for n, accuracy in enumerate([0.2, 0.5, 0.4])]
    trials += [
        record(20, "failed", None),
        record(21, "running", 0.9),
    ]
    trials[0] = record(0, "pruned", 0.1, role="control")
    found = progress(trials)
    assert found is not None
    assert found.epochs == 1
    assert found.search == pytest.approx([0.2, 0.5, 0.5, 0.5])
    assert found.control == pytest.approx([0.25, 1 / 3, 0.375, 0.4])
    assert found.known == {"r": 0.35}
    drawn = np.random.default_rng(0).choice(control, (20_000, 3)).max(1)
    assert np.mean(drawn <= found.low[2]) >= 0.05
    assert np.mean(drawn < found.low[2]) <= 0.06
    assert (found.low[0], found.high[0]) == (0.1, 0.4)
    assert "Search and random control" in figures.svg(figures.progress(found))


def test_nothing_to_show_without_a_control() -> None:
    assert progress([outcome(0, "search", 0.5, [8])]) is None
    assert progress([]) is None


def ramps(depths: list[int]) -> list[TrialRecord]:
    """Networks that are the better the more they widen."""
    return [
        outcome(n, "search", n / 100, [10 + round(n * i / (depth - 1)) for i in range(depth)], 1)
        for n, depth in enumerate(depths)
    ]


def test_channels_of_the_best_middle_and_worst_tenth() -> None:
    found = channel_profile(ramps([6] * 60))
    assert [group.name for group in found.groups] == ["top 10 %", "50 to 60 %", "bottom 10 %"]
    assert [group.networks for group in found.groups] == [6, 6, 6]
    assert found.equal_depth
    best, middle, worst = found.groups
    assert best.positions.tolist() == [1, 2, 3, 4, 5, 6]
    assert (best.channels[0], best.channels[-1]) == (10, 10 + np.mean(range(54, 60)))
    assert middle.channels[-1] == 10 + np.mean(range(24, 30))
    assert worst.channels[-1] == 10 + np.mean(range(6))
    assert best.deviation[-1] == pytest.approx(np.std(range(54, 60), ddof=1))
    assert "top 10 %" in figures.svg(figures.channels(found))


def test_networks_of_different_depth_are_laid_over_each_other() -> None:
    found = channel_profile(ramps([5, 9] * 30))
    assert not found.equal_depth
    assert (found.groups[0].positions[0], found.groups[0].positions[-1]) == (0, 1)
    assert found.groups[0].channels[-1] == pytest.approx(10 + np.mean(range(54, 60)))
    middle = len(found.groups[0].positions) // 2
    assert found.groups[0].channels[middle] == pytest.approx(10 + np.mean(range(54, 60)) / 2, abs=0.5)


def test_few_networks_say_nothing() -> None:
    found = channel_profile(ramps([6] * (FEWEST - 1)))
    assert not found.groups
    assert found.sentence == f"Too few networks to say ({FEWEST - 1} of the {FEWEST} that it takes)."
