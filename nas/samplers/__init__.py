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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.samplers.by_name import INNER, SAMPLERS
    from nas.samplers.domain import ExhaustedError, OutOfReachError
    from nas.samplers.evolution import Evolution
    from nas.samplers.local_search import Local
    from nas.samplers.nsga2 import Generations
    from nas.samplers.point_sampler import PointSampler
    from nas.samplers.predictor import Predictor
    from nas.samplers.repaired import Repaired

__all__ = [
    "INNER",
    "NAMES",
    "SAMPLERS",
    "Evolution",
    "ExhaustedError",
    "Generations",
    "Local",
    "OutOfReachError",
    "PointSampler",
    "Predictor",
    "Repaired",
]

# The keys of `SAMPLERS`, for who only asks for names and need not wait for Optuna.
NAMES = ("random", "tpe", "gp", "nsga2", "evolution", "local", "predictor", "auto")
_HOMES = {
    "INNER": "by_name",
    "SAMPLERS": "by_name",
    "Evolution": "evolution",
    "ExhaustedError": "domain",
    "Generations": "nsga2",
    "Local": "local_search",
    "OutOfReachError": "domain",
    "PointSampler": "point_sampler",
    "Predictor": "predictor",
    "Repaired": "repaired",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"nas.samplers.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'nas.samplers' has no attribute {name!r}")
