"""The rule by which trials are stopped early: its rung, its patience, what its margin is worth. No Ray, no study."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from nas.metric import DEFAULT_METRIC
from nas.study.early_stopping import FEWEST_SCORES, EarlyStopping


@pytest.mark.parametrize(
    ("epochs", "rung"), [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (6, 2), (7, 3), (9, 3), (12, 4), (30, 10), (100, 34)]
)
def test_trials_are_compared_after_a_third_of_their_epochs_but_never_after_one(epochs: int, rung: int) -> None:
    assert EarlyStopping(epochs).rung == rung


def of(images: int) -> Callable[[float], float]:
    """The standard error of an accuracy on so many images."""
    return lambda accuracy: DEFAULT_METRIC.standard_error(accuracy, images)


def test_a_handful_of_scores_decides_nothing() -> None:
    rule = EarlyStopping(6)
    for count in range(FEWEST_SCORES):
        assert not rule.behind(0.1, [0.9] * count, of(400))
    assert rule.behind(0.1, [0.9] * FEWEST_SCORES, of(400))


def test_seven_images_of_four_hundred_stop_nobody() -> None:
    """0.1675 beside 0.1850, of 400 images each: luck of the draw."""
    rule = EarlyStopping(4)
    assert not rule.behind(0.1675, [0.1850] * 20, of(400))
    assert rule.behind(0.1675, [0.1850] * 20, of(40_000))
    assert rule.behind(0.1850 - 0.03, [0.1850] * 20, of(400))


def test_only_who_may_be_among_the_best_third_goes_on() -> None:
    others = [index / 100 for index in range(31, 91)]
    rule = EarlyStopping(6)
    assert not rule.behind(0.71, others, of(10_000))
    assert rule.behind(0.69, others, of(10_000))
    assert not rule.behind(0.69, others, of(100))
    assert rule.behind(0.69, others, of(0))  # on how many images is not known: a bare comparison


def test_perfect_and_equal_scores_are_not_behind() -> None:
    assert not EarlyStopping(6).behind(1.0, [1.0] * 9, of(300))
    assert not EarlyStopping(6).behind(0.0, [0.0] * 9, of(300))


@cache
def simulated(images: int, repeats: int = 100, trials: int = 48, correlation: float = 0.7) -> tuple[float, float]:
    """(share of all epochs, how often the best network is stopped) in runs of 4 epochs, whose accuracies after the
    second and the last are spread as those of experiments/search/proxy_rank.py on CIFAR-10, measured on 400 images."""
    rng, rule = np.random.default_rng(0), EarlyStopping(4)
    spent, lost = 0, 0
    for _ in range(repeats):
        z = rng.normal(size=(2, trials))
        middle = np.clip(0.33 + 0.05 * z[0], 0.01, 0.99)
        last = correlation * z[0] + np.sqrt(1 - correlation**2) * z[1]
        scores = rng.binomial(400, middle) / 400
        stopped = [rule.behind(scores[i], scores[:i].tolist(), of(images)) for i in range(trials)]
        spent += sum(rule.rung if stop else rule.epochs for stop in stopped)
        lost += stopped[int(np.argmax(last))]
    return spent / (repeats * trials * rule.epochs), lost / repeats


def test_the_margin_keeps_the_best_network_for_a_few_epochs_more() -> None:
    bare, with_margin = simulated(images=0), simulated(images=400)
    assert with_margin[1] < 0.6 * bare[1]
    assert 1.03 < with_margin[0] / bare[0] < 1.1
    assert with_margin[0] < 0.8


def test_the_expected_epochs_are_near_those_that_trials_take() -> None:
    rule = EarlyStopping(4)
    share = rule.expected(48, 0) / (48 * 4)
    assert share == pytest.approx(simulated(images=0)[0], abs=0.05)
    assert rule.expected(10, 0) == 10 * 4 - 4 * 2 / 3 * 2
    assert rule.expected(10, 6) == pytest.approx(10 * 4 - 10 * 2 / 3 * 2)
    assert EarlyStopping(3).expected(10, 6) == 30
