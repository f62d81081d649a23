"""Means with their spread, differences with their intervals, and how likely chance alone makes them so large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.findings import ACCENT, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESAMPLES, LEVEL = 5000, 0.9


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation of a value); the second is 0 for one value."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def middle(values: Sequence[float]) -> str:
    """The median, with the quartiles around it."""
    low, half, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75))
    return f"{half:.4g} ({low:.4g}–{high:.4g})"


def difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """(mean of a − b, its 90 % bootstrap interval) of paired values."""
    pairs = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low, high = np.quantile(pairs[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(pairs.mean()), float(low), float(high)


def sign_flips(a: Sequence[float], b: Sequence[float], seed: int = 0, draws: int = 20_000) -> float:
    """Two-sided p of paired values having the same mean: signs of the differences flipped, all ways or many of them."""
    pairs = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if len(pairs) <= 14:
        signs = np.array(np.meshgrid(*[[-1, 1]] * len(pairs))).reshape(len(pairs), -1).T
    else:
        signs = np.random.default_rng(seed).choice([-1, 1], size=(draws, len(pairs)))
    return float((np.abs((signs * pairs).mean(1)) >= abs(pairs.mean()) - 1e-12).mean())


def apart(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """(mean of a − mean of b, its 90 % interval) of values that are not paired, by Welch's t; `nan` for one value."""
    from scipy.stats import t

    change = spread(a)[0] - spread(b)[0]
    if min(len(a), len(b)) < 2:
        return change, math.nan, math.nan
    parts = [(spread(values)[1] ** 2 / len(values), len(values) - 1) for values in (a, b)]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts) if variance else 1.0
    far = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return change, change - far, change + far


def shuffled(a: Sequence[float], b: Sequence[float], seed: int = 0, draws: int = 20_000) -> float:
    """Two-sided p of two groups having the same mean: values dealt out to the groups anew, all ways or many of them."""
    values, n = np.array([*a, *b], np.float64), len(a)
    if math.comb(len(values), n) <= draws:
        chosen = np.array(list(combinations(range(len(values)), n)))
    else:
        chosen = np.random.default_rng(seed).permuted(np.tile(np.arange(len(values)), (draws, 1)), axis=1)[:, :n]
    firsts = values[chosen].sum(1)
    found = np.abs(firsts / n - (values.sum() - firsts) / (len(values) - n))
    return float((found >= abs(np.mean(a) - np.mean(b)) - 1e-12).mean())


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of several tests, each raised for there being so many (Holm 1979)."""
    raised, most = [0.0] * len(ps), 0.0
    for place, index in enumerate(np.argsort(ps, kind="stable")):
        most = max(most, min(1.0, (len(ps) - place) * ps[index]))
        raised[index] = most
    return raised


def versus(scores: Mapping[str, Sequence[float]], reference: str) -> list[dict[str, Any]]:
    """A row for each of several networks: the mean and spread of its accuracies, how far they are from the reference's,
    with an interval, and p, alone and corrected for there being so many comparisons."""
    others = [name for name in scores if name != reference]
    ps = dict(zip(others, (shuffled(scores[name], scores[reference]) for name in others), strict=True))
    corrected = dict(zip(others, holm(list(ps.values())), strict=True))
    rows = []
    for name, values in scores.items():
        mean, sd = spread(values)
        row = {"network": name, "n": len(values), "accuracy": f"{mean:.4f}", "sd": f"{sd:.4f}"}
        change, low, high = apart(values, scores[reference]) if name in ps else (0.0, 0.0, 0.0)
        row |= {"difference": f"{change:+.4f}", "low": f"{low:+.4f}", "high": f"{high:+.4f}"}
        p, raised = (f"{found[name]:.3f}" if name in ps else "" for found in (ps, corrected))
        rows.append(row | {"p": p, "p (Holm)": raised})
    return rows


def dots(axes: Axes, scores: Mapping[str, Sequence[float]], reference: str) -> None:
    """Networks one below the other: each training's accuracy as a dot, the mean as a bar, the reference's as a line."""
    for place, (name, values) in enumerate(scores.items()):
        colour = ACCENT if name == reference else QUIET
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.5, markersize=5)
        axes.plot(spread(values)[0], place, "|", color=colour, markersize=18, markeredgewidth=2.5)
    axes.axvline(spread(scores[reference])[0], color=ACCENT, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
