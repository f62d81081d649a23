"""`PointSampler`: what our samplers share. Whole points, none twice, the same again after a restart."""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna import TrialPruned
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.samplers import optuna_private as private
from nas.samplers.domain import Choices, CostOf, Domain, ExhaustedError, Key, OutOfReachError, Point
from nas.samplers.observations import Observations, lessons
from nas.samplers.taken import Taken
from searchspace.errors import InputError

PROPOSAL = "nas:proposal"
REPLICATE = "nas:replicate"  # the number of the trial that one evaluates once more
# One proposal at a time in a process, so that threads of `optimize(n_jobs=8)` see what the others took.
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class History:
    """The trials of a study that are whole points of a space, each with its key, and the points that they took."""

    trials: list[FrozenTrial]
    keys: list[Key]
    taken: Taken
    maximize: bool

    @cached_property
    def lessons(self) -> Observations:
        """What they teach a model."""
        return lessons(self.trials, self.maximize)


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

    def replicate(self, trial: FrozenTrial, known: History, new: Point | None, used_up: bool) -> FrozenTrial | None:
        """The trial whose point this one evaluates once more, on purpose; None for a new point, as always here. `new`
        is the point that was proposed; None before there is one. Where the space is `used_up` there is none, and the
        study ends."""
        return None

    def check(self, study: Study) -> None:
        """`InputError` for a study that the sampler cannot serve. Called before anything is sampled."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: `sample_independent` hands out the choices, since it is told how each is suggested."""
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Called when a trial starts. Optuna asks no sampler in a space of one point, so this raises `ExhaustedError`
        once that is taken."""
        if self.domain.size == 1:
            rng = random.Random(0)
            self.domain.fresh(self.domain.draw(rng), self._history(study, trial).taken, rng)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Called when a trial ends: where there is no choice, `study.optimize` ends with its first."""
        if self.domain.size == 1 and state == TrialState.COMPLETE and private.is_optimizing(study):
            study.stop()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Proposes a new point inside the budget and stores it. Called by Optuna at the trial's first suggestion.

        Raises `OutOfReachError` where nothing is inside the budget, `ExhaustedError` where nothing new is left;
        `study.optimize` then ends without an error, and its last trial is pruned.
        """
        self.check(study)
        with ONE_AT_A_TIME:
            try:
                self._propose_new(study, trial)
            except OutOfReachError:
                raise
            except ExhaustedError as error:
                if not private.is_optimizing(study):
                    raise
                if "fixed_params" not in trial.system_attrs:  # other values may be left beside those of one trial
                    study.stop()
                raise TrialPruned(str(error)) from error
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value proposed for a choice. Another parameter of the study is sampled by Optuna's univariate TPE; a
        replicate has that of the trial that it repeats.

        Raises `InputError` where a choice is not suggested as one.
        """
        self.check(study)
        if param_name in self.domain.choices:
            if param_distribution != self.distributions[param_name]:
                accepted = f"suggest_categorical({param_name!r}, {list(self.domain.choices[param_name])})"
                raise InputError(
                    f"{param_name} is one of the sampler's choices: {accepted} is accepted, not {param_distribution}"
                )
            return self._stored_point(trial)[param_name]
        if REPLICATE in trial.system_attrs:
            first = trial_of_number(study, trial.system_attrs[REPLICATE])
            if first and first.distributions.get(param_name) == param_distribution:
                return first.params[param_name]
        draw = random.Random(f"{self.seed} {trial.number} {param_name}").getrandbits(32)
        return TPESampler(seed=draw, multivariate=False).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _propose_new(self, study: Study, trial: FrozenTrial) -> None:
        """Stores a point that no other trial has, also where other processes propose in the same study.

        Of two that propose the same at once, the one that looks last sees what the other has stored.
        """
        known, rng = self._history(study, trial), random.Random(f"{self.seed} {trial.number}")
        fixed = {n: v for n, v in private.fixed_params(study, trial).items() if n in self.domain.choices}
        domain = self._domain(fixed)
        if len(fixed) == len(domain.choices):  # queued as a whole
            self._store(study, trial, fixed)
            return
        again = None if fixed else self.replicate(trial, known, None, used_up=False)
        while again is None:
            try:
                point = domain.fresh({**self.propose(study, trial, known, rng), **fixed}, known.taken, rng)
            except ExhaustedError:
                again = None if fixed else self.replicate(trial, known, None, used_up=True)
                if again is None:
                    raise
                break
            again = None if fixed else self.replicate(trial, known, point, used_up=False)
            if again is not None:
                break
            if not self._is_taken(study, trial, self._store(study, trial, point)):
                return
            known = self._history(study, trial)
            known.taken.add(self.domain.key(point))
        private.storage_of(study).set_trial_system_attr(private.trial_id(trial), REPLICATE, again.number)
        self._store(study, trial, again.params)

    def _store(self, study: Study, trial: FrozenTrial, point: Mapping[str, Any]) -> list[int]:
        """Keeps what is proposed for a trial, as the number of every choice's value."""
        indices = [values.index(point[name]) for name, values in self.domain.choices.items()]
        private.storage_of(study).set_trial_system_attr(private.trial_id(trial), PROPOSAL, indices)
        return indices

    def _is_taken(self, study: Study, trial: FrozenTrial, indices: list[int]) -> bool:
        """Whether the same was proposed meanwhile for another trial."""
        trials = private.whole_study(study).get_trials(deepcopy=False)
        return any(other.system_attrs.get(PROPOSAL) == indices for other in trials if other.number != trial.number)

    def _domain(self, fixed: Point) -> Domain:
        """The space of a trial of which some values are fixed."""
        if not fixed:
            return self.domain
        for name, value in fixed.items():
            if value not in self.domain.choices[name]:
                raise InputError(f"{name}: {list(self.domain.choices[name])} are accepted, not {value!r}")
        choices = {n: (fixed[n],) if n in fixed else values for n, values in self.domain.choices.items()}
        whole = self.domain
        return Domain(choices, whole.cost_of, whole.budget if whole.cost_of else None, whole.low)

    def _history(self, study: Study, trial: FrozenTrial | None = None) -> History:
        """The other trials as points of this space, without what else they have; one in flight as it was proposed."""
        trials, keys, taken = [], [], Taken(self.domain.choices)
        for other in private.whole_study(study).get_trials(deepcopy=False):
            seen = None if trial and other.number == trial.number else self._as_point(other)
            if seen is None:
                continue
            key = self.domain.key(seen.params)
            if self.domain.holds(key):
                taken.add(key)
                asked = {name: value for name, value in other.params.items() if name in self.domain.choices}
                if 0 < len(asked) < len(self.domain.choices) and came_to_a_score(other):
                    taken.add_part(asked)
                if other.state != TrialState.WAITING:
                    trials.append(seen)
                    keys.append(key)
        return History(trials, keys, taken, study.directions[0] == StudyDirection.MAXIMIZE)

    def _as_point(self, trial: FrozenTrial) -> FrozenTrial | None:
        """The trial with the choices of this space as its only parameters; None where it is no point of the space."""
        names = self.domain.choices.keys()
        if trial.params.keys() == names:
            return trial
        # The study may have other parameters too, such as a learning rate. Where choices are missing, they are not
        # recorded yet, or are suggested under a condition.
        whole = trial.params.keys() > names
        point = (
            {name: trial.params[name] for name in names}
            if whole
            else self._stored_point(trial) or self._queued_point(trial)
        )
        return copy_trial(trial, point, self.distributions) if point else None

    def _stored_point(self, trial: FrozenTrial) -> Point:
        """What was proposed for a trial, as it was stored then; empty where it was no proposal of this space."""
        indices, choices = trial.system_attrs.get(PROPOSAL, ()), self.domain.choices
        if len(indices) != len(choices):
            return {}
        pairs = list(zip(indices, choices.items(), strict=True))
        if any(index >= len(values) for index, (_, values) in pairs):
            return {}
        return {name: values[index] for index, (name, values) in pairs}

    def _queued_point(self, trial: FrozenTrial) -> Point:
        """The point that a trial was queued with; empty where that does not fix every choice."""
        fixed = trial.system_attrs.get("fixed_params", {})
        return {name: fixed[name] for name in self.domain.choices} if fixed.keys() >= self.domain.choices.keys() else {}


def trial_of_number(study: Study, number: int) -> FrozenTrial | None:
    """A trial of the study by its number, which is not its place where others were deleted from the database."""
    trials = private.whole_study(study).get_trials(deepcopy=False)
    return next((trial for trial in trials if trial.number == number), None)


def came_to_a_score(trial: FrozenTrial) -> bool:
    """Whether a trial was asked for all that it needs: it is complete, or was pruned after a step."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.PRUNED and bool(trial.intermediate_values))


def check_one_objective(sampler: BaseSampler, study: Study) -> None:
    """`InputError` for a study of several objectives."""
    if len(study.directions) > 1:
        instead = 'SAMPLERS["tpe"] and SAMPLERS["nsga2"] of nas.samplers take several'
        raise InputError(
            f"{type(sampler).__name__}: one objective is accepted, and the study has {len(study.directions)}; {instead}"
        )


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
