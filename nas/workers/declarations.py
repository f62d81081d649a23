"""Blocks and costs of the user's own on their way to other processes, which need neither their file nor its folder."""

from __future__ import annotations

import sys

from searchspace.registry import plugins


def dump() -> bytes:
    """All that is registered here, its functions by what they say and not by where they stand."""
    from ray import cloudpickle

    for name in {function.__module__ for function in plugins.own_functions()} - {"__main__"}:
        if name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
    return bytes(cloudpickle.dumps(plugins.own()))


def adopt(declarations: bytes) -> None:
    """Register what another process sent."""
    from ray import cloudpickle

    plugins.adopt(cloudpickle.loads(declarations))
