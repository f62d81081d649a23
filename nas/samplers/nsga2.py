"""NSGA-II whose generations follow from the trials' order, not from notes on them: it can start afresh at any ask."""

from __future__ import annotations

from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class Generations(NSGAIISampler):
    """Optuna's NSGA-II; every `population_size` complete trials in a row are a generation."""

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Called by NSGA-II for the trial that asks."""
        return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) // (self.population_size or 1)

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Called by NSGA-II for the generation before, and so on back to the first."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        size = self.population_size or 1
        return complete[generation * size : (generation + 1) * size]
