"""How large a network may be: far beyond any that was built, and small enough that none hangs or overflows on load."""

from __future__ import annotations

from typing import Any

from searchspace.errors import InputError

BLOCKS = 1_000
WIDTH = 65_536
FACTOR = 1_000.0
LARGEST = {
    "in_channels": WIDTH,
    "hidden": WIDTH,
    "out_channels": WIDTH,
    "channels": WIDTH,
    "width": WIDTH,
    "groups": WIDTH,
    "expand_groups": WIDTH,
    "project_groups": WIDTH,
    "group_width": WIDTH,
    "divisor": WIDTH,
    "se_divisor": WIDTH,
    "se_min": WIDTH,
    "hidden_min": WIDTH,
    "min_width": WIDTH,
    "resolution": 65_536,
    "num_classes": 1_000_000,
    "depth": BLOCKS,
    "kernel": 255,
    "shortcut_kernel": 255,
    "stride": 255,
    "dilation": 255,
    "pool": 255,
    "branches": 16,
}


def check_int(thing: Any, *names: str, least: int = 1) -> None:
    """Refuses a value whose fields of these names are no whole numbers, below `least`, or above `WHOLE`."""
    for name in names:
        number = getattr(thing, name)
        if not isinstance(number, int) or isinstance(number, bool):
            raise InputError(f"{name}: a whole number, not {number!r}")
        if not least <= number <= LARGEST[name]:
            accepted = f"at least {least}" if number < least else f"at most {LARGEST[name]:,}"
            raise InputError(f"{name}: {accepted}, not {number}")
