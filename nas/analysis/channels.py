"""Mean channels by block of a run's best, middle and worst networks, as ReXNet's authors looked at theirs.

Han et al. 2021, arXiv 2007.00992v3, figure 2: of 200 searched networks a constraint, the top 10 % widen nearly
linearly, those between 50 and 60 % by stages, and the bottom 10 % late.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.analysis.comparison import common_epochs
from nas.trial import TrialRecord

FEWEST = 50
SHARE = 0.1
GRID = 21

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """The mean and standard deviation of channels at `positions` over `networks` networks."""

    name: str
    networks: int
    positions: Array
    channels: Array
    deviation: Array


@dataclass(frozen=True, slots=True)
class Widths:
    """The three tenths of `trials` networks ranked after `epochs`; none where trials are too few.

    Positions are block numbers from 1 where all networks are equally deep, else shares of the depth from 0 to 1.
    """

    trials: int
    epochs: int
    equal_depth: bool = True
    groups: tuple[Group, ...] = ()

    @property
    def sentence(self) -> str:
        if not self.groups:
            return f"Too few networks to say ({self.trials} of the {FEWEST} that it takes)."
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"Of {self.trials} networks ranked after {epochs}, {self.groups[0].networks} in each tenth."


def channel_profile(trials: Sequence[TrialRecord]) -> Widths:
    """Failed trials say nothing; ties are in the order of validation loss."""
    epochs = common_epochs(trials)
    known = [t for t in trials if t.state in ("complete", "pruned") and epochs in t.curve]
    if len(known) < FEWEST:
        return Widths(len(known), epochs)
    known.sort(key=lambda t: (-(t.gain_after(epochs) or 0.0), t.loss or 0.0))
    channels = [np.array([block["out_channels"] for block in _blocks(trial)], np.float64) for trial in known]
    equal = len({len(one) for one in channels}) == 1
    positions = np.arange(1.0, len(channels[0]) + 1) if equal else np.linspace(0, 1, GRID)
    rows = np.array(channels) if equal else np.array([_stretch(one) for one in channels])
    size = round(SHARE * len(known))
    starts = {"top 10 %": 0, "50 to 60 %": len(known) // 2, "bottom 10 %": len(known) - size}
    groups = [_group(name, positions, rows[first : first + size]) for name, first in starts.items()]
    return Widths(len(known), epochs, equal, tuple(groups))


def _blocks(trial: TrialRecord) -> list[dict[str, int]]:
    found: list[dict[str, int]] = json.loads(trial.arch_text)["blocks"]
    return found


def _stretch(channels: Array) -> Array:
    return np.interp(np.linspace(0, 1, GRID), np.linspace(0, 1, len(channels)), channels)


def _group(name: str, positions: Array, rows: Array) -> Group:
    return Group(name, len(rows), positions, rows.mean(0), rows.std(0, ddof=1))
