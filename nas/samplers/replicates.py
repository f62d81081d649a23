"""The end of a known number of trials: the finalists are evaluated once more, since the best score is luck in part.

As `nas.study.finals` for a search, but in any Optuna study, and with trials like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from nas.samplers.domain import Key
from nas.samplers.encoding import Array

FIRST = 0.5  # of the trials; before that no point is evaluated once more
TRIALS_PER_REPLICATE = 10
FEWEST_TRIALS = 50  # of fewer none is spared: a new point gains more
PRIOR_WEIGHT = 2  # degrees of freedom that what is believed of the noise counts for
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)  # of a normal variable, for its expectation of a function


def number_of_replicates(trials: int | None) -> int:
    """How many of so many trials are replicates at least, the last ones; none where the number is not known."""
    return trials // TRIALS_PER_REPLICATE if trials and trials >= FEWEST_TRIALS else 0


def is_replicate(number: int, trials: int | None) -> bool:
    """Whether the trial of this number is one of them."""
    return trials is not None and trials - number_of_replicates(trials) <= number < trials


def may_be_replicate(number: int, trials: int | None) -> bool:
    """Whether the trial of this number is a replicate where that tells more than a new point."""
    return number_of_replicates(trials) > 0 and trials is not None and FIRST * trials <= number < trials


def knowledge_gradient(mean: Array, covariance: Array, noise: float) -> Array:
    """How much higher the best expected score is expected to be after one more evaluation of each point, whose score
    has so much `noise` (a variance).

    Frazier, Powell and Dayanik 2009 (correlated normal beliefs), with the expectation by Gauss-Hermite quadrature.
    """
    moved = covariance / np.sqrt(np.maximum(np.diag(covariance), 1e-12) + noise)  # a column for each point evaluated
    best = (mean[:, None, None] + moved[:, :, None] * NODES).max(axis=0)
    gradient: Array = best @ (WEIGHTS / WEIGHTS.sum()) - mean.max()
    return gradient


def noise_variance(keys: Sequence[Key], y: Array, prior: float) -> float:
    """What the outcomes `y` of equal points vary by: the pooled variance within points, beside a prior that stands
    alone where there are no replicates."""
    outcomes = defaultdict(list)
    for key, outcome in zip(keys, y, strict=True):
        outcomes[key].append(outcome)
    squares = sum(len(found) * float(np.var(found)) for found in outcomes.values() if len(found) > 1)
    return (PRIOR_WEIGHT * prior + squares) / (PRIOR_WEIGHT + len(y) - len(outcomes))
