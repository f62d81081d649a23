"""What the recorded trials teach a model: their outcomes, what stopped trials hint at, what is still in flight."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.encoding import Array

LEARNT = 200
MIN_SHARED = 3


class Lessons(NamedTuple):
    """Points with standardised outcomes (more is better), how unsure each outcome is, and the points in flight."""

    points: list[Mapping[str, Any]]
    y: Array
    unsure: Array
    in_flight: list[Mapping[str, Any]]


def lessons(trials: list[FrozenTrial], maximize: bool) -> Lessons:
    """At most 200 outcomes: the best half and the latest half. Very bad ones are clipped: how bad is no lesson."""
    sign = 1.0 if maximize else -1.0
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    outcomes = [(trial, sign * trial.values[0], 0.0) for trial in complete]
    outcomes += _stopped(trials, complete, sign)
    outcomes = _bounded(outcomes)
    values = np.array([value for _, value, _ in outcomes])
    running = [dict(trial.params) for trial in trials if trial.state == TrialState.RUNNING]
    if not len(values):
        return Lessons([], values, values, running)
    low, high = np.percentile(values, [25, 75])
    values = np.maximum(values, low - 1.5 * (high - low))
    scale = float(values.std()) or 1.0
    unsure = np.array([deviation for *_, deviation in outcomes]) / scale
    return Lessons([trial.params for trial, *_ in outcomes], (values - values.mean()) / scale, unsure, running[-64:])


def _stopped(
    trials: list[FrozenTrial], complete: list[FrozenTrial], sign: float
) -> list[tuple[FrozenTrial, float, float]]:
    """Pruned trials, as what they might have reached: their last score and what others gained from that step on.

    Never better than the median of the complete trials, which were let live. Left out where fewer than three complete
    trials were seen at that step: a score of another fidelity is no score.
    """
    found = []
    for trial in trials:
        step = trial.last_step
        if trial.state != TrialState.PRUNED or step is None:
            continue
        gains = [sign * (t.values[0] - t.intermediate_values[step]) for t in complete if step in t.intermediate_values]
        if len(gains) >= MIN_SHARED:
            reached = sign * trial.intermediate_values[step] + statistics.median(gains)
            ceiling = statistics.median(sign * t.values[0] for t in complete)
            found.append((trial, min(reached, ceiling), statistics.pstdev(gains)))
    return found


def _bounded(outcomes: list[tuple[FrozenTrial, float, float]]) -> list[tuple[FrozenTrial, float, float]]:
    if len(outcomes) <= LEARNT:
        return outcomes
    outcomes = sorted(outcomes, key=lambda outcome: outcome[0].number)
    early, late = outcomes[: -LEARNT // 2], outcomes[-LEARNT // 2 :]
    return sorted(early, key=lambda outcome: -outcome[1])[: LEARNT // 2] + late
