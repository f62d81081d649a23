"""`run(coordinator, …)`: the trials that it asks for, on Ray workers, with early stopping. The door of Ray Tune.

Ray Tune only carries: the study decides what runs next and keeps every outcome, so nothing has to be restored from
Ray. A new run on the same study carries on.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import Execution, TrainConfig
from nas.data.labelled import count_of
from nas.metric import DEFAULT_METRIC, Metric
from nas.trial import Result
from nas.views import gpu_use
from nas.workers import cluster, declarations
from nas.workers.cluster import Cluster, LostClusterError
from nas.workers.coordinator import Coordinator
from nas.workers.gpu_sharing import part, room, share_of_gpu, words
from nas.workers.ray_private import end_tune, fast_trials, short_goodbyes
from searchspace import signals
from searchspace.errors import InputError

if TYPE_CHECKING:
    from nas.workers.evaluate import Context, Evaluate


_RUNS = ContextVar("trials run in this thread", default=False)
GOODBYE_S = 2.0  # for what still trains where a run ends before it; its training goes on from its checkpoint


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """Where trials run: how many at once (None: as many as there is room for), and what each is given."""

    device: str
    concurrent: int | None
    cpus: float
    gpus: float


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What is done with every trial: `evaluate`, on `data` or what that makes on each worker, by a `recipe`, from a
    seed of its own that comes from the run's `seed`. `timed`: measure each deployment network's latency on its worker,
    also on a GPU. `by_torch`: latencies are PyTorch's; where they are another runtime's, workers time nothing."""

    evaluate: Evaluate
    data: Any
    recipe: TrainConfig
    seed: int
    metric: Metric = DEFAULT_METRIC
    timed: bool = True
    by_torch: bool = True

    @property
    def pixels(self) -> int | None:
        """The side of the images that are trained on; None of a training of one's own."""
        from nas.workers.evaluate import brief_training

        return self.data.resolution if self.evaluate is brief_training else None


def run(
    coordinator: Coordinator,
    work: Work,
    conduct: Execution,
    log: logging.Logger,
    here: Cluster,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Run the trials that a coordinator asks for; returns why they ended, "" where all are done.

    Raises `InputError` where the device that was asked for is not there, or the work cannot be sent to workers,
    `StorageError` where the study cannot be written, `FailuresError` where most trials fail, `LostClusterError` where
    Ray has ended. Signals end it cleanly: what was running is closed as interrupted, and asked first by the next run;
    the coordinator says which signal it was. After every epoch trials put their training in its folder `checkpoints`,
    where their machine has that folder; one that is asked again goes on from there. `say` is told how GPUs are shared.
    """
    cluster.quieten()
    import ray
    from ray import tune

    from nas.workers.actor import Worker

    check_sent("evaluate", work.evaluate)
    if callable(work.data) or not hasattr(work.data, "fingerprint"):
        check_sent("data", work.data)
    here.ready()
    with (
        cluster.scratch() as folder,
        coordinator.checkpointing(),
        _stoppable(coordinator, here),
        fast_trials(not conduct.ray_address),
        short_goodbyes(GOODBYE_S),
    ):
        here.log_to(log)
        available = ray.cluster_resources()
        resources = plan(available, conduct, work.pixels, here.side_by_side)
        if resources.device == "cuda":
            names = "" if conduct.ray_address else gpu_use.names()
            sharing = describe(resources, available["GPU"], names, here.side_by_side, here.in_turns)
            log.info(sharing)
            say(sharing)
        context = _context(work, conduct, resources, coordinator.epochs)
        sent = {"evaluate": ray.put(work.evaluate), "data": ray.put(work.data)}
        given = {"sent": sent, "context": context, "declared": declarations.dump()}
        trainable = tune.with_parameters(Worker, folder=coordinator.checkpoints, **given)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                search_alg=_searcher(coordinator),
                scheduler=_scheduler(coordinator),
                num_samples=-1,
                max_concurrent_trials=resources.concurrent,
                reuse_actors=True,
            ),
            run_config=_silent(folder, conduct.time_limit_s),
        )
        tuner.fit()
        return coordinator.close(limited=conduct.time_limit_s is not None)


def _silent(folder: Path, limit_s: float | None) -> Any:
    """What Ray Tune writes goes to a folder; it prints nothing, and the reporter for notebooks, which wipes what was
    printed before, is not used. It ends after so many seconds."""
    from ray import tune

    silent, stopper = tune.CLIReporter(), None if limit_s is None else time_limit(limit_s)
    return tune.RunConfig(name="search", storage_path=str(folder), verbose=0, progress_reporter=silent, stop=stopper)


def time_limit(seconds: float) -> Any:
    """What ends a run of Ray Tune so long from now. Ray Tune's own goes by the time of day, which may be set anew."""
    from ray import tune

    until = time.monotonic() + seconds

    class TimeLimit(tune.Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return time.monotonic() >= until

    return TimeLimit()


def _context(work: Work, conduct: Execution, resources: Resources, epochs: int) -> Context:
    """What every training of these is given beside its trial; its data are added where it runs."""
    from nas.workers.evaluate import Context

    return Context(
        data=None,
        device=resources.device,
        seed=work.seed,
        epochs=epochs,
        metric=work.metric,
        train=work.recipe,
        timeout_s=conduct.trial_timeout_s or math.inf,
        gpu_share=resources.gpus or 1.0,
        graphs=conduct.cuda_graphs and resources.device == "cuda",
        timed=work.by_torch and (work.timed or resources.device == "cpu"),
    )


def check_sent(what: str, thing: Any) -> None:
    """`InputError` for what cannot be sent to another process."""
    from ray import cloudpickle

    if "__mp_main__" in sys.modules:  # as the script is called in a process that it has spawned, and nowhere else
        cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])
    try:
        cloudpickle.dumps(thing)
    except Exception as error:
        said = next(iter(str(error).splitlines()), "no reason given")[:160]
        raise InputError(f"{what}: cannot be sent to workers ({type(error).__name__}: {said})") from None


def plan(
    available: dict[str, float], conduct: Execution, pixels: int | None = None, side_by_side: bool = False
) -> Resources:
    """Every GPU that Ray sees, for as many trials each as suit images of so many pixels; without one, a thread a trial
    and as many as cores.

    In a cluster that was joined, nodes that come later are used too.
    """
    gpus, cpus = available.get("GPU", 0.0), available.get("CPU", 1.0)
    device = conduct.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise InputError("device cuda: Ray sees no GPU here; cpu and auto are accepted")
    share = 0.0
    if device == "cuda":
        fitting = 1.0 if pixels is None else share_of_gpu(pixels, cpus / gpus, side_by_side)
        if conduct.concurrent:  # fewer have more memory each
            fitting = max(fitting, part(math.ceil(conduct.concurrent / gpus)))
        share = conduct.gpus_per_trial or fitting
    fit = room(gpus, share) if device == "cuda" else int(cpus)
    if fit < 1:
        raise InputError(f"gpus-per-trial {share:g}: Ray sees {gpus:g} GPUs")
    concurrent = min(conduct.concurrent or fit, fit)
    each = min(1.0, cpus / concurrent)
    return Resources(device, conduct.concurrent if conduct.ray_address else concurrent, each, share)


def describe(resources: Resources, gpus: float, names: str, side_by_side: bool, why_not: str = "") -> str:
    """`4 trials at once on 1 GPU (NVIDIA H200), a quarter of a GPU each, side by side (MPS)`."""
    at_once = resources.concurrent or room(gpus, resources.gpus)
    named = f" ({names})" if names else ""
    how = ""
    if resources.gpus < 1:
        how = ", side by side (MPS)" if side_by_side else ", in turns"
        how += f" (no MPS: {why_not})" if why_not else ""
    where = f"{count_of(int(gpus), 'GPU')}{named}, {words(resources.gpus)}"
    return f"{count_of(at_once, 'trial')} at once on {where}{how}"


def _searcher(coordinator: Coordinator) -> Any:
    """Ray's view of a coordinator: it asks here and tells here."""
    from ray.tune.search import Searcher

    class CoordinatorSearcher(Searcher):  # type: ignore[misc]
        def suggest(self, trial_id: str) -> Any:
            trial = coordinator.ask(trial_id)
            self.heed()
            if trial:
                return {"trial": trial.to_text()}
            return Searcher.FINISHED if coordinator.over else None

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            coordinator.report(trial_id, Result.of(result))
            self.heed()

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            coordinator.end(trial_id, Result.of(result) if result else None, died=error)
            self.heed()

        def heed(self) -> None:
            if coordinator.broken and threading.current_thread() is threading.main_thread():
                end_tune()

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            """Nothing: the study is the state."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Ray Tune pickles its parts for a restore that never comes."""
            return object, ()

    return CoordinatorSearcher(metric="score", mode="max")


def _scheduler(coordinator: Coordinator) -> Any:
    """Ray's view of early stopping: first come, first served, and after every epoch the coordinator is asked."""
    from ray.tune.schedulers import FIFOScheduler

    class CoordinatorScheduler(FIFOScheduler):  # type: ignore[misc]
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return str(self.STOP if coordinator.behind(trial.trial_id, Result.of(result)) else self.CONTINUE)

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """As the searcher."""
            return object, ()

    return CoordinatorScheduler()


@contextmanager
def _alone() -> Iterator[None]:
    """`InputError` where these trials would wait for the cores of others that wait for them."""
    if _RUNS.get():
        raise InputError(
            "a search in a watcher of another: that one's trials hold the cores; begin it once that has ended"
        )
    before = _RUNS.set(True)
    try:
        yield
    finally:
        _RUNS.reset(before)


@contextmanager
def _stoppable(coordinator: Coordinator, here: Cluster) -> Iterator[None]:
    """A signal that ends commands halts the coordinator, and so does the loss of Ray; Ray Tune then ends at its next
    step. A second signal is not caught. In another thread nothing listens to signals, and what Ray Tune sends itself to
    end would end the process."""
    listening = threading.current_thread() is threading.main_thread()

    def lose(why: LostClusterError) -> None:
        coordinator.broken = coordinator.broken or why
        if listening:
            end_tune()

    def halt(number: int) -> None:
        coordinator.halt(number)
        end_tune()

    with _alone(), ExitStack() as after:
        here.when_lost = lose
        after.callback(setattr, here, "when_lost", here.ignore)
        if listening:
            after.callback(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, lambda number, frame: None))
            after.enter_context(signals.ending(halt))
        yield
