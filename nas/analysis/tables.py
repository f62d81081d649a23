"""Trials as tables: one row per trial, as CSV and Parquet. The pandas door."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nas.metric import DEFAULT_METRIC
from nas.trial import TrialRecord
from searchspace.document import part_of, write_text

CSV, PARQUET, FINALS = "trials.csv", "trials.parquet", "finals.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that a spreadsheet computes
# The columns after the score, by what they have been called since the first release.
COLUMNS: dict[str, Callable[[TrialRecord], Any]] = {
    "epochs": lambda t: t.epochs,
    "role": lambda t: t.role,
    "baseline": lambda t: t.baseline,
    "macs": lambda t: t.cost.macs,
    "params": lambda t: t.cost.params,
    "activations": lambda t: t.cost.activations,
    "peak_memory_mb": lambda t: t.cost.peak_memory_mb,
    "flash_bytes": lambda t: t.cost.flash_bytes,
    "int8_arena_bytes": lambda t: t.cost.int8_arena_bytes,
    "int8_flash_bytes": lambda t: t.cost.int8_flash_bytes,
    "predicted_ms": lambda t: t.predicted_ms,
    "latency_ms": lambda t: t.contended_ms,
    "measured_ms": lambda t: t.alone_ms,
    "images_per_s": lambda t: t.images_per_s,
    "seconds": lambda t: t.seconds,
    "loss": lambda t: t.loss,
    "train_loss": lambda t: t.train_loss,
    "width_mult": lambda t: t.width_mult,
    "settled": lambda t: t.settled,
    "digest": lambda t: t.digest,
    "in_place_of": lambda t: None if t.in_place_of is None else str(t.in_place_of),
    "network": lambda t: t.network,
    "error": lambda t: t.error or None,
}


def frame(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row per trial: how it ended, its score after how many epochs, what was measured, its parameters, notes."""
    score = (records[0].metric if records else DEFAULT_METRIC).name
    score = "score" if score in COLUMNS else score
    rows = []
    for record in records:
        row = {"trial": record.number, "outcome": record.state, score: record.score}
        row |= {name: of(record) for name, of in COLUMNS.items()} | {
            own_column(n, record): spent for n, spent in record.cost.own
        }
        notes = {name: cell_of(note) for name, note in record.notes.items()}
        rows.append({**notes, **row, **record.point})
    if not rows:
        return pd.DataFrame(columns=["trial", "outcome", score, *COLUMNS])
    costs = dict.fromkeys(own_column(name, record) for record in records for name, _ in record.cost.own)
    known = ["trial", "outcome", score, *COLUMNS, *costs]
    table = pd.DataFrame(rows)
    own = [name for name in table.columns if any(name in record.notes for record in records) and name not in known]
    points = [name for name in table.columns if name not in known and name not in own]
    return table[[*known, *points, *own]]


def cell_of(note: Any) -> Any:
    """A note as a table has it: lists, mappings and whole numbers beyond 64 bits are JSON."""
    beyond = isinstance(note, int) and not -(2**63) <= note < 2**63
    return json.dumps(note, ensure_ascii=False) if beyond or isinstance(note, (list, tuple, dict)) else note


def own_column(name: str, record: TrialRecord) -> str:
    """The column of a cost of the user's own, whose name another column may have, here or in the report."""
    taken = {"trial", "outcome", "score", "MFLOPs", "MParams", *COLUMNS, *record.point}
    return f"{name} (cost)" if name in taken | {record.metric.name, record.metric.words} else name


def write_csv(records: Sequence[TrialRecord], run: Path) -> None:
    """RUN/trials.csv, replaced in one step."""
    write_text(run / CSV, _csv_of(frame(records)))


def write_finals(trainings: Sequence[TrialRecord], run: Path) -> None:
    """RUN/finals.csv, one row per training of the finals, replaced in one step."""
    rows = []
    for one in trainings:
        assert one.final is not None
        rows.append(
            {
                "trial": one.final.of,
                "round": one.final.round,
                "fold": one.final.fold,
                "outcome": one.state,
                one.metric.name: one.score,
                "epochs": one.epochs,
                "role": one.role,
                "baseline": one.baseline,
                "loss": one.loss,
                "seconds": one.seconds,
                "digest": one.digest,
                "error": one.error or None,
            }
        )
    write_text(run / FINALS, _csv_of(pd.DataFrame(rows)))


def _csv_of(table: pd.DataFrame) -> str:
    """The table as CSV, in which a spreadsheet takes no text for a formula, whoever wrote it."""

    def as_text(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell

    words = table.select_dtypes(exclude=["number", "bool"]).columns
    readable = table.assign(**{str(name): table[name].map(as_text) for name in words})
    return readable.rename(columns=as_text).to_csv(index=False)


def write_parquet(records: Sequence[TrialRecord], run: Path) -> None:
    """RUN/trials.parquet, replaced in one step. A column whose values are of several types is text."""
    table, part = frame(records), part_of(run / PARQUET)
    for name in table.columns:
        if len({type(cell) for cell in table[name].dropna()}) > 1:
            table[name] = table[name].map(str, na_action="ignore")
    table.to_parquet(part, index=False)
    part.replace(run / PARQUET)
