"""Regularised evolution (Real et al. 2019, algorithm 1): the young live, the best of a few of them has a child."""

from __future__ import annotations

import random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.point_sampler import check_one_objective


class Evolution(BaseSampler):
    """One mutation of the best of `sample` trials out of the last `population`; random until there are so many.

    Categorical parameters only, like every search space here. It knows no budget: wrap it in `Repaired` for one.
    """

    def __init__(self, population: int = 20, sample: int = 5, seed: int | None = None) -> None:
        self.population, self.sample = population, min(sample, population)
        self._rng = random.Random(seed)
        self._random = RandomSampler(seed=self._rng.getrandbits(32))
        self._space = IntersectionSearchSpace()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The choices that all complete trials have. Called by Optuna right before `sample_relative`.

        Raises `InputError` for a study of several objectives.
        """
        check_one_objective(self, study)
        found = self._space.calculate(study).items()
        return {name: kind for name, kind in found if isinstance(kind, CategoricalDistribution) and not kind.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A child, or nothing while the population is small. Called by Optuna at the trial's first suggestion."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not search_space or len(complete) < self.population:
            return {}
        return self.child(self.parent(study, complete), search_space)

    def parent(self, study: Study, complete: list[FrozenTrial]) -> FrozenTrial:
        return fittest(study, self._rng.sample(complete[-self.population :], self.sample))

    def child(self, parent: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """The parent with one choice made anew."""
        params = {name: parent.params[name] for name in search_space}
        name = self._rng.choice(list(search_space))
        kind = search_space[name]
        assert isinstance(kind, CategoricalDistribution)
        params[name] = self._rng.choice([value for value in kind.choices if value != params[name]])
        return params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value. Called by Optuna for each parameter that `sample_relative` left out."""
        check_one_objective(self, study)
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def fittest(study: Study, trials: list[FrozenTrial]) -> FrozenTrial:
    """The complete trial with the best value, the earliest of equals."""
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    return min(trials, key=lambda trial: sign * trial.values[0])
