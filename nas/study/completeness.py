"""What the files beside a study say that it had: a study that has lost trials is not taken for a new one.

A search writes a trial to its study before it shows it in trials.csv. So whatever has ended there has ended in the
study, unless that was copied without its write-ahead file, taken away or replaced.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from searchspace.errors import InputError

STUDY, TABLE, BEST = "study.db", "trials.csv", "best.yaml"
AHEAD = f"{STUDY}-wal"
NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is found in a run folder before its study is opened: the trials that have ended, the study's files."""

    folder: Path
    ended: frozenset[int]
    study: bool
    ahead: bool

    @classmethod
    def of(cls, folder: Path) -> Kept:
        return cls(
            folder, frozenset(_ended_numbers(folder / TABLE)), _has_bytes(folder / STUDY), _has_bytes(folder / AHEAD)
        )

    def check(self, ended: Collection[int]) -> None:
        """`InputError` where of these trials, which have ended in the study, some that had ended are missing."""
        lost = self.ended.difference(ended)
        if not lost:
            return
        gone = f"its study is gone, with the {len(self.ended)} trials of {TABLE}"
        if self.study:
            gone = f"its study has {len(self.ended) - len(lost)} of the {len(self.ended)} ended trials of {TABLE}"
            if not self.ahead:
                gone += f" ({AHEAD} is not there: a search that has not ended keeps its last trials in it)"
        left = " and ".join(name for name in (TABLE, BEST) if (self.folder / name).is_file())
        raise InputError(
            f"run {self.folder}: {gone}; {left} can still be read; give another --run, "
            f"or move {TABLE} away to go on without them"
        )


def _ended_numbers(table: Path) -> list[int]:
    """The numbers of the trials that have ended, as far as a table can be read; without an object per row, since
    somebody else's may have millions."""
    if not table.is_file():  # a pipe would wait for a writer
        return []
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            heads = next(rows, [])
            number, outcome = (heads.index(name) if name in heads else len(heads) for name in ("trial", "outcome"))
            ended = {row[number] for row in rows if len(row) > number and row[outcome : outcome + 1] != ["running"]}
    except (OSError, UnicodeError, csv.Error):
        return []
    return [int(text) for text in ended if NUMBER.fullmatch(text)]


def _has_bytes(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0
