"""`register_cost`: a cost of the user's own, to budget and to minimise."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, TypeVar

from searchspace.budget import MILLISECONDS, NAMES, OWN_COSTS, PREFIXES, UNITS, OwnCost
from searchspace.costs.network_cost import own_cost
from searchspace.errors import InputError
from searchspace.networks import zoo
from searchspace.registry.functions import replaces, source_of

COUNTED = (*NAMES, "latency", "peak_memory", "flash", "int8_arena", "int8_flash")
TRIED = (0.25, 0.5, 1.0, 2.0)  # width multipliers
Measure = TypeVar("Measure", bound=Callable[[Any], float])


def register_cost(name: str, unit: str) -> Callable[[Measure], Measure]:
    """Register a cost of a network under a name: what the function says of an `Arch`, in a unit.

        @register_cost("weight_bytes", unit="WB")
        def weight_bytes(arch): ...

    A budget may then be 200kWB or weight_bytes<=200k, and `--minimize weight_bytes` seeks a front. The function is
    tried at once. Raises `InputError` unless it gives finite numbers above 0 that are no less for a wider network, and
    for a name or a unit that means something else, unless it did so in the same notebook.
    """

    def add(function: Measure) -> Measure:
        before = OWN_COSTS.get(name) if isinstance(name, str) else None
        try:
            _check_names(name, unit)
            if not callable(function):
                raise InputError("a function of an Arch is accepted")
            same = before is None or (before.unit, source_of(before.of)) == (unit, source_of(function))
            if before is not None and not (same or replaces(function, before.of)):
                raise InputError("another function has this name; give another")
            OWN_COSTS[name] = OwnCost(unit, function)
            _check_monotone(name)
        except InputError as error:
            if before is None and isinstance(name, str):
                OWN_COSTS.pop(name, None)
            elif before is not None:
                OWN_COSTS[name] = before
            said = str(error).removeprefix(f"cost {name}: ")
            raise InputError(f"cost {name!r:.80}: {said}") from None
        return function

    return add


def _check_names(name: str, unit: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError("a name of letters, digits and _ is accepted")
    if name in COUNTED:
        raise InputError("the package counts what has this name; give another")
    if not isinstance(unit, str) or not re.fullmatch(r"[A-Za-z]{2,20}", unit):
        raise InputError(f"unit: two letters or more are accepted, not {unit!r}")
    taken = {prefix + one.lower() for prefix in PREFIXES for one in _units(name)} | MILLISECONDS.keys()
    if any(prefix + unit.lower() in taken for prefix in PREFIXES):
        raise InputError(f"unit: {unit} is read as another unit with its prefix; give another, as in Weight{unit}")


def _units(name: str) -> list[str]:
    """The units of all other costs."""
    return [*filter(None, UNITS), *(own.unit for other, own in OWN_COSTS.items() if other != name)]


def _check_monotone(name: str) -> None:
    """`InputError` where a wider network costs less: no width could be solved for."""
    found = [own_cost(name, zoo("mobilenet_v2", resolution=64, width_mult=width)) for width in TRIED]
    for (narrow, less), (wide, more) in itertools.pairwise(zip(TRIED, found, strict=True)):
        if more < less:
            raise InputError(
                f"a wider network has to cost as much or more, and mobilenet_v2 costs {less:g} at width {narrow:g} and "
                f"{more:g} at {wide:g}"
            )
