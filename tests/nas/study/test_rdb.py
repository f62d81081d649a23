"""What our storage reads is what Optuna's own reads; and what trials share is there once."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
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
