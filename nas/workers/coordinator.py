"""`Coordinator`: trials are asked of a study here and told to it, whoever carries them out. Knows no Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from nas.samplers import ExhaustedError
from nas.study.drivers import StorageError
from nas.study.early_stopping import EarlyStopping
from nas.study.proposals import WaitingError
from nas.study.study import FullError, Study
from nas.trial import Result, Trial
from searchspace.document import check_own

# A run stops where more than this share of at least so many trials failed: something is wrong with it.
FAILED_SHARE, FAILED_OF = 0.5, 8
TIME_LIMIT = "time limit"  # why trials have ended


class Watcher(Protocol):
    """Whoever wants to see a run: told of every start, epoch and end, and that it was asked to stop."""

    def started(self, trial: Trial) -> None: ...
    def epoch(self, trial: Trial, result: Result) -> None: ...
    def ended(self, trial: Trial, outcome: str, result: Result) -> None: ...
    def stopping(self) -> None:
        """Called from a signal's handler: nothing may be waited for or printed through a buffer."""


class FailuresError(RuntimeError):
    """So many trials of a run failed that it was stopped; the message is the diagnosis."""


class Coordinator:
    """Trials of `study`, up to `total` outcomes, of `epochs` each, which may put their training aside in `checkpoints`.
    `stops` says whether some are stopped early.

    Whoever carries them out gives every one a name. Once `stop` is set, or `broken`, no more are asked, and those that
    are cut off stay running in the study until `close`.
    """

    def __init__(
        self, study: Study, total: int, epochs: int, watcher: Watcher, checkpoints: Path, stops: bool = True
    ) -> None:
        self.study, self.total, self.epochs = study, total, epochs
        self.watcher, self.checkpoints = watcher, checkpoints
        self.early_stopping = EarlyStopping(epochs, stops)
        self.stop = study.drivers.hurry
        self.stopped_by = 0  # the number of a signal
        self.broken: RuntimeError | None = None  # of a study that cannot be written, of failures, of lost workers
        self._exhausted = ""
        self._live: dict[str, tuple[Trial, Result]] = {}
        self._reasons: list[str] = []  # one for every trial that ended here, empty where it did not fail

    @property
    def over(self) -> bool:
        """Where `ask` gives None: there will not be another trial."""
        return self._ending or not self._live

    @property
    def exhausted(self) -> bool:
        """Whether nothing new is left to be asked."""
        return bool(self._exhausted)

    @property
    def _ending(self) -> bool:
        return bool(self.stop.is_set() or self._exhausted or self.broken)

    def halt(self, number: int) -> None:
        """A signal of this number asks the run to stop."""
        self.stopped_by = number
        self.stop.set()
        self.watcher.stopping()

    def ask(self, name: str) -> Trial | None:
        """The next trial; None where there is none now."""
        if self._ending:
            return None
        try:
            trial = None if self.study.full(self.total) else self.study.ask(self.total)
        except (FullError, WaitingError):
            return None
        except ExhaustedError as reason:
            self._exhausted = str(reason)
            return None
        except StorageError as error:
            self.broken = error
            return None
        if trial:
            self._live[name] = trial, Result()
            self.watcher.started(trial)
        return trial

    def report(self, name: str, measured: Result) -> None:
        """What a trial had measured by the end of an epoch."""
        if name not in self._live or measured.error:
            return
        trial, before = self._live[name]
        if measured.last and measured.epoch == before.epoch:
            return  # it was the last one, which is known now
        self._live[name] = trial, measured
        self._keep(lambda: self._report(trial, measured))

    def behind(self, name: str, measured: Result) -> bool:
        """Whether a trial is to be ended early, after what it measured by the end of an epoch (`Study.is_behind`)."""
        trial, _ = self._live.get(name, (None, None))
        if trial is None or measured.error or self.stop.is_set() or self.broken:
            return False
        try:
            return self.study.is_behind(trial, measured, self.early_stopping)
        except StorageError as error:
            self.broken = error
            return False

    def end(self, name: str, final: Result | None, died: bool = False) -> None:
        """A trial has ended, with what it measured last; `died` where its process did."""
        if name not in self._live or ((self.stop.is_set() or self.broken) and not (final and final.done)):
            return
        trial, last = self._live.pop(name)
        self._keep(lambda: self._interrupt(trial, last) if died else self._tell(trial, last, final or last))

    def close(self, limited: bool) -> str:
        """Why the trials have ended, "" where all are done; raises what has broken it. What was cut off is closed
        as interrupted. `limited`: its time was."""
        if isinstance(self.broken, StorageError):
            raise self.broken
        study, stopped = self.study, self.stop.is_set()
        study.close_interrupted()
        if self.broken:
            raise self.broken
        if self._exhausted:
            return self._exhausted
        if study.finished >= self.total:
            return ""
        elsewhere = study.taken - study.finished
        if elsewhere and not stopped and study.taken >= self.total:
            return f"{elsewhere} run elsewhere"
        return "stopped" if stopped else TIME_LIMIT if limited else "stopped early"

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """The folder has the checkpoints of networks that will be asked again and no others; gone where it is empty.
        `InputError` where it is a link, which may lead to somebody's files."""
        check_own(self.checkpoints)
        self.checkpoints.mkdir(exist_ok=True)
        waiting = {self._checkpoint(training) for training in self.study.waiting}
        for path in self.checkpoints.iterdir():
            if path not in waiting:
                path.unlink()
        try:
            yield
        finally:
            with suppress(OSError):
                self.checkpoints.rmdir()

    def _checkpoint(self, training: str) -> Path:
        return self.checkpoints / f"{training}.safetensors"

    def _report(self, trial: Trial, measured: Result) -> None:
        if measured.images and not self.study.validation_images:  # a training of one's own knows how many
            self.study.validation_images = measured.images
        self.study.report(trial, measured)
        self.watcher.epoch(trial, measured)

    def _interrupt(self, trial: Trial, last: Result) -> None:
        again = self.study.interrupt(trial)
        self.watcher.ended(trial, "interrupted" if again else "failed", last)
        if not again:
            self._judge("its worker died")

    def _tell(self, trial: Trial, last: Result, final: Result) -> None:
        if not final.error and final.epoch > last.epoch:
            self._report(trial, final)
        pruned = not final.done
        recorded = self.study.tell(trial, final.score, error=final.error, pruned=pruned)
        self._checkpoint(trial.training).unlink(missing_ok=True)
        outcome = "failed" if final.error else "pruned" if pruned else "complete"
        self.watcher.ended(trial, outcome if recorded else "interrupted", final)
        if recorded:
            self._judge(final.error)

    def _keep(self, write: Callable[[], None]) -> None:
        """Write to the study; where that cannot be, the run ends."""
        try:
            if not isinstance(self.broken, StorageError):
                write()
        except StorageError as error:
            self.broken = error

    def _judge(self, reason: str) -> None:
        """Stop a run whose trials mostly fail: what is wrong with them will be wrong with the next."""
        self._reasons.append(reason)
        diagnosis = failing(self._reasons)
        if diagnosis and not self.broken:
            self.broken = FailuresError(diagnosis)


def failing(reasons: Sequence[str]) -> str:
    """What is wrong with a run whose trials ended for these reasons, "" where one did not fail; empty if nothing is."""
    failed = [reason for reason in reasons if reason]
    if len(reasons) < FAILED_OF or len(failed) <= FAILED_SHARE * len(reasons):
        return ""
    reason, times = Counter(reason.partition(":")[0] for reason in failed).most_common(1)[0]
    example = next(text for text in failed if text.startswith(reason))
    return (
        f"{len(failed)} of {len(reasons)} trials failed, so the run was stopped; {times} of {reason}, as in: {example}"
    )
