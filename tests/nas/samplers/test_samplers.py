"""What every sampler promises; a new one is tested by adding its name to `SAMPLERS`."""

from __future__ import annotations

import itertools
import pickle
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from nas.samplers import INNER, SAMPLERS, ExhaustedError, Predictor, Repaired
from nas.samplers.domain import Domain
from nas.samplers.encoding import Encoding, distances
from nas.samplers.gaussian_process import Kernel, Rows, Surrogate
from nas.samplers.observations import LEARNT, lessons
from searchspace import Budget, Space
from tests.nas.study.test_study import advance

CHOICES: dict[str, list[Any]] = {}
for block in range(4):
    CHOICES |= {f"expansion{block}": [3, 4, 6], f"kernel{block}": [3, 5, 7], f"se{block}": [False, True]}
    CHOICES |= {f"act{block}": ["relu", "silu", "none"]}
BUDGET = 500.0
SMALL: dict[str, list[Any]] = {"a": [1, 2, 3], "b": ["x", "y"], "c": [1, 4]}
LOW = 0.85
NAMES = sorted(SAMPLERS)


def macs(point: Mapping[str, Any]) -> float:
    return sum(point[f"expansion{b}"] * (point[f"kernel{b}"] ** 2 + 5) + 10 * point[f"se{b}"] for b in range(4))


def small_cost(point: Mapping[str, Any]) -> float:
    return float(point["a"] * point["c"] + (point["b"] == "y"))


def kinds(choices: Mapping[str, Any]) -> dict[str, Any]:
    return {name: CategoricalDistribution(values) for name, values in choices.items()}


def score(point: Mapping[str, Any]) -> float:
    return sum(point[f"kernel{b}"] * (b + 1) - (point[f"act{b}"] == "none") + point[f"se{b}"] for b in range(4)) / 10


def make(name: str, choices: Any = CHOICES, cost: Any = macs, budget: Any = BUDGET, seed: int = 0) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](choices, cost, budget, seed)


def started(sampler: BaseSampler, storage: Any = None) -> optuna.Study:
    return optuna.create_study(
        direction="maximize", sampler=sampler, storage=storage, study_name="s", load_if_exists=True
    )


def count(name: str) -> int:
    """Enough trials to get past every random start; Optuna's GP takes half a second for each."""
    return 13 if name == "gp" else 26


def advanced(study: optuna.Study, number: int, tell: Callable[[Any], float] = score) -> list[dict[str, Any]]:
    """Points as anybody would ask for them; some trials fail, some are stopped early."""
    points = []
    for _ in range(number):
        trial = study.ask()
        point = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()}
        points.append(point)
        trial.report(tell(point) / 2, 1)
        if trial.number % 7 == 3:
            study.tell(trial, state=TrialState.FAIL)
        elif trial.number % 7 == 5:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, tell(point))
    return points


@pytest.mark.parametrize("name", NAMES)
class TestEverySampler:
    def test_proposes_whole_points_inside_the_budget_never_twice(self, name: str) -> None:
        study = started(make(name))
        points = advanced(study, count(name))
        assert all(LOW * BUDGET <= macs(point) <= BUDGET for point in points)
        assert [trial.params for trial in study.trials] == points
        assert len({tuple(point.items()) for point in points}) == len(points)

    def test_same_seed_same_proposals_also_from_a_storage(self, name: str, tmp_path: Path) -> None:
        straight = advanced(started(make(name)), count(name))
        assert straight != advanced(started(make(name, seed=1)), count(name))
        url = f"sqlite:///{tmp_path / 'study.db'}"
        whole = started(make(name))
        advanced(whole, count(name) - 2)
        started(make(name), url).add_trials(whole.trials)
        assert advanced(started(make(name), url), 1) + advanced(started(make(name), url), 1) == straight[-2:]

    def test_proposes_beside_other_parameters_of_the_study(self, name: str) -> None:
        """A learning rate, a number of epochs, an option of an option: none of them is a choice of the space."""
        study = started(make(name))
        for _ in range(count(name) + 1):
            trial = study.ask()
            rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
            point = {n: trial.suggest_categorical(n, values) for n, values in CHOICES.items()}
            if trial.suggest_categorical("augment", ["none", "mixup"]) == "mixup":
                trial.suggest_int("magnitude", 1, 9)
            assert LOW * BUDGET <= macs(point) <= BUDGET
            assert 1e-4 <= rate <= 1e-1
            study.tell(trial, score(point) + rate)
        assert len({tuple(trial.params[n] for n in CHOICES) for trial in study.trials}) == len(study.trials)

    def test_knows_trials_that_were_asked_a_part_of_their_choices(self, name: str) -> None:
        """A choice suggested under a condition is missing in some trials, which teach and are taken all the same."""
        sampler = make(name)
        study, seen = started(sampler), 0
        for _ in range(count(name)):
            trial = study.ask()
            chosen = {n: trial.suggest_categorical(n, CHOICES[n]) for n in CHOICES if not n.startswith("kernel")}
            kernels = [
                trial.suggest_categorical(f"kernel{b}", CHOICES[f"kernel{b}"]) for b in range(4) if chosen[f"se{b}"]
            ]
            study.tell(trial, sum(kernels))
            seen += len(trial.params) < len(CHOICES)
        assert seen > count(name) / 2
        following = study.ask()
        known = sampler._history(study, following)  # type: ignore[attr-defined]
        assert len(known.trials) == len(known.taken) == count(name)

    def test_can_be_pickled(self, name: str) -> None:
        study = started(make(name))
        advanced(study, 12)
        again = started(pickle.loads(pickle.dumps(study.sampler)))
        again.add_trials(study.trials)
        assert advanced(again, 1) == advanced(study, 1)

    def test_trials_in_flight_are_taken(self, name: str) -> None:
        study = started(make(name))
        advanced(study, 12)
        waiting = [study.ask(kinds(CHOICES)).params for _ in range(4)]
        unseen = [study.ask() for _ in range(3)]
        late = [{n: trial.suggest_categorical(n, v) for n, v in CHOICES.items()} for trial in unseen]
        assert len({tuple(p.items()) for p in waiting + late}) == 7

    def test_a_small_space_is_exhausted_then_ends(self, name: str) -> None:
        affordable = [dict(zip(SMALL, p, strict=True)) for p in itertools.product(*SMALL.values())]
        affordable = [p for p in affordable if small_cost(p) <= 5]
        study, found = started(make(name, SMALL, small_cost, 5)), []
        for _ in affordable:
            trial = study.ask(kinds(SMALL))
            found.append(trial.params)
            study.tell(trial, small_cost(trial.params))
        assert sorted(map(str, found)) == sorted(map(str, affordable))
        shares = [small_cost(p) / 5 for p in found]
        inside = sum(share >= LOW for share in shares)
        assert all(share >= LOW for share in shares[:inside])
        assert shares[inside:] == sorted(shares[inside:], reverse=True)
        with pytest.raises(ExhaustedError, match="nothing new is left within the budget 5"):
            study.ask(kinds(SMALL))

    def test_a_space_of_one_point(self, name: str) -> None:
        one = {"a": [3], "b": ["x"]}
        study = started(make(name, one, lambda point: point["a"], 3))
        trial = study.ask(kinds(one))
        assert trial.params == {"a": 3, "b": "x"}
        study.tell(trial, 1.0)
        with pytest.raises(ExhaustedError):
            study.ask(kinds(one))

    def test_a_space_where_one_point_fits(self, name: str) -> None:
        needle = {n: values[-1] for n, values in CHOICES.items()}
        study = started(make(name, CHOICES, lambda p: 1 + sum(p[n] != v for n, v in needle.items()), 1))
        assert study.ask(kinds(CHOICES)).params == needle

    def test_nothing_fits(self, name: str) -> None:
        with pytest.raises(ExhaustedError):
            started(make(name, SMALL, small_cost, 0.5)).ask(kinds(SMALL))

    def test_minimises_too_and_without_a_cost(self, name: str) -> None:
        study = optuna.create_study(direction="minimize", sampler=make(name, SMALL, None, None))
        for _ in range(12):
            trial = study.ask(kinds(SMALL))
            study.tell(trial, small_cost(trial.params))
        assert study.best_value == 1
        with pytest.raises(ExhaustedError):
            study.ask(kinds(SMALL))

    def test_all_trials_failed(self, name: str) -> None:
        study = started(make(name))
        for _ in range(15):
            study.tell(study.ask(kinds(CHOICES)), state=TrialState.FAIL)
        assert LOW * BUDGET <= macs(study.ask(kinds(CHOICES)).params) <= BUDGET

    def test_values_fixed_by_the_user_stay(self, name: str) -> None:
        study = started(make(name))
        study.enqueue_trial({"kernel0": 7, "act1": "silu"})
        point = study.ask(kinds(CHOICES)).params
        assert (point["kernel0"], point["act1"]) == (7, "silu")
        assert LOW * BUDGET <= macs(point) <= BUDGET

    def test_other_parameters_are_drawn(self, name: str) -> None:
        trial = started(make(name)).ask()
        assert 0 <= trial.suggest_float("learning_rate", 0, 1) <= 1
        assert trial.suggest_categorical("kernel0", [3, 5, 7]) in (3, 5, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "auto"])
def test_five_thousand_trials(name: str) -> None:
    """All of them asked, but of Optuna's GP, which takes half a second for each on a busy core, the last 200."""
    asked, limit = (200, 2.0) if name == "gp" else (5000, 0.5)
    study, others, seconds = started(make(name)), started(make("random", seed=1)), []
    for _ in range(5000 - asked):
        others.tell(others.ask(kinds(CHOICES)), 0.0)
    for known in others.trials:
        study.add_trial(
            optuna.trial.create_trial(value=score(known.params), params=known.params, distributions=kinds(CHOICES))
        )
    for _ in range(asked):
        start = time.perf_counter()
        trial = study.ask(kinds(CHOICES))
        seconds.append(time.perf_counter() - start)
        study.tell(trial, score(trial.params))
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 5000
    assert all(LOW * BUDGET <= macs(trial.params) <= BUDGET for trial in study.trials)
    assert np.median(seconds[-100:]) < limit


@pytest.mark.parametrize("workers", [1, 4])
def test_optimize_as_anybody_calls_it(workers: int) -> None:
    study = started(make("auto"))
    study.optimize(lambda t: score({n: t.suggest_categorical(n, v) for n, v in CHOICES.items()}), 24, n_jobs=workers)
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 24


def test_the_predictor_beats_random() -> None:
    best = {}
    for name in ("random", "predictor"):
        studies = [started(make(name, seed=seed)) for seed in range(3)]
        best[name] = sum(max(map(score, advanced(study, 40))) for study in studies)
    assert best["predictor"] > best["random"]


def test_any_optuna_sampler_may_be_wrapped_also_for_two_objectives() -> None:
    sampler = Repaired(lambda seed: TPESampler(seed=seed), CHOICES, macs, BUDGET, low=0.95)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(14):
        trial = study.ask(kinds(CHOICES))
        assert 0.95 * BUDGET <= macs(trial.params) <= BUDGET
        study.tell(trial, (score(trial.params), macs(trial.params)))
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make("predictor"))
    with pytest.raises(ValueError, match="one objective is accepted"):
        study.ask(kinds(CHOICES))


def test_evolution_and_local_work_without_the_wrapper() -> None:
    for name in ("evolution", "local"):
        study = started(INNER[name](0))
        advanced(study, 30)
        assert study.best_value > study.trials[0].value


def test_what_is_stored_of_a_trial_is_enough_for_another_process(tmp_path: Path) -> None:
    """A worker that was given a trial but has recorded no parameter yet is seen by the next process."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    waiting = started(make("random", SMALL, small_cost, 5), url).ask()
    waiting.suggest_categorical("a", SMALL["a"])
    study = started(make("random", SMALL, small_cost, 5), url)
    rest = [study.ask(kinds(SMALL)).params for _ in range(sum(1 for _ in Domain(SMALL, small_cost, 5)._affordable) - 1)]
    whole = {n: waiting.suggest_categorical(n, v) for n, v in SMALL.items()}
    assert whole not in rest


@pytest.mark.parametrize("choices", [{"a": []}, {"a": [1, 1]}])
def test_choices_are_checked(choices: Any) -> None:
    with pytest.raises(ValueError, match="choices: a: one or more distinct values"):
        Predictor(choices)
    with pytest.raises(ValueError, match="a cost and a budget together"):
        Predictor(SMALL, cost=small_cost)


def test_distances_count_categories_and_ranks() -> None:
    encoding = Encoding(Domain({"n": [1, 5, 100], "c": ["x", "y", "z"], "b": [False, True], "one": [7]}))
    points = [
        {"n": 1, "c": "x", "b": False, "one": 7},
        {"n": 5, "c": "x", "b": False, "one": 7},
        {"n": 100, "c": "z", "b": True, "one": 7},
    ]
    rows = encoding(points)
    assert distances(rows, rows, encoding.weights).tolist() == [[0, 0.5, 3], [0.5, 0, 2.5], [3, 2.5, 0]]


def test_the_gradient_is_that_of_the_loss_and_the_process_interpolates() -> None:
    rng = np.random.default_rng(0)
    domain = Domain(CHOICES)
    encoding = Encoding(domain)
    draw = __import__("random").Random(0)
    rows = Rows(encoding([domain.draw(draw) for _ in range(30)]), rng.normal(size=(30, 2)), np.zeros(30))
    y, noise = rng.normal(size=30), np.full(30, 1e-4)
    kernel = Kernel(encoding.weights, lines=2)
    lines = [np.outer(line, line) for line in rows.lines.T]
    data = (distances(rows.features, rows.features, encoding.weights), lines, y, noise + 0.05)
    at = kernel.centre + 0.3
    for index, step in enumerate(np.eye(4) * 1e-5):
        slope = (kernel._loss(at + step, *data)[0] - kernel._loss(at - step, *data)[0]) / 2e-5
        assert kernel._loss(at, *data)[1][index] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    mean, deviation = Surrogate(kernel, rows, y, noise).predict(rows)
    assert np.abs(mean - y).max() < 0.05
    assert deviation.max() < 0.05


def trial(number: int, value: float | None, curve: dict[int, float], state: TrialState) -> optuna.trial.FrozenTrial:
    made = optuna.trial.create_trial(state=state, value=value, intermediate_values=curve)
    made.number = number
    return made


def test_a_stopped_trial_is_read_at_its_own_step() -> None:
    whole = [trial(i, 0.8 + i / 100, {1: 0.3 + i / 100}, TrialState.COMPLETE) for i in range(5)]
    weak, strong = (trial(8, None, {1: 0.1}, TrialState.PRUNED), trial(9, None, {1: 0.7}, TrialState.PRUNED))
    unread = trial(10, None, {2: 0.1}, TrialState.PRUNED)
    taught = lessons([*whole, weak, strong, unread], maximize=True)
    assert len(taught.y) == 7
    assert taught.y[5] == min(taught.y)
    assert taught.y[6] == pytest.approx(taught.y[2])
    assert len(lessons([*whole[:2], weak], maximize=True).y) == 2
    assert len(lessons([trial(i, i, {}, TrialState.COMPLETE) for i in range(999)], maximize=True).y) == LEARNT


@pytest.mark.parametrize("name", ["predictor", "nsga2"])
def test_our_study_asks_them_where_points_are_repaired(tmp_path: Path, name: str) -> None:
    from nas.study.study import Study
    from tests.searchspace.space.test_space import SMALL as FILE

    study = Study.open(tmp_path, Space(FILE, "small"), Budget.parse("1-2MFLOPs"), name, controls=3)
    assert len(set(advance(study, 8))) == 8
