"""What a study keeps beside Optuna's own columns, as one type of a trial and one of the study: checked when it is read.

A study may have been copied, changed by hand or damaged; whoever reads its trials afterwards need not ask again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import field, fields
from typing import Annotated, Any, TypeVar

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from nas.metric import DEFAULT_METRIC, Metric
from nas.trial import CORRECT, MOST, Final, Role
from searchspace.document import parse, value
from searchspace.errors import InputError

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=500_000)]


T = TypeVar("T")


@value
class TrialAttributes:
    """A trial's network, and what was measured of it; losses may be no numbers, where a training diverged."""

    role: Role
    digest: Text
    macs: Count
    params: Count
    activations: Count
    peak_memory_mb: Amount
    width_mult: Amount
    network: Text
    arch: Text
    baseline: Text = ""
    predicted_ms: Amount | None = None
    flash_bytes: Count | None = None
    int8_arena_bytes: Count | None = None
    int8_flash_bytes: Count | None = None
    own_costs: dict[str, Number] = field(default_factory=dict)
    settled: Annotated[str, Field(pattern=r"^[0-9]{0,9}( [0-9]{1,9})*$")] = ""
    resolutions: tuple[Count, Count] | None = None
    driver: Text = ""
    minimize: dict[str, Number] = field(default_factory=dict)
    loss: float | None = None
    train_loss: float | None = None
    images_per_s: float | None = None
    seconds: float | None = None
    latency_ms: float | None = None
    error: Text = ""
    lost: bool = False
    final: Final | None = None
    correct: Annotated[str, Field(pattern=f"^{CORRECT}$")] = ""


@value
class Held:
    """Finals that are over: the numbers of the trials that took part, every round's number, epochs, fold and, but in
    runs of before, whether of every fold as many images are trained on; whether the trend of the last ones counts, and
    whether of equal networks the textbook one is named.
    """

    contenders: tuple[Count, ...]
    rounds: tuple[tuple[Count, Count, Count] | tuple[Count, Count, Count, bool], ...]
    by_trend: bool = False
    textbook_first: bool = False


@value
class StudyAttributes:
    """What is known of all trials."""

    validation_images: Annotated[int, Field(ge=0, lt=10**9)] = 0
    images: Text | None = None
    mirrored: bool | None = None
    commonest: Annotated[float, Field(ge=0, le=1)] = 0.0  # in runs of before, in place of `chance`
    chance: Annotated[float, Field(allow_inf_nan=False)] | None = None
    begun: dict[str, Count] = field(default_factory=dict)
    measured_ms: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Amount] = field(default_factory=dict)
    measured_busy: Text = ""
    identity: dict[str, Any] | None = None
    held: Held | None = None


# What a trial's record has as fields; all other attributes are notes of a caller's.
KEPT = frozenset(one.name for one in fields(TrialAttributes))
# Of these what a caller of `Study.tell` may say too.
MEASURED = frozenset({"loss", "train_loss", "images_per_s", "seconds", "latency_ms"})


def chance_of(attributes: Mapping[str, Any]) -> float | None:
    """What always answering the same would score, the classes in their shares; None where that is not known."""
    if (chance := attributes.get("chance")) is not None:
        return float(chance)
    commonest = float(attributes.get("commonest", 0.0))
    return commonest if commonest and metric_of(attributes) == DEFAULT_METRIC else None


def metric_of(attributes: Mapping[str, Any]) -> Metric:
    """What a study's trials are scored by; the default where it says nothing, as in studies of before."""
    known = attributes.get("metric")
    return DEFAULT_METRIC if known is None else parse(Metric, known, "the study's metric")


def check_trial(trial: FrozenTrial, metric: Metric, minimized: Collection[str], place: str) -> None:
    """`InputError` for an attribute of another type or size, and for a score that the metric cannot have."""
    where = f"{place}: trial {trial.number}"
    kept = _parse_known(TrialAttributes, trial.user_attrs, where)
    if kept.minimize.keys() != set(minimized):
        raise InputError(f"{where}: minimize: has {', '.join(kept.minimize)[:80] or 'nothing'}; the study is damaged")
    final = (trial.values or ()) if trial.state == TrialState.COMPLETE else ()
    for gain in (*trial.intermediate_values.values(), *final):
        if not isinstance(gain, float) or not math.isfinite(gain):
            raise InputError(f"{where}: a score of {gain!s:.80}; the study is damaged")
        try:
            metric.check(metric.natural(gain))
        except InputError as error:
            raise InputError(f"{where}: {error}; the study is damaged") from None
    if not all(isinstance(epoch, int) and 0 < epoch <= MOST for epoch in trial.intermediate_values):
        raise InputError(f"{where}: a score of an epoch that there is not; the study is damaged")


def check_study(attributes: Mapping[str, Any], place: str) -> None:
    """The same of a study's own."""
    _parse_known(StudyAttributes, attributes, place)


def _parse_known(cls: type[T], attributes: Mapping[str, Any], place: str) -> T:
    known = {one.name: attributes[one.name] for one in fields(cls) if one.name in attributes}  # type: ignore[arg-type]
    return parse(cls, known, place, finite=False)
