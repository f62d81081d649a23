"""What our storage reads is what Optuna's own reads; and what trials share is there once."""

from __future__ import annotations

import copy
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from nas.samplers import optuna_private as private
from nas.study.rdb import BATCH, Storage
from nas.study.storage import load
from nas.trial import Result
from tests.nas.study.test_study import advance, opened


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of every state, with and without values, scores and attributes."""
    run = tmp_path_factory.mktemp("rdb") / "run"
    with opened(run, minimize=["macs"], baselines=2) as study:
        advance(study, 6)
        study.tell(study.ask(), error="out of memory")
        trial = study.ask()
        study.report(trial, Result(epoch=1, score=0.25, loss=float("nan")))
        study.tell(trial, pruned=True, note={"a": [1, None]})
        running = study.ask()
        study.report(running, Result(epoch=1, score=0.5, loss=1.0))
        study.optuna.add_trial(  # whose choices are equal and not the same
            optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                value=0.5,
                params={"x": True, "y": 1, "z": 0.5},
                distributions={
                    "x": optuna.distributions.CategoricalDistribution((False, True)),
                    "y": optuna.distributions.CategoricalDistribution((0, 1)),
                    "z": optuna.distributions.FloatDistribution(0, 1),
                },
                user_attrs=study.trials[0].user_attrs,
                system_attrs={"constraints": [1.0]},
            )
        )
        study.drivers.take(private.trial_id(study.trials[running.number]))
    return run


def both(run: Path) -> tuple[Storage, optuna.storages.RDBStorage]:
    url = f"sqlite:///{run / 'study.db'}"
    return Storage(url, skip_table_creation=True), optuna.storages.RDBStorage(url, skip_table_creation=True)


def shown(trials: list[FrozenTrial]) -> list[dict[str, str]]:
    """As text, since a loss of NaN equals no other; dictionaries in the order of their keys."""
    return [
        {
            name: repr(sorted(value.items(), key=repr) if isinstance(value, dict) else value)
            for name, value in vars(trial).items()
        }
        for trial in trials
    ]


@pytest.mark.parametrize("states", [None, (TrialState.COMPLETE,), (TrialState.RUNNING, TrialState.FAIL)])
@pytest.mark.parametrize(("included", "later"), [((), -1), ((1, 3), 5), ((9,), 9), ((), 100)])
def test_it_reads_what_optuna_reads(
    states: tuple[TrialState, ...] | None, included: tuple[int, ...], later: int, run: Path
) -> None:
    ours, theirs = (one._get_trials(1, states, set(included), later) for one in both(run))
    assert shown(ours) == shown(theirs)
    assert [[type(value) for value in trial.params.values()] for trial in ours] == [
        [type(value) for value in trial.params.values()] for trial in theirs
    ]


def test_every_batch_is_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BATCH > 10
    monkeypatch.setattr("nas.study.rdb.BATCH", 3)
    ours, theirs = (one._get_trials(1, None, set(), -1) for one in both(run))
    assert shown(ours) == shown(theirs)


def test_what_trials_share_is_there_once(run: Path) -> None:
    trials = [trial for trial in both(run)[0]._get_trials(1, None, set(), -1) if "z" not in trial.params]
    first, other = [trial for trial in trials if trial.params][:2]
    assert all(first.distributions[name] is kind for name, kind in other.distributions.items())


def test_a_study_is_read_by_it(run: Path) -> None:
    assert isinstance(private.backend_of(private.storage_of(load(run))), Storage)


def test_it_makes_the_trials_that_optuna_makes(run: Path, tmp_path: Path) -> None:
    """Byte for byte, but for the times at which they were begun."""
    template = copy.deepcopy(both(run)[0]._get_trials(1, (TrialState.RUNNING,), set(), -1)[0])
    template._system_attrs, template.datetime_start = {"constraints": [1.0]}, datetime(2026, 1, 1)
    template._intermediate_values = {}
    for kind in (Storage, optuna.storages.RDBStorage):
        study = optuna.create_study(storage=kind(f"sqlite:///{tmp_path / kind.__name__}.db"))
        for _ in range(2):
            private.storage_of(study).create_new_trial(private.study_id(study), template)
    tables = ("trials", "trial_params", "trial_user_attributes", "trial_system_attributes")
    rows = []
    for kind in (Storage, optuna.storages.RDBStorage):
        with closing(sqlite3.connect(tmp_path / f"{kind.__name__}.db")) as database:
            rows.append([database.execute(f"select * from {table}").fetchall() for table in tables])
    assert rows[0] == rows[1]
    assert all(rows[0])


def test_many_statements_for_a_trial_are_few(tmp_path: Path) -> None:
    """Of 68 choices; Optuna has several for each of them, and a transaction for each attribute."""
    with opened(tmp_path / "run", space="mobile", budget="300MFLOPs") as study:
        trial, said = study.ask(), list[str]()
        engine = private.backend_of(private.storage_of(study.optuna)).engine  # type: ignore[attr-defined]
        sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *told: said.append(told[2]))
        study.ask()
        assert len(trial.point) > 60
        assert len(said) < 30, said
        said.clear()
        sqlalchemy.event.listen(engine, "commit", lambda *told: said.append("commit"))
        study.report(trial, Result(epoch=1, score=0.5, loss=1.0, train_loss=1.0, seconds=1.0))
        assert said.count("commit") == 2
