"""Trials as Optuna keeps them, and as the rest knows them: `Trial` records, `Outcome`s, rankings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import optuna
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.point_sampler import copy_trial
from nas.study import objectives
from nas.trial import Outcome, Trial, best_first
from searchspace.arch import Arch
from searchspace.budget import Budget, Cost
from searchspace.errors import InputError
from searchspace.space.space import Space

INTERRUPTED = "interrupted"
ENDS: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)


def adopted(trials: Iterable[FrozenTrial], old: Space, new: Space) -> list[FrozenTrial]:
    """The trials of a study of the old space that are whole points of the new one, as trials of that."""
    kinds: dict[str, BaseDistribution] = {n: CategoricalDistribution(options) for n, options in new.choices.items()}
    points = [(trial, new.adopted(old, trial.params)) for trial in trials if trial.state in LEARNT_FROM]
    return [copy_trial(trial, point, kinds) for trial, point in points if point is not None]


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials (all are inside the budget), best first (see `best_first`)."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda t: best_first(t.value, t.user_attrs.get("loss"), t.number))


def outcomes(study: optuna.Study) -> list[Outcome]:
    """Every trial but the interrupted ones, whose networks have trials of their own again."""
    alone, trials = latencies(study), study.get_trials(deepcopy=False)
    before = {again: number for number, again in interruptions(trials).items()}
    return [outcome(trial, alone, before.get(trial.number)) for trial in trials if not interrupted(trial)]


def interruptions(trials: Sequence[FrozenTrial]) -> dict[int, int | None]:
    """The interrupted trials, each with the trial that took its place; None where its network waits to be asked."""
    found, later = dict[int, int | None](), dict[str, int]()
    for trial in reversed(trials):
        if interrupted(trial):
            found[trial.number] = later.get(digest_of(trial))
        later[digest_of(trial)] = trial.number
    return dict(sorted(found.items()))


def interruption_sentences(found: Mapping[int, int | None]) -> list[str]:
    """Why numbers of trials are missing where outcomes are shown."""
    again = {number: other for number, other in found.items() if other is not None}
    waiting = [number for number, other in found.items() if other is None]
    lines = []
    if again:
        were = "were" if len(again) > 1 else "was"
        lines.append(f"{_counted(list(again))} {were} asked again as {', '.join(map(str, again.values()))}.")
    if waiting:
        lines.append(f"{_counted(waiting)} will be asked again when the search carries on.")
    return lines


def _counted(numbers: Sequence[int]) -> str:
    trials = "trials" if len(numbers) > 1 else "trial"
    return f"{len(numbers)} interrupted {trials} ({', '.join(map(str, numbers))})"


def latencies(study: optuna.Study) -> dict[int, float]:
    """See `Study.latencies`: kept with the study, since a finished trial takes no more attributes."""
    return {int(number): ms for number, ms in study.user_attrs.get("measured_ms", {}).items()}


def outcome(trial: FrozenTrial, alone: Mapping[int, float], before: int | None = None) -> Outcome:
    """How a trial ended, with what was measured of it; `alone` are the study's `latencies`, and `before` the number of
    the interrupted trial whose place it took."""
    curve = dict(trial.intermediate_values)
    measured = {**trial.user_attrs, "measured_ms": alone.get(trial.number)}
    measured["in_place_of"] = None if before is None else str(before)
    return Outcome(trial.number, ENDS.get(trial.state, "running"), accuracy_of(trial), curve, trial.params, measured)


def accuracy_of(trial: FrozenTrial) -> float | None:
    """A trial's final accuracy, or that of its last epoch; None before the first."""
    curve = trial.intermediate_values
    return trial.value if trial.values else curve.get(max(curve, default=0))


def record(trial: FrozenTrial) -> Trial:
    """A stored trial as the record that workers and reports know."""
    attributes = trial.user_attrs
    try:
        network = json.loads(str(attributes["arch"]))
    except (ValueError, RecursionError):
        raise InputError(f"trial {trial.number}: its network cannot be read; the study may be damaged") from None
    arch = Arch.from_dict(network, f"trial {trial.number}")
    if arch.digest != attributes["digest"]:
        raise InputError(f"trial {trial.number}: its network is not the one that was trained; the study is damaged")
    return Trial(
        number=trial.number,
        arch=arch,
        cost=cost_of(trial),
        role=attributes["role"],
        point={name: value for name, value in trial.params.items() if name != objectives.SHARE},
        width_mult=attributes["width_mult"],
        settled=tuple(map(int, attributes.get("settled", "").split())),
        baseline=attributes.get("baseline", ""),
        resolutions=resolutions_of(trial),
    )


def resolutions_of(trial: FrozenTrial) -> tuple[int, int] | None:
    """The smallest and the largest resolution of a trial's space, where it has several."""
    found = trial.user_attrs.get("resolutions")
    return None if found is None else (int(found[0]), int(found[1]))


def hypervolumes(trials: Sequence[Outcome], names: Sequence[str], budget: Budget) -> list[tuple[int, float]]:
    """Trial by trial, the share of the box from accuracy 0 and the budget to accuracy 1 and cost 0 that is beaten.

    Where the budget does not limit a currency, the dearest trial takes its place.
    """
    complete = [t for t in trials if t.outcome == "complete" and t.accuracy is not None]
    costly = [[t.measured["minimize"][name] for name in names] for t in complete]
    most = np.array(objectives.reference(budget, names, costly))
    losses = [[1 - (t.accuracy or 0.0), *(np.array(row) / most)] for t, row in zip(complete, costly, strict=True)]
    corner = np.ones(1 + len(names))
    return [(t.number, compute_hypervolume(np.array(losses[: i + 1]), corner)) for i, t in enumerate(complete)]


def cost_of(trial: FrozenTrial) -> Cost:
    a = trial.user_attrs
    return Cost(a["macs"], a["params"], a["activations"], round(a["peak_memory_mb"] * 1e6), a.get("predicted_ms"))


def costs_of(trial: FrozenTrial) -> list[float]:
    """What a trial's network costs in all that is minimised, in the order of the study."""
    return list(trial.user_attrs.get("minimize", {}).values())


def digest_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs["digest"])


def interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get("error") == INTERRUPTED
