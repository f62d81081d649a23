"""Outcomes as tables: all trials, the best networks, the comparison with the random control. The pandas door."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lgamma
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.study import objectives
from nas.trial import Outcome, Role, best_first
from searchspace.budget import Budget
from searchspace.document import write_text

CSV = "trials.csv"
RESAMPLES = 2000
LEVEL = 0.9
MEASURED = (
    "role",
    "baseline",
    "macs",
    "params",
    "activations",
    "peak_memory_mb",
    "predicted_ms",
    "latency_ms",
    "measured_ms",
    "images_per_s",
    "seconds",
    "loss",
    "train_loss",
    "width_mult",
    "settled",
    "digest",
    "in_place_of",
    "network",
    "error",
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Best of k found by the search against best of k random networks, at equal k, with 90 % intervals.

    Accuracies are those after `epochs`, which all compared trials reached: what early stopping cut off is unknown, and
    not equally for both sides (the first trials of a run are stopped less).
    """

    k: int
    epochs: int
    search: float
    search_interval: tuple[float, float]
    control: float
    control_interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]
    p_value: float

    @property
    def noise(self) -> bool:
        """Whether the difference may be luck. The interval alone is too narrow for few trials; the test is exact."""
        return self.difference_interval[0] <= 0 <= self.difference_interval[1] or self.p_value > 1 - LEVEL


def frame(trials: Sequence[Outcome]) -> pd.DataFrame:
    """One row a trial: how it ended, its accuracy after how many epochs, what was measured, its parameters."""
    rows = []
    for trial in trials:
        row = {"trial": trial.number, "outcome": trial.outcome, "accuracy": trial.accuracy}
        row |= {"epochs": max(trial.curve, default=0)}
        row |= {name: trial.measured.get(name) for name in MEASURED}
        rows.append(row | trial.point)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["trial", "outcome", "accuracy", "epochs", *MEASURED])


def write_csv(trials: Sequence[Outcome], run: Path) -> None:
    """RUN/trials.csv, replaced in one step."""
    write_text(run / CSV, frame(trials).to_csv(index=False))


def write_parquet(trials: Sequence[Outcome], run: Path) -> None:
    """RUN/trials.parquet, replaced in one step. A column whose values are of several types is text."""
    table, part = frame(trials), run / f"trials.parquet.{os.getpid()}.part"
    for name in table.columns:
        if len({type(cell) for cell in table[name].dropna()}) > 1:
            table[name] = table[name].map(str, na_action="ignore")
    table.to_parquet(part, index=False)
    part.replace(run / "trials.parquet")


def best(trials: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """The best complete trials, best first (see `best_first`)."""
    complete = trials[trials["outcome"] == "complete"]
    keys = zip(complete["accuracy"], complete["loss"], complete["trial"], strict=True)
    order = [row for _, row in sorted(zip((best_first(*key) for key in keys), complete.index, strict=True))]
    return complete.loc[order].head(count)


def over_when_measured(trials: Sequence[Outcome], budget: Budget) -> dict[int, float]:
    """By trial, the measured milliseconds above a latency budget, which is kept by predictions; measured ones vary."""
    most = min((limit.high for limit in budget.limits if limit.currency == "latency_ms"), default=math.inf)
    measured = {trial.number: trial.measured.get("measured_ms") for trial in trials}
    return {number: ms for number, ms in measured.items() if ms is not None and ms > most}


def over_sentence(trials: Sequence[Outcome], budget: Budget) -> str:
    """Which networks are over a latency budget when measured; "" where none is."""
    over = over_when_measured(trials, budget)
    if not over:
        return ""
    shown = ", ".join(f"trial {number} ({ms:.3g} ms)" for number, ms in sorted(over.items()))
    return f"* over the budget of {budget} when measured: {shown}"


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """The 90 % Wilson interval of an accuracy measured on so many images: how far luck of the draw reaches."""
    z = 1.645
    centre = (accuracy + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * np.sqrt(accuracy * (1 - accuracy) / images + z * z / (4 * images**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def difference_interval(a: float, b: float, images: int) -> tuple[float, float]:
    """The 90 % interval of a - b, two accuracies on the same number of images (Newcombe 1998, method 10).

    It takes the two for independent. Networks that are scored on the same images err on many of the same, so it is
    wider than it need be: a difference that it calls reliable is one.
    """
    (low_a, high_a), (low_b, high_b) = interval(a, images), interval(b, images)
    return a - b - float(np.hypot(a - low_a, high_b - b)), a - b + float(np.hypot(high_a - a, b - low_b))


def compare(trials: Sequence[Outcome], images: int, seed: int = 0) -> Comparison | None:
    """The search against its random control; None where either has no score yet.

    k is the smaller number of trials. Expected best of k, resampled with replacement over trials (which networks were
    drawn) and over validation images (binomial: `images` decide every accuracy), so an interval covers both kinds of
    luck. Failed trials count as 0.
    """
    epochs = common_epochs(trials)
    search, control = scores(trials, "search", epochs), scores(trials, "control", epochs)
    k = min(len(control), len(search))
    if k == 0 or epochs == 0:
        return None
    rng = np.random.default_rng(seed)
    pairs = np.array([[_resampled_best(s, k, images, rng) for s in (search, control)] for _ in range(RESAMPLES)])
    gaps = pairs[:, 0] - pairs[:, 1]
    ours, random_ = expected_best(search, k), expected_best(control, k)
    found = (ours, _middle(pairs[:, 0]), random_, _middle(pairs[:, 1]), ours - random_, _middle(gaps))
    return Comparison(k, epochs, *found, p_value(search, control, k, rng))


def p_value(search: NDArray[np.float64], control: NDArray[np.float64], k: int, rng: np.random.Generator) -> float:
    """How often a difference this large, in either direction, comes from dealing the roles out at random."""
    everything, n = np.concatenate([search, control]), len(search)
    observed = abs(expected_best(search, k) - expected_best(control, k))
    dealt = (rng.permutation(everything) for _ in range(RESAMPLES))
    gaps = np.array([abs(expected_best(d[:n], k) - expected_best(d[n:], k)) for d in dealt])
    return float((np.sum(gaps >= observed - 1e-12) + 1) / (RESAMPLES + 1))


def sentences(found: Comparison) -> list[str]:
    """A comparison in words, with what it is worth."""
    (a, b), (c, d), (e, f) = found.search_interval, found.control_interval, found.difference_interval
    ahead = "the search is" if found.difference > 0 else "random networks are"
    verdict = "it may be noise" if found.noise else f"more than noise at the 10 % level, {ahead} ahead"
    return [
        f"Search against random networks, at equal numbers of trials (best of {found.k} of each) and equal epochs "
        f"({found.epochs}): {found.search:.4f} [{a:.4f}, {b:.4f}] against {found.control:.4f} [{c:.4f}, {d:.4f}].",
        f"Difference {found.difference:+.4f} [{e:+.4f}, {f:+.4f}], permutation p = {found.p_value:.2g}: {verdict}.",
    ]


def meaning(trials: Sequence[Outcome]) -> str:
    """What the scores of a search are worth, in a sentence; empty where no trial is complete."""
    complete = best_complete(trials)
    if not complete:
        return ""
    epochs = max(max(trial.curve, default=0) for trial in complete)
    brief = f"{epochs} brief epoch{'s' * (epochs != 1)}"
    chosen = f", and the best of {len(complete)} scores is an optimistic estimate" if len(complete) > 1 else ""
    return (
        f"Scores after {brief} rank networks; they are not the accuracy of full training{chosen}: "
        "python -m nas.train RUN --top 3 trains the best in full."
    )


def findings(trials: Sequence[Outcome], images: int) -> list[str]:
    """What the run shows, in sentences."""
    complete = best_complete(trials)
    counts = [f"{sum(t.outcome == o for t in trials)} {o}" for o in ("complete", "pruned", "failed", "running")]
    lines = [f"{len(trials)} trials: {', '.join(counts)}."]
    if complete and images:
        low, high = interval(complete[0].accuracy or 0.0, images)
        lines.append(
            f"Best: trial {complete[0].number} ({complete[0].role}), validation accuracy {complete[0].accuracy:.4f} "
            f"[{low:.4f}, {high:.4f}] on {images} images."
        )
    lines += [line for line in (beside_baselines(trials, images), meaning(trials)) if line]
    unbeaten = front(trials)
    if unbeaten:
        names = ", ".join(unbeaten[0].measured["minimize"])
        lines.append(f"{len(unbeaten)} networks that nothing else beats in accuracy and {names}.")
    found = compare(trials, images) if images else None
    return lines + (sentences(found) if found else [])


def best_complete(trials: Sequence[Outcome]) -> list[Outcome]:
    """The complete trials, best first (see `best_first`)."""
    complete = [trial for trial in trials if trial.outcome == "complete"]
    return sorted(complete, key=lambda t: best_first(t.accuracy, t.measured.get("loss"), t.number))


def beside_baselines(trials: Sequence[Outcome], images: int = 0) -> str:
    """The known networks of a run with their accuracies, and whether another network scored more than they did.

    How much more is said with its interval (see `difference_interval`) where on how many `images` is known.
    """
    known = [trial for trial in trials if trial.role == "baseline"]
    if not known:
        return ""
    told = f"Known networks at this budget: {', '.join(map(_known, known))}."
    complete = best_complete(trials)
    rivals = [trial for trial in complete if trial.role == "baseline"]
    if not rivals:
        return told
    best, rival = complete[0], rivals[0]
    if best.accuracy == rival.accuracy:
        return f"{told} No network scored more than {rival.measured['baseline']}."
    return told + _gain(best, rival, images, len(complete))


def _known(trial: Outcome) -> str:
    score = "" if trial.accuracy is None else f" {trial.accuracy:.4f}"
    why = {"complete": "", "pruned": "stopped early", "failed": "failed", "running": "still running"}[trial.outcome]
    return f"{trial.measured['baseline']}{score} (trial {trial.number}{f', {why}: not comparable' if why else ''})"


def _gain(best: Outcome, rival: Outcome, images: int, of: int) -> str:
    if not images:
        return ""
    a, b = best.accuracy or 0.0, rival.accuracy or 0.0
    low, high = difference_interval(a, b, images)
    luck = f"more than the draw of the images explains, though it is the best of {of}: train both to be sure"
    verdict = "no reliable difference" if low <= 0 <= high else luck
    return (
        f" The best network, trial {best.number}, is {a - b:+.4f} [{low:+.4f}, {high:+.4f}] (90 % interval) from "
        f"the best of them: {verdict}."
    )


def front(trials: Sequence[Outcome]) -> list[Outcome]:
    """The complete trials that no other beats in accuracy and in all that is minimised, cheapest first."""
    return objectives.unbeaten(trials, objectives.minimized)


def common_epochs(trials: Sequence[Outcome]) -> int:
    """How many epochs all trials had that are complete or were stopped early."""
    return min((max(t.curve) for t in trials if t.outcome in ("complete", "pruned") and t.curve), default=0)


def scores(trials: Sequence[Outcome], role: Role, epochs: int) -> NDArray[np.float64]:
    """Accuracies after so many epochs of the trials of a role that have ended, in their order; 0 for failed ones."""
    ended = [trial for trial in trials if trial.outcome != "running" and trial.role == role]
    return np.array([0.0 if t.outcome == "failed" else t.curve.get(epochs, 0.0) for t in ended])


def expected_best(scores: NDArray[np.float64], k: int) -> float:
    """The mean, over all subsets of k, of the best score in the subset."""
    return float(np.sort(scores)[k - 1 :] @ _shares(len(scores), k))


@lru_cache
def _shares(n: int, k: int) -> NDArray[np.float64]:
    """Of all subsets of k of n scores, the share in which the k-th, …, the n-th in ascending order is the best."""
    log = np.array([lgamma(i + 1) for i in range(n + 1)])  # of factorials
    below = np.arange(k - 1, n)
    of_these = log[below] - log[k - 1] - log[below - (k - 1)]
    shares: NDArray[np.float64] = np.exp(of_these - (log[n] - log[k] - log[n - k]))
    return shares


def _resampled_best(scores: NDArray[np.float64], k: int, images: int, rng: np.random.Generator) -> float:
    drawn = rng.choice(scores, len(scores))
    return expected_best(rng.binomial(images, np.clip(drawn, 0, 1)) / images, k)


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
