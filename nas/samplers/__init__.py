"""Samplers: what proposes the next point. Each name makes a plain Optuna sampler from a seed."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    # The controls are its random start, so it models from its first own proposal on.
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=1),
}
