"""All samplers by the names that commands and studies know them by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import optuna
from optuna.samplers import BaseSampler

from nas.samplers.domain import Choices, CostOf
from nas.samplers.evolution import Evolution
from nas.samplers.local_search import Local
from nas.samplers.nsga2 import Generations
from nas.samplers.point_sampler import PointSampler
from nas.samplers.predictor import Predictor
from nas.samplers.repaired import Repaired, from_seed


class Maker(Protocol):
    """A sampler for a space, inside a budget where there is one."""

    def __call__(
        self,
        choices: Choices,
        cost: CostOf | None = None,
        budget: float | None = None,
        seed: int = 0,
        low: float = 0.85,
    ) -> PointSampler: ...


def _with_repair(make: Callable[[int], BaseSampler]) -> Maker:
    return partial(Repaired, make)


# What `Repaired` is put around.
INNER: dict[str, Callable[[int], BaseSampler]] = {
    "random": from_seed(optuna.samplers.RandomSampler),
    # Its random start is enough of one at 12 trials, or the controls of a run: it models from then on.
    "tpe": from_seed(optuna.samplers.TPESampler, n_startup_trials=10),
    "gp": from_seed(optuna.samplers.GPSampler, deterministic_objective=False),
    "nsga2": from_seed(Generations, population_size=20),
    "evolution": from_seed(Evolution),
    "local": from_seed(Local),
}

SAMPLERS: dict[str, Maker] = {
    **{name: _with_repair(make) for name, make in INNER.items()},
    "predictor": Predictor,
    "auto": Predictor,
}
