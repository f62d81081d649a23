"""A run is a folder: config.yaml, study.db (or a server has the study), trials.csv, best.yaml, log.txt, and
latency.json where latencies are predicted; while trials run also checkpoints, one a trial.

What may be written where, and by whom.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from nas import environment, results, storage
from nas.config import CONFIG, SearchConfig, differences
from nas.storage import NAME, Place, without_password
from nas.study import Study
from searchspace.document import write_yaml
from searchspace.errors import InputError

Log = logging.Logger
TABLE = "latency.json"
CHECKPOINTS = "checkpoints"
LOG = "log.txt"


def check(run: Path, config: SearchConfig) -> bool:
    """Whether a run exists there to carry on; `InputError` for a folder of something else or of another search."""
    if not run.exists():
        return False
    if not run.is_dir():
        raise InputError(f"run {run}: a folder is accepted, not a file")
    if not (run / CONFIG).is_file():
        if any(run.iterdir()):
            raise InputError(f"run {run}: the folder is no run (no {CONFIG}) and not empty; give another")
        return False
    old = SearchConfig.load(run).identity
    changed = differences(old, replace(config.identity, controls=old.controls, baselines=old.baselines))
    if changed:
        shown = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise InputError(f"run {run} is another search ({shown}); give another --run")
    return True


def check_kept(run: Path) -> None:
    """Where a run's study is not there: `InputError` if it had trials, the rest of which a new one would overwrite."""
    table = run / results.CSV
    rows = len(table.read_text(encoding="utf-8").splitlines()) - 1 if table.is_file() else 0
    if rows > 0:
        raise InputError(f"run {run}: its study is gone, with the {rows} trials of {table.name}; give another --run")


def has_trials(run: Path) -> bool:
    """Whether the study in a folder has trials; `InputError` where it cannot be read."""
    return (run / storage.FILE).exists() and bool(storage.load(run).trials)


def _has_outcomes(run: Path) -> bool:
    """Whether a start has come so far that there is something to keep; its study may be half made."""
    try:
        return has_trials(run)
    except InputError:
        return (run / results.CSV).exists()


def discard(run: Path) -> None:
    """Take away what a start without trials has made, so that another command may start there."""
    for name in (CONFIG, storage.FILE, f"{storage.FILE}-wal", f"{storage.FILE}-shm", TABLE, LOG, environment.FILE):
        (run / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        run.rmdir()


def place(run: Path, url: str, begun: SearchConfig | None) -> Place:
    """Where the run's study is: where it was when the run began, else at the given address, else in the folder.

    A server has it under the name of the run folder: a second driver joins with a folder of that name elsewhere.
    Raises `InputError` for an address that is not the one that the run began with.
    """
    kept = begun.conduct.storage if begun else ""
    if begun and url and without_password(url) != kept:
        there = f"in {kept}" if kept else "in its folder"
        raise InputError(f"run {run}: keeps its study {there}, not in {without_password(url)}; give another --run")
    name = begun.conduct.study if begun and kept else run.resolve().name
    return Place(run, url or kept, name) if url or kept else Place(run, "", NAME)


@contextmanager
def opened(run: Path, config: SearchConfig) -> Iterator[Log]:
    """The folder, made and held: one search at a time. Yields the logger of log.txt.

    A start that ends with an `InputError` or a signal before there is a trial leaves nothing behind.
    """
    begins = not (run / CONFIG).is_file()
    try:
        run.mkdir(parents=True, exist_ok=True)
        handle = (run / LOG).open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"run {run}: cannot be written ({error.strerror})") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            joins = (
                f"; a folder of that name elsewhere joins {config.conduct.storage}" if config.conduct.storage else ""
            )
            raise InputError(f"run {run}: another search is running in it{joins}") from None
        config.save(run)
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


def write_results(study: Study, run: Path) -> None:
    """trials.csv, and best.yaml once a trial is complete."""
    results.write_csv(study.outcomes, run)
    if study.ranked:
        best = study.ranked[0]
        title = f"trial {best.number}: validation accuracy {best.value:.4f} after brief training"
        write_yaml(run / "best.yaml", study.best.arch.to_dict(), title)
