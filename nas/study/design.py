"""What a study is of: a space and a budget, what is proposed first and by whom, what trials are scored by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from optuna.samplers import BaseSampler

from nas.metric import DEFAULT_METRIC, Metric
from nas.samplers import SAMPLERS, Predictor
from nas.samplers.observations import PriorObservation
from nas.study import objectives
from nas.study.horizon import Foresight
from searchspace.budget import Budget
from searchspace.errors import InputError
from searchspace.space.space import FIT_BAND, Space

# Makes a sampler of (choices, cost of a point or None, budget of that cost or None, seed), as those in `nas.samplers`.
MakeSampler = Callable[..., BaseSampler]


MOST_CONTROLS, TRIALS_PER_CONTROL, TRIALS_PER_BASELINE = 32, 4, 6


def number_of_controls(trials: int) -> int:
    """How many of so many trials are random networks, unless an option says it."""
    return min(MOST_CONTROLS, math.ceil(trials / TRIALS_PER_CONTROL))


def number_of_baselines(trials: int) -> int:
    """How many of so many trials are textbook networks, at most."""
    return max(trials // TRIALS_PER_BASELINE, int(trials > 2))


@dataclass(frozen=True, slots=True)
class Design:
    """The first trials are known networks of the space, at most `baselines`, then as many random ones as `controls`;
    then the `sampler` proposes, which `evidence` of earlier studies may teach. With `horizon` networks are judged by
    what longer trainings promise too (see `nas.study.horizon`). Costs to `minimize` beside the metric
    (see `objectives`) make the search seek a front.

    Raises `InputError` for an unknown sampler, one that evidence or the horizon cannot teach, or a number out of range.
    """

    space: Space
    budget: Budget
    sampler: str | MakeSampler = "auto"
    seed: int = 0
    band: float = FIT_BAND
    controls: int = 8
    baselines: int = 0
    evidence: Sequence[PriorObservation] = ()
    minimize: Sequence[str] = ()
    metric: Metric = DEFAULT_METRIC
    horizon: bool = False
    foresight: Foresight | None = field(init=False, default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimize", objectives.check(self.minimize))
        if not callable(self.sampler) and self.sampler not in SAMPLERS:
            raise InputError(f"sampler {self.sampler!r}: {', '.join(SAMPLERS)} or a function is accepted")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise InputError(f"seed: a whole number from 0 to {2**32 - 1} is accepted, not {self.seed!r}")
        if not isinstance(self.band, (int, float)) or not 0 <= self.band <= 1:
            raise InputError(f"band: a share of the budget from 0 to 1 is accepted, not {self.band!r}")
        for name in ("controls", "baselines"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise InputError(f"{name}: a whole number from 0 is accepted, not {number!r}")
        if self.minimize and self.evidence:
            raise InputError("minimize: a warm start teaches scores alone; give one of the two")
        if (self.evidence or self.horizon) and (callable(self.sampler) or SAMPLERS[self.sampler] is not Predictor):
            taught = "warm-start" if self.evidence else "horizon"
            raise InputError(f"{taught}: teaches the sampler predictor (or auto), not {self.sampler}")
        object.__setattr__(self, "foresight", Foresight(self.space, self.budget) if self.horizon else None)

    @property
    def make_sampler(self) -> MakeSampler:
        if self.evidence or self.horizon:
            return partial(Predictor, evidence=self.evidence, beside=self.foresight)
        return self.sampler if callable(self.sampler) else SAMPLERS[self.sampler]

    @property
    def identity(self) -> dict[str, Any]:
        """What has to be equal for a study to be carried on."""
        found: dict[str, Any] = {"space": self.space.data, "budget": str(self.budget)}
        if self.minimize:
            found["minimize"] = list(self.minimize)
        if self.metric != DEFAULT_METRIC:
            found["metric"] = str(self.metric)
        return found
