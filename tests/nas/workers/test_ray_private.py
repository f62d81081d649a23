"""What is used of Ray that is not public is there, means what it is used for, and is put back."""

from __future__ import annotations

import inspect
import time
from types import SimpleNamespace

import ray
from ray._private import services
from ray.train.torch import TorchTrainer
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController

from nas.workers import ray_private as private


def test_the_installed_version_was_tried() -> None:
    assert ray.__version__.startswith(f"{private.TRIED}."), "try the new one, then raise TRIED and the ceiling"


def test_what_is_changed_is_put_back() -> None:
    before = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    with private.fast_trials(True):
        assert ({}, set()) == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)
    with private.fast_trials(False):
        assert before == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)
    assert before == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)
    name, popen = ray._private.utils.get_entrypoint_name, services.ConsolePopen
    with private.starting("a command without a password"), private.daemons():
        assert ray._private.utils.get_entrypoint_name() == "a command without a password"
        assert services.ConsolePopen is not popen
    assert (ray._private.utils.get_entrypoint_name, services.ConsolePopen) == (name, popen)


def test_what_still_trains_at_the_end_of_a_run_is_waited_for_in_seconds() -> None:
    """By stubs of what Ray Tune's controller has: their names are checked, which are not public."""

    class Actors:
        num_total_actors, waited, killed = 1, 0.0, False

        def next(self, timeout: float) -> None:
            Actors.waited += timeout
            time.sleep(timeout)

        def cleanup(self) -> None:
            Actors.killed = True

    stopped: list[str] = []
    controller = SimpleNamespace(
        _actor_to_trial={"actor": "trial"},
        _schedule_trial_stop=stopped.append,
        _cleanup_cached_actors=lambda force_all: None,
        _actor_manager=Actors(),
    )
    before = TuneController._cleanup_trials
    source = inspect.getsource(before)
    with private.short_goodbyes(0.2):
        TuneController._cleanup_trials(controller)
    assert TuneController._cleanup_trials is before
    assert (stopped, Actors.killed) == (["trial"], True)
    assert 0.1 < Actors.waited < 0.3
    assert all(f"self.{name}" in source for name in vars(controller))
    assert all(f"_actor_manager.{name}" in source for name in ("num_total_actors", "next(timeout", "cleanup()"))


def test_what_ray_takes_it_still_takes() -> None:
    assert "_system_config" in inspect.signature(ray.init).parameters or any(
        p.kind == p.VAR_KEYWORD for p in inspect.signature(ray.init).parameters.values()
    )
    assert private.preloading([]) == {"_system_config": {"preload_python_modules": []}}
    (preloaded,) = private.preloading(["torch"]).values()
    assert preloaded == {"preload_python_modules": ["torch", "torch._dynamo"]}
    assert callable(TorchTrainer._create_default_callbacks)
    assert "PlacementGroupCleanerCallback" in inspect.getsource(
        __import__("ray.train.v2.api.data_parallel_trainer", fromlist=["x"])
    )
    assert isinstance(private.cause_of(ValueError("x")), ValueError)
