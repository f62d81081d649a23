"""What is used of Optuna that is not public means what it is used for."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import RDBStorage

from nas.samplers import optuna_private as private


def test_the_installed_version_was_tried() -> None:
    assert optuna.__version__.startswith(f"{private.TRIED}."), "try the new one, then raise TRIED and the ceiling"


def test_every_private_name_means_what_it_is_used_for(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats are called experimental
        storage = RDBStorage(f"sqlite:///{tmp_path / 'study.db'}", heartbeat_interval=60)
        other = optuna.create_study(storage=storage, study_name="other")
        study = optuna.create_study(storage=storage, study_name="mine")
        trial = study.ask({"x": optuna.distributions.CategoricalDistribution([1, 2])})
    kept = private.storage_of(study)
    assert kept.get_study_name_from_id(private.study_id(study)) == "mine"
    assert kept.get_trial(private.trial_id(trial)).number == trial.number
    assert private.backend_of(kept) is storage
    assert private.study_id(other) != private.study_id(study)
    frozen = kept.get_trial(private.trial_id(trial))
    shown = private.with_attributes(frozen, {"a": 1}, {"b": 2})
    assert (shown.user_attrs, shown.system_attrs["b"], frozen.user_attrs) == ({"a": 1}, 2, {})
    assert private.frozen_study("n", {}, {}, 1, study.directions).study_name == "n"
    assert not private.is_optimizing(study)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        fixing = optuna.samplers.PartialFixedSampler({"x": 1}, optuna.samplers.RandomSampler())
    fixed = optuna.create_study(sampler=fixing, storage=storage)
    fixed.enqueue_trial({"y": 2})
    fixed.optimize(lambda trial: float(private.is_optimizing(fixed)), n_trials=1)
    assert fixed.best_value == 1
    bracket = optuna.pruners._filter_study(optuna.create_study(pruner=optuna.pruners.HyperbandPruner()), frozen)
    assert (type(bracket).__name__, type(private.whole_study(bracket))) == ("_BracketStudy", optuna.Study)
    assert private.fixed_params(fixed, fixed.trials[0]) == {"x": 1, "y": 2}
    assert private.heartbeats(storage, private.study_id(study)) == {}
    assert private.models().StudyModel.__tablename__ == "studies"
    assert {"TrialModel", "StudyUserAttributeModel", "TrialHeartbeatModel"} <= set(dir(private.models()))
    assert not private.has_constraints(frozen)
    trial.set_constraint("memory", 1.0)
    assert private.has_constraints(kept.get_trial(private.trial_id(trial)))
    assert private.hypervolume(np.array([[0.5, 0.5]]), np.ones(2)) == 0.25


def test_trials_are_read_and_made_by_the_methods_that_are_overridden() -> None:
    names = list(inspect.signature(RDBStorage._get_trials).parameters)
    assert names == ["self", "study_id", "states", "included_trial_ids", "trial_id_greater_than"]
    names = list(inspect.signature(RDBStorage._get_prepared_new_trial).parameters)
    assert names == ["self", "study_id", "template_trial", "session"]
