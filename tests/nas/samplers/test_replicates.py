"""The end of a known number of trials: finalists are evaluated once more, and the winner is not the luckiest."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas.samplers import Predictor
from nas.samplers.replicates import knowledge_gradient, noise_variance, number_of_replicates
from tests.nas.samplers.test_samplers import BUDGET, CHOICES, kinds, macs, score, started

TRIALS = 60


def noisy(point: dict[str, Any], luck: random.Random) -> float:
    return score(point) + luck.gauss(0, 0.3)


def ending(trials: int | None = TRIALS, sampler_seed: int = 0, storage: Any = None) -> optuna.Study:
    return started(Predictor(CHOICES, macs, BUDGET, sampler_seed, trials=trials), storage)


def advanced(study: optuna.Study, number: int) -> list[tuple[Any, ...]]:
    points = []
    for _ in range(number):
        trial = study.ask(kinds(CHOICES))
        points.append(tuple(trial.params.values()))
        study.tell(trial, noisy(trial.params, random.Random(trial.number)))
    return points


@pytest.fixture(scope="module")
def before_the_end() -> list[optuna.trial.FrozenTrial]:
    """The first nine tenths."""
    study = ending()
    advanced(study, TRIALS - 6)
    return study.trials


def at_the_end(trials: list[optuna.trial.FrozenTrial], storage: Any = None) -> optuna.Study:
    study = ending(storage=storage)
    study.add_trials(trials)
    return study


def test_the_knowledge_gradient_is_what_simulated_scores_gain() -> None:
    rng = np.random.default_rng(0)
    mean, root, noise = rng.normal(size=4), rng.normal(size=(4, 4)), 0.3
    covariance = root @ root.T
    expected = knowledge_gradient(mean, covariance, noise)
    truths = rng.multivariate_normal(mean, covariance, 200_000)
    for point in range(4):
        scores = truths[:, point] + rng.normal(0, noise**0.5, len(truths))
        gain = covariance[:, point] / (covariance[point, point] + noise)
        updated = mean + np.outer(scores - mean[point], gain)
        assert updated.max(axis=1).mean() - mean.max() == pytest.approx(expected[point], abs=0.02)
    assert knowledge_gradient(mean, np.zeros((4, 4)), noise) == pytest.approx(0)


@pytest.mark.parametrize(("trials", "number"), [(None, 0), (25, 0), (49, 0), (50, 5), (99, 9), (200, 20)])
def test_the_last_tenth_are_replicates(trials: int | None, number: int) -> None:
    assert number_of_replicates(trials) == number


def test_finalists_are_evaluated_once_more_and_then_new_points_again(before_the_end: list[Any]) -> None:
    study = at_the_end(before_the_end)
    seen = {tuple(trial.params.values()) for trial in before_the_end}
    assert len(seen) == TRIALS - 6
    again = advanced(study, 6)
    assert set(again) <= seen
    assert 3 <= len(set(again)) <= 6
    for trial in study.trials[-6:]:
        assert study.trials[trial.system_attrs["nas:replicate"]].params == trial.params
    later = advanced(study, 3)
    assert len(seen | set(later)) == TRIALS - 3


def test_replicates_are_spread_though_none_has_ended(before_the_end: list[Any]) -> None:
    """What is in flight is believed to score what is expected of it, so that another score of it tells less."""
    study = at_the_end(before_the_end)
    asked = Counter(tuple(study.ask(kinds(CHOICES)).params.values()) for _ in range(6))
    assert len(asked) >= 3
    assert max(asked.values()) <= 3
    failing = at_the_end(before_the_end)
    points = []
    for _ in range(3):
        trial = failing.ask(kinds(CHOICES))
        points.append(trial.params)
        failing.tell(trial, state=TrialState.FAIL)
    assert points[0] == points[1] == points[2]


def test_replicates_are_the_same_from_a_storage(before_the_end: list[Any], tmp_path: Path) -> None:
    straight = advanced(at_the_end(before_the_end), 4)
    study = at_the_end(before_the_end, f"sqlite:///{tmp_path / 'study.db'}")
    study.sampler = ending().sampler
    found = advanced(study, 2)
    study.sampler = ending().sampler
    assert found + advanced(study, 2) == straight


def test_a_replicate_has_the_other_parameters_of_the_trial_that_it_repeats() -> None:
    study = ending(50)

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 0, 1)
        point = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()}
        return score(point) - abs(rate - 0.3) + 0 * trial.suggest_int("new", 0, 1000 if trial.number < 45 else 2000)

    study.optimize(objective, n_trials=50)
    for trial in study.trials[-5:]:
        first = study.trials[trial.system_attrs["nas:replicate"]].params
        assert {**trial.params, "new": first["new"]} == first
        assert trial.params["new"] != first["new"]  # of another range, so another parameter


@pytest.mark.parametrize("sign", [1, -1])
def test_the_winner_is_not_the_luckiest(sign: int) -> None:
    study = optuna.create_study(
        direction="maximize" if sign == 1 else "minimize", sampler=Predictor(CHOICES, macs, BUDGET)
    )
    with pytest.raises(ValueError, match="no trial of the study is complete yet"):
        study.sampler.winner(study)
    rng, domain = random.Random(1), study.sampler.domain
    points = [domain.fresh(domain.draw(rng), (), rng) for _ in range(20)]
    scores = {0: [3.0, 0.2, 0.1], 1: [2.2, 2.1, 2.3]}
    for index, point in enumerate(points):
        for value in scores.get(index, [rng.gauss(0, 0.5)]):
            study.add_trial(create_trial(value=sign * value, params=point, distributions=kinds(CHOICES)))
    study.add_trial(create_trial(value=sign * float("inf"), params=points[5], distributions=kinds(CHOICES)))
    assert study.sampler.winner(study).number == 3
    assert study.sampler.winner(study).params == points[1]


def test_noise_is_learnt_from_replicates() -> None:
    """By hand: within a 0.5 and 2 squares, one degree of freedom each, and two of the prior."""
    assert noise_variance([("a",), ("b",)], np.array([1.0, 9.0]), 0.05) == pytest.approx(0.05)
    keys = [("a",), ("b",), ("a",), ("b",), ("c",)]
    found = noise_variance(keys, np.array([0.0, 4.0, 1.0, 6.0, 9.0]), 0.05)
    assert found == pytest.approx((2 * 0.05 + 0.5 + 2.0) / (2 + 2))


def test_the_winner_is_better_than_the_best_score_where_scores_are_noisy() -> None:
    """Over studies of random points, ten of them evaluated twice more."""
    gains = []
    for seed in range(12):
        sampler, luck = Predictor(CHOICES, macs, BUDGET), random.Random(seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        points = [sampler.domain.fresh(sampler.domain.draw(luck), (), luck) for _ in range(50)]
        for point in [*points, *points[:10], *points[:10]]:
            value = score(point) + luck.gauss(0, 1)
            study.add_trial(create_trial(value=value, params=point, distributions=kinds(CHOICES)))
        gains.append(score(sampler.winner(study).params) - score(study.best_trial.params))
    assert np.mean(gains) > 0.1


@pytest.mark.parametrize("trials", [20, 50])
def test_a_known_number_of_trials_is_used_where_the_space_is_smaller(trials: int) -> None:
    """What is left of it goes into replicates: to end after twelve points would leave the winner to luck."""
    small = {"a": [1, 2, 3], "b": [1, 2], "c": [1, 2]}
    sampler, luck = Predictor(small, trials=trials), random.Random(0)
    study = started(sampler)

    def objective(trial: optuna.Trial) -> float:
        point = {name: trial.suggest_categorical(name, values) for name, values in small.items()}
        return sum(point.values()) + luck.gauss(0, 1)

    study.optimize(objective, n_trials=trials + 5)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    points = Counter(tuple(trial.params.values()) for trial in complete)
    assert len(complete) == trials
    assert len(points) == 12
    assert len(study.trials) == trials + 1  # the one that found nothing new and ended it
    assert points[3, 2, 2] > 1


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_a_point_whose_replicates_are_lost_is_left_alone(before_the_end: list[Any], state: TrialState) -> None:
    study = at_the_end(before_the_end)
    points = []
    for _ in range(6):
        trial = study.ask(kinds(CHOICES))
        points.append(tuple(trial.params.values()))
        study.tell(trial, state=state)
    assert sorted(Counter(points).values()) == [3, 3]
