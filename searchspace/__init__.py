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
    from searchspace.pytorch.reading.read import from_module, from_timm
    from searchspace.pytorch.reading.weights import copy_weights

__all__ = [
    "Arch",
    "Budget",
    "Cost",
    "InputError",
    "Pyramid",
    "Space",
    "build",
    "copy_weights",
    "cost",
    "from_module",
    "from_timm",
    "register_block",
    "register_cost",
    "zoo",
]

# What a process that only counts need not wait for: torch, and the tables of the zoo.
LATE = {
    "build": "searchspace.pytorch.module",
    "copy_weights": "searchspace.pytorch.reading.weights",
    "from_module": "searchspace.pytorch.reading.read",
    "from_timm": "searchspace.pytorch.reading.read",
    "Pyramid": "searchspace.pytorch.pyramid",
    "zoo": "searchspace.networks",
}


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(LATE[name]), name)
    raise AttributeError(f"module 'searchspace' has no attribute {name!r}")
