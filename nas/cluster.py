"""Ray itself: started on this machine, or a running cluster joined. What the searching and the training door share."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nas
import searchspace
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
# One thread a trial: spinning barriers of several would starve each other (measured, see experiments/).
WORKER_ENV = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}


def quieten(more: Mapping[str, str] | None = None) -> None:
    """Before Ray is imported, which reads some of it only then."""
    settings = {**QUIET, **(more or {})}
    os.environ.update({name: setting for name, setting in settings.items() if name not in os.environ})
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # which asks for ipywidgets in a notebook


@contextmanager
def joined(address: str | None, command: str) -> Iterator[None]:
    """The cluster at an address, or without one a Ray of this process alone; what was begun here ends here."""
    import ray

    ours = not ray.is_initialized()
    if ours:
        # Ray shows every user of a cluster the driver's command as it was typed; a password may be in it.
        ray._private.utils.get_entrypoint_name = lambda: command
        ray._private.worker._worker_logs_enabled = False  # a paragraph on standard output for a worker that died
        surroundings: dict[str, Any] = {"env_vars": WORKER_ENV}
        common = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": surroundings}
        try:
            if address:
                # Nodes get this very code, whatever they have installed; what it imports they have to have.
                surroundings["py_modules"] = [str(Path(package.__path__[0])) for package in (nas, searchspace)]
                ray.init(address=address, **common)
            else:
                ray.init(address="local", include_dashboard=False, num_cpus=os.cpu_count(), **common)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise InputError(f"ray-address {address or 'local'}: {' '.join(str(error).split())[:160]}") from None
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what Ray writes, which nobody reads; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nas-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
