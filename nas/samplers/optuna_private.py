"""Every name of Optuna's that is used and not public, in one place, so that an upgrade has one place to look at.

Tried with Optuna 5.0. `tests/nas/samplers/test_optuna_private.py` fails where one is gone or means something else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from numpy.typing import NDArray
from optuna.samplers import PartialFixedSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

TRIED = "5.0"


def storage_of(study: optuna.Study) -> BaseStorage:
    return study._storage


def study_id(study: optuna.Study) -> int:
    return study._study_id


def trial_id(trial: Any) -> int:
    """A trial's number in its storage, which is not that in its study."""
    number: int = trial._trial_id
    return number


def backend_of(storage: BaseStorage) -> BaseStorage:
    """The database behind Optuna's cache, where there is one."""
    found: BaseStorage = getattr(storage, "_backend", storage)
    return found


def with_attributes(trial: FrozenTrial, user: Mapping[str, Any], system: Mapping[str, Any]) -> FrozenTrial:
    """A copy of a trial with these user attributes, and with these system attributes beside its own."""
    shown = copy.copy(trial)
    shown._user_attrs = dict(user)
    shown._system_attrs = {**trial._system_attrs, **system}
    return shown


def frozen_study(
    name: str, user: dict[str, Any], system: dict[str, Any], number: int, directions: list[StudyDirection]
) -> Any:
    """What a storage answers for one of its studies."""
    from optuna.study._frozen import FrozenStudy

    return FrozenStudy(name, None, user, system, number, directions=directions)


def whole_study(study: optuna.Study) -> optuna.Study:
    """The study with all its trials: a sampler is shown those of one bracket where the pruner is Hyperband."""
    found: optuna.Study = getattr(study, "_study", study)
    return found


def is_optimizing(study: optuna.Study) -> bool:
    """Whether this thread is inside `study.optimize`, where alone `study.stop` may be called."""
    return bool(whole_study(study)._thread_local.in_optimize_loop)


def fixed_params(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """The values that `PartialFixedSampler` fixes for all trials of a study, or `enqueue_trial` for this one."""
    everywhere = study.sampler._fixed_params if isinstance(study.sampler, PartialFixedSampler) else {}
    return {**everywhere, **trial.system_attrs.get("fixed_params", {})}


def has_constraints(trial: FrozenTrial) -> bool:
    """Whether `trial.set_constraint` was called, at a tenth of what `trial.constraints` takes of a trial without."""
    return any(name.startswith("constraints") for name in trial._system_attrs)


def hypervolume(losses: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """The volume that is dominated by points of which less is better, up to a corner."""
    from optuna._hypervolume import compute_hypervolume

    return float(compute_hypervolume(losses, corner))


def transaction(storage: RDBStorage) -> AbstractContextManager[Any]:
    """A session of the database that commits at its end; what another driver wrote at the same time stays."""
    from optuna.storages._rdb.storage import _create_scoped_session

    return _create_scoped_session(storage.scoped_session, True)


def models() -> Any:
    """The tables of Optuna's database."""
    from optuna.storages._rdb import models

    return models


def heartbeats(storage: RDBStorage, study: int) -> dict[int, tuple[datetime, float]]:
    """The last heartbeat of every running trial that has one, and its age in seconds, both by the server's clock."""
    trial, beat = models().TrialModel, models().TrialHeartbeatModel
    query = sqlalchemy.select(beat.trial_id, beat.heartbeat, sqlalchemy.func.now()).join(trial)
    query = query.where(trial.study_id == study, trial.state == TrialState.RUNNING)
    with storage.engine.connect() as connection:
        rows = connection.execute(query).all()
    return {number: (at, (now.replace(tzinfo=None) - at).total_seconds()) for number, at, now in rows}
