"""What the recorded trials teach a model: their outcomes, what stopped trials hint at, what is still in flight."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nas.samplers import optuna_private as private
from nas.samplers.domain import Point
from nas.samplers.encoding import Array

LEARNT = 200
MIN_SHARED = 3


class Observations(NamedTuple):
    """Points with standardised outcomes (more is better), how unsure each outcome is, and the points in flight."""

    points: list[Point]
    y: Array
    unsure: Array
    in_flight: list[Point]


class PriorObservation(NamedTuple):
    """What an earlier study taught about a point: its standardised outcome there (more is better), and how unsure."""

    point: Point
    y: float
    unsure: float


def lessons(trials: list[FrozenTrial], maximize: bool) -> Observations:
    """At most 200 outcomes: the best half and the latest half. Very bad ones are clipped: how bad is no lesson.

    A trial that violates a constraint of the study (`trial.set_constraint`) counts as the worst of those that violate
    none; while all do, they count by how little.
    """
    sign = 1.0 if maximize else -1.0
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and math.isfinite(trial.values[0])]
    outcomes = [(trial, value, 0.0) for trial, value in zip(complete, _outcomes(complete, sign), strict=True)]
    outcomes += _extrapolate_pruned(trials, complete, sign)
    outcomes = _limit(outcomes)
    values = np.array([value for _, value, _ in outcomes])
    running = [dict(trial.params) for trial in trials if trial.state == TrialState.RUNNING]
    if not len(values):
        return Observations([], values, values, running)
    low, high = np.percentile(values, [25, 75])
    values = np.maximum(values, low - 1.5 * (high - low))
    scale = float(values.std()) or 1.0
    unsure = np.array([deviation for *_, deviation in outcomes]) / scale
    return Observations(
        [trial.params for trial, *_ in outcomes], (values - values.mean()) / scale, unsure, running[-64:]
    )


def violation(trial: FrozenTrial) -> float:
    """By how much a trial violates the constraints of its study, together."""
    if not private.has_constraints(trial):
        return 0.0
    return sum(value for value in trial.constraints.values() if value > 0)


def _outcomes(complete: list[FrozenTrial], sign: float) -> list[float]:
    """The outcomes of complete trials."""
    outside = list(map(violation, complete))
    worst = min((sign * t.values[0] for t, by in zip(complete, outside, strict=True) if not by), default=None)
    if worst is None:
        return [-by for by in outside]
    return [worst if by else sign * trial.values[0] for trial, by in zip(complete, outside, strict=True)]


def _extrapolate_pruned(
    trials: list[FrozenTrial], complete: list[FrozenTrial], sign: float
) -> list[tuple[FrozenTrial, float, float]]:
    """Pruned trials, as what they might have reached: their last score and what others gained from that step on.

    Never better than the median of the complete trials, which were let live. Left out where fewer than three complete
    trials were seen at that step: a score of another fidelity is no score.
    """
    gains = defaultdict(list)
    for trial in complete[-LEARNT:]:
        for step, score in trial.intermediate_values.items():
            gains[step].append(sign * (trial.values[0] - score))
    seen = {step: found for step, found in gains.items() if len(found) >= MIN_SHARED}
    gained = {step: (float(np.median(found)), float(np.std(found))) for step, found in seen.items()}
    ceiling = float(np.median([sign * trial.values[0] for trial in complete])) if complete else 0.0
    stopped = []
    for trial in [trial for trial in trials if trial.state == TrialState.PRUNED][-LEARNT:]:
        last = trial.last_step
        if last is not None and last in gained:
            reached = sign * trial.intermediate_values[last] + gained[last][0]
            if math.isfinite(reached) and not violation(trial):
                stopped.append((trial, min(reached, ceiling), gained[last][1]))
    return stopped


def _limit(outcomes: list[tuple[FrozenTrial, float, float]]) -> list[tuple[FrozenTrial, float, float]]:
    if len(outcomes) <= LEARNT:
        return outcomes
    outcomes = sorted(outcomes, key=lambda outcome: outcome[0].number)
    early, late = outcomes[: -LEARNT // 2], outcomes[-LEARNT // 2 :]
    return sorted(early, key=lambda outcome: -outcome[1])[: LEARNT // 2] + late
