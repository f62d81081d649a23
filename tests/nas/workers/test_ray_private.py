"""What is used of Ray that is not public is there, means what it is used for, and is put back."""

from __future__ import annotations

import inspect

import ray
from ray._private import services
from ray.train.torch import TorchTrainer
from ray.tune.execution import class_cache

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
