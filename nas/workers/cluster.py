"""Ray itself: started on this machine, or a running cluster joined. What the searching and the training door share."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import nas
import searchspace
from nas.workers import leftovers, memory, ray_private
from nas.workers.gpu_sharing import side_by_side
from nas.workers.ray_private import preloading, starting
from searchspace import machine, signals
from searchspace.command import FAILED
from searchspace.errors import InputError
from searchspace.signals import StoppedError

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
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # an own training reads and writes where the command was given
    "CUBLAS_WORKSPACE_CONFIG": ":4096:2:16:8",  # 8 MiB for every stream and thread that it has seen, not 32
}
# What a worker imports before it is asked for, while the driver reads images: seconds of its first trial.
# Ray starts one for every core, so not where there are many, as beside most GPUs.
PRELOADED, PRELOADED_CORES = ["torch", "ray.tune", "fvcore.nn", "nas.workers.actor"], 8
LOOK_EVERY_S, START_S = 0.5, 60.0  # at Ray's daemons, which take 3 s to start, on a busy machine 20
LEAVE_S = 3.0  # for Ray's start, where the process is to end
GRACE_S = 8.0  # for who uses Ray to end, once a daemon has
ROOM = 10_000_000  # bytes of a disk, for logs and sockets
SHARED = "/dev/shm"
FILES = 64  # open at once in a process; 20 are too few
THREADS = 200  # of Ray's processes and two workers on two cores, once all have begun; later 243
LONGEST = 107 - len("/ray/session_2026-11-26_23-01-44_609668_1234567/sockets/plasma_store")  # bytes: see unix(7)
STORE_SHARE, ADDRESSES = 0.3, 5e9  # of the memory, which Ray maps for its objects in every process; and what torch maps
SAFE = "what has ended is kept: the same command carries on"


class LostClusterError(RuntimeError):
    """Ray could not be started here, or one of its daemons has ended; what has ended before is safe."""


def quieten(more: Mapping[str, str] | None = None) -> None:
    """Before Ray is imported, which reads some of it only then."""
    settings = {**QUIET, **(more or {})}
    os.environ.update({name: setting for name, setting in settings.items() if name not in os.environ})
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # which asks for ipywidgets in a notebook


class Cluster:
    """The cluster at an address, or without one a Ray of this process alone. What was begun here ends with its block.

    `begin` starts it in the background, `ready` waits for it and raises `InputError` where there is none at the
    address, `LostClusterError` where none can be started. Where a daemon of it ends later, `when_lost` is called with
    that error, from another thread; what does not end then, this process does. With `shared` GPUs, `side_by_side` says
    whether its processes run at once on one, and `in_turns` why they do not (see `nas.workers.gpu_sharing`).
    """

    def __init__(self, address: str | None, command: str, shared: bool = False) -> None:
        self.address, self.command, self.shared = address, command, shared
        self.ours, self.side_by_side, self.in_turns = False, False, ""
        self._held = ExitStack()
        self._logged: list[logging.Handler] | None = None
        self._begun: Future[None] | None = None
        self._thread: threading.Thread
        self.when_lost: Callable[[LostClusterError], None] = self.ignore
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._ending, self._ended = threading.Event(), threading.Event()
        self._left = False

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._left:  # a block within this one
            return
        self._left = True
        if kind is StoppedError and self._begun is not None and wait([self._begun], LEAVE_S).not_done:
            self._abandon()
        else:
            self.end()

    def ignore(self, error: LostClusterError) -> None:
        """What is done where nobody waits for Ray."""

    def begin(self) -> None:
        if self._begun is None:
            if not self.address:
                check_limits()
            quieten()
            import ray  # noqa: F401  # here: beside what counts in another thread it would take five times as long

            self._begun = Future()
            self._thread = threading.Thread(target=self._live, args=(self._begun,), name="Ray", daemon=True)
            self._thread.start()

    def _live(self, begun: Future[None]) -> None:
        """Start Ray, and live as long as it does: Linux ends with a thread what that has started."""
        try:
            self._begin()
        except BaseException as error:
            begun.set_exception(error)
        else:
            begun.set_result(None)
        self._ended.wait()

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
        self._ending.set()
        if self._begun is None:
            return
        wait([self._begun])
        if self.ours:
            import ray

            ray.shutdown()
            self.ours = False
        self._ended.set()
        self._thread.join()

    def _abandon(self) -> None:
        """The process ends, and Ray is still starting, which on a busy machine takes half a minute."""
        self._ending.set()
        self._kill()
        ray_private.forget_shutdown()

    def _watch(self) -> None:
        """Ray itself waits a minute for a daemon that has ended, and then ends this process with words of its own; for
        one that has too little memory to answer it waits for ever."""
        begun = time.monotonic()
        while not (trouble := self._trouble(begun)):
            if self._ending.wait(LOOK_EVERY_S):
                return
        if self._ending.is_set():
            return
        error = LostClusterError(f"{trouble}; {SAFE}")
        self.when_lost(error)
        if not self._ended.wait(GRACE_S):
            words = self.command.split()  # python -m nas.search …
            signals.say(f"{words[2] if len(words) > 2 else 'nas'}: {error}")
            self._kill()
            os._exit(FAILED)

    def _trouble(self, begun: float) -> str:
        """What has happened to Ray since its start began, "" if nothing has."""
        for name in ray_private.ended(self._daemons):
            return f"Ray's {name} has ended (killed, or out of memory)"
        late = not self.ours and time.monotonic() - begun > START_S
        return f"Ray has not started within {START_S:.0f} s (too little memory, or a busy machine)" if late else ""

    def _kill(self) -> None:
        for daemon in self._daemons:
            with suppress(OSError):
                daemon.kill()

    def _take_turns(self, why: str) -> None:
        self.in_turns = why

    def _begin(self) -> None:
        import ray

        if ray.is_initialized():
            return
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address:
            self._join(self.address, common)
        else:
            self._start(common)
        self.ours = True

    def _join(self, address: str, common: Mapping[str, Any]) -> None:
        import ray

        # Nodes get this very code, whatever they have installed; what it imports they have to have.
        modules = [str(Path(package.__path__[0])) for package in (nas, searchspace)]
        try:
            with starting(self.command):
                ray.init(address=address, runtime_env={"env_vars": WORKER_ENV, "py_modules": modules}, **common)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise InputError(f"ray-address {address}: {' '.join(str(error).split())[:160]}") from None

    def _start(self, common: Mapping[str, Any]) -> None:
        """A Ray of this process alone, which nobody else reaches."""
        import ray

        # Not as a runtime environment: for that the workers that Ray starts with would not do.
        cores = memory.room_for_workers()
        modules = preloading(PRELOADED if cores <= PRELOADED_CORES else [])
        own = self._held.enter_context(side_by_side(self.shared, self._take_turns))
        self.side_by_side = own is not None
        token = ray_private.keep_token_private()
        temporary = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
        if shutil.disk_usage(temporary).free < ROOM:  # its daemons would be waited for, for a minute
            raise LostClusterError(
                f"Ray needs {ROOM // 10**6} MB of room in {temporary} (TMPDIR names another); {SAFE}"
            )
        if (length := len(os.fsencode(temporary))) > LONGEST:
            raise LostClusterError(
                f"Ray has sockets in {temporary}, a path of {length} bytes; at most {LONGEST} are accepted "
                f"(TMPDIR or RAY_TMPDIR=/tmp names another); {SAFE}"
            )
        # Where its usual folder for objects cannot be written, its raylet would end.
        objects = {} if os.access(SHARED, os.W_OK) else {"_plasma_directory": str(temporary)}
        try:
            with (
                starting(self.command),
                environment({**WORKER_ENV, **import_path(), **token, **(own or {})}),
                ray_private.daemons() as self._daemons,
                ray_private.on_loopback() as local,
            ):
                threading.Thread(target=self._watch, name="watch Ray", daemon=True).start()
                ray.init(
                    address="local", include_dashboard=False, num_cpus=cores, **local, **modules, **objects, **common
                )
            session = ray_private.session_folder()
            session.chmod(0o700)
            leftovers.remove(session.parent, "session_*")
            self._held.callback(os.close, leftovers.hold(session))
        except Exception as error:  # Ray raises plain ones, where the disk is full or memory is limited
            self._ending.set()
            self._kill()
            said = " ".join(str(error).split())[:160]
            raise LostClusterError(f"Ray cannot be started on this machine ({said}); {SAFE}") from None


def check_limits() -> None:
    """`LostClusterError` under limits with which Ray waits, perhaps for ever, for processes that cannot start, or with
    which they are killed."""
    if memory.room_for_workers() < 1:
        raise LostClusterError(
            f"Ray and one trial need {memory.NEEDED / 1e9:.2g} GB of memory, and {machine.memory() / 1e9:.2g} GB are "
            f"granted here (of a cgroup or container, or all that there is); {SAFE}"
        )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < FILES:
        raise LostClusterError(f"Ray needs {FILES} open files for a process, and ulimit -n allows {files}; {SAFE}")
    if machine.processes() < THREADS:
        raise LostClusterError(
            f"Ray begins {THREADS} processes and threads or more, and {machine.processes():.0f} are left here "
            f"(pids.max of a cgroup or container); {SAFE}"
        )
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    needed = STORE_SHARE * machine.memory() + ADDRESSES
    if 0 <= space < needed:
        raise LostClusterError(
            f"Ray reserves up to {needed / 1e9:.0f} GB of addresses for a process, most of which it never uses, and "
            f"ulimit -v allows {space / 1e9:.1f}; ulimit -v unlimited, and a cgroup's limit of memory, are accepted; "
            f"{SAFE}"
        )


def import_path() -> dict[str, str]:
    """The environment in which workers import what this process does: Ray tells them of its script's folder alone."""
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed |= {*site.getsitepackages(), site.getusersitepackages()}
    own = [folder for folder in map(os.path.abspath, sys.path) if os.path.isdir(folder)]
    own = [folder for folder in own if not any(Path(folder).is_relative_to(known) for known in installed)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(own))}


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
    """A folder for what Ray writes, which nobody reads; gone afterwards, and with the next one where that cannot be."""
    leftovers.remove(Path(tempfile.gettempdir()), "nas-*")
    folder = Path(tempfile.mkdtemp(prefix="nas-"))
    held = leftovers.hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)
