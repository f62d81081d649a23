"""What a run shows, in numbers and sentences: the search against random and known networks, the front, the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import lgamma

import numpy as np
from numpy.typing import NDArray

from nas.analysis.finals import duel
from nas.analysis.finals import sentences as of_finals
from nas.data.labelled import count_of
from nas.metric import DEFAULT_METRIC, Metric
from nas.study import objectives
from nas.study.finals import Finals
from nas.trial import Role, TrialRecord, rank
from searchspace.budget import Budget

RESAMPLES, AT_ONCE, MOST_DEALS = 2000, 100, 20_000
LEVEL = 0.9
FAR = 0.75  # of the predicted milliseconds: predictions are within 10 % where layer times are of such networks


@dataclass(frozen=True, slots=True)
class Comparison:
    """Best of k found by the search against best of k random networks, at equal k, with 90 % intervals.

    All are gains, of which more is better (see `Metric`), after `epochs`, which all compared trials reached: what early
    stopping cut off is unknown, and not equally for both sides (the first trials of a run are stopped less).
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
    metric: Metric = DEFAULT_METRIC
    too_few: bool = False  # networks for any difference to be more than noise

    @property
    def noise(self) -> bool:
        """Whether the difference may be luck. The interval alone is too narrow for few trials; the test is exact."""
        return self.difference_interval[0] <= 0 <= self.difference_interval[1] or self.p_value > 1 - LEVEL


def over_when_measured(trials: Sequence[TrialRecord], budget: Budget) -> dict[int, float]:
    """By trial, the measured milliseconds above a latency budget, which is kept by predictions; measured ones vary."""
    most = min((limit.high for limit in budget.limits if limit.currency == "latency_ms"), default=math.inf)
    return {t.number: t.alone_ms for t in trials if t.alone_ms is not None and t.alone_ms > most}


def over_sentence(trials: Sequence[TrialRecord], budget: Budget) -> str:
    """Which networks are over a latency budget when measured; "" where none is."""
    over = over_when_measured(trials, budget)
    if not over:
        return ""
    shown = ", ".join(f"trial {number} ({ms:.3g} ms)" for number, ms in sorted(over.items()))
    return f"* over the budget of {budget} when measured: {shown}"


def under_sentence(trials: Sequence[TrialRecord], budget: Budget) -> str:
    """Which networks take far less than was predicted when measured, so that a latency budget is not used; "" where
    none does, or no budget is of milliseconds."""
    if not any(limit.currency == "latency_ms" for limit in budget.limits):
        return ""
    pairs = [(t.number, t.alone_ms, t.predicted_ms) for t in trials if t.alone_ms and t.predicted_ms]
    far = [f"trial {n} ({real:.3g} of {said:.3g} ms)" for n, real, said in sorted(pairs) if real < FAR * said]
    if not far:
        return ""
    return (
        f"measured far below what was predicted: {', '.join(far)}. Larger networks may fit in {budget}: the layer "
        "times are of other networks, pixels or load (python -m nas.measure --check)"
    )


def difference_interval(metric: Metric, a: float, b: float, images: int) -> tuple[float, float] | None:
    """The 90 % interval of a - b, two scores on the same number of images (Newcombe 1998, method 10); None where the
    metric has no interval.

    It takes the two for independent. Networks that are scored on the same images err on many of the same, so it is
    wider than it need be: a difference that it calls reliable is one.
    """
    of_a, of_b = metric.scores_within(a, images), metric.scores_within(b, images)
    if of_a is None or of_b is None:
        return None
    (low_a, high_a), (low_b, high_b) = of_a, of_b
    return a - b - float(np.hypot(a - low_a, high_b - b)), a - b + float(np.hypot(high_a - a, b - low_b))


def compare(trials: Sequence[TrialRecord], images: int, seed: int = 0) -> Comparison | None:
    """The search against its random control; None where either has no score yet.

    k is the smaller number of trials. Expected best of k, resampled with replacement over trials (which networks were
    drawn) and, of a metric that is a share of images, over validation images (binomial: `images` decide every score),
    so an interval covers both kinds of luck. Failed trials count as the worst (see `scores`).
    """
    epochs, metric = common_epochs(trials), metric_of(trials)
    search, control = scores(trials, "search", epochs), scores(trials, "control", epochs)
    k = min(len(control), len(search))
    if k == 0 or epochs == 0:
        return None
    rng = np.random.default_rng(seed)
    drawn = images if metric.is_share else 0
    of_search, of_control = (_resample_best(scores, k, drawn, rng) for scores in (search, control))
    ours, random_ = expected_best(search, k), expected_best(control, k)
    found = (ours, _middle(of_search), random_, _middle(of_control), ours - random_, _middle(of_search - of_control))
    n, m = len(search), len(control)
    least_p = (1 + (n == m)) / math.comb(n + m, n)  # of equally many a deal and its opposite differ as much
    return Comparison(k, epochs, *found, p_value(search, control, k, rng), metric, least_p > 1 - LEVEL)


def metric_of(trials: Sequence[TrialRecord]) -> Metric:
    """What trials are scored by: those of one study all by one metric."""
    return trials[0].metric if trials else DEFAULT_METRIC


def p_value(search: NDArray[np.float64], control: NDArray[np.float64], k: int, rng: np.random.Generator) -> float:
    """How often a difference this large, in either direction, comes from dealing the roles out at random: of all ways
    to deal them where these are at most `MOST_DEALS`, else of some that are drawn."""
    everything, n, m = np.sort(np.concatenate([search, control])), len(search), len(control)
    exact = math.comb(n + m, n) <= MOST_DEALS
    dealt = _all_deals(n + m, n) if exact else rng.permuted(np.tile(np.arange(n + m) < n, (RESAMPLES, 1)), axis=1)
    rows = np.broadcast_to(everything, dealt.shape)
    ours, others = rows[dealt].reshape(-1, n), rows[~dealt].reshape(-1, m)
    gaps = np.abs(ours[:, k - 1 :] @ _shares(n, k) - others[:, k - 1 :] @ _shares(m, k))
    as_large = np.sum(gaps >= abs(expected_best(search, k) - expected_best(control, k)) - 1e-12)
    return float(as_large / len(dealt) if exact else (as_large + 1) / (len(dealt) + 1))


def _all_deals(total: int, n: int) -> NDArray[np.bool_]:
    """Every way to choose n of a total, one per row."""
    chosen = np.array(list(combinations(range(total), n)))
    dealt = np.zeros((len(chosen), total), np.bool_)
    np.put_along_axis(dealt, chosen, True, axis=1)
    return dealt


def sentences(found: Comparison) -> list[str]:
    """A comparison in words, with what it is worth."""
    m = found.metric
    (a, b), (c, d) = m.natural_interval(*found.search_interval), m.natural_interval(*found.control_interval)
    e, f = m.natural_interval(*found.difference_interval)
    ahead = "the search is" if found.difference > 0 else "random networks are"
    verdict = "it may be noise" if found.noise else f"more than noise at the 10 % level, {ahead} ahead"
    if found.noise and not e <= 0 <= f:
        verdict += ", as the test says, which is exact; the interval is too narrow for so few networks"
    search, control = f"{m.natural(found.search):z.4f}", f"{m.natural(found.control):z.4f}"
    difference = f"Difference {m.natural(found.difference):+z.4f}"
    beside = (
        "Search against random networks, at equal numbers of trials "
        f"(best of {found.k} of each) and equal epochs ({found.epochs}):"
    )
    if found.too_few:
        return [f"{beside} {search} against {control}.", f"{difference}: too few networks to tell it from noise."]
    search += f" [{a:z.4f}, {b:z.4f}]" if a < b else ""  # one network alone says nothing of others
    control += f" [{c:z.4f}, {d:z.4f}]" if c < d else ""
    return [
        f"{beside} {search} against {control}.",
        f"{difference} [{e:+z.4f}, {f:+z.4f}], permutation p = {found.p_value:.2g}: {verdict}.",
    ]


def meaning(trials: Sequence[TrialRecord]) -> str:
    """What the scores of a search are worth, in a sentence; empty where no trial is complete."""
    complete = rank(trials)
    if not complete:
        return ""
    epochs = max(trial.epochs for trial in complete)
    brief = f"{epochs} brief epoch{'s' * (epochs != 1)}"
    chosen = f", and the best of {len(complete)} scores is an optimistic estimate" if len(complete) > 1 else ""
    return (
        f"Scores after {brief} rank networks; they are not the {metric_of(trials).words} of full training{chosen}: "
        "nas.train --top 3 trains the best in full."
    )


def findings(
    trials: Sequence[TrialRecord],
    images: int,
    finals: Finals | None = None,
    alive: bool | None = True,
    chance: float | None = None,
) -> list[str]:
    """What the run shows, in sentences; with `finals` these say what the best network is. `alive` is of its state,
    `chance` the score of always answering the same."""
    complete, metric = rank(trials), metric_of(trials)
    counts = [f"{sum(t.state == end for t in trials)} {end}" for end in ("complete", "pruned", "failed")]
    left = sum(t.state == "running" for t in trials)
    if left or alive is not False:
        counts.append(f"{left} {'not ended' if alive is False else 'running'}")
    lines = [f"{len(trials)} trial{'s' * (len(trials) != 1)}: {', '.join(counts)}."]
    if complete:
        best = complete[0]
        within = best.interval(images)
        measured = f" [{within[0]:.4f}, {within[1]:.4f}]" if within else ""
        of = f" on {images} images" if images else ""
        first = "Best score of brief training" if finals else "Best"
        lines.append(f"{first}: trial {best.number} ({best.role}), {metric.validation} {best.score:.4f}{measured}{of}.")
    lines += conclusion(trials, images, finals, chance)
    unbeaten = front(trials)
    if unbeaten:
        names = ", ".join(unbeaten[0].minimized)
        number = count_of(len(unbeaten), "network")
        lines.append(f"{number} that nothing else beats in {metric.words} and {names}.")
    found = compare(trials, images) if images or not metric.is_share else None
    return lines + (sentences(found) if found else [])


def conclusion(
    trials: Sequence[TrialRecord], images: int, finals: Finals | None, chance: float | None = None
) -> list[str]:
    """What the best network is worth: by the finals or, without them, as far as brief scores tell."""
    held = of_finals(finals) if finals else []
    lines = held or [equals(trials), beside_baselines(trials, images), meaning(trials)]
    return [line for line in (at_chance(trials, images, finals, chance), *lines) if line]


def at_chance(trials: Sequence[TrialRecord], images: int, finals: Finals | None, chance: float | None) -> str:
    """A word where no network is shown to be better than always answering the same; "" where one is, or nothing is
    known of that. After finals the named network's own measure tells; before, the best of all scores, which
    is lucky the more the more there are."""
    complete = [one for one in trials if one.state == "complete"]
    if chance is None or not complete:
        return ""
    metric = metric_of(trials)
    best, number, among = rank(complete)[0].score or 0.0, images, len(complete)
    if finals and (measured := duel(finals)) and (measured.images or not metric.is_share):
        best, number, among = measured.score, measured.images, 1
    within = metric.scores_within(best, number, among)
    if within is None and metric.is_share:
        return ""
    if metric.gain(within[0] if within else best) > metric.gain(chance):
        return ""
    same = f"the commonest class, which is right for {chance:.4f} of the images"
    if metric != DEFAULT_METRIC:
        same = f"the same, whose {metric.words} is {chance:.4f}"
    return (
        f"No network is shown to be better than always answering {same}: which network is the best is not known. More "
        "images, --epochs or --train-resolution may tell."
    )


def equals(trials: Sequence[TrialRecord]) -> str:
    """Which of several networks with the best score is named, and why; "" where there is one alone."""
    complete = rank(trials)
    same = [other for other in complete[1:] if other.score == complete[0].score]
    if not same:
        return ""
    best = complete[0]
    by = "the lowest validation loss" if best.loss is not None and best.loss != same[0].loss else "the lowest number"
    apart = [name for name, spent in best.minimized.items() if spent != same[0].minimized.get(name)]
    if apart:  # it is by the first that they are ordered
        by = f"the lowest {apart[0]}"
    more = f"{len(same)} other network{'s' * (len(same) > 1)} score{'s' * (len(same) == 1)}"
    return f"{more} the same as trial {best.number}, which is named as it has {by} of these."


def beside_baselines(trials: Sequence[TrialRecord], images: int = 0) -> str:
    """The known networks of a run with their scores, and whether another network scored better than they did.

    How much better is said with its interval (see `difference_interval`) where on how many `images` is known.
    """
    known = [trial for trial in trials if trial.role == "baseline"]
    if not known:
        return ""
    sentence = f"Known networks at this budget: {', '.join(map(_textbook_text, known))}."
    complete = rank(trials)
    rivals = [trial for trial in complete if trial.role == "baseline"]
    if not rivals:
        return sentence
    best, rival = complete[0], rivals[0]
    if best.score == rival.score:
        return f"{sentence} No network scored better than {rival.baseline}."
    return sentence + _gain(best, rival, images, len(complete))


def _textbook_text(trial: TrialRecord) -> str:
    score = "" if trial.score is None else f" {trial.score:.4f}"
    why = {"complete": "", "pruned": "stopped early", "failed": "failed", "running": "still running"}[trial.state]
    return f"{trial.baseline}{score} (trial {trial.number}{f', {why}: not comparable' if why else ''})"


def _gain(best: TrialRecord, rival: TrialRecord, images: int, of: int) -> str:
    """How much better the best network is than the best known one, where an interval says what that is worth."""
    if not images or best.score is None or rival.score is None:
        return ""
    within = difference_interval(best.metric, best.score, rival.score, images)
    if within is None:
        return (
            f" The best network, trial {best.number}, is ahead of the best of them; what that is worth is not known, "
            f"as {best.metric.words} has no interval here: train both to be sure."
        )
    low, high = within
    luck = f"more than the draw of the images explains, though it is the best of {of}: train both to be sure"
    verdict = "no reliable difference" if low <= 0 <= high else luck
    return (
        f" The best network, trial {best.number}, is {best.score - rival.score:+z.4f} [{low:+z.4f}, {high:+z.4f}] "
        f"(90 % interval) from the best of them: {verdict}."
    )


def front(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The complete trials that no other beats in score and in all that is minimised, cheapest first."""
    return objectives.unbeaten(trials, objectives.minimised_of)


def common_epochs(trials: Sequence[TrialRecord]) -> int:
    """How many epochs all trials had that are complete or were stopped early."""
    return min((t.epochs for t in trials if t.state in ("complete", "pruned") and t.curve), default=0)


def scores(trials: Sequence[TrialRecord], role: Role, epochs: int) -> NDArray[np.float64]:
    """Gains after so many epochs of the trials of a role that have ended, in their order.

    A failed trial counts as a network that gets nothing right or, where a metric has no such score, as the worst trial.
    """
    ended = [trial for trial in trials if trial.state != "running"]
    gains = [None if t.state == "failed" else t.gain_after(epochs) for t in ended]
    worst = metric_of(trials).worst
    if worst is None:
        worst = min((gain for gain in gains if gain is not None), default=0.0)
    return np.array([worst if g is None else g for t, g in zip(ended, gains, strict=True) if t.role == role])


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


def _resample_best(scores: NDArray[np.float64], k: int, images: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The expected best of k of every resample."""
    found, shares = [], _shares(len(scores), k)
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = rng.choice(scores, (AT_ONCE, len(scores)))
        if images:
            drawn = rng.binomial(images, np.clip(drawn, 0, 1)) / images
        found.append(np.sort(drawn)[:, k - 1 :] @ shares)
    return np.concatenate(found)


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Progress:
    """Scores after `epochs`, which all trials had; entry n - 1 of each is of n networks.

    `search` is the best of the first n networks that the sampler proposed. `control` is the mean best of n of the
    random networks, `low` to `high` hold the best of n in 90 % of draws. `known` are the known networks by name.
    """

    epochs: int
    search: list[float]
    control: list[float]
    low: list[float]
    high: list[float]
    known: dict[str, float]
    metric: Metric = DEFAULT_METRIC


def progress(trials: Sequence[TrialRecord]) -> Progress | None:
    """None where the search or its control has no outcome yet."""
    epochs = common_epochs(trials)
    search, control = scores(trials, "search", epochs), scores(trials, "control", epochs)
    if not len(search) or not len(control):
        return None
    counts, sign = range(1, len(control) + 1), metric_of(trials).sign
    low, high = ([sign * _quantile(control, n, share) for n in counts] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    known = {t.baseline: t.curve[epochs] for t in trials if t.role == "baseline" and epochs in t.curve}
    return Progress(
        epochs,
        (sign * np.maximum.accumulate(search)).tolist(),
        [sign * expected_best(control, n) for n in counts],
        low if sign > 0 else high,
        high if sign > 0 else low,
        known,
        metric_of(trials),
    )


def _quantile(of: NDArray[np.float64], n: int, share: float) -> float:
    """What the best of n draws with replacement stays at or below with this probability: (i/N)^n for the i-th score."""
    below = (np.arange(1, len(of) + 1) / len(of)) ** n
    return float(np.sort(of)[int(np.argmax(below >= share - 1e-12))])
