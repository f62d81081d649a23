"""A run is a folder: config.yaml, study.db (or a server has the study), trials.csv, best.yaml, log.txt, and
latency.json where latencies are predicted; while trials run also checkpoints, one a trial.

What may be written where, and by whom.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nas.analysis import tables
from nas.config import CONFIG, SearchConfig, differences, resume
from nas.run import environment
from nas.run.run import TABLE, Run
from nas.study import lock, servers, storage, warm_start
from nas.study.completeness import BEST
from nas.study.finals import best_of
from nas.study.passwords import without_password
from nas.study.storage import NAME, StudyLocation
from nas.study.study import Study
from nas.trial import Result, Trial, TrialRecord
from searchspace.document import check_own, write_yaml, writing
from searchspace.errors import InputError

Log = logging.Logger
CHECKPOINTS = "checkpoints"
LOG = "log.txt"
PART_S = 60  # after which a half written file is nobody's, also where its writer is on another machine
SMALL, SHARE = 200, 0.02
BESIDE = (TABLE, LOG, environment.FILE, lock.FILE, warm_start.FILE)  # what a start makes beside its study


def can_resume(run: Path, config: SearchConfig) -> bool:
    """Whether a run exists there to carry on; `InputError` for a folder of something else or of another search."""
    if not run.exists():
        return False
    if not run.is_dir():
        raise InputError(f"run {run}: a folder is accepted, not a file")
    begun = Run.config_of(run)
    if begun is None:
        if any(path.name != warm_start.FILE for path in run.iterdir()):  # which a start has left
            raise InputError(f"run {run}: the folder is no run (no {CONFIG}) and not empty; give another")
        return False
    _check_same(run, begun, config)
    return True


def _check_same(run: Path, begun: SearchConfig, config: SearchConfig) -> None:
    """`InputError` where the run that was begun there is another search."""
    old = begun.identity
    changed = differences(old, resume(config.identity, old))
    if changed:
        shown = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise InputError(f"run {run} is another search ({shown}); give another --run")


def _has_outcomes(run: Path) -> bool:
    """Whether a start has come so far that there is something to keep; its study may be half made."""
    try:
        return storage.holds(StudyLocation(run))
    except InputError:
        return (run / tables.CSV).exists()


def discard(run: Path) -> None:
    """Take away what a start without trials has made, so that another command may start there."""
    for name in (
        CONFIG,
        storage.FILE,
        f"{storage.FILE}-wal",
        f"{storage.FILE}-shm",
        *BESIDE,
    ):
        (run / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        run.rmdir()


def study_location(run: Path, url: str, begun: SearchConfig | None) -> StudyLocation:
    """Where the run's study is: where it was when the run began, else at the given address, else in the folder.

    A server has it under the name of the run folder: a second driver joins with a folder of that name elsewhere.
    Raises `InputError` for an address that is not the one that the run began with.
    """
    kept = begun.conduct.storage if begun else ""
    if begun and url and without_password(url) != kept:
        there = f"in {kept}" if kept else "in its folder"
        raise InputError(f"run {run}: keeps its study {there}, not in {without_password(url)}; give another --run")
    if url:
        servers.note(url)
    elif kept:
        servers.check(kept, run)
    name = begun.conduct.study if begun and kept else run.resolve().name
    return StudyLocation(run, url or kept, name) if url or kept else StudyLocation(run, "", NAME)


@contextmanager
def lock_run(run: Path, config: SearchConfig) -> Iterator[Log]:
    """The folder, made and held: one search at a time. Yields the logger of log.txt.

    A start that ends with an `InputError` or a signal before there is a trial leaves nothing behind.
    """
    begins = not (run / CONFIG).is_file()
    with ExitStack() as stack:
        try:
            with writing(f"run {run}"):
                run.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock.lent(run))
                if begun := Run.config_of(run):  # by one that started at the same instant, and has ended
                    _check_same(run, begun, config)
                check_own(run / LOG, run / CHECKPOINTS, *storage.files(run))
                handle = stack.enter_context((run / LOG).open("a", encoding="utf-8"))
                tidy(run)
                config.save(run)
        except lock.HeldError as error:
            url = config.conduct.storage
            raise InputError(f"{error}" + (f"; a folder of that name elsewhere joins {url}" if url else "")) from None
        log = logging.Logger("nas")
        handler = logging.StreamHandler(handle)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        try:
            yield log
        except (InputError, KeyboardInterrupt):
            if begins and not _has_outcomes(run):
                discard(run)
            raise
        finally:
            log.removeHandler(handler)


def tidy(run: Path) -> None:
    """Take away what killed searches and reports have left: an empty folder of checkpoints, files half written."""
    with suppress(OSError):  # it has some, or is none
        (run / CHECKPOINTS).rmdir()
    within = [path for path in run.iterdir() if path.is_dir() and not path.is_symlink()]
    for path in (path for folder in (run, *within) for path in folder.glob("*.part")):
        writer = re.fullmatch(r".*\.(\d+)\.part", path.name)
        with suppress(OSError):
            if writer and not _alive(int(writer[1])) and time.time() - path.stat().st_mtime > PART_S:
                path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


class Results:
    """A watcher that keeps a run's files up to date: after every trial, of many trials in a small share of the time.

    `write` makes them of the study, so whatever is not written yet is written by the end or by the same command; it
    returns how many trials there are.
    """

    def __init__(self, write: Callable[[], int], log: Log) -> None:
        self.write, self.log = write, log
        self._trials, self._ended, self._cost_s = 0, 0.0, 0.0

    def started(self, trial: Trial) -> None: ...

    def epoch(self, trial: Trial, result: Result) -> None: ...

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self.update()

    def stopping(self) -> None: ...

    def update(self) -> None:
        """Write them, unless it is too soon for so many trials. A failure ends nothing: the next time may do."""
        begun = time.monotonic()
        if self._trials >= SMALL and begun - self._ended < self._cost_s / SHARE:
            return
        try:
            self._trials = self.write()
        except OSError as error:
            self.log.warning("results were not written: %s", error)
        self._ended = time.monotonic()
        self._cost_s = self._ended - begun


def write_results(study: Study, run: Path) -> int:
    """trials.csv, and best.yaml once a trial is complete; returns how many trials there are."""
    records, finals = study.records, study.finals
    best = best_of(records, finals)
    tables.write_csv(records, run)
    if finals:
        write_finals(finals.trainings, run)
    if best:
        title = f"trial {best.number}: {study.metric.validation} {best.score:.4f} after brief training"
        title += ", the winner of the finals" if finals else ""
        write_yaml(run / BEST, study.trial(best.number).arch.to_dict(), title)
    return len(records)


def write_finals(trainings: Sequence[TrialRecord], run: Path) -> int:
    """finals.csv; returns how many trainings there are."""
    tables.write_finals(trainings, run)
    return len(trainings)
