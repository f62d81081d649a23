"""Which parameters mattered: how much of the score a model loses without each factor, and how sure that is.

A factor is what a parameter is about, over all stages: block, expansion, kernel, depth, nonlinearity, schedule, …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.trial import TrialRecord

FEWEST = 40
LATEST = 1000
RESAMPLES = 40
TREES = 50
EXPLAINED = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Importance:
    """The share of the variance of the score that a model no longer explains when a factor's values are shuffled.

    The interval holds 90 % of the resamples.
    """

    factor: str
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Importances:
    """All factors, the weightiest first. `explained` is R² on trials that the model had not seen."""

    trials: int
    explained: float = 0.0
    factors: tuple[Importance, ...] = ()

    @property
    def sentence(self) -> str:
        """What may be said of it, under a heading that names it: too few trials, and trials that explain nothing, say
        nothing."""
        if self.trials < FEWEST:
            return f"Too few trials to say ({self.trials} of the {FEWEST} that it takes)."
        begin = f"From {self.trials} trials (R² {self.explained:.2f} on unseen ones)"
        clear = [f for f in self.factors if f.low > 0]
        if self.explained < EXPLAINED or not clear:
            return f"{begin}: nothing that can be told from noise."
        said = ", ".join(f"{f.factor} {f.share:.2f} [{f.low:.2f}, {f.high:.2f}]" for f in clear[:4])
        return f"{begin}: {said}."

    @property
    def line(self) -> str:
        """The sentence where it has no heading."""
        return f"Parameter importance: {self.sentence[0].lower()}{self.sentence[1:]}"


def factor(parameter: str) -> str:
    """What a parameter is about: `stage3.expand_act` and `head.act` are nonlinearity."""
    first, _, rest = parameter.partition(".")
    if first == "schedule":
        return first
    field = (rest or first).partition(".")[0]
    if field.endswith("act"):
        return "nonlinearity"
    return "se" if field.startswith("se_") else field


def usable(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that importances are taken from: failed and running ones say nothing, nor do networks that are no
    points of the space."""
    return [t for t in trials if t.state in ("complete", "pruned") and t.curve and t.point][-LATEST:]


def importances(trials: Sequence[TrialRecord], seed: int = 0) -> Importances:
    """From scores after the epochs that all trials had; failed trials say nothing.

    Extremely randomised trees are fitted to bootstrap resamples of the trials and asked about the trials left out, with
    all values of a factor shuffled together (Breiman 2001's permutation importance, of a group). At most the latest
    1,000 trials.
    """
    done = usable(trials)
    epochs = min((max(t.curve) for t in done), default=0)
    done = [t for t in done if epochs in t.curve]
    scores = np.array([t.curve[epochs] for t in done])
    if len(done) < FEWEST or np.ptp(scores) == 0:
        return Importances(len(done))
    features, owners = _encode([t.point for t in done])
    groups = {name: np.flatnonzero(owners == name) for name in dict.fromkeys(owners.tolist())}
    rng = np.random.default_rng(seed)
    rounds = [_round(features, scores, groups, rng) for _ in range(RESAMPLES)]
    lost = np.array([losses for _, losses in rounds])
    low, high = np.quantile(lost, [0.05, 0.95], axis=0)
    rows = zip(groups, lost.mean(0), low, high, strict=True)
    found = [Importance(n, float(m), float(a), float(b)) for n, m, a, b in rows]
    explained = float(np.mean([r2 for r2, _ in rounds]))
    return Importances(len(done), explained, tuple(sorted(found, key=lambda one: -one.share)))


def _round(
    features: Array, scores: Array, groups: dict[str, NDArray[np.intp]], rng: np.random.Generator
) -> tuple[float, list[float]]:
    """R² of one resample's model on the trials left out, and what it loses without each factor."""
    from sklearn.ensemble import ExtraTreesRegressor

    drawn = rng.integers(len(scores), size=len(scores))
    out = np.setdiff1d(np.arange(len(scores)), drawn)
    model = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=int(rng.integers(2**31)))
    model.fit(features[drawn], scores[drawn])
    unseen, truth = features[out], scores[out]
    spread = float(((truth - truth.mean()) ** 2).mean()) or 1.0
    error = float(((model.predict(unseen) - truth) ** 2).mean())
    losses = []
    for columns in groups.values():
        shuffled = unseen.copy()
        shuffled[:, columns] = unseen[rng.permutation(len(out))][:, columns]
        losses.append((float(((model.predict(shuffled) - truth) ** 2).mean()) - error) / spread)
    return 1 - error / spread, losses


def _encode(points: Sequence[dict[str, Any]]) -> tuple[Array, NDArray[np.str_]]:
    """Points as rows: numbers as they are, other values as zeros and ones; and the factor of every column."""
    columns: list[Array] = []
    owners: list[str] = []
    for name in points[0]:
        values = [point.get(name) for point in points]
        options = sorted(set(values), key=str)
        if len(options) < 2:
            continue
        if all(isinstance(value, (int, float)) for value in options):
            made = [np.array(values, dtype=np.float64)]
        else:
            made = [np.array([value == option for value in values], dtype=np.float64) for option in options]
        columns += made
        owners += [factor(name)] * len(made)
    return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0)), np.array(owners, dtype=np.str_)
