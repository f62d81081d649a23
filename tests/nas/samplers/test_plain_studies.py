"""The samplers in Optuna studies as people write them: other parameters, `optimize`, processes, pruners, queues."""

from __future__ import annotations

import contextlib
import itertools
import math
import pickle
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.trial import TrialState

from nas.samplers import INNER, ExhaustedError, OutOfReachError, Predictor, Repaired
from searchspace.errors import InputError
from tests.nas.samplers.test_samplers import (
    BUDGET,
    CHOICES,
    LOW,
    NAMES,
    SMALL,
    advanced,
    count,
    kinds,
    macs,
    make,
    score,
    small_cost,
    started,
)
from tests.support.paths import ROOT

AFFORDABLE = sum(small_cost(dict(zip(SMALL, key, strict=True))) <= 5 for key in itertools.product(*SMALL.values()))


def suggested(trial: optuna.Trial, choices: Mapping[str, Any] = CHOICES) -> dict[str, Any]:
    return {name: trial.suggest_categorical(name, values) for name, values in choices.items()}


def small_objective(trial: optuna.Trial) -> float:
    return small_cost(suggested(trial, SMALL))


@pytest.mark.parametrize("name", NAMES)
class TestEverySampler:
    def test_optimize_ends_when_the_space_is_used_up(self, name: str) -> None:
        study = started(make(name, SMALL, small_cost, 5))
        study.optimize(small_objective, n_trials=50)
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        assert len({tuple(trial.params.items()) for trial in complete}) == len(complete) == AFFORDABLE
        assert len(study.trials) == AFFORDABLE + 1
        assert study.trials[-1].state == TrialState.PRUNED

    def test_a_budget_out_of_reach_names_the_cheapest_point(self, name: str) -> None:
        small = r"the budget 0.5 is out of reach: the cheapest point costs 1: \{'a': 1, 'b': 'x', 'c': 1\}"
        with pytest.raises(OutOfReachError, match=small):
            started(make(name, SMALL, small_cost, 0.5)).optimize(small_objective, n_trials=2)
        with pytest.raises(OutOfReachError, match=f"the cheapest point costs {4 * 3 * 14}: .*'kernel3': 3"):
            started(make(name, CHOICES, macs, 100)).ask(kinds(CHOICES))

    def test_a_choice_that_is_suggested_as_something_else_is_refused(self, name: str) -> None:
        accepted = r"kernel1 is one of the sampler's choices: suggest_categorical\('kernel1', \[3, 5, 7\]\) is accepted"
        trial = started(make(name)).ask()
        with pytest.raises(InputError, match=accepted + r", not IntDistribution\(.*high=7"):
            trial.suggest_int("kernel1", 3, 7)
        with pytest.raises(InputError, match=accepted + ", not FloatDistribution"):
            trial.suggest_float("kernel1", 3, 7)
        with pytest.raises(InputError, match=accepted + r", not CategoricalDistribution\(choices=\(3, 5\)"):
            trial.suggest_categorical("kernel1", [3, 5])
        assert trial.suggest_categorical("kernel1", [3, 5, 7]) in (3, 5, 7)

    def test_minimising_the_negative_is_the_same(self, name: str) -> None:
        least = optuna.create_study(direction="minimize", sampler=make(name))
        assert advanced(least, count(name), lambda point: -score(point)) == advanced(started(make(name)), count(name))

    def test_several_objectives_are_served_or_refused_at_once(self, name: str) -> None:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(name))
        if name in ("random", "tpe", "nsga2", "gp"):
            for _ in range(12):
                trial = study.ask(kinds(CHOICES))
                study.tell(trial, (score(trial.params), macs(trial.params)))
        else:
            with pytest.raises(InputError, match=r'one objective is accepted, and the study has 2; SAMPLERS\["tpe"\]'):
                study.ask(kinds(CHOICES))


def test_other_parameters_are_learnt(tmp_path: Path) -> None:
    """A learning rate of the study is sampled by TPE: late trials have it near the best one, also after a restart."""

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1, log=True)
        return score(suggested(trial)) - 3 * abs(np.log10(rate) + 2)

    study = started(make("predictor"))
    study.optimize(objective, n_trials=60)
    away = [abs(np.log10(trial.params["rate"]) + 2) for trial in study.trials]
    assert np.mean(away[-20:]) < 0.6 * np.mean(away[:10])
    again = started(make("predictor"), f"sqlite:///{tmp_path / 'study.db'}")
    again.add_trials(study.trials[:-1])
    again.optimize(objective, n_trials=1)
    assert again.trials[-1].params == study.trials[-1].params


def test_unwrapped_samplers_can_be_pickled() -> None:
    for name in ("evolution", "local"):
        study = started(INNER[name](0))
        advanced(study, 25)
        again = started(pickle.loads(pickle.dumps(study.sampler)))
        again.add_trials(study.trials)
        assert advanced(again, 3) == advanced(study, 3)


@pytest.mark.parametrize("workers", [1, 4])
def test_what_is_left_beside_one_queued_trial_is_still_searched(workers: int) -> None:
    study = started(make("predictor", SMALL, small_cost, 5))
    study.enqueue_trial({"a": 3, "c": 4})  # too dear with either b
    with pytest.raises(OutOfReachError, match="the cheapest point costs 12"):
        study.optimize(small_objective, n_trials=1)
    study.enqueue_trial({"a": 1, "c": 1})
    study.enqueue_trial({"a": 1, "c": 1})
    study.enqueue_trial({"a": 1, "c": 1})  # a third with two values of b
    study.optimize(small_objective, n_trials=50, n_jobs=workers)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len({tuple(sorted(trial.params.items())) for trial in complete}) == len(complete) == AFFORDABLE


def test_a_point_that_is_queued_whole_is_repeated_on_purpose_and_not_proposed_by_others() -> None:
    first = dict(zip(SMALL, (1, "x", 1), strict=True))
    dear = {**first, "a": 3, "c": 4}  # over the budget, and wanted
    study = started(make("predictor", SMALL, small_cost, 5))
    for point in (first, first, dear):
        study.enqueue_trial(point)
    queued = [study.ask() for _ in range(3)]
    rest = [study.ask(kinds(SMALL)).params for _ in range(AFFORDABLE - 1)]
    assert first not in rest
    assert len({tuple(point.items()) for point in rest}) == AFFORDABLE - 1
    for trial in queued:
        trial.suggest_float("rate", 0, 1)
    assert [suggested(trial, SMALL) for trial in queued] == [first, first, dear]
    with pytest.raises(ExhaustedError):
        study.ask(kinds(SMALL))


def test_a_queued_value_that_is_no_choice_is_refused() -> None:
    study = started(make("predictor"))
    study.enqueue_trial({"kernel0": 9})
    with pytest.raises(InputError, match=r"kernel0: \[3, 5, 7\] are accepted, not 9"):
        study.ask().suggest_categorical("kernel1", [3, 5, 7])


def test_values_fixed_for_all_trials_stay_within_the_budget() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = started(PartialFixedSampler({"kernel0": 7, "se1": True}, make("predictor")))
    points = [study.ask(kinds(CHOICES)).params for _ in range(16)]
    assert all((point["kernel0"], point["se1"]) == (7, True) for point in points)
    assert all(LOW * BUDGET <= macs(point) <= BUDGET for point in points)
    assert len({tuple(point.items()) for point in points}) == 16


def test_nothing_is_repeated_in_another_bracket_of_hyperband() -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    sampler = make("predictor", SMALL, small_cost, 5)
    study = optuna.create_study(sampler=sampler, pruner=pruner, study_name="s")
    study.optimize(small_objective, n_trials=50)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len({tuple(trial.params.items()) for trial in complete}) == len(complete) == AFFORDABLE


@pytest.mark.parametrize("told", [0, 40])
def test_64_workers_that_ask_at_once_get_different_points(told: int) -> None:
    study = started(make("predictor"))
    advanced(study, told)
    points = [tuple(study.ask(kinds(CHOICES)).params.values()) for _ in range(64)]
    apart = [sum(a != b for a, b in zip(p, q, strict=True)) for p, q in itertools.combinations(points, 2)]
    assert min(apart) > 0
    assert np.median(apart) >= len(CHOICES) / 4
    assert np.mean(np.array(apart) == 1) < 0.05


TOGETHER = """
import sys, optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from tests.nas.samplers.test_plain_studies import make, twelve_objective, TWELVE
kind, place = sys.argv[1:]
if kind == "sqlite":
    storage = RDBStorage(f"sqlite:///{place}", engine_kwargs={"connect_args": {"timeout": 60}})
else:
    storage = JournalStorage(JournalFileBackend(place))
study = optuna.load_study(study_name="s", storage=storage, sampler=make("random", TWELVE, None, None))
print("ready", flush=True)
sys.stdin.readline()
study.optimize(twelve_objective)
"""
TWELVE: dict[str, list[Any]] = {"a": [1, 2, 3], "b": ["x", "y"], "c": [False, True]}


def twelve_objective(trial: optuna.Trial) -> float:
    return float(suggested(trial, TWELVE)["a"])


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_processes_use_a_space_up_and_repeat_nothing(kind: str, tmp_path: Path) -> None:
    place = str(tmp_path / "study")
    storage: Any = f"sqlite:///{place}"
    if kind == "journal":
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(place))
    study = optuna.create_study(study_name="s", storage=storage)
    command = [sys.executable, "-c", TOGETHER, kind, place]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len({tuple(trial.params.items()) for trial in complete}) == len(complete) == 12


def test_a_point_that_another_process_proposes_meanwhile_is_left_to_it() -> None:
    """Between what a sampler reads and what it stores, the other one stores the same."""

    class Late(Repaired):
        overtaken = False

        def propose(self, study: Any, trial: Any, known: Any, rng: Any) -> dict[str, Any]:
            point = super().propose(study, trial, known, rng)
            if not self.overtaken:
                self.overtaken = True
                other = study.ask()
                indices = [values.index(point[name]) for name, values in self.domain.choices.items()]
                study._storage.set_trial_system_attr(other._trial_id, "nas:proposal", indices)
                taken.append(point)
            return point

    taken: list[dict[str, Any]] = []
    study = started(Late(lambda seed: TPESampler(seed=seed), TWELVE))
    found = [study.ask(kinds(TWELVE)).params for _ in range(11)]
    assert taken[0] not in found
    assert len({tuple(point.items()) for point in found}) == 11


def test_the_sampler_needs_no_more_than_its_choices() -> None:
    study = optuna.create_study(direction="maximize", sampler=Predictor(CHOICES, seed=3))
    study.optimize(lambda trial: score(suggested(trial)), n_trials=15)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 15


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_constraints_of_the_study_are_learnt_and_kept_by_the_winner(direction: str) -> None:
    """What is measured of a trial, such as memory: the best score lies outside, and late trials are inside."""
    sign = 1 if direction == "maximize" else -1

    def objective(trial: optuna.Trial) -> float:
        point = suggested(trial)
        trial.set_constraint("memory", sum(point[f"kernel{b}"] for b in range(2, 4)) - 8)
        return sign * score(point)

    sampler = Predictor(CHOICES, macs, BUDGET, trials=70)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.optimize(objective, n_trials=70)
    inside = [max(trial.constraints.values()) <= 0 for trial in study.trials]
    assert np.mean(inside[-30:]) > 0.6
    assert max(sampler.winner(study).constraints.values()) <= 0


def test_while_all_violate_constraints_the_least_is_sought() -> None:
    def objective(trial: optuna.Trial) -> float:
        point = suggested(trial)
        trial.set_constraint("memory", sum(point[f"kernel{b}"] for b in range(4)) - 1)
        return 1.0

    study = started(Predictor(CHOICES, macs, BUDGET, tpe_share=0))
    study.optimize(objective, n_trials=50)
    by = [trial.constraints["memory"] for trial in study.trials]
    assert np.mean(by[-20:]) < np.mean(by[:12]) - 1


def test_trials_that_were_deleted_from_the_database_confuse_nothing(tmp_path: Path) -> None:
    """A trial's number is not its place any more: the winner and what a replicate repeats are found by number."""
    place = tmp_path / "study.db"
    sampler = Predictor(CHOICES, macs, BUDGET, trials=60)
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{place}", direction="maximize", sampler=sampler)
    trials = finished(30)
    study.add_trials(trials)
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        database.execute("DELETE FROM trials WHERE number < 3")
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{place}", sampler=sampler)
    left = started(sampler)
    left.add_trials(trials[3:])
    wanted = sampler.winner(study)
    assert wanted.params == sampler.winner(left).params
    attributes = {"nas:replicate": wanted.number, "nas:proposal": [0] * len(CHOICES)}
    trial = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=attributes)
    rate = optuna.distributions.FloatDistribution(0, 1)
    assert sampler.sample_independent(study, trial, "rate", rate) == wanted.params["rate"]


def finished(number: int) -> list[optuna.trial.FrozenTrial]:
    """Complete trials of a study that has a learning rate too."""
    study = started(make("predictor"))
    study.optimize(lambda trial: score(suggested(trial)) + trial.suggest_float("rate", 0, 1), n_trials=number)
    return study.trials


def test_values_of_numpy_are_choices_like_others() -> None:
    """Optuna's TPE, and databases, refuse them at the eleventh trial."""
    choices = {"a": np.array([1, 2, 3]), "b": list(np.linspace(0, 1, 4)), "c": range(3), "d": [np.True_, np.False_]}
    study = optuna.create_study(sampler=Predictor(choices, lambda point: float(point["a"]), 3))
    plain = {name: [value.item() if hasattr(value, "item") else value for value in of] for name, of in choices.items()}
    study.optimize(lambda trial: float(sum(suggested(trial, plain).values())), n_trials=30)
    assert {type(value) for trial in study.trials for value in trial.params.values()} == {int, float, bool}


def test_choices_costs_and_budgets_that_are_none_are_refused_by_name() -> None:
    with pytest.raises(
        InputError, match=r"choices: kernel: values with a hash are accepted, such as tuples, not \[\[3"
    ):
        Predictor({"kernel": [[3, 3], [5, 5]]})
    with pytest.raises(ValueError, match="budget: a number is accepted, not nan"):
        Predictor(SMALL, small_cost, float("nan"))
    for cost in (None, "much", float("nan")):
        study = optuna.create_study(sampler=Predictor(SMALL, lambda point, cost=cost: cost, 5))
        with pytest.raises(InputError, match=rf"cost: a number is accepted, not {cost!r}, which is that of {{'a': "):
            study.optimize(small_objective, n_trials=1)


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"trials": "many"}, {"tpe_share": 2}])
def test_options_are_checked_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a whole number of trials, or None, are accepted"):
        Predictor(SMALL, **wrong)


def test_optimize_ends_where_there_is_no_choice_at_all() -> None:
    """Optuna asks no sampler for the only value of a parameter."""
    only = {"a": [1], "b": ["x"]}
    study = started(Predictor(only, lambda point: 1, 2))
    study.optimize(lambda trial: float(suggested(trial, only)["a"]), n_trials=10)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    with pytest.raises(ExhaustedError):
        study.ask()


def test_points_that_differ_only_in_what_was_not_suggested_are_the_same() -> None:
    """Choices under a condition: while other trials are left, none is run twice."""
    choices = {"head": ["small", "large"], "width": [1, 2, 3, 4, 5, 6], "depth": [1, 2, 3], "rate": [1, 2, 3]}

    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("head", choices["head"]) == "small":
            return float(trial.suggest_categorical("width", choices["width"]))
        return float(sum(suggested(trial, {name: choices[name] for name in ("width", "depth")}).values()))

    study = started(Predictor(choices))
    study.optimize(objective, n_trials=6 + 6 * 3)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 6 + 6 * 3
    study.optimize(objective, n_trials=200)
    assert len(study.trials) == 2 * 6 * 3 * 3 + 1  # what is left may be other trials all the same


@pytest.mark.parametrize("pruned", [False, True])
def test_choices_under_a_condition_are_none_twice_beside_others_and_where_trials_are_pruned(pruned: bool) -> None:
    choices = {"depth": [1, 2, 3], **{f"kernel{n}": [3, 5, 7] for n in range(3)}}

    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_categorical("depth", choices["depth"])
        trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        total = float(sum(suggested(trial, {f"kernel{n}": choices[f"kernel{n}"] for n in range(depth)}).values()))
        trial.report(total, 1)
        if pruned and trial.number % 3:
            raise optuna.TrialPruned
        return total

    study = started(Predictor(choices))
    study.optimize(objective, n_trials=30)
    asked = [{name: value for name, value in trial.params.items() if name != "rate"} for trial in study.trials]
    assert len({tuple(point.values()) for point in asked}) == 30


def test_what_other_parameters_decide_is_no_condition_of_choices() -> None:
    def objective(trial: optuna.Trial) -> float:
        given = SMALL if trial.suggest_categorical("whole", [True, False]) else {"a": SMALL["a"]}
        return float(suggested(trial, given)["a"])

    study = started(make("predictor", SMALL, small_cost, 5))
    study.optimize(objective, n_trials=50)
    assert len(study.trials) == AFFORDABLE + 1


@pytest.mark.parametrize(("budget", "affordable"), [(0, 1), (1, 21), (2, 231)])
def test_a_large_space_of_few_affordable_points_is_used_up(budget: int, affordable: int) -> None:
    choices = {f"c{i}": [0, 1, 2] for i in range(20)}
    study = optuna.create_study(sampler=Predictor(choices, lambda point: float(sum(point.values())), budget))
    study.optimize(lambda trial: float(sum(suggested(trial, choices).values())), n_trials=affordable + 5)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len({tuple(trial.params.values()) for trial in complete}) == len(complete) == affordable


def test_what_is_impossible_may_cost_infinitely_much() -> None:
    """A trial of such a point that was queued was a ValueError of the model's later."""

    def price(point: Mapping[str, Any]) -> float:
        return math.inf if (point["a"], point["b"]) == (5, 4) else float(point["a"] * point["b"])

    choices = {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4], "c": ["x", "y", "z"]}
    study = started(Predictor(choices, price, 8))
    study.enqueue_trial({"a": 5, "b": 4, "c": "x"})
    study.optimize(lambda trial: float(sum(map(len, map(str, suggested(trial, choices).values())))), n_trials=16)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 16


def test_a_budget_may_be_below_zero() -> None:
    """As that of a logarithm: 85 to 100 % of it are on the other side."""
    budget = np.log(BUDGET) - 10
    study = started(make("predictor", CHOICES, lambda point: np.log(macs(point)) - 10, budget))
    costs = [np.log(macs(point)) - 10 for point in advanced(study, 20)]
    assert 1.15 * budget <= min(costs) < 1.05 * budget
    assert max(costs) <= budget
