"""`Proposing`: what our samplers share. Whole points, none twice, the same again after a restart."""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.samplers import optuna_private as private
from nas.samplers.domain import Choices, CostOf, Domain, Key, Point

PROPOSAL = "nas:proposal"
# One proposal at a time in a process, so that threads of `optimize(n_jobs=8)` see what the others took.
ONE_AT_A_TIME = threading.Lock()


class History(NamedTuple):
    """The trials of a study that are whole points of a space, and the points that they took."""

    trials: list[FrozenTrial]
    taken: set[Key]


class PointSampler(BaseSampler):
    """An Optuna sampler that proposes one whole point of a known space at a trial's first suggestion.

    It keeps no state of its own: a proposal is a function of the seed, the trial's number and the recorded trials.
    """

    def __init__(
        self, choices: Choices, cost: CostOf | None, budget: float | None, seed: int, low: float = 0.85
    ) -> None:
        self.domain = Domain(choices, cost, budget, low)
        self.seed = seed
        self.distributions = {name: CategoricalDistribution(values) for name, values in self.domain.choices.items()}

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, known: History, rng: random.Random) -> Point:
        """A point, not yet repaired or new. Called once a trial; `known` are the other trials."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space. Called by Optuna right before `sample_relative`."""
        return dict(self.distributions)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Called when a trial starts. Optuna asks no sampler where there is no choice, so that ends here."""
        if self.domain.size == 1:
            rng = random.Random(0)
            self.domain.fresh(self.domain.drawn(rng), self._known(study, trial).taken, rng)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A new point inside the budget. Called by Optuna at the trial's first suggestion.

        Raises `ExhaustedError` where nothing new is left.
        """
        with ONE_AT_A_TIME:
            known = self._known(study, trial)
            rng = random.Random(f"{self.seed} {trial.number}")
            domain, fixed = self._domain(trial), trial.system_attrs.get("fixed_params", {})
            point = {
                **self.propose(study, trial, known, rng),
                **{n: fixed[n] for n in self.domain.choices if n in fixed},
            }
            point = domain.fresh(point, known.taken, rng)
            indices = [values.index(point[name]) for name, values in self.domain.choices.items()]
            private.storage_of(study).set_trial_system_attr(private.trial_id(trial), PROPOSAL, indices)
        return point

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Any value. Called by Optuna for a parameter that is not among the choices."""
        draw = random.Random(f"{self.seed} {trial.number} {param_name}").getrandbits(32)
        return RandomSampler(seed=draw).sample_independent(study, trial, param_name, param_distribution)

    def _domain(self, trial: FrozenTrial) -> Domain:
        """The space of one trial: `enqueue_trial` may have fixed some of its values."""
        fixed = trial.system_attrs.get("fixed_params", {})
        if not fixed:
            return self.domain
        choices = {n: (fixed[n],) if n in fixed else values for n, values in self.domain.choices.items()}
        whole = self.domain
        return Domain(choices, whole.cost_of, whole.budget if whole.cost_of else None, whole.low)

    def _known(self, study: Study, trial: FrozenTrial) -> History:
        """The other trials as points of this space, without what else they have; one in flight as it was proposed."""
        trials, taken = [], set()
        for other in study.get_trials(deepcopy=False):
            seen = None if other.number == trial.number else self._as_point(other)
            if seen is None:
                continue
            values = self.domain.key(seen.params)
            if self.domain.holds(values):
                trials.append(seen)
                taken.add(values)
        return History(trials, taken)

    def _as_point(self, trial: FrozenTrial) -> FrozenTrial | None:
        """The trial with the choices of this space as its only parameters; None where it is no point of the space."""
        names = self.domain.choices.keys()
        if trial.params.keys() == names:
            return trial
        # The study may have other parameters too, such as a learning rate. Where choices are missing, they are not
        # recorded yet, or are suggested under a condition.
        whole = trial.params.keys() > names
        point = {name: trial.params[name] for name in names} if whole else self._proposed(trial)
        return copy_trial(trial, point, self.distributions) if point else None

    def _proposed(self, trial: FrozenTrial) -> Point:
        """What was proposed for a trial, as it was stored then; empty where it was no proposal of this space."""
        indices, choices = trial.system_attrs.get(PROPOSAL, ()), self.domain.choices
        if len(indices) != len(choices):
            return {}
        pairs = list(zip(indices, choices.items(), strict=True))
        if any(index >= len(values) for index, (_, values) in pairs):
            return {}
        return {name: values[index] for index, (name, values) in pairs}


class Replayed(FrozenTrial):
    """A trial that may be shared: a study in memory copies every trial it is given, which is slow."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Replayed:
        copied = Replayed.__new__(Replayed)
        copied.__dict__.update(self.__dict__)
        return copied


def copy_trial(
    trial: FrozenTrial, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> Replayed:
    """The same outcome with these parameters alone."""
    return Replayed(
        number=trial.number,
        trial_id=private.trial_id(trial),
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs={},
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )
