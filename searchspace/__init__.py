"""What can be searched: networks as data, their exact cost, their modules, and spaces of them. See README.md."""

from typing import TYPE_CHECKING, Any

from searchspace.arch import Arch
from searchspace.budget import Budget, Cost
from searchspace.costs.costs import cost
from searchspace.errors import InputError
from searchspace.space.space import Space

if TYPE_CHECKING:
    from searchspace.networks import zoo
    from searchspace.pytorch.module import build

__all__ = ["Arch", "Budget", "Cost", "InputError", "Space", "build", "cost", "zoo"]


def __getattr__(name: str) -> Any:
    """`build` and `zoo` on first use: a process that only counts waits neither for torch nor for the tables."""
    if name == "build":
        from searchspace.pytorch.module import build

        return build
    if name == "zoo":
        from searchspace.networks import zoo

        return zoo
    raise AttributeError(f"module 'searchspace' has no attribute {name!r}")
