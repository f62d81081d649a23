"""What else can be said on a command line where a budget is small, or too small, for its space."""

from __future__ import annotations

import random

from searchspace.budget import Budget, Limit
from searchspace.errors import InputError
from searchspace.space.preflight import Preflight
from searchspace.space.space import Space

# A median network this many times the budget is shrunk to where widths come to their floors.
DEAR, LEAST_PIXELS, DENSE, SMALLER = 8.0, 96, ("fused_mbconv", "inverted"), "mobile_small"
PIXELS = (160, 128, 96, 64, 48, 32)


def suggest_for_small(found: Preflight, space: Space, limit: Limit) -> list[str]:
    """What else a budget could be kept by that is small for the space; nothing where it is not."""
    over = found.quantile(0.5) / limit.high
    if over < DEAR or not space.fit_range:
        return []
    levers = []
    if limit.currency != "params" and len(space.resolutions) == 1 and space.resolutions[0] > LEAST_PIXELS:
        smaller = [str(pixels) for pixels in (96, 128, 160) if pixels < space.resolutions[0]]
        levers.append(f"--resolution {','.join(smaller)}")
    dear = [block for block in DENSE if any(block in options for options in space.choices.values())]
    if dear:
        levers.append(f"--without {','.join(dear)}")
    if space.source != f"{SMALLER}.yaml" and limit.currency != "params":
        levers.append(f"--space {SMALLER}")
    return [
        f"the budget is small for this space: half of its networks cost {over:.0f} times as much or more; "
        f"{' or '.join(levers)} would leave wider networks"
    ] * bool(levers)


def suggest_for_unmet(space: Space, budget: Budget, band: float) -> list[str]:
    """The options with each of which a budget is met that no network of the space is within: the most pixels, and the
    smaller space. Nothing of milliseconds or a cost of the user's own, which would have to be measured first."""
    if budget.limits_latency or budget.limits_own:
        return []
    pixels, found = min(space.resolutions), []
    for fewer in (number for number in PIXELS if number < pixels):
        if _reaches(space.fix([f"resolution={fewer}"]), budget, band):
            found.append(f"--resolution {fewer}")
            break
    if space.source != f"{SMALLER}.yaml" and space.deployment is None:
        network = space.network
        own = [f"{name}={getattr(network, name)}" for name in ("num_classes", "in_channels")]
        if _reaches(Space.load(SMALLER).fix([f"resolution={pixels}", *own]), budget, band):
            found.append(f"--space {SMALLER}")
    return found


def _reaches(space: Space, budget: Budget, band: float) -> bool:
    try:
        space.reach(budget, band, random.Random(0))
    except InputError:
        return False
    return True
