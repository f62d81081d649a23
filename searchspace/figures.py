"""What a person looks at: pictures of networks."""

from __future__ import annotations

from pathlib import Path

from searchspace.arch import Arch
from searchspace.costs import section_costs
from searchspace.errors import InputError


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
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"plot {str(path)!r}: cannot be written ({error})") from None
