"""What can be searched: networks as data, their exact cost, their modules, and spaces of them. See README.md."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from searchspace.arch import Arch
from searchspace.budget import Budget, Cost
from searchspace.costs.network_cost import cost
from searchspace.errors import InputError
from searchspace.registry.blocks import register_block
from searchspace.registry.costs import register_cost
from searchspace.space.space import Space

if TYPE_CHECKING:
    from searchspace.networks import zoo
    from searchspace.pytorch.module import build
    from searchspace.pytorch.pyramid import Pyramid

__all__ = [
    "Arch",
    "Budget",
    "Cost",
    "InputError",
    "Pyramid",
    "Space",
    "build",
    "cost",
    "register_block",
    "register_cost",
    "zoo",
]

# What a process that only counts need not wait for: torch, and the tables of the zoo.
LATE = {"build": "searchspace.pytorch.module", "Pyramid": "searchspace.pytorch.pyramid", "zoo": "searchspace.networks"}


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(LATE[name]), name)
    raise AttributeError(f"module 'searchspace' has no attribute {name!r}")
