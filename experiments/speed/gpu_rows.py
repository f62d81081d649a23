"""The rows of gpu_check.py on disk; light, so that a part which is killed while it imports has noted how it began."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

ROWS, LOG, SUMMARY = "gpu_check.jsonl", "gpu_check.log", "gpu_check.json"

Row = dict[str, Any]
Note = Callable[[dict[str, Any]], None]
"""Puts a row on disk at once, so that a part that is killed leaves what it has measured."""


def noting(out: Path, part: str) -> Note:
    return partial(note, out / ROWS, part)


def note(path: Path, part: str, row: dict[str, Any]) -> None:
    """One line, written at once: parts and their processes write to the same file."""
    line = json.dumps({"part": part, **row}) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def summarized(out: Path) -> dict[str, Row]:
    """What the rows on disk say, part by part; also as gpu_check.json."""
    found: dict[str, Row] = {}
    for row in read(out / ROWS):
        one = found.setdefault(row.pop("part"), {"rows": []})
        if "ended" in row:
            one |= row["ended"]
        else:
            one["rows"].append(row)
    for one in found.values():
        verdicts = [row["passed"] for row in one["rows"] if "passed" in row]
        if verdicts or "error" in one:
            one["passed"] = all(verdicts) and "error" not in one
    (out / SUMMARY).write_text(json.dumps(found, indent=1) + "\n")
    return found


def read(path: Path) -> list[Row]:
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(ValueError):  # a line that was cut off
            rows.append(json.loads(line))
    return rows
