"""`Repaired`: any Optuna sampler, made to propose inside a budget and nothing twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.samplers import optuna_private as private
from nas.samplers.domain import Choices, CostOf, Point
from nas.samplers.observations import violation
from nas.samplers.point_sampler import PROPOSAL, History, PointSampler, copy_trial

LATEST = 200
BEST = 50


class Choice(CategoricalDistribution):
    """A categorical distribution that knows itself at once: a model compares every parameter of every trial."""

    __hash__ = CategoricalDistribution.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


def from_seed(kind: Callable[..., BaseSampler], **options: Any) -> Callable[[int], BaseSampler]:
    """What makes a sampler of this kind from a seed; unlike a lambda it can be pickled, and so can who holds it."""
    return partial(_make, kind, options)


def _make(kind: Callable[..., BaseSampler], options: Mapping[str, Any], seed: int) -> BaseSampler:
    return kind(seed=seed, **options)


class Repaired(PointSampler):
    """Proposals of another sampler, changed until they cost `low` to all of the budget.

    A fresh inner sampler, seeded from (`seed`, trial number), is shown at most 250 trials at every ask: the latest
    200 and the best 50 of those before. What Optuna records, and the inner sampler learns from, is what was proposed
    after the repair. Without `cost` and `budget` nothing is repaired, but still nothing proposed twice.
    """

    def __init__(
        self,
        make_sampler: Callable[[int], BaseSampler],
        choices: Choices,
        cost: CostOf | None = None,
        budget: float | None = None,
        seed: int = 0,
        low: float = 0.85,
    ) -> None:
        super().__init__(choices, cost, budget, seed, low)
        self.make_sampler = make_sampler
        self._scratch = {name: Choice(values) for name, values in self.domain.choices.items()}

    def propose(self, study: Study, trial: FrozenTrial, known: History, rng: random.Random) -> Point:
        """The inner sampler's point, in a study of its own that holds the latest and the best trials."""
        storage = InMemoryStorage()
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # nobody asked for this study, or wants to read of it
        number = storage.create_new_study(study.directions, "scratch")
        optuna.logging.set_verbosity(verbosity)
        for other in latest_and_best(study, known.trials):
            storage.create_new_trial(number, copy_trial(other, self._params(other), self._scratch))
        sampler = self.make_sampler(rng.getrandbits(32))
        scratch = optuna.load_study(study_name="scratch", storage=storage, sampler=sampler)
        asked = scratch.ask(dict(self._scratch))
        for name, value in storage.get_trial(private.trial_id(asked)).system_attrs.items():
            self._keep(study, trial, name, value)
        return {name: asked.params[name] for name in self.domain.choices}

    def _params(self, trial: FrozenTrial) -> Point:
        return {name: trial.params[name] for name in self.domain.choices}

    def _keep(self, study: Study, trial: FrozenTrial, name: str, value: Any) -> None:
        """What an inner sampler notes on a trial (NSGA-II: its generation), unless it is the unrepaired point."""
        if name != PROPOSAL and not name.startswith("tpe"):
            private.storage_of(study).set_trial_system_attr(private.trial_id(trial), name, value)


def latest_and_best(study: Study, known: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that a model needs, in their order: a bounded number, so that an ask costs the same for ever."""
    useful = [trial for trial in known if trial.state != TrialState.FAIL]
    early, late = useful[:-LATEST], useful[-LATEST:]
    if len(study.directions) > 1:
        return late
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    complete = [trial for trial in early if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: (violation(trial), sign * trial.values[0]))[:BEST]
    return sorted(best, key=lambda trial: trial.number) + late
