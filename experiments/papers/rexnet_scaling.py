"""Claim: ReXNet scales as Table A1 of its paper says: its costs are those, and its time grows as slowly with them.

    python -m experiments.papers.rexnet_scaling             # a minute: no training
    python -m experiments.papers.rexnet_scaling --smoke     # seconds: two networks, one round

ReXNet ×0.9 to ×3.0 at 224 px: multiply-adds and parameters beside the paper's, milliseconds an image on one thread
beside the paper's two processors (Han et al. 2021, Table A1).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from matplotlib.figure import Figure

from experiments import comparisons, findings
from nas.latency import timing
from searchspace import cost, zoo

# Table A1: multiply-adds in G, parameters in M, ms on a CPU (Xeon E5-2630 v4, one image) and a GPU (V100, batch 64)
TABLE_A1 = {
    "rexnet_090": (0.35, 4.1, 46, 20),
    "rexnet_100": (0.40, 4.8, 47, 21),
    "rexnet_110": (0.48, 5.6, 51, 24),
    "rexnet_120": (0.57, 6.6, 53, 26),
    "rexnet_130": (0.66, 7.6, 55, 28),
    "rexnet_140": (0.76, 8.6, 57, 30),
    "rexnet_150": (0.86, 9.7, 59, 31),
    "rexnet_200": (1.5, 16, 69, 40),
    "rexnet_220": (1.8, 19, 73, 46),
    "rexnet_300": (3.4, 34, 96, 61),
}


def scaling(names: Sequence[str], device: str, rounds: int) -> list[dict[str, Any]]:
    archs = [zoo(name) for name in names]
    with timing.threads(1):
        found = timing.network_rounds([timing.ready(arch, device) for arch in archs], archs, device, 1, rounds)
    times, rows = [median(own) for own in found], []
    for name, arch, own, ms in zip(names, archs, found, times, strict=True):
        spent, (macs, params, cpu, gpu) = cost(arch), TABLE_A1[name]
        row = {"network": name, "G multiply-adds": f"{spent.macs / 1e9:.3f}", "paper's": macs}
        row |= {"M parameters": f"{spent.params / 1e6:.2f}", "paper's M": params}
        row |= {
            "ms (quartiles)": comparisons.middle(own),
            "× of the first": f"{ms / times[0]:.2f}",
            "paper's CPU ms": cpu,
            "paper's GPU ms": gpu,
        }
        row |= {"paper's × (CPU)": f"{cpu / TABLE_A1[names[0]][2]:.2f}", "G/s": f"{spent.macs / ms / 1e6:.1f}"}
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two networks, one round", dataset=False)
    parser.add_argument("--rounds", type=int, default=9, help="in which networks are timed in turn (9)")
    args = parser.parse_args(arguments)
    names = list(TABLE_A1)
    if args.smoke:
        names, args.rounds = names[:2], 1
    page = findings.Page(__doc__, __file__, args, arguments)
    rows = scaling(names, page.device, args.rounds)
    page.table("rexnet_scaling", f"At 224 px, one image, one thread, median of {args.rounds} rounds", rows)
    page.figure("rexnet_scaling", draw(rows, page.hardware))
    page.write(n=f"{len(rows)} networks, {args.rounds} rounds in turn")


def draw(rows: list[dict[str, Any]], where: str) -> Figure:
    figure = findings.figure(7, 4.5)
    axes = figure.subplots()
    x = [float(row["G multiply-adds"]) for row in rows]
    axes.plot(
        x,
        [float(row["ms (quartiles)"].split()[0]) for row in rows],
        "o-",
        color=findings.ACCENT,
        label=f"ours, {where}",
    )
    axes.plot(x, [row["paper's CPU ms"] for row in rows], "s--", color=findings.QUIET, label="paper, Xeon E5-2630 v4")
    axes.set(xlabel="G multiply-adds (×0.9 to ×3.0)", ylabel="ms an image", ylim=(0, None))
    axes.set_title("ReXNet's latency as it is scaled in width")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    findings.run(main)
