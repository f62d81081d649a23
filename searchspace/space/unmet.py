"""What would meet a budget that no network of a space is within, for the line that refuses it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from searchspace.budget import Budget
from searchspace.errors import InputError, UnmetError
from searchspace.space.space import Space

SMALLER = "mobile_small"
PIXELS = (160, 128, 96, 64, 48, 32)


@contextmanager
def advice(space: Space, budget: Budget, who: str = "it") -> Iterator[None]:
    """An `UnmetError` that is raised meanwhile says with which options of a search the budget is met."""
    try:
        yield
    except UnmetError as error:
        ways = options_that_meet(space, budget)
        raise UnmetError(f"{error}; {who} can with {' or '.join(ways)}" if ways else str(error)) from None


def options_that_meet(space: Space, budget: Budget) -> list[str]:
    """The options with each of which a budget is met that no network of the space is within: the most pixels, and the
    smaller space. Nothing of milliseconds or a cost of the user's own, which would have to be measured first."""
    if budget.limits_latency or budget.limits_own:
        return []
    pixels, found = min(space.resolutions), []
    fewer = [number for number in PIXELS if number < pixels]
    if fewer and _keeps(space.fix([f"resolution={fewer[-1]}"]), budget):
        most = next((n for n in fewer[:-1] if _keeps(space.fix([f"resolution={n}"]), budget)), fewer[-1])
        found.append(f"--resolution {most}")
    if space.source != f"{SMALLER}.yaml" and space.deployment is None:
        network = space.network
        own = [f"{name}={getattr(network, name)}" for name in ("num_classes", "in_channels")]
        if _keeps(Space.load(SMALLER).fix([f"resolution={pixels}", *own]), budget):
            found.append(f"--space {SMALLER}")
    return found


def _keeps(space: Space, budget: Budget) -> bool:
    try:
        return space.keeps(budget, random.Random(0))
    except InputError:
        return False
