"""Evidence: what earlier runs of the same space teach a search that begins. Copied into its folder, never its results.

Every source keeps the budget, data and recipe it is of. Where those are this run's, its outcomes are standardised;
elsewhere only their order counts, and less surely: another recipe has another scale, and may rank otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.special import ndtri

from nas.config import SearchConfig, SearchSpec, resume
from nas.samplers.observations import LEARNT, PriorObservation, lessons
from nas.study.records import adopt
from searchspace.document import parse, plain, value, write_text
from searchspace.errors import InputError

FILE = "evidence.json"
UNSURE_ELSEWHERE = 0.5


@value
class Source:
    """One earlier run: what it was, and its points with their standardised outcomes and how unsure these are."""

    run: str
    budget: tuple[str, ...]
    dataset: str
    train: dict[str, Any]
    same: bool
    points: tuple[dict[str, bool | int | float | str | None], ...]
    y: tuple[float, ...]
    unsure: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.points) == len(self.y) == len(self.unsure):
            raise ValueError(f"{len(self.points)} points, {len(self.y)} outcomes and {len(self.unsure)} of how unsure")

    def __str__(self) -> str:
        """What it was, for a person."""
        task = "the same task" if self.same else f"{self.dataset} within {' and '.join(self.budget)}, so by rank alone"
        return f"{len(self.y)} trials of {self.run} ({task})"


@value
class Sources:
    sources: tuple[Source, ...] = ()

    @property
    def evidence(self) -> list[PriorObservation]:
        """All of them in one list, at most 200 an earlier run."""
        rows = [zip(s.points, s.y, s.unsure, strict=True) for s in self.sources]
        return [PriorObservation(dict(point), y, unsure) for source in rows for point, y, unsure in source]


def gather(runs: Iterable[tuple[str, SearchConfig, optuna.Study]], config: SearchConfig) -> Sources:
    """What finished trials of runs, each with its name and study, teach a search; `InputError` for one that teaches
    nothing."""
    return Sources(tuple(_source(*run, config) for run in runs))


def _source(run: str, old: SearchConfig, study: optuna.Study, config: SearchConfig) -> Source:
    from scipy.stats import rankdata  # half a second, which a search without a warm start need not wait

    by, now = ((str(i.metric), i.evaluate) for i in (old.identity, config.identity))
    if by != now:
        raise InputError(
            f"warm-start {run}: its trials are scored by {by[0]}, this search's by {now[0]}"
            + (", and trained otherwise" if by[1] != now[1] else "")
        )
    trials = study.get_trials(deepcopy=False)
    taught = lessons(adopt(trials, old.space, config.space), maximize=True)
    if len(taught.y) < 2:
        finished = sum(trial.state.is_finished() for trial in trials)
        budget = ", and use the whole budget" if old.identity.minimize else ""
        raise InputError(
            f"warm-start {run}: of {finished} finished trials {len(taught.y)} are points of this space{budget}"
        )
    assert len(taught.y) <= LEARNT
    same = task(old.identity) == task(resume(config.identity, old.identity))
    y = taught.y if same else ndtri((rankdata(taught.y) - 0.5) / len(taught.y))
    unsure = taught.unsure if same else np.hypot(taught.unsure, UNSURE_ELSEWHERE)
    i = old.identity
    rows = tuple(tuple(np.round(row, 4).tolist()) for row in (y, unsure))
    return Source(run, i.budget, i.data.dataset, plain(i.train), same, tuple(taught.points), *rows)


def task(identity: SearchSpec) -> tuple[object, ...]:
    """What has to be equal for scores to be comparable."""
    return identity.budget, identity.data, identity.train


def save(sources: Sources, run: Path) -> None:
    """RUN/evidence.json, in one step."""
    write_text(run / FILE, json.dumps(plain(sources)))


def load(run: Path) -> Sources | None:
    """The evidence that a run began with; None where it has no file of it."""
    path = run / FILE
    if not path.is_file():
        return None
    try:
        return parse(Sources, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from None
