"""Local search: a single change to the best point, until something is better."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.samplers.evolution import Evolution, fittest


class Local(Evolution):
    """One mutation of the best trial so far; random for the first `start` trials."""

    def __init__(self, start: int = 10, seed: int | None = None) -> None:
        super().__init__(population=start, seed=seed)

    def parent(self, study: Study, complete: list[FrozenTrial]) -> FrozenTrial:
        return fittest(study, complete)
