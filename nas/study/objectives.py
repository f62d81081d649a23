"""Several objectives: score against costs that are to be small. What is compared, the front, how one number is made.

What a network costs is known before it is trained, so nothing but score has to be modelled, and a study of one
objective does: for every proposal each trial's score and costs become one number, in a direction drawn at random.
Any sampler then works, learning curves and early stopping as well, which an Optuna study of several objectives has not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.config import currencies
from nas.trial import TrialRecord, rank
from searchspace.budget import Budget, Cost, amount
from searchspace.errors import InputError
from searchspace.space.space import Space

# Networks are fitted to these shares of the budget, about a quarter apart (Renard's R10 series). A parameter of the
# study then, under this name.
SHARE = "budget_share"
SHARES = (1.0, 0.8, 0.63, 0.5, 0.4, 0.32, 0.25, 0.2)
MARGIN = 0.1

Array = NDArray[np.float64]
Scalarised = Callable[[float, Sequence[float]], float]


def check(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once; `InputError` for one that is no cost."""
    for name in names:
        if name not in currencies():
            raise InputError(f"minimize {name!r}: {', '.join(currencies())} is accepted")
    return tuple(dict.fromkeys(names))


def costs(spent: Cost, names: Iterable[str]) -> dict[str, float]:
    """What a network costs in each; `InputError` where that is not known here."""
    found = {name: spent.of(currencies()[name]) for name in names}
    for name, value in found.items():
        if value is None:
            raise InputError(f"minimize {name}: it is not known of this space's networks here")
    return {name: value for name, value in found.items() if value is not None}


def check_known(space: Space, names: Iterable[str]) -> None:
    """`InputError` where one of the costs is not known of a space's networks: latency without a device's times."""
    if "latency" in names and space.latency is None:
        raise InputError("minimize latency: no layer times of a device are known here; --latency-table gives some")


def format_cost(name: str, value: float) -> str:
    """A cost as people read it: 299.3MFLOPs."""
    return f"{value:.2f}ms" if name == "latency" else amount(value, currencies().get(name, name))


def shares(budget: Budget) -> tuple[float, ...]:
    """The shares that a study chooses from: those above the lower bounds of a budget that has them, and the whole."""
    floor = max(limit.low / limit.high for limit in budget.limits)
    return tuple(share for share in SHARES if share > floor) or (1.0,)


def front(scores: Sequence[float], costly: Sequence[Sequence[float]]) -> list[int]:
    """The indices of what nothing else beats in everything, cheapest first; of equals the first."""
    rows = [(*row, -score) for score, row in zip(scores, costly, strict=True)]
    kept: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: (rows[i], i)):
        if not any(all(a <= b for a, b in zip(rows[other], rows[index], strict=True)) for other in kept):
            kept.append(index)
    return kept


def unbeaten(records: Iterable[TrialRecord], spent: Callable[[TrialRecord], Sequence[float]]) -> list[TrialRecord]:
    """The complete trials that no other beats in score and in all that was spent, cheapest first; of equals the best
    (see `rank`). Those of which nothing is known to be spent are left out."""
    known = rank(t for t in records if t.gain is not None and spent(t))
    return [known[i] for i in front([t.gain or 0.0 for t in known], [spent(t) for t in known])]


def minimised_of(record: TrialRecord) -> list[float]:
    """What a trial spent of all that its study minimises."""
    return list(record.minimized.values())


def scalarisation(scores: Sequence[float], costly: Sequence[Sequence[float]], rng: random.Random) -> Scalarised:
    """One number of an score and costs, more is better: the least of what is gained in each, over its weight.

    The weights are a random direction; the hypervolume is the mean over all directions of the best such number, to a
    power (Golovin & Zhang 2020, arXiv 2006.04655). Gains are measured from just beyond the worst trial, costs by their
    logarithm; very bad scores do not stretch the scale.
    """
    seen = np.array([_gains(score, row) for score, row in zip(scores, costly, strict=True)])
    low, high = seen.min(0), seen.max(0)
    quarter, upper = np.percentile(seen[:, 0], [25, 75])
    low[0] = max(low[0], quarter - 1.5 * (upper - quarter))
    span = np.where(high > low, high - low, 1.0)
    reference = low - MARGIN * span
    weights = np.abs([rng.gauss(0, 1) for _ in span]) + 1e-9
    weights /= np.linalg.norm(weights)

    def scalarise(score: float, row: Sequence[float]) -> float:
        return float(((_gains(score, row) - reference) / span / weights).min())

    return scalarise


def _gains(score: float, row: Sequence[float]) -> Array:
    return np.array([score, *(-np.log(max(cost, 1e-9)) for cost in row)])


def reference(budget: Budget, names: Sequence[str], costly: Sequence[Sequence[float]]) -> list[float]:
    """What hypervolume is measured from, beside score 0: the budget, or the dearest trial where it sets no limit."""
    limits: Mapping[str, float] = {limit.currency: float(limit.high) for limit in budget.limits}
    dearest = [max(column) for column in zip(*costly, strict=True)] or [1.0] * len(names)
    return [limits.get(currencies().get(name, name), most) for name, most in zip(names, dearest, strict=True)]
