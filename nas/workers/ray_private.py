"""Every name of Ray's that is used and not public, in one place, so that an upgrade has one place to look at.

Tried with Ray 2.60. `tests/nas/workers/test_ray_private.py` fails where one is gone or means something else. What is
changed of Ray is put back: a notebook may use Ray for other things.
"""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TRIED = "2.60"
TOKEN = "RAY_AUTH_TOKEN"


@contextmanager
def fast_trials(local: bool) -> Iterator[None]:
    """Trials without an environment of their own, which would keep them from the workers that are there already."""
    from ray.tune.execution import class_cache

    before = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    if local:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = before


def ends_process(error: SystemExit) -> bool:
    """Whether Ray ends a worker by this, and not what runs there."""
    return hasattr(error, "ray_terminate_msg")


def end_tune() -> None:
    """Ray Tune ends at its next step: it listens to this signal."""
    os.kill(os.getpid(), signal.SIGUSR1)


@contextmanager
def short_goodbyes(grace_s: float) -> Iterator[None]:
    """At the end of a run, what still trains has so long to end, and is killed then. Ray Tune gives it ten seconds,
    which an epoch may take, and all that follows comes on top."""
    from ray.tune.execution.tune_controller import TuneController

    before = TuneController._cleanup_trials

    def cleanup_trials(controller: Any) -> None:
        for trial in list(controller._actor_to_trial.values()):
            controller._schedule_trial_stop(trial)
        controller._cleanup_cached_actors(force_all=True)
        actors, until = controller._actor_manager, time.monotonic() + grace_s
        while actors.num_total_actors and (left := until - time.monotonic()) > 0:
            actors.next(timeout=left)
        actors.cleanup()  # kills the others

    TuneController._cleanup_trials = cleanup_trials
    try:
        yield
    finally:
        TuneController._cleanup_trials = before


@contextmanager
def starting(command: str) -> Iterator[None]:
    """While Ray starts: every user of a cluster is shown the driver's command, which may have a password, as `command`;
    and nobody a paragraph for a worker that died, also later."""
    import ray

    utils = ray._private.utils
    before = utils.get_entrypoint_name
    utils.get_entrypoint_name = lambda: command
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        utils.get_entrypoint_name = before


def preloading(modules: Sequence[str]) -> dict[str, Any]:
    """Options of `ray.init` by which workers import these modules before they are needed, and what PyTorch's optimizers
    import when the first one is made, which takes as long as all the rest."""
    return {"_system_config": {"preload_python_modules": [*modules, "torch._dynamo"] if modules else []}}


@contextmanager
def daemons() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Ray's processes that are started meanwhile. Each is in a group of its own: a signal to this one's group, as of a
    terminal that is closed or of `timeout`, would end them before the search has kept what it has. Where one ends
    while Ray waits for it, Ray's start ends at once, and not after half a minute."""
    from ray._private import services

    before = services.ConsolePopen, services.get_node
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **settings: Any) -> subprocess.Popen[bytes]:
        started.append(before[0](*arguments, **settings, process_group=0))
        return started[-1]

    def get_node(*arguments: Any) -> Any:
        if names := ended(started):
            raise OSError(f"its {names[0]} has ended")
        return before[1](*arguments)

    services.ConsolePopen, services.get_node = start, get_node
    try:
        yield started
    finally:
        services.ConsolePopen, services.get_node = before


def ended(started: Sequence[subprocess.Popen[bytes]]) -> list[str]:
    """The names of the daemons without which no Ray goes on, and that have ended."""
    over = [os.path.basename(str(one.args[0])) for one in started if one.poll() is not None]  # type: ignore[index]
    return [name for name in over if name in ("gcs_server", "raylet")]


@contextmanager
def on_loopback() -> Iterator[dict[str, str]]:
    """Options of `ray.init` by which Ray's processes listen on this machine's loopback address alone. Ray would put the
    machine's own address in its place, and listen on all."""
    from ray._private import services

    before = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield {"_node_ip_address": "127.0.0.1"}
    finally:
        services.resolve_ip_for_localhost = before


def forget_shutdown() -> None:
    """Ray is not shut down at the process's exit, which would wait for a start that is under way. What that has
    started ends with its thread."""
    if worker := sys.modules.get("ray._private.worker"):
        atexit.unregister(worker.shutdown)


def keep_token_private() -> dict[str, str]:
    """The file with the token by which Ray knows its user is this user's alone; Ray makes it as any other file. Where
    there is no home to write to, as in many containers, the environment in which Ray is to start, with a token."""
    from ray._private.authentication.authentication_token_setup import _get_default_token_path

    if any(os.environ.get(name) for name in (TOKEN, f"{TOKEN}_PATH")):
        return {}
    try:
        path = _get_default_token_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        path.chmod(0o600)
        path.read_bytes()
    except (OSError, RuntimeError):  # which Path.home raises of a user that the system does not know
        return {TOKEN: secrets.token_hex(32)}
    return {}


def session_folder() -> Path:
    """Where this process's Ray keeps its logs and sockets."""
    import ray

    return Path(ray._private.worker._global_node.get_session_dir_path())


def torch_trainer() -> Any:
    """Ray Train's trainer without the callback that tidies up after a lost driver: this Ray ends with its driver, and
    without a dashboard to ask it would hold every training up for 12 s."""
    from ray.train.torch import TorchTrainer

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [one for one in callbacks if type(one).__name__ != "PlacementGroupCleanerCallback"]

    return Trainer


def cause_of(failure: BaseException) -> BaseException:
    """What a worker raised, of what Ray made of it."""
    cause: BaseException = getattr(failure, "_base_exc", failure)
    return cause
