"""Samplers: what proposes the next point. Plain Optuna samplers, for any study over any space of choices.

    import optuna
    from nas.samplers import Predictor

    choices = {}  # parameter -> its values
    for block in range(7):
        choices |= {f"expansion{block}": [3, 4, 6], f"kernel{block}": [3, 5, 7]}
        choices |= {f"layers{block}": [2, 3, 4], f"se{block}": [False, True]}

    sampler = Predictor(choices, cost=macs, budget=300e6, seed=0)  # macs: {parameter: value} -> number
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(100):
        trial = study.ask()
        point = {name: trial.suggest_categorical(name, values) for name, values in choices.items()}
        study.tell(trial, train(point))  # macs(point) is 85 to 100 % of the budget, and no point comes twice

`Repaired` does the same for any other Optuna sampler. `SAMPLERS` holds them all by name, with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import optuna
from optuna.samplers import BaseSampler

from nas.samplers.domain import Choices, CostOf, ExhaustedError
from nas.samplers.evolution import Evolution
from nas.samplers.local_search import Local
from nas.samplers.nsga2 import Generations
from nas.samplers.point_sampler import PointSampler
from nas.samplers.predictor import Predictor
from nas.samplers.repaired import Repaired, seeded

__all__ = [
    "INNER",
    "SAMPLERS",
    "Evolution",
    "ExhaustedError",
    "Generations",
    "Local",
    "Predictor",
    "Proposing",
    "Repaired",
]


class Maker(Protocol):
    """A sampler for a space, inside a budget where there is one."""

    def __call__(
        self, choices: Choices, cost: CostOf | None = None, budget: float | None = None, seed: int = 0
    ) -> PointSampler: ...


def _repaired(make: Callable[[int], BaseSampler]) -> Maker:
    return partial(Repaired, make)


# What `Repaired` is put around.
INNER: dict[str, Callable[[int], BaseSampler]] = {
    "random": seeded(optuna.samplers.RandomSampler),
    # Its random start is enough of one at 12 trials, or the controls of a run: it models from then on.
    "tpe": seeded(optuna.samplers.TPESampler, n_startup_trials=10),
    "gp": seeded(optuna.samplers.GPSampler, deterministic_objective=False),
    "nsga2": seeded(Generations, population_size=20),
    "evolution": seeded(Evolution),
    "local": seeded(Local),
}

SAMPLERS: dict[str, Maker] = {
    **{name: _repaired(make) for name, make in INNER.items()},
    "predictor": Predictor,
    "auto": Predictor,
}
