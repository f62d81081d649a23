"""What finals show, in numbers and sentences: how good the network is that a search names, and how much better than the
best textbook network, both measured after these two were chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nas.data.labelled import count_of
from nas.metric import Z
from nas.study.finals import Finals
from nas.trial import TrialRecord, training

MUCH_SLOWER = 1.25  # by so much predicted milliseconds are said to differ
T = (6.314, 2.920, 2.353, 2.132)  # of Student's t, what 90 % are within, at 1 to 4 degrees of freedom


@dataclass(frozen=True, slots=True)
class Duel:
    """The two networks of the last rounds: mean scores, and the difference of the first from the second with its 90 %
    interval, None where nothing is known of its noise. `images` are those of all rounds together, 0 where that is not
    known.
    """

    winner: TrialRecord
    other: TrialRecord | None
    score: float
    other_score: float | None
    difference: float | None
    interval: tuple[float, float] | None
    rounds: int
    epochs: int
    images: int


def duel(finals: Finals) -> Duel | None:
    """What the last rounds measured; None where no training of the winner is complete."""
    winner, *others = finals.last
    own = finals.last_trainings(winner)
    if not own:
        return None
    score = fmean(t.score or 0.0 for t in own)
    epochs = min(finals.measuring[-1].epochs, max(t.epochs for t in own))  # an own training may end before
    known = [found for one in own if (found := answers(one)) is not None]
    facts = len(own), epochs, sum(map(len, known))
    theirs = finals.last_trainings(others[0]) if others else []
    if not theirs:
        return Duel(winner, None, score, None, None, None, *facts)
    other_score = fmean(t.score or 0.0 for t in theirs)
    rounds = differences(finals, winner, others[0])
    interval = difference_interval(own, theirs, rounds) if len(own) == len(theirs) else None
    return Duel(winner, others[0], score, other_score, score - other_score, interval, *facts)


def differences(finals: Finals, one: TrialRecord, other: TrialRecord) -> list[float]:
    """By how much the first was better in every round that both were trained in."""
    pairs = [(finals.training(one, played), finals.training(other, played)) for played in finals.rounds]
    return [(a.score or 0.0) - (b.score or 0.0) for a, b in pairs if a and b]


def difference_interval(
    own: Sequence[TrialRecord], theirs: Sequence[TrialRecord], rounds: Sequence[float]
) -> tuple[float, float] | None:
    """The 90 % interval of the mean difference of trainings, made in pairs; None where nothing is known of their noise.

    The wider of two: by the draw of the images, paired, where it is known which were answered right; and by how much
    the difference varies over `rounds`, the earlier ones too, from seed to seed and with the training images (Student's
    t).
    """
    apart = [(a.score or 0.0) - (b.score or 0.0) for a, b in zip(own, theirs, strict=True)]
    pairs = [(answers(a), answers(b)) for a, b in zip(own, theirs, strict=True)]
    each = [a.astype(float) - b.astype(float) for a, b in pairs if a is not None and b is not None]
    of_images = fmean(one.var(ddof=1) / len(one) for one in each) / len(each) if each else 0.0
    halves = [Z * math.sqrt(of_images)]
    if len(rounds) > 1:
        halves.append(T[min(len(rounds) - 1, len(T)) - 1] * float(np.std(rounds, ddof=1)) / math.sqrt(len(apart)))
    half = max(halves)
    return (fmean(apart) - half, fmean(apart) + half) if half else None


def answers(one: TrialRecord) -> NDArray[np.bool_] | None:
    """Of every image whether it was answered right; None where that was not kept, or is not what the score is of."""
    number, colon, digits = one.correct.partition(":")
    if not colon or one.score is None:
        return None
    found = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=int(number)).astype(bool)
    return found if math.isclose(found.mean(), one.score, abs_tol=0.5 / len(found)) else None


def sentences(finals: Finals) -> list[str]:
    """What the finals say of the network that the search names, and of the best textbook network."""
    found = duel(finals)
    if found is None:
        return failures(finals)
    metric = found.winner.metric
    trained = f"{count_of(found.epochs, 'epoch')} from {count_of(found.rounds, 'fresh seed')}"
    on = f" and {found.images:,} images that had decided nothing before" if found.images else ""
    number = len(finals.contenders)
    again = f"{count_of(number, 'network')} {'was' if number == 1 else 'were'} trained again, and longer"
    best = "The best" if better(found) == found.winner else "Named"
    lines = [
        f"Finals: {again}. {best} is {name(found.winner)}: {metric.validation} {found.score:.4f}, the mean of "
        f"trainings of {trained}{on}."
    ]
    lines += failures(finals)
    if found.other is None or found.difference is None:
        return lines
    within = "" if found.interval is None else " [{:+.4f}, {:+.4f}] (90 % interval)".format(*found.interval)
    beside = f"{name(found.other)} has {found.other_score:.4f}: a difference of {found.difference:+.4f}{within}"
    kind = "textbook one" if found.winner.role == "baseline" else "one with fewer multiply-adds"
    equal = f" Of equal networks the {kind} is named." if not found.difference else ""
    lines.append(f"In the same trainings {beside}. {verdict(found)}{equal}")
    return [*lines, *shrinking(finals, found), *speeds(found)]


def failures(finals: Finals) -> list[str]:
    """What is said where trainings failed: which networks are not known then, and what to do about it."""
    failed = finals.failed
    if not failed:
        return []
    networks = {one.digest for one in failed}
    names = ", ".join(name(one) for one in finals.contenders if one.digest in networks)
    number = len({training(one.digest, one.final) for one in failed})
    measured = "" if duel(finals) else ", so that brief scores alone name the best network"
    return [
        f"{count_of(number, 'training')} of the finals failed ({names}: {failed[-1].error:.120}){measured}; the "
        "same command tries again."
    ]


def speeds(found: Duel) -> list[str]:
    """What is said where one of the last two is predicted to be much faster than the other."""
    assert found.other is not None
    known = [(ms, one) for one in (found.winner, found.other) if (ms := one.predicted_ms) is not None]
    if len(known) < 2:
        return []
    (fast, faster), (slow, slower) = sorted(known, key=lambda pair: pair[0])
    if slow < MUCH_SLOWER * fast:
        return []
    return [f"One image is predicted to take {name(faster)} {fast:.2g} ms, {name(slower)} {slow:.2g} ms."]


def shrinking(finals: Finals, found: Duel) -> list[str]:
    """What is said where the better network learns faster, and the other may be better when trained in full."""
    ahead, behind = sorted(finals.last, key=lambda network: network != better(found))
    went = finals.lead([ahead, behind])
    if went is None or not went.shrinks:
        return []
    named = ", which is named for that" if behind == found.winner else ""
    return [
        f"The lead of {name(ahead)} shrank as both were trained: {went.early:+.4f} over epochs 2 to {went.until}, "
        f"{went.last:+.4f} after {found.epochs}. Trained for longer, {name(behind)} may be as good or better{named}; "
        "nas.train --top 2 trains both in full."
    ]


def better(found: Duel) -> TrialRecord:
    """The one of the last two with the better score, which is not the one that is named where its lead shrinks."""
    if found.other is None or found.difference is None or found.winner.metric.gain(found.difference) >= 0:
        return found.winner
    return found.other


def verdict(found: Duel) -> str:
    """What the difference is worth."""
    reliable = found.interval is not None and not found.interval[0] <= 0 <= found.interval[1]
    other = found.other
    assert other is not None
    if better(found) != found.winner:
        return f"That is {'a' if reliable else 'no'} reliable difference, and it was shrinking."
    if found.winner.role == "baseline":
        return f"The search found nothing better than {found.winner.baseline}, which is named instead."
    if other.role != "baseline":
        return "No textbook network was among the trials, so what the search is worth is not known."
    if reliable:
        whose = "A random network" if found.winner.role == "control" else "The search's network"
        return f"{whose} is better than {other.baseline}, the best textbook network at this budget."
    if not found.difference:
        return f"That is no difference from {other.baseline}, the best textbook network at this budget."
    if found.interval is None:
        return f"It is ahead of {other.baseline}, the best textbook network at this budget, by how much is not known."
    return f"That is no reliable difference from {other.baseline}, the best textbook network at this budget."


def name(trial: TrialRecord) -> str:
    return f"{trial.baseline} (trial {trial.number})" if trial.baseline else f"trial {trial.number} ({trial.role})"
