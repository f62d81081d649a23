"""Does brief training tell which networks are good? Some networks of a run, trained in full, beside their brief scores.

`python -m nas.train RUN --top 5 --control 3` trains them, each in a folder of its own in RUN/retrained; here is which
ones, what came of them and how the two rankings agree. Knows no torch.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from nas.analysis.comparison import LEVEL, common_epochs
from nas.data.labelled import count_of
from nas.metric import DEFAULT_METRIC, Metric
from nas.study.attributes import Count
from nas.study.finals import Finals, best_first
from nas.trial import TrialRecord
from searchspace.arch import Arch
from searchspace.document import parse, read_yaml, value
from searchspace.errors import InputError

FULL, TEST = DEFAULT_METRIC.name, f"test_{DEFAULT_METRIC.name}"  # what every full training ends with
FOLDER = "retrained"
PREFIX = "trial-"
DEPLOYED, PLAN = "trained", "training.yaml"  # where nas.deploy trains the best network, and what says which that is
WEIGHTS, STATE = "weights.safetensors", "checkpoint.safetensors"
RESAMPLES = 2000
FEWEST = 4

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Retrained:
    """One network's score after brief training and after `epochs` in full, by which metric each is, on how many images,
    and in which folder it was trained. `brief_epochs` is how many epochs the brief score is after where the trials that
    are compared had different numbers of them, else 0."""

    trial: int
    role: str
    brief: float
    epochs: int
    full: float
    images: int
    test: float | None
    test_images: int
    metric: Metric = DEFAULT_METRIC
    brief_metric: Metric = DEFAULT_METRIC
    folder: Path = Path()
    brief_epochs: int = 0


@value
class Outcome:
    """What the weights of a full training say of it: the score that all trainings have, on validation and test images,
    and the same by the search's metric where that is another."""

    epochs: Count
    images: Count
    full: float
    test: float | None = None
    test_images: Count = 0
    score: float | None = None
    test_score: float | None = None
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Rank correlations, with 90 % intervals from resampling networks."""

    networks: int
    spearman: float
    spearman_interval: tuple[float, float]
    kendall: float
    kendall_interval: tuple[float, float]


def networks_to_compare(
    trials: Sequence[TrialRecord], top: int, controls: int, seed: int, finals: Finals | None = None
) -> list[TrialRecord]:
    """The best complete trials, by the finals where they took part, and random ones of the random networks that were
    scored; none twice.

    `InputError` where the run has fewer.
    """
    complete = best_first(trials, finals)
    best = complete[:top]
    taken = {trial.number for trial in best}
    ended = [t for t in trials if t.role == "control" and t.state in ("complete", "pruned") and t.curve]
    others = [trial for trial in ended if trial.number not in taken]
    for name, wanted, there in (("top", top, len(complete)), ("control", controls, len(others))):
        if wanted > there:
            beside = f" beside its best {top}" if name == "control" and top else ""
            raise InputError(f"{name} {wanted}: the run has {there} such networks to train{beside}")
    return best + sorted(random.Random(seed).sample(others, controls), key=lambda trial: trial.number)


def folder_of(base: Path, trial: TrialRecord) -> Path:
    return base / f"{PREFIX}{trial.number}"


def is_finished(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and not (folder / STATE).is_file()


def trained_digest(folder: Path) -> str:
    """Which network of a search was trained in a folder; "" where none has been."""
    if not (folder / PLAN).is_file() or not is_finished(folder):
        return ""
    plan, _ = read_yaml(folder / PLAN)
    if not isinstance(plan, dict) or "arch" not in plan:
        raise InputError(f"{folder / PLAN}: says of no network that it is trained")
    return Arch.from_dict(plan["arch"], f"{folder / PLAN}: arch").digest


def load(base: Path, trials: Sequence[TrialRecord], deployed: Path | None = None) -> list[Retrained]:
    """Every trial whose full training is finished, best first. Those in the folders of `base`, and of `nas.deploy`."""
    found, digest = dict[int, Path](), trained_digest(deployed) if deployed else ""
    for trial in trials:
        folder = folder_of(base, trial)
        if deployed and trial.digest == digest and not is_finished(folder):
            folder = deployed
        if is_finished(folder) and trial.score is not None:
            found[trial.number] = folder
    trained = [trial for trial in trials if trial.number in found]
    common = common_epochs(trained)
    common = common if any(trial.epochs > common for trial in trained) else 0
    rows = [_read_row(trial, found[trial.number], common) for trial in trained]
    return sorted(rows, key=lambda one: -one.metric.gain(one.full))


def _read_row(trial: TrialRecord, folder: Path, common: int) -> Retrained:
    """A trial whose full training is finished, beside its score after the epochs that trials have in `common`."""
    assert trial.score is not None
    outcome = _read_outcome(folder / WEIGHTS)
    own = outcome.score is not None  # by the search's metric, which is not what all trainings measure
    row = Retrained(
        trial.number,
        trial.name,
        trial.curve.get(common, trial.score),
        outcome.epochs,
        outcome.full if outcome.score is None else outcome.score,
        outcome.images,
        outcome.test_score if own else outcome.test,
        outcome.test_images,
        Metric.of(outcome.metric) if own else DEFAULT_METRIC,
        trial.metric,
        folder,
        common,
    )
    for score in (row.full, row.test):
        if score is not None:
            row.metric.check(score)
    return row


def _read_outcome(path: Path) -> Outcome:
    try:
        with safe_open(path, "np") as file:
            found = json.loads((file.metadata() or {})["trained"])
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not of a training ({' '.join(str(error).split())[:120]})") from None
    names = {field.name: {"full": FULL, "test": TEST}.get(field.name, field.name) for field in fields(Outcome)}
    if not isinstance(found, dict):
        raise InputError(f"{path}: not of a training (it says {type(found).__name__})")
    return parse(Outcome, {name: found[kept] for name, kept in names.items() if kept in found}, str(path))


def agreement(brief: Sequence[float], full: Sequence[float], seed: int = 0, fewest: int = FEWEST) -> Agreement | None:
    """How two scores of the same networks rank them; None for fewer than four, or where a score is always the same."""
    pairs = np.array([brief, full], np.float64)
    if len(brief) < fewest or (np.ptp(pairs, axis=1) == 0).any():
        return None
    rng = np.random.default_rng(seed)
    drawn = [pairs[:, rng.integers(len(brief), size=len(brief))] for _ in range(RESAMPLES)]
    kept = [sample for sample in drawn if (np.ptp(sample, axis=1) > 0).all()]
    return Agreement(len(brief), spearman(*pairs), _interval(spearman, kept), kendall(*pairs), _interval(kendall, kept))


def spearman(a: Array, b: Array) -> float:
    """The correlation of ranks; equal scores share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def kendall(a: Array, b: Array) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in opposite order, over pairs that are no tie in either."""
    upper = np.triu_indices(len(a), 1)
    x, y = (np.sign(one[:, None] - one[None, :])[upper] for one in (a, b))
    return float((x * y).sum() / np.sqrt((x != 0).sum() * (y != 0).sum()))


def _ranks(scores: Array) -> Array:
    below = (scores[None, :] < scores[:, None]).sum(1)
    equal = (scores[None, :] == scores[:, None]).sum(1)
    ranks: Array = below + (equal + 1) / 2
    return ranks


def _interval(measure: Callable[[Array, Array], float], samples: Sequence[Array]) -> tuple[float, float]:
    low, high = np.quantile([measure(*sample) for sample in samples], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def sentences(rows: Sequence[Retrained]) -> list[str]:
    """How well brief scores predicted full training, on validation images and, where all were tested, test images."""
    if len(rows) == 1:
        return [_sentence_of_one(rows[0])]
    lengths = sorted({row.epochs for row in rows})
    if len(lengths) > 1:
        trained = ", ".join(map(str, lengths))
        return [f"{len(rows)} networks were trained for different numbers of epochs ({trained}): not compared."]
    other = [row for row in rows if row.metric != row.brief_metric]
    if other:
        return [
            f"The search scored {other[0].brief_metric.words}, the full training {other[0].metric.words}: not compared."
        ]
    sentences = [_sentence("validation", [row.full for row in rows], rows)]
    tests = [row.test for row in rows if row.test is not None]
    if rows and len(tests) == len(rows):
        sentences.append(_sentence("test", tests, rows))
    return sentences


def _sentence_of_one(row: Retrained) -> str:
    test = "" if row.test is None else f", test {row.metric.words} {row.test:.4f}"
    trained = f"Trial {row.trial} trained in full, {count_of(row.epochs, 'epoch')}"
    return f"{trained}: {row.metric.validation} {row.full:.4f}{test}."


def _sentence(images: str, full: Sequence[float], rows: Sequence[Retrained]) -> str:
    gain = rows[0].metric.gain if rows else float
    found = agreement([gain(row.brief) for row in rows], [gain(score) for score in full])
    epochs = rows[0].brief_epochs if rows else 0
    after = f" after {count_of(epochs, 'epoch')}, which all had," if epochs else ""
    begin = f"Brief scores{after} and full training of {len(rows)} networks, {images} images"
    if found is None:
        return f"{begin}: too few, or too equal, to say how they agree."
    (a, b), (c, d) = found.spearman_interval, found.kendall_interval
    return (
        f"{begin}: rank correlation Spearman {found.spearman:.2f} [{a:.2f}, {b:.2f}], "
        f"Kendall {found.kendall:.2f} [{c:.2f}, {d:.2f}]."
    )
