"""The horizon: activations of a point are about known before its network is made, and networks are judged by them."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from nas.analysis.agreement import spearman
from nas.config import SearchConfig
from nas.run import resume, search_options
from nas.samplers import Predictor
from nas.study.design import Design
from nas.study.early_stopping import EarlyStopping
from nas.study.finals import contenders
from nas.study.horizon import PER_E_FOLD, Foresight, promises, worth
from nas.study.opening import open_study, shared_identity
from nas.study.storage import StudyLocation
from nas.study.study import Study
from nas.trial import Result
from searchspace import Budget, Cost, InputError, Space, cost
from tests.support.records import record

WORDS = ["--budget", "30MFLOPs", "--resolution", "32"]
CHOICES = {f"x{n}": [0, 1, 2, 3] for n in range(6)}


def config(*words: str) -> SearchConfig:
    return search_options.config_from_args(search_options.parser().parse_args([*WORDS, *words]))


@pytest.mark.parametrize(("name", "budget"), [("mobile", "30MFLOPs"), ("mobile", "300MFLOPs"), ("resnet", "1GFLOPs")])
def test_activations_are_about_those_of_the_network_that_is_made(name: str, budget: str) -> None:
    space, rng = Space.load(name), random.Random(0)
    foresight = Foresight(space, Budget.parse(budget))
    made = [space.sample_point(rng, budget) for _ in range(40)]
    off = [math.log(foresight.activations(one.point) / one.cost.activations) for one in made]
    assert np.median(np.abs(off)) < 0.06
    assert np.std(off) < 0.25 * np.std([math.log(one.cost.activations) for one in made])


def test_of_a_space_whose_widths_are_choices_they_are_exact() -> None:
    space = Space.load("mobile").fix(["width_mult=0.25"])
    point = space.random_point(random.Random(1))
    foresight, spent = Foresight(space, Budget.parse("30MFLOPs")), cost(space.arch(point))
    assert foresight.activations(point) == spent.activations
    assert foresight(point) == worth(spent.activations)


def test_e_times_as_many_are_worth_a_deviation_of_the_middle_half() -> None:
    gains = [0.4, 0.5, 0.6, 0.7]
    assert promises(gains, [1e6] * 4) == pytest.approx(gains)
    low, high = promises([0.4, 0.4, 0.6, 0.6], [1e6, math.e * 1e6, 1e6, math.e * 1e6])[:2]
    assert high - low == pytest.approx(PER_E_FOLD * 0.2 / 1.349)
    assert np.mean(promises(gains, [1e5, 1e6, 1e7, 1e4])) == pytest.approx(np.mean(gains))
    failures = [0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert promises(failures, [1e5, 1e6, 1e7, 1e4] * 2) == pytest.approx(failures)
    assert promises([], []) == []
    assert promises([0.5], [0]) == [0.5]


def beside(point: dict[str, int]) -> float:
    return 2.0 * point["x0"]


def told(sampler: Predictor) -> optuna.Study:
    """A study whose scores say nothing of x0."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(30):
        trial = study.ask()
        point = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()}
        study.tell(trial, float(point["x1"]))
    return study


def test_points_are_proposed_and_named_by_their_outcome_and_what_is_known_beside_it() -> None:
    before, after = [], []
    for seed in range(3):
        knowing = Predictor(CHOICES, seed=seed, beside=beside)
        before += told(Predictor(CHOICES, seed=seed)).trials[12:]
        after += (study := told(knowing)).trials[12:]
        best = knowing.winner(study).params
        assert (best["x0"], best["x1"]) == (3, 3)
    x0, x1 = (np.mean([[trial.params[x] for trial in of] for of in (before, after)], axis=1) for x in ("x0", "x1"))
    assert x0[1] > x0[0] + 0.5
    assert x1[1] > 2


def test_a_search_asks_for_more_activations(tmp_path: Path) -> None:
    """Told equal scores, so that what is known beside them decides."""
    space, found = Space.load("mobile"), []
    for horizon, seed in itertools.product((False, True), range(3)):
        design = Design(space, Budget.parse("30MFLOPs"), controls=12, seed=seed, horizon=horizon)
        study = Study.begin(tmp_path / f"{horizon}{seed}", design)
        for number in range(18):
            trial = study.ask()
            if number >= 12:
                found.append(trial.cost.activations)
            study.tell(trial, score=0.5)
    assert np.mean(found[18:]) > 1.1 * np.mean(found[:18])


def test_finalists_are_those_who_promise_most() -> None:
    def trial(number: int, score: float, activations: int, role: str = "search"):  # type: ignore[no-untyped-def]
        cost = Cost(30_000_000, 10**5, activations, 10**6)
        baseline = "rexnet_100" if role == "baseline" else ""
        return record(number, score=score, role=role, digest=str(number), baseline=baseline, cost=cost)

    trials = [trial(n, 0.5 + n / 100, 10**6) for n in range(6)] + [trial(6, 0.5, 10**7)]
    trials += [trial(10, 0.4, 10**6, "baseline"), trial(11, 0.39, 10**7, "baseline"), trial(20, 0.3, 10**6, "control")]
    assert [one.number for one in contenders(trials, 1)] == [5, 10, 20]
    assert [one.number for one in contenders(trials, 1, by_horizon=True)] == [6, 11, 20]


def test_who_promises_as_much_is_not_stopped_early(tmp_path: Path) -> None:
    rule = EarlyStopping(6)
    for horizon in (False, True):
        design = Design(Space.load("mobile"), Budget.parse("30MFLOPs"), controls=20, horizon=horizon)
        study = Study.begin(tmp_path / str(horizon), design)
        for number in range(8):
            study.report(trial := study.ask(), Result(epoch=rule.rung, score=0.5 + number / 100))
            study.tell(trial, score=0.6)
        few = study.ask()
        many = replace(few, cost=replace(few.cost, activations=100 * few.cost.activations))
        behind = [study.is_behind(one, Result(epoch=rule.rung, score=0.5), rule) for one in (few, many)]
        assert behind == ([True, False] if horizon else [True, True])


def test_who_looks_so_far() -> None:
    assert config().identity.horizon
    assert config("--budget", "8MB").identity.horizon
    assert config("--warm-start", "runs/a").identity.horizon
    for words in (["--no-prior"], ["--sampler", "tpe"], ["--minimize", "params"], ["--evaluate", "a:b"]):
        assert not config(*words).identity.horizon
    within = search_options.parser().parse_args(["--budget", "300kParams"])
    assert not search_options.config_from_args(within).identity.horizon


def test_a_run_keeps_how_far_it_looks(tmp_path: Path) -> None:
    old = tmp_path / "old"  # of before there was a horizon
    old.mkdir()
    begun = config()
    replace(begun, identity=replace(begun.identity, horizon=False)).save(old)
    text = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(text.replace("  horizon: false\n", ""))
    args = search_options.parser().parse_args([*WORDS, "--run", str(old)])
    assert not resume.carry_on(args, old, SearchConfig.load(old)).identity.horizon
    assert resume.carry_on(args, old, begun).identity.horizon
    with open_study(tmp_path / "new", begun) as study:
        assert study.design.foresight is not None
    shared = [shared_identity(one, begun.space) for one in (begun, SearchConfig.load(old))]
    assert [one.get("horizon") for one in shared] == [True, None]
    assert StudyLocation(old).url == ""


def test_a_design_that_cannot_look_so_far_is_refused() -> None:
    space = Space.load("mobile")
    with pytest.raises(InputError, match="horizon: teaches the sampler predictor"):
        Design(space, Budget.parse("30MFLOPs"), sampler="tpe", horizon=True)
    with pytest.raises(InputError, match="within a limit of multiply-adds alone"):
        Design(space, Budget.parse("300kParams"), horizon=True)


def test_where_parameters_are_limited_too_the_tighter_limit_tells() -> None:
    space, rng, budget = Space.load("mobile"), random.Random(0), Budget.parse(["30MFLOPs", "300kParams"])
    foresight = Foresight(space, budget)
    made = [space.sample_point(rng, budget) for _ in range(30)]
    assert min(one.cost.macs for one in made) < 25e6  # parameters are what is scarce there
    found, true = [foresight.activations(one.point) for one in made], [one.cost.activations for one in made]
    assert spearman(np.array(found), np.array(true)) > 0.9
    assert np.median(np.abs(np.log(np.array(found) / np.array(true)))) < 0.15
    for text in (["30MFLOPs", "12ms"], ["300kParams"]):
        assert not Budget.parse(text).counts_macs
