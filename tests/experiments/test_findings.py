"""The page that a script writes: what is in it, what of it stays, and what is left out."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from experiments import findings
from experiments.papers import schedules
from tests.support.tables import rows

DOC = """Claim: one is
two.

    python -m experiments.papers.schedules     # seconds

How this is tried.
"""
TABLE = [{"a": number, "b|c": "x"} for number in range(40)]


def page(folder: Path) -> findings.Page:
    made = findings.Page(DOC, schedules.__file__, Namespace(out=folder), ["--dataset", "/home/me/cifar10"], "one")
    made.table("numbers", "some numbers", TABLE)
    made.say("40 numbers")
    made.figure("curve", findings.figure())
    return made


def test_a_page_says_what_was_found_and_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page(tmp_path).write(n="40 numbers of one kind")
    text = (tmp_path / "one.md").read_text(encoding="utf-8")
    assert text.startswith("# One is two\n\nHow this is tried.\n\n| | |")
    for line in (
        "| command | `python -m experiments.papers.schedules --dataset path/to/cifar10` |",
        "| n | 40 numbers of one kind |",
        "### Some numbers",
        r"| a | b\|c |",
        "| 29 | x |",
        "10 more rows are in [numbers.csv](numbers.csv).",
        "* 40 numbers",
        "![curve](curve.png)",
        "Nothing is concluded yet.",
    ):
        assert f"\n{line}\n" in text, line
    assert "| 30 | x |" not in text
    assert len(rows(tmp_path / "numbers.csv")) == 40
    assert (tmp_path / "curve.png").exists()
    assert "python -m experiments.papers.schedules --dataset path/to/cifar10" in capsys.readouterr().out


def test_a_page_keeps_what_people_wrote(tmp_path: Path) -> None:
    page(tmp_path).write(n="1")
    path = tmp_path / "one.md"
    path.write_text(path.read_text().replace("Nothing is concluded yet.", "It is two.\n\n## Why\n\nSo."))
    page(tmp_path).write(n="2")
    assert path.read_text().endswith("## What it shows\n\nIt is two.\n\n## Why\n\nSo.\n")
    assert "| n | 2 |" in path.read_text()
    assert not list(tmp_path.glob("*.part"))


def test_seconds_of_earlier_starts_are_added(tmp_path: Path) -> None:
    made = page(tmp_path)
    made.start -= 10
    made.begun = 1000.0
    made.trained([{"key": "before", "seconds": 30.0}, {"key": "here", "seconds": 5.0, "ended": 1006.0}])
    made.trained([{"key": "taken up", "seconds": 7.0, "ended": 1004.0}])
    assert 43 <= made.seconds() < 53


def test_a_little_of_an_experiment_takes_no_place(tmp_path: Path) -> None:
    parser = findings.options(DOC, schedules.__file__, "one")
    results = Path(schedules.__file__).parent / "results"
    assert parser.parse_args([]).out == results
    assert parser.parse_args(["--smoke"]).out != results
    assert parser.parse_args(["--smoke", "--out", str(tmp_path)]).out == tmp_path
