"""`run(study, …)`: the trials of a study on Ray workers, with early stopping. The door of Ray Tune.

Ray Tune only carries: the study decides what runs next and keeps every outcome, so nothing has to be restored from
Ray. A new run on the same study carries on.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from nas import cluster
from nas.cluster import Cluster
from nas.config import Conduct, TrainConfig
from nas.data import Split
from nas.study import ExhaustedError, FullError, StorageError, Study
from nas.trial import Result, Trial
from searchspace.errors import InputError

REDUCTION_FACTOR = 3
# A run stops where more than this share of at least so many trials failed: something is wrong with it.
FAILED_SHARE, FAILED_OF = 0.5, 8


class Watcher(Protocol):
    """Whoever wants to see a run: told of every start, epoch and end."""

    def started(self, trial: Trial) -> None: ...
    def epoch(self, trial: Trial, result: Result) -> None: ...
    def ended(self, trial: Trial, outcome: str, result: Result) -> None: ...


class FailuresError(RuntimeError):
    """So many trials of a run failed that it was stopped; the message is the diagnosis."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """Where trials run: how many at once (None: as many as there is room for), and what each is given."""

    device: str
    concurrent: int | None
    cpus: float
    gpus: float


def run(
    study: Study,
    split: Split,
    train: TrainConfig,
    conduct: Conduct,
    watcher: Watcher,
    log: logging.Logger,
    seed: int,
    here: Cluster,
    checkpoints: Path | None = None,
) -> str:
    """Run trials until the study has `conduct.trials` outcomes; returns why it ended, "" where all are done.

    Raises `InputError` where the device that was asked for is not there, `StorageError` where the study cannot be
    written, `FailuresError` where most trials fail. SIGINT and SIGTERM end it cleanly: what was running is closed as
    interrupted, and asked first by the next run. After every epoch trials put their training aside in `checkpoints`,
    where their machine has that folder; one that is asked again goes on from there.
    """
    cluster.quieten()
    import ray
    from ray import tune
    from ray.tune.execution import class_cache
    from ray.tune.schedulers import ASHAScheduler

    from nas.worker import Worker

    if not conduct.ray_address:  # an environment of its own keeps a trial from the workers that are there already
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    here.ready()
    with cluster.scratch() as folder, _set_aside(checkpoints, study), _stoppable() as stop:
        study.drivers.hurry = stop
        logging.getLogger("ray").handlers = log.handlers  # what Ray has to say of a lost worker: not on the display
        resources = plan(ray.cluster_resources(), conduct)
        searcher = _searcher(study, conduct.trials, train.epochs, watcher, stop, checkpoints)
        given = {"split": split, "train": train, "device": resources.device, "seed": seed, "folder": checkpoints}
        given |= {"timeout_s": conduct.trial_timeout_s or math.inf, "gpu_share": resources.gpus or 1.0}
        given["graphs"] = conduct.cuda_graphs and resources.device == "cuda"
        trainable = tune.with_parameters(Worker, **given)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                search_alg=searcher,
                scheduler=ASHAScheduler(
                    max_t=train.epochs, grace_period=grace(train.epochs), reduction_factor=REDUCTION_FACTOR
                ),
                num_samples=-1,
                max_concurrent_trials=resources.concurrent,
                time_budget_s=conduct.time_limit_s,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(folder),
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # silent; the one for notebooks wipes what was printed before
            ),
        )
        tuner.fit()
        if isinstance(searcher.broken, StorageError):
            raise searcher.broken
        study.close_interrupted()
        if searcher.broken:
            raise searcher.broken
        if searcher.exhausted:
            return str(searcher.exhausted)
        if study.finished >= conduct.trials:
            return ""
        elsewhere = study.taken - study.finished
        if elsewhere and not stop.is_set() and study.taken >= conduct.trials:
            return f"{elsewhere} run elsewhere"
        return "stopped" if stop.is_set() else "time limit" if conduct.time_limit_s else "stopped early"


def plan(available: dict[str, float], conduct: Conduct) -> Resources:
    """Every GPU that Ray sees, one trial each by default; without one, a thread a trial and as many as cores.

    In a cluster that was joined, nodes that come later are used too.
    """
    gpus, cpus = available.get("GPU", 0.0), available.get("CPU", 1.0)
    device = conduct.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise InputError("device cuda: Ray sees no GPU here; cpu and auto are accepted")
    share = conduct.gpus_per_trial if device == "cuda" else 0.0
    room = int(gpus / share + 1e-9) if device == "cuda" else int(cpus)
    if room < 1:
        raise InputError(f"gpus-per-trial {share}: Ray sees {gpus:g} GPUs")
    concurrent = min(conduct.concurrent or room, room)
    each = min(1.0, cpus / concurrent)
    return Resources(device, conduct.concurrent if conduct.ray_address else concurrent, each, share)


def grace(epochs: int) -> int:
    """The epochs that every trial gets: a third, so that what is compared when trials are stopped is no chance."""
    return -(-epochs // REDUCTION_FACTOR)


def _searcher(
    study: Study, total: int, epochs: int, watcher: Watcher, stop: threading.Event, checkpoints: Path | None
) -> Any:
    """Ray's view of the study: it asks here and tells here."""
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(metric="accuracy", mode="max")
            self.live: dict[str, tuple[Trial, Result]] = {}
            self.exhausted = ""
            self.broken: Exception | None = None
            self.reasons: list[str] = []  # one for every trial that ended here, empty where it did not fail

        def suggest(self, trial_id: str) -> Any:
            if stop.is_set() or self.exhausted or self.broken:
                return Searcher.FINISHED
            try:
                if study.full(total):
                    return None if self.live else Searcher.FINISHED
                trial = study.ask(total)
            except FullError:
                return None if self.live else Searcher.FINISHED
            except ExhaustedError as reason:
                self.exhausted = str(reason)
                return Searcher.FINISHED
            except StorageError as error:
                self.halt(error)
                return Searcher.FINISHED
            self.live[trial_id] = (trial, Result())
            watcher.started(trial)
            return {"trial": trial.to_text()}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if trial_id not in self.live or result.get("error"):
                return
            trial, measured = self.live[trial_id][0], Result.of(result)
            self.live[trial_id] = (trial, measured)
            self.kept(lambda: self.reported(trial, measured))

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            if trial_id not in self.live:
                return
            trial, last = self.live[trial_id]
            if (stop.is_set() or self.broken) and not (result and result["done"]):
                return  # what a stop cuts off stays running here, and is closed as interrupted when all has ended
            del self.live[trial_id]
            self.kept(lambda: self.ended(trial, last, Result.of(result) if result else last, error))

        def reported(self, trial: Trial, measured: Result) -> None:
            study.report(trial, measured)
            watcher.epoch(trial, measured)

        def ended(self, trial: Trial, last: Result, final: Result, died: bool) -> None:
            if died:
                again = study.interrupt(trial)
                watcher.ended(trial, "interrupted" if again else "failed", last)
                self.judge([] if again else ["its worker died"])
                return
            if not final.error and final.epoch > last.epoch:
                self.reported(trial, final)
            pruned = not final.error and final.epoch < epochs
            told = study.tell(trial, final.accuracy, error=final.error, pruned=pruned)
            if checkpoints:
                (checkpoints / f"{trial.digest}.safetensors").unlink(missing_ok=True)
            outcome = "failed" if final.error else "pruned" if pruned else "complete"
            watcher.ended(trial, outcome if told else "interrupted", final)
            self.judge([final.error] if told else [])

        def kept(self, write: Callable[[], None]) -> None:
            """Write to the study; where that cannot be, the run ends."""
            try:
                if not isinstance(self.broken, StorageError):
                    write()
            except StorageError as error:
                self.halt(error)

        def judge(self, reasons: list[str]) -> None:
            """Stop a run whose trials mostly fail: what is wrong with them will be wrong with the next."""
            self.reasons += reasons
            diagnosis = failing(self.reasons)
            if diagnosis and not self.broken:
                self.halt(FailuresError(diagnosis))

        def halt(self, error: Exception) -> None:
            self.broken = error
            if threading.current_thread() is threading.main_thread():
                os.kill(os.getpid(), signal.SIGUSR1)  # which Ray Tune listens to

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            """Nothing: the study is the state."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Ray Tune pickles its parts for a restore that never comes."""
            return object, ()

    return StudySearcher()


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


@contextmanager
def _set_aside(folder: Path | None, study: Study) -> Iterator[None]:
    """A folder with the checkpoints of networks that will be asked again, and no others; gone where it is empty."""
    if folder is None:
        yield
        return
    folder.mkdir(exist_ok=True)
    waiting = {f"{digest}.safetensors" for digest in study.waiting}
    for path in folder.iterdir():
        if path.name not in waiting:
            path.unlink()
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; Ray Tune then ends at its next step. A second signal is not caught."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask_to_stop(signum: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signum, before[signum])
        os.kill(os.getpid(), signal.SIGUSR1)  # which Ray Tune listens to

    before: dict[int, Any] = {n: signal.signal(n, ask_to_stop) for n in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
