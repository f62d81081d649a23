from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas.samplers import SAMPLERS, ExhaustedError
from nas.study.proposals import _failures_as_bad
from nas.study.records import trial_of, trial_records
from nas.study.storage import load
from nas.study.study import Study
from nas.trial import Result, Trial
from searchspace import Budget, InputError, Space, cost
from tests.searchspace.space.test_space import SMALL, points

SPACE = Space.load("rexnet")
BUDGET = Budget.parse("100MFLOPs")


def opened(run: Path, **changes: Any) -> Study:
    return Study.open(run, **{"space": SPACE, "budget": BUDGET, "controls": 3, "seed": 1, **changes})


def score(trial: Trial) -> float:
    """Any fixed function of the network."""
    return int(hashlib.sha256(trial.digest.encode()).hexdigest()[:6], 16) / 16**6


def advance(study: Study, count: int) -> list[str]:
    digests = []
    for _ in range(count):
        trial = study.ask()
        study.report(trial, Result(1, score(trial) / 2, loss=1.0, train_loss=1.0, images_per_s=9.0))
        study.tell(trial, score(trial))
        digests.append(trial.digest)
    return digests


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_same_seed_same_proposals_also_after_a_restart(tmp_path: Path, sampler: str) -> None:
    straight = advance(opened(tmp_path / "a", sampler=sampler), 10)
    with opened(tmp_path / "b", sampler=sampler) as begun:
        advance(begun, 6)
    resumed = opened(tmp_path / "b", sampler=sampler)
    assert straight[6:] == advance(resumed, 4)
    assert straight != advance(opened(tmp_path / "c", sampler=sampler, seed=2), 10)
    assert len(set(straight)) == 10


def test_everything_asked_is_inside_recorded_and_complete(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for index in range(8):
        trial = study.ask()
        assert 0.97 <= BUDGET.share_used(trial.cost) <= 1
        assert trial.cost == cost(trial.arch)
        assert trial.role == ("control" if index < 3 else "search")
        stored = study.trials[trial.number]
        assert stored.state == TrialState.RUNNING
        assert stored.params.keys() == SPACE.choices.keys()
        assert SPACE.arch(stored.params, trial.width_mult, trial.settled) == trial.arch
        assert Trial.of_text(trial.to_text()) == trial
        assert trial_of(stored) == trial
        study.tell(trial, score(trial))


def test_known_networks_come_first_and_once(tmp_path: Path) -> None:
    space = Space.load("resnet")
    study = opened(tmp_path, space=space, baselines=3, budget=Budget.parse("300MFLOPs"))
    lost = study.ask()
    assert (lost.role, lost.baseline) == ("baseline", "resnet18")
    study.close()
    study = opened(tmp_path, space=space, baselines=3, budget=Budget.parse("300MFLOPs"))
    trials = []
    for _ in range(7):
        trials.append(study.ask())
        study.tell(trials[-1], score(trials[-1]))
    assert trials[0].digest == lost.digest
    assert [t.baseline for t in trials] == ["resnet18", "resnet34", "resnet50", "", "", "", ""]
    assert [t.role for t in trials] == ["baseline"] * 3 + ["control"] * 3 + ["search"]
    assert all(t.point == space.known[t.baseline] and study.budget.share_used(t.cost) >= 0.97 for t in trials[:3])
    assert study.best.cost.macs <= 300e6
    assert (study.best.digest, study.best.baseline) in [(t.digest, t.baseline) for t in trials]


def test_a_known_network_that_does_not_fit_as_it_is_is_left_out(tmp_path: Path) -> None:
    entry = {"schedule.end": 24, "stage1.block": "mbconv", "stage1.depth": 1, "stage2.expansion": 4, "stage2.kernel": 3}
    space = Space({**SMALL, "known": {"mine": entry}}, "small")
    macs = space.cost(space.known["mine"]).macs
    study = opened(tmp_path / "a", space=space, baselines=1, budget=Budget.parse(f"{2 * macs}FLOPs"))
    assert study.ask().baseline == "mine"
    study = opened(tmp_path / "b", space=space, baselines=1, budget=Budget.parse(f"{macs - 1}FLOPs"))
    assert study.ask().baseline not in ("", "mine")  # a textbook network takes its place
    study = opened(tmp_path / "c", space=space, budget=Budget.parse(f"{macs - 1}FLOPs"))
    assert study.ask().role == "control"


def test_best_front_and_ties(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for accuracy, loss in ((0.5, 2.0), (0.9, 1.0), (0.9, 0.5), (0.2, 0.1)):
        trial = study.ask()
        study.report(trial, Result(epoch=1, score=accuracy, loss=loss))
        study.tell(trial, accuracy)
    assert study.best.number == 2
    macs = [trial.cost.macs for trial in study.front()]
    assert macs == sorted(macs)
    assert study.front()[-1].number in (1, 2)


def test_failures_and_pruning_are_outcomes(tmp_path: Path) -> None:
    study = opened(tmp_path)
    first, second, third, fourth = (study.ask() for _ in range(4))
    study.report(first, Result(epoch=1, score=0.3))
    study.tell(first, pruned=True)
    study.tell(second, error="out of memory: 5 GB")
    study.tell(third, math.nan)
    found = {outcome.number: outcome for outcome in study.records}
    assert (found[0].state, found[0].score, found[0].curve) == ("pruned", 0.3, {1: 0.3})
    assert (found[1].state, found[1].error) == ("failed", "out of memory: 5 GB")
    assert (found[2].state, found[2].error) == ("failed", "accuracy is nan")
    assert found[3].state == "running"
    assert study.finished == 3
    with pytest.raises(LookupError, match="no trial is complete"):
        _ = study.best
    study.tell(fourth, 0.5)
    assert study.best == fourth


def test_what_a_dead_run_left_is_asked_again_first(tmp_path: Path) -> None:
    straight = advance(opened(tmp_path / "straight"), 7)
    study = opened(tmp_path / "killed")
    advance(study, 4)
    lost = [study.ask(), study.ask()]
    study.close()
    again = opened(tmp_path / "killed")
    assert again.finished == 4
    assert not [t for t in again.trials if t.state == TrialState.RUNNING]
    retried = [again.ask(), again.ask()]
    assert [t.digest for t in retried] == [t.digest for t in lost]
    assert [t.role for t in retried] == [t.role for t in lost]
    for trial in retried:
        again.tell(trial, score(trial))
    assert again.finished == 6
    third = advance(again, 1)
    assert len(trial_records(load(tmp_path / "killed"))) == 7
    assert len({*straight[:4], *(t.digest for t in lost), *third}) == 7


def test_twice_interrupted_is_asked_once(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        lost = study.ask()
    with opened(tmp_path) as study:
        assert study.ask().digest == lost.digest
    study = opened(tmp_path)
    assert advance(study, 1) == [lost.digest]
    assert study.ask().digest != lost.digest


def test_a_network_that_kills_its_worker_is_given_up(tmp_path: Path) -> None:
    study = opened(tmp_path)
    first = study.ask()
    asked = [first]
    while study.interrupt(asked[-1]):
        asked.append(study.ask())
    assert [trial.digest for trial in asked] == [first.digest] * 3
    (lost,) = study.records
    assert (lost.state, lost.error) == ("failed", "its worker died 3 times (killed, or out of memory)")
    assert study.finished == 1
    assert study.ask().digest != first.digest


def test_a_run_that_is_stopped_loses_no_worker(tmp_path: Path) -> None:
    """Stopped three times, and then its worker dies once: the network is asked again."""
    with opened(tmp_path) as study:
        first = study.ask()
    for _ in range(3):
        with opened(tmp_path) as study:
            trial = study.ask()
    assert trial.digest == first.digest
    study = opened(tmp_path)
    trial = study.ask()
    assert study.interrupt(trial)
    assert study.ask().digest == first.digest


def test_a_failure_is_shown_to_samplers_as_no_better_than_the_worst(tmp_path: Path) -> None:
    study = opened(tmp_path)
    ends = [{"accuracy": 0.9}, {"pruned": True}, {"error": "out of memory"}]
    for end in ends:
        trial = study.ask()
        study.report(trial, Result(epoch=1, score=0.3))
        study.tell(trial, **end)  # type: ignore[arg-type]
    good, pruned, failed = _failures_as_bad(study.trials)
    assert (good.value, pruned.value, failed.value) == (0.9, 0.3, 0.3)


def test_choices_that_compare_equal_stay_what_they_are(tmp_path: Path) -> None:
    space = Space({**SMALL, "head": {"hidden_norm": {"choice": [False, True]}, "dropout": {"choice": [0.0, 0.5]}}}, "s")
    study = Study.open(tmp_path, space, Budget.parse("100GFLOPs"), band=0.0)
    asked = [study.ask().point for _ in range(4)]
    read = [trial.params for trial in load(tmp_path).get_trials()]
    assert read == asked
    assert all(type(a[name]) is type(b[name]) for a, b in zip(read, asked, strict=True) for name in a)


def test_what_fails_is_asked_less(tmp_path: Path) -> None:
    """Of random networks about a third fail here; what is asked after them fails less, though it scores no better."""
    study = opened(tmp_path, sampler="tpe", controls=20)
    failed = []
    for _ in range(40):
        trial = study.ask()
        failed.append(trial.point["schedule.kind"] == "linear")
        study.tell(trial, 0.5 + score(trial) / 2, error="out of memory: 7 GB" if failed[-1] else "")
    assert sum(failed[25:]) < 0.6 * 15 * sum(failed[:20]) / 20


def test_a_small_space_ends_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.study.proposals.DRAWS", 300)
    space = Space(SMALL, "small").fix(["stage2.expansion=4", "stage2.kernel=3"])
    study = opened(tmp_path, space=space, budget=Budget.parse("1-2MFLOPs"), sampler="random")
    inside = {arch.digest for arch in map(space.arch, points(space)) if study.budget.admits(cost(arch))}
    assert set(advance(study, len(inside))) == inside
    with pytest.raises(ExhaustedError, match="nothing new inside 1-2MFLOPs"):
        study.ask()


def test_refuses_another_search_and_what_is_no_study(tmp_path: Path) -> None:
    opened(tmp_path / "a")
    with pytest.raises(InputError, match="budget: 100MFLOPs → 90MFLOPs"):
        opened(tmp_path / "a", budget=Budget.parse("90MFLOPs"))
    with pytest.raises(InputError, match="sampler 'best': random"):
        opened(tmp_path / "a", sampler="best")
    with pytest.raises(InputError, match="no run folder"):
        load(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "study.db").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    with pytest.raises(InputError, match="file is not a database"):
        load(tmp_path / "c")


def test_is_an_ordinary_optuna_study(tmp_path: Path) -> None:
    advance(opened(tmp_path), 5)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(study.trials) == 5
    assert study.best_value == max(t.value or 0 for t in study.trials)


def test_scores_that_are_none_are_refused_and_leave_the_study_as_it_was(tmp_path: Path) -> None:
    """One that is not a number, once kept, would make the whole study unreadable."""
    with opened(tmp_path) as study:
        trial = study.ask()
        for wrong in (math.nan, math.inf, 7.0, -0.1, "x", None, [1]):
            with pytest.raises(InputError, match="accuracy: "):
                study.report(trial, Result(epoch=1, score=wrong))  # type: ignore[arg-type]
        for epoch in (0, -1, 1.5, "a", None, True, 10**12):
            with pytest.raises(InputError, match="epoch: a whole number from 1"):
                study.report(trial, Result(epoch=epoch, score=0.5))  # type: ignore[arg-type]
        for tell in (lambda: study.tell(3, 0.5), lambda: study.report(3, Result(epoch=1, score=0.5))):  # type: ignore[arg-type]
            with pytest.raises(InputError, match=r"(tell|report): a trial that ask\(\) returned is accepted, not 3"):
                tell()
        for total in ("x", 0, 2.0):
            with pytest.raises(InputError, match="ask: total, a whole number of trials from 1, is accepted, not"):
                study.ask(total)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"report: a Result\(epoch=…, score=…\) is accepted, not 0.5"):
            study.report(trial, 0.5)  # type: ignore[arg-type]
        for name, told in (
            ("arch", "zzz"),
            ("role", "best"),
            ("digest", "x"),
            ("error_", {1}),
            ("note", object()),
            ("n", "\ud800"),
        ):
            with pytest.raises(InputError, match=f"{name}: (is what the study keeps|plain data is accepted)"):
                study.tell(trial, 0.5, **{name: told})
        with pytest.raises(InputError, match="accuracy: one number is accepted"):
            study.tell(trial, np.array([0.5, 0.6]))  # type: ignore[arg-type]
        assert [record.state for record in study.records] == ["running"], "and can be told"
        assert study.tell(trial, accuracy=0.5, loss=0.1, note="mine")
        (record,) = study.records
        assert (record.score, record.loss, record.notes) == (0.5, 0.1, {"note": "mine"})
        with pytest.raises(InputError, match="trial 99: none of this study's, which has 1"):
            study.tell(replace(trial, number=99), 0.5)
    assert len(Study.read(tmp_path).records) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"band": math.nan}, "band: a share"),
        ({"band": 2}, "band: a share"),
        ({"band": -1}, "band: a share"),
        ({"seed": "a"}, "seed: a whole number"),
        ({"seed": 2**40}, "seed: a whole number"),
        ({"controls": -1}, "controls: a whole number"),
        ({"sampler": "best"}, "or a function is accepted"),
        ({"metric": "x:least"}, "metric"),
        ({"space": "moblie"}, "space 'moblie'"),
        ({"budget": "many"}, "budget 'many'"),
    ],
)
def test_a_study_is_not_begun_with_what_is_no_design(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        Study.open(tmp_path / "run", **{"space": SPACE, "budget": BUDGET, **options})
    assert not (tmp_path / "run").exists()


def test_a_space_and_a_budget_may_be_texts(tmp_path: Path) -> None:
    with Study.open(tmp_path, "rexnet", "300MFLOPs") as study:
        assert Budget.parse("300MFLOPs").admits(study.ask().cost)


def test_who_asks_and_tells_is_told_when_to_stop(tmp_path: Path) -> None:
    """The rule of a search: after a third of the epochs, behind the best third of at least six, never a known one."""
    with Study.open(tmp_path, SPACE, BUDGET, controls=20, epochs=6) as study:
        study.validation_images = 1000
        for number in range(8):
            trial = study.ask()
            assert not study.report(trial, Result(epoch=1, score=0.1)).stop
            told = study.report(trial, Result(epoch=2, score=0.9 if number < 7 else 0.2))
            assert told
            assert told.stop == (number == 7)
            study.tell(trial, pruned=told.stop, score=None if told.stop else 0.9)
        assert [record.state for record in study.records] == ["complete"] * 7 + ["pruned"]
    with pytest.raises(InputError, match="epochs: a whole number"):
        Study.open(tmp_path / "b", SPACE, BUDGET, epochs=0)


def test_a_score_told_where_report_said_stop_is_of_a_trial_stopped_early(tmp_path: Path) -> None:
    """And one that was trained on nevertheless is complete."""
    with Study.open(tmp_path / "run", "mobile", "100MFLOPs", epochs=6, controls=0) as study:
        behind = []
        for number in range(20):
            trial = study.ask()
            stop = study.report(trial, Result(epoch=2, score=0.9 - 0.02 * number)).stop
            if stop and behind:
                study.report(trial, Result(epoch=6, score=0.5))
            behind += [(trial.number, bool(behind))] if stop else []
            study.tell(trial, 0.5)
        states = {record.number: record.state for record in study.records}
        assert len(behind) > 1
        assert all(states[number] == ("complete" if on else "pruned") for number, on in behind)
        assert sum(state == "pruned" for state in states.values()) == 1
        with pytest.raises(InputError, match=r"tell: accuracy, pruned=True or error=… is accepted, not nothing"):
            study.tell(study.ask())


@pytest.mark.parametrize(
    "fields", [{"correct": 113}, {"loss": "x"}, {"seconds": "x"}, {"contended_ms": None}, {"images": -3}]
)
def test_fields_that_are_none_are_refused_and_leave_the_study_as_it_was(fields: dict[str, Any], tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        trial = study.ask()
        with pytest.raises(InputError, match=f"{next(iter(fields))}: "):
            study.report(trial, Result(epoch=1, score=0.5, **fields))
        study.report(trial, Result(epoch=np.int64(1), score=np.float32(0.5), loss=np.float32(0.7)))  # type: ignore[arg-type]
        study.tell(trial, 0.5)
    (kept,) = Study.read(tmp_path).records
    assert (kept.curve, round(kept.loss or 0, 4)) == ({1: 0.5}, 0.7)
