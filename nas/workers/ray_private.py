"""Every name of Ray's that is used and not public, in one place, so that an upgrade has one place to look at.

Tried with Ray 2.60. `tests/nas/workers/test_ray_private.py` fails where one is gone or means something else. What is
changed of Ray is put back: a notebook may use Ray for other things.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

TRIED = "2.60"


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


def end_tune() -> None:
    """Ray Tune ends at its next step: it listens to this signal."""
    os.kill(os.getpid(), signal.SIGUSR1)


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
def own_process_group() -> Iterator[None]:
    """Ray's processes that are started meanwhile are in groups of their own: a signal to this one's group, as of a
    terminal that is closed or of `timeout`, would end them before the search has kept what it has."""
    from ray._private import services

    before = services.ConsolePopen
    services.ConsolePopen = functools.partial(before, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = before


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
