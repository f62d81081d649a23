"""What else can be said on a command line where a budget is small for its space."""

from __future__ import annotations

from searchspace.budget import Limit
from searchspace.space.preflight import Preflight
from searchspace.space.space import Space
from searchspace.space.unmet import SMALLER

# A median network this many times the budget is shrunk to where widths come to their floors.
DEAR, LEAST_PIXELS, DENSE = 8.0, 96, ("fused_mbconv", "inverted")


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
