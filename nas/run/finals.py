"""Holding the finals of a search, on its workers; see `nas.study.finals`. Cut off, the same command carries on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nas.analysis.time_left import TimeLeft
from nas.config import Execution, SearchConfig
from nas.data.labelled import count_of
from nas.run.folder import Results, write_finals
from nas.run.watchers import Watchers
from nas.study.finals import HELD, LONGEST, FinalProposals, Finals, contenders, finalists, rounds
from nas.study.study import Study
from nas.trial import TrialRecord
from nas.views.terminal import Display
from nas.workers import tuner
from nas.workers.cluster import Cluster
from nas.workers.coordinator import Coordinator

FINALS = "finals"  # what ended a search that did not come to the end of them begins with
CHECKPOINTS = "finals-checkpoints"


def hold(
    study: Study,
    work: tuner.Work,
    config: SearchConfig,
    run: Path,
    log: logging.Logger,
    cluster: Cluster,
    console: Console,
    quiet: bool,
) -> tuple[str, int]:
    """Carry out what is left of the trainings; returns why it ended, "" where the finals are over, and the number of
    the signal that stopped them or 0.

    Raises `FailuresError` where most of them fail, `StorageError` where the study cannot be written.
    """
    epochs = config.identity.train.epochs
    with study.open_finals() as trainings:
        finals = standing(study, config, trainings.records)
        why, signal = "", 0
        if finals.unfinished:
            if not quiet:
                console.print(announcement(finals, has_folds=hasattr(work.data, "fold")), soft_wrap=True)
            trainings.proposals = FinalProposals(trainings.design, finals)
            trainings.validation_images = study.validation_images
            display = _display(finals, study, run, log, console, quiet)
            total = trainings.finished + finals.number_of_trainings
            results = Results(lambda: write_finals(trainings.records, run), log)
            watchers = Watchers([display, results], [], log)
            with display:
                coordinator = Coordinator(trainings, total, epochs, watchers, run.resolve() / CHECKPOINTS, stops=False)
                why, signal = tuner.run(coordinator, work, patient(config), log, cluster), coordinator.stopped_by
            finals = replace(finals, trainings=tuple(trainings.records))
        if finals.over:
            trainings.keep(HELD, finals.kept)
            return "", signal
        return why, signal


def standing(study: Study, config: SearchConfig, trainings: Sequence[TrialRecord]) -> Finals:
    """The finals of a search as they stand after these trainings."""
    chosen = contenders(study.records, finalists(config), study.finals, config.identity.horizon)
    return Finals(tuple(chosen), tuple(trainings), rounds(config.identity.train.epochs))


def patient(config: SearchConfig) -> Execution:
    """How trainings of finals are carried out: each may take as much longer than a trial as it has more epochs."""
    most = config.conduct.trial_timeout_s
    return config.conduct if most is None else replace(config.conduct, trial_timeout_s=most * LONGEST)


def _display(finals: Finals, study: Study, run: Path, log: logging.Logger, console: Console, quiet: bool) -> Display:
    total, ended, epochs = finals.number_of_trainings, finals.number_ended, finals.mean_epochs
    left = TimeLeft(total, epochs, [epochs] * ended, stops=False)
    title = f"finals of {run}"
    return Display(console, log, total, ended, None, quiet, study.metric, title=title, time_left=left, what="trainings")


def announcement(finals: Finals, has_folds: bool) -> str:
    """What finals are about to do; `has_folds` says whether they choose the images, which an own training does."""
    textbook = [trial.baseline for trial in finals.contenders if trial.role == "baseline"]
    beside = f" and {' and '.join(textbook)}" if textbook else ""
    epochs = sorted({played.epochs for played in finals.rounds if finals.entrants(played.number)})
    return (
        f"finals: {count_of(len(finals.contenders) - len(textbook), 'network')} of the trials{beside} are trained "
        f"again from fresh seeds, for {' to '.join(str(n) for n in (epochs[0], epochs[-1])[: len(epochs)])} epochs, in "
        f"{count_of(finals.number_of_trainings, 'training')}"
        + ("; the last ones are scored on images that have decided nothing before" if has_folds else "")
    )
