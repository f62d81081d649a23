"""What a person looks at: pictures of networks and of what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from searchspace.arch import Arch
from searchspace.blocks.blocks import structure
from searchspace.budget import Limit, amount, unit_of
from searchspace.costs.network_cost import cost, section_costs
from searchspace.errors import InputError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

BINS = 60

ENDS = {"stem": "#444444", "head": "#444444"}
RESOLUTION = "#b03a2e"


def colour(kind: str) -> str:
    """The colour of a kind of block, or of the stem or head."""
    return ENDS[kind] if kind in ENDS else structure(kind).colour


def plot(arch: Arch, path: str | Path | BinaryIO, title: str = "") -> None:
    """Write a `picture` of a network."""
    _save(picture(arch, title), path)


def picture(arch: Arch, title: str = "", size: tuple[float, float] = (9, 5.5)) -> Figure:
    """Channels (bars, coloured by block), resolution (line) and multiply-adds (below) over depth; size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    parts, spent = section_costs(arch), cost(arch)
    kinds = ["stem", *(block.type for block in arch.blocks), "head"]
    colours = [colour(kind) for kind in kinds]
    depth, end = range(len(parts)), len(parts) - 1
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    channels, macs = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    channels.bar(depth[:-1], [part.output[0] for part in parts[:-1]], color=colours[:-1], alpha=0.7)
    channels.set_ylabel("output channels")
    costs = f"{amount(spent.macs, 'macs')}, {amount(spent.params, 'params')} at {arch.resolution} px"
    figure.suptitle(literal(f"{title}: {costs}" if title else costs), fontsize=min(12.0, 2.2 * size[0]))
    sides = [part.output[1] for part in parts[:-1]]
    pixels = channels.twinx()
    pixels.step(depth[:-1], sides, where="mid", color=RESOLUTION)
    pixels.set_ylabel("resolution (px)", color=RESOLUTION)
    pixels.set_yscale("log", base=2)
    pixels.set_yticks(sorted(set(sides)), labels=[str(side) for side in sorted(set(sides))])
    pixels.minorticks_off()
    pixels.set_ylim(min(sides) / 2, max(sides) * 2)
    macs.bar(depth, [part.macs / 1e6 for part in parts], color=colours, alpha=0.7)
    macs.set_ylabel("MFLOPs (MACs)")
    macs.set_xlabel("depth: the stem, every block, the head")
    step = -(-end // round(1.7 * size[0]))
    ticks = [0, *(block for block in range(step, end) if block % step == 0 and end - block > step / 2), end]
    macs.set_xticks(ticks, labels=["stem", *(str(tick) for tick in ticks[1:-1]), "head"])
    blocks = dict.fromkeys(kinds[1:-1])
    return legend_below(figure, [Patch(color=colour(kind), alpha=0.7) for kind in blocks], list(blocks))


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> Figure:
    """The figure with a legend below everything, where it covers nothing, and as much higher."""
    if labels:
        width, height = figure.get_size_inches()
        columns = max(1, min(len(labels), int(width / (0.6 + 0.075 * max(map(len, labels))))))
        figure.set_size_inches(width, height + 0.2 * -(-len(labels) // columns))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def literal(text: str) -> str:
    """Text as Matplotlib shows it letter by letter: no formula between dollars, and no label left out of a legend."""
    return ("\N{ZERO WIDTH SPACE}" if text.startswith("_") else "") + text.replace("$", r"\$")


def plot_costs(
    costs: Sequence[float], limit: Limit, marks: Sequence[tuple[str, float]], path: str | Path, title: str
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
    known.set_xlabel(unit_of(limit.currency))
    for axes in (points, known):
        axes.axvspan(limit.low or 10**low, limit.high, color="#1e8449", alpha=0.08)
        axes.axvline(limit.high, color="#1e8449", label=f"budget {limit}")
    points.legend()
    _save(figure, path)


def _save(figure: Figure, path: str | Path | BinaryIO) -> None:
    named = isinstance(path, (str, Path)) and Path(path).suffix
    try:  # where a name says no format, a PNG of just that name, and not one beside it
        figure.savefig(path, dpi=120, format=None if named else "png")
    except (OSError, ValueError) as error:
        raise InputError(f"plot {str(path)!r}: cannot be written ({error})") from None
