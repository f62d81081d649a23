"""What a person looks at: pictures of networks and of what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searchspace.arch import Arch
from searchspace.budget import NAMES, Limit
from searchspace.costs import section_costs
from searchspace.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60


def plot(arch: Arch, path: str | Path, title: str = "") -> None:
    """Write a picture of channels (bars), resolution (line) and multiply-adds (below) over depth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    parts = section_costs(arch)[:-1]
    depth = range(len(parts))
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    channels, macs = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    channels.bar(depth, [part.output[0] for part in parts], color="#8fb3d9")
    channels.set_ylabel("output channels")
    channels.set_title(title)
    pixels = channels.twinx()
    pixels.step(depth, [part.output[1] for part in parts], where="mid", color="#b03a2e")
    pixels.set_ylabel("resolution (px)", color="#b03a2e")
    pixels.set_ylim(bottom=0)
    macs.bar(depth, [part.macs / 1e6 for part in parts], color="#7f8c8d")
    macs.set_ylabel("MFLOPs (MACs)")
    macs.set_xlabel("depth: the stem, then every block")
    macs.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, path)


def plot_costs(
    costs: Sequence[int], limit: Limit, marks: Sequence[tuple[str, int]], path: str | Path, title: str
) -> None:
    """Write a histogram of what points cost, with the budget and some known networks marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    points, known = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    low, high = math.log10(min(costs[0], limit.high)), math.log10(max(costs[-1], limit.high))
    points.hist(costs, bins=[10 ** (low + (high - low) * edge / BINS) for edge in range(BINS + 1)], color="#8fb3d9")
    points.set_ylabel("random points")
    points.set_title(title)
    for row, (name, spent) in enumerate(marks):
        known.plot([spent], [-row], "o", color="#b03a2e", markersize=4)
        side, align = (6, "left") if math.log10(spent) < (low + high) / 2 else (-6, "right")
        known.annotate(name, (spent, -row), (side, 0), textcoords="offset points", fontsize=8, ha=align, va="center")
    known.set_ylabel("known networks")
    known.set_yticks([])
    known.margins(y=0.1)
    known.set_xscale("log")
    known.set_xlabel(NAMES[limit.currency])
    for axes in (points, known):
        axes.axvspan(limit.low or 10**low, limit.high, color="#1e8449", alpha=0.08)
        axes.axvline(limit.high, color="#1e8449", label=f"budget {limit}")
    points.legend()
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"plot {str(path)!r}: cannot be written ({error})") from None
