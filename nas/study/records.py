"""Trials as Optuna keeps them, and as the rest knows them: as `Trial` and `TrialRecord`, and in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.metric import DEFAULT_METRIC, Metric
from nas.samplers import optuna_private as private
from nas.samplers.point_sampler import copy_trial
from nas.study import attributes, objectives
from nas.trial import Final, State, Trial, TrialRecord, arch_of, rank, training
from searchspace.budget import DEPLOYED, Budget, Cost
from searchspace.errors import InputError
from searchspace.space.space import Space

INTERRUPTED = "interrupted"
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)


def adopt(trials: Iterable[FrozenTrial], old: Space, new: Space) -> list[FrozenTrial]:
    """The trials of a study of the old space that are whole points of the new one, as trials of that. A network that
    was fitted to a share of the budget is left out: its score is one of another budget."""
    kinds: dict[str, BaseDistribution] = {n: CategoricalDistribution(options) for n, options in new.choices.items()}
    whole = [t for t in trials if t.state in LEARNT_FROM and t.params and old.choices.keys() <= t.params.keys()]
    points = [(t, new.adopt(old, t.params)) for t in whole if t.params.get(objectives.SHARE, 1.0) == 1.0]
    return [copy_trial(trial, point, kinds) for trial, point in points if point is not None]


def metric_of(study: optuna.Study) -> Metric:
    """What a study's trials are scored by."""
    return attributes.metric_of(study.user_attrs)


def trial_records(study: optuna.Study) -> list[TrialRecord]:
    """Every trial but the interrupted ones, whose networks have trials of their own again."""
    alone, metric, trials = alone_ms(study), metric_of(study), study.get_trials(deepcopy=False)
    before = {again: number for number, again in interruptions(trials).items()}
    return [
        trial_record(trial, metric, alone.get(trial.number), before.get(trial.number))
        for trial in trials
        if not is_interrupted(trial)
    ]


def ranked_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials as Optuna has them, best first."""
    stored = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    return [stored[record.number] for record in rank(trial_records(study))]


def interruptions(trials: Sequence[FrozenTrial]) -> dict[int, int | None]:
    """The interrupted trials, each with the trial that took its place; None where its network waits to be asked."""
    found, later = dict[int, int | None](), dict[str, int]()
    for trial in reversed(trials):
        if is_interrupted(trial):
            found[trial.number] = later.get(training_of(trial))
        later[training_of(trial)] = trial.number
    return dict(sorted(found.items()))


def interruption_sentences(found: Mapping[int, int | None]) -> list[str]:
    """Why numbers of trials are missing where outcomes are shown."""
    again = {number: other for number, other in found.items() if other is not None}
    waiting = [number for number, other in found.items() if other is None]
    lines = []
    if again:
        were = "were" if len(again) > 1 else "was"
        lines.append(f"{_count_text(list(again))} {were} asked again as {', '.join(map(str, again.values()))}.")
    if waiting:
        lines.append(f"{_count_text(waiting)} will be asked again when the search carries on.")
    return lines


def _count_text(numbers: Sequence[int]) -> str:
    trials = "trials" if len(numbers) > 1 else "trial"
    return f"{len(numbers)} interrupted {trials} ({', '.join(map(str, numbers))})"


def alone_ms(study: optuna.Study) -> dict[int, float]:
    """See `Study.alone_ms`: kept with the study, since a finished trial takes no more attributes."""
    return {int(number): ms for number, ms in study.user_attrs.get("measured_ms", {}).items()}


def busy(study: optuna.Study) -> str:
    """What else went on when these milliseconds were measured: `a load of 14.2 on 2 cores`; "" where nothing did."""
    return str(study.user_attrs.get("measured_busy", ""))


def trial_record(
    trial: FrozenTrial, metric: Metric = DEFAULT_METRIC, alone: float | None = None, before: int | None = None
) -> TrialRecord:
    """A trial with what was measured of it: `alone` the milliseconds after the trials, `before` the number of the
    interrupted trial whose place it took."""
    a, gain = trial.user_attrs, gain_of(trial)
    return TrialRecord(
        number=trial.number,
        state=STATES.get(trial.state, "running"),
        score=None if gain is None else metric.natural(gain),
        curve={epoch: metric.natural(gain) for epoch, gain in trial.intermediate_values.items()},
        point=trial.params,
        role=a["role"],
        cost=cost_of(trial),
        digest=a["digest"],
        baseline=a.get("baseline", ""),
        width_mult=a["width_mult"],
        settled=a.get("settled", ""),
        network=a.get("network", ""),
        arch_text=a["arch"],
        metric=metric,
        loss=a.get("loss"),
        train_loss=a.get("train_loss"),
        images_per_s=a.get("images_per_s"),
        seconds=a.get("seconds"),
        contended_ms=a.get("latency_ms") or None,
        alone_ms=alone,
        minimized=dict(a.get("minimize", {})),
        in_place_of=before,
        error=str(a.get("error", "")),
        driver=a.get("driver", ""),
        final=final_of(trial),
        correct=a.get("correct", ""),
        notes={name: value for name, value in a.items() if name not in attributes.KEPT},
    )


def gain_of(trial: FrozenTrial) -> float | None:
    """A trial's final value, of which more is better, or that of its last epoch; None before the first."""
    curve = trial.intermediate_values
    return trial.value if trial.values else curve.get(max(curve, default=0))


def trial_of(trial: FrozenTrial) -> Trial:
    """A stored trial as workers know it; `InputError` where its network is not the one that was trained."""
    kept = trial.user_attrs
    arch = arch_of(kept["arch"], trial.number)
    if arch.digest != kept["digest"]:
        raise InputError(f"trial {trial.number}: its network is not the one that was trained; the study is damaged")
    return Trial(
        number=trial.number,
        arch=arch,
        cost=cost_of(trial),
        role=kept["role"],
        point={name: value for name, value in trial.params.items() if name != objectives.SHARE},
        width_mult=kept["width_mult"],
        settled=tuple(map(int, kept.get("settled", "").split())),
        baseline=kept.get("baseline", ""),
        resolutions=resolutions_of(trial),
        final=final_of(trial),
    )


def resolutions_of(trial: FrozenTrial) -> tuple[int, int] | None:
    """The smallest and the largest resolution of a trial's space, where it has several."""
    found = trial.user_attrs.get("resolutions")
    return None if found is None else (int(found[0]), int(found[1]))


def hypervolumes(records: Sequence[TrialRecord], names: Sequence[str], budget: Budget) -> list[tuple[int, float]]:
    """Trial by trial, the share of a box that is beaten: from the worst score to the best there can be, and from the
    budget to no cost.

    Where the budget does not limit a currency, the dearest trial takes its place, and where a metric has no worst and
    best score, the worst and best of the trials do.
    """
    complete = [t for t in records if t.state == "complete" and t.gain is not None]
    if not complete:
        return []
    gains = np.array([t.gain for t in complete], np.float64)
    worst, best = complete[0].metric.worst, complete[0].metric.best
    low, high = (gains.min(), gains.max()) if worst is None or best is None else (worst, best)
    costly = [[t.minimized[name] for name in names] for t in complete]
    most = np.array(objectives.reference(budget, names, costly))
    lost = (high - gains) / ((high - low) or 1.0)
    losses = [[loss, *(np.array(row) / most)] for loss, row in zip(lost, costly, strict=True)]
    corner = np.ones(1 + len(names))
    return [(t.number, private.hypervolume(np.array(losses[: i + 1]), corner)) for i, t in enumerate(complete)]


def cost_of(trial: FrozenTrial) -> Cost:
    a = trial.user_attrs
    peak, own = round(a["peak_memory_mb"] * 1e6), tuple(a.get("own_costs", {}).items())
    deployed = {name: a.get(name) for name in DEPLOYED}  # older trials have none
    return Cost(a["macs"], a["params"], a["activations"], peak, a.get("predicted_ms"), own, **deployed)


def costs_of(trial: FrozenTrial) -> list[float]:
    """What a trial's network costs in all that is minimised, in the order of the study."""
    return list(trial.user_attrs.get("minimize", {}).values())


def digest_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs["digest"])


def training_of(trial: FrozenTrial) -> str:
    """See `Trial.training`."""
    return training(digest_of(trial), final_of(trial))


def final_of(trial: FrozenTrial) -> Final | None:
    """What a training of the finals is; None of a trial of the search."""
    kept = trial.user_attrs.get("final")
    return Final(**kept) if kept else None


def is_interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get("error") == INTERRUPTED
