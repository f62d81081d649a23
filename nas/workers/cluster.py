"""Ray itself: started on this machine, or a running cluster joined. What the searching and the training door share."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nas
import searchspace
from nas.workers.gpu_sharing import side_by_side
from nas.workers.ray_private import own_process_group, preloading, starting
from searchspace.errors import InputError

# What Ray Tune and Ray Train do unasked, and costs seconds or prints over the progress display.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
# One thread a trial: trials run side by side, one per core (measured, see experiments/).
WORKER_ENV = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],  # see nas/__init__.py
    "PYTHONWARNINGS": "ignore",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:2:16:8",  # 8 MiB for every stream and thread that it has seen, not 32
}
# What a worker imports before it is asked for, while the driver reads images: seconds of its first trial.
# Ray starts one for every core, so not where there are many, as beside most GPUs.
PRELOADED, PRELOADED_CORES = ["torch", "ray.tune", "fvcore.nn", "nas.workers.actor"], 8


def quieten(more: Mapping[str, str] | None = None) -> None:
    """Before Ray is imported, which reads some of it only then."""
    settings = {**QUIET, **(more or {})}
    os.environ.update({name: setting for name, setting in settings.items() if name not in os.environ})
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # which asks for ipywidgets in a notebook


class Cluster:
    """The cluster at an address, or without one a Ray of this process alone. What was begun here ends with its block.

    `begin` starts it in the background, `ready` waits for it and raises `InputError` where there is none. With `shared`
    GPUs, `side_by_side` says whether its processes run at once on one, and `in_turns` why they do not (see
    `nas.workers.gpu_sharing`).
    """

    def __init__(self, address: str | None, command: str, shared: bool = False) -> None:
        self.address, self.command, self.shared = address, command, shared
        self.ours, self.side_by_side, self.in_turns = False, False, ""
        self._held = ExitStack()
        self._logged: list[logging.Handler] | None = None
        self._begun: Future[None] | None = None
        self._thread: ThreadPoolExecutor  # alive as long as the cluster: Linux ends with a thread what it has started

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def begin(self) -> None:
        if self._begun is None:
            self._thread = ThreadPoolExecutor(1)
            self._begun = self._thread.submit(self._begin)

    def ready(self) -> None:
        self.begin()
        assert self._begun is not None
        self._begun.result()
        if threading.current_thread() is threading.main_thread():  # Ray has put a handler of its own below Python's
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    def log_to(self, log: logging.Logger) -> None:
        """Until the end, what Ray has to say of a lost worker goes there and not on the display."""
        logger = logging.getLogger("ray")
        if self._logged is None:
            self._logged = logger.handlers
        logger.handlers = list(log.handlers)

    def end(self) -> None:
        try:
            with self._held:
                self._end()
        finally:
            if self._logged is not None:
                logging.getLogger("ray").handlers, self._logged = self._logged, None

    def _end(self) -> None:
        if self._begun is None:
            return
        wait([self._begun])
        if self.ours:
            import ray

            ray.shutdown()
            self.ours = False
        self._thread.shutdown()

    def _take_turns(self, why: str) -> None:
        self.in_turns = why

    def _begin(self) -> None:
        quieten()
        import ray

        if ray.is_initialized():
            return
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address:
                # Nodes get this very code, whatever they have installed; what it imports they have to have.
                modules = [str(Path(package.__path__[0])) for package in (nas, searchspace)]
                with starting(self.command):
                    ray.init(
                        address=self.address, runtime_env={"env_vars": WORKER_ENV, "py_modules": modules}, **common
                    )
            else:
                # Not as a runtime environment: for that the workers that Ray starts with would not do.
                cores = os.cpu_count() or 1
                common |= preloading(PRELOADED if cores <= PRELOADED_CORES else [])
                own = self._held.enter_context(side_by_side(self.shared, self._take_turns))
                self.side_by_side = own is not None
                with starting(self.command), environment({**WORKER_ENV, **(own or {})}), own_process_group():
                    ray.init(address="local", include_dashboard=False, num_cpus=cores, **common)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise InputError(f"ray-address {self.address or 'local'}: {' '.join(str(error).split())[:160]}") from None
        self.ours = True


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """These environment variables, for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, setting in before.items():
            if setting is None:
                del os.environ[name]
            else:
                os.environ[name] = setting


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what Ray writes, which nobody reads; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nas-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
