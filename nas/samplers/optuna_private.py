"""Every name of Optuna's that is used and not public, in one place, so that an upgrade has one place to look at.

Tried with Optuna 5.0. `tests/nas/samplers/test_optuna_private.py` fails where one is gone or means something else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

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


def check_one_objective(sampler: BaseSampler, study: optuna.Study) -> None:
    sampler._raise_error_if_multi_objective(study)


def hypervolume(losses: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """The volume that is dominated by points of which less is better, up to a corner."""
    from optuna._hypervolume import compute_hypervolume

    return float(compute_hypervolume(losses, corner))


def models() -> Any:
    """The tables of Optuna's database."""
    from optuna.storages._rdb import models

    return models


def stale_trial_ids(storage: RDBStorage, study: int) -> list[int]:
    """The trials whose heartbeat has stopped."""
    return list(storage._get_stale_trial_ids(study))
