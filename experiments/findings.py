"""What every experiment does with its result: options, tables as CSV and on the terminal, means with their spread."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
RESAMPLES, LEVEL = 5000, 0.9
ACCENT, QUIET, WARM = "#1e8449", "#7f8c8d", "#b03a2e"


def options(doc: str | None, smoke: str, dataset: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that all scripts share; `smoke` says what is left of the experiment in that mode."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if dataset:
        parser.add_argument("--dataset", default="digits", help="a folder of images or a hub name (default: digits)")
    parser.add_argument("--smoke", action="store_true", help=smoke)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where log, tables and figures go")
    return parser


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of equal keys as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def show(console: Console, title: str, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation of a value); the second is 0 for one value."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """(mean of a − b, its 90 % bootstrap interval) of paired values."""
    pairs = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low, high = np.quantile(pairs[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(pairs.mean()), float(low), float(high)


def sign_flips(a: Sequence[float], b: Sequence[float], seed: int = 0, draws: int = 20_000) -> float:
    """Two-sided p of paired values having the same mean: signs of the differences flipped, all ways or many of them."""
    pairs = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if len(pairs) <= 14:
        signs = np.array(np.meshgrid(*[[-1, 1]] * len(pairs))).reshape(len(pairs), -1).T
    else:
        signs = np.random.default_rng(seed).choice([-1, 1], size=(draws, len(pairs)))
    return float((np.abs((signs * pairs).mean(1)) >= abs(pairs.mean()) - 1e-12).mean())


def figure(width: float = 9.0, height: float = 4.8) -> Figure:
    """An empty figure that needs no display; `savefig` writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made
