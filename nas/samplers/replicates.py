"""The end of a known number of trials: the finalists are evaluated once more, since the best score is luck in part.

As `nas.study.finals` for a search, but in any Optuna study, and with trials like any other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.domain import Domain, Key
from nas.samplers.encoding import Array

FINALISTS = 5
TRIALS_PER_REPLICATE = 10
FEWEST_TRIALS = 50  # of fewer none is spared: a new point gains more
PRIOR_WEIGHT = 2  # degrees of freedom that what is believed of the noise counts for


def number_of_replicates(trials: int | None) -> int:
    """How many of so many trials are replicates, the last ones; none where the number is not known."""
    return trials // TRIALS_PER_REPLICATE if trials and trials >= FEWEST_TRIALS else 0


def is_replicate(number: int, trials: int | None) -> bool:
    """Whether the trial of this number is one of them."""
    return trials is not None and trials - number_of_replicates(trials) <= number < trials


def least_evaluated(ranked: Sequence[FrozenTrial], known: Sequence[FrozenTrial], domain: Domain) -> FrozenTrial | None:
    """Of the first five trials the one whose point has been evaluated least, of equals the first; None of no trials.

    Evaluations in flight count too, those that failed do not.
    """
    counted = Counter(domain.key(trial.params) for trial in known if trial.state != TrialState.FAIL)
    return min(ranked[:FINALISTS], key=lambda trial: counted[domain.key(trial.params)], default=None)


def noise_variance(keys: Sequence[Key], y: Array, prior: float) -> float:
    """What the outcomes `y` of equal points vary by: the pooled variance within points, beside a prior that stands
    alone where there are no replicates."""
    outcomes = defaultdict(list)
    for key, outcome in zip(keys, y, strict=True):
        outcomes[key].append(outcome)
    squares = sum(len(found) * float(np.var(found)) for found in outcomes.values() if len(found) > 1)
    return (PRIOR_WEIGHT * prior + squares) / (PRIOR_WEIGHT + len(y) - len(outcomes))
