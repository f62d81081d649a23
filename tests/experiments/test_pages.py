"""Every experiment has a page and a row of the index, which are short, and whose links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.findings import BY_HAND
from tests.support.paths import ROOT

EXPERIMENTS = ROOT / "experiments"
INDEX = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
LONGEST_ROW, LONGEST_CLAIM = 160, 300
NOT_YET = "not run in full yet"


def scripts() -> list[Path]:
    return [path for path in sorted(EXPERIMENTS.glob("*/*.py")) if "def main(" in path.read_text(encoding="utf-8")]


def pages() -> list[Path]:
    return sorted(EXPERIMENTS.glob("*/results/*.md"))


def documents() -> list[Path]:
    found = [
        *ROOT.glob("*.md"),
        *(path for name in ("nas", "searchspace") for path in (ROOT / name).rglob("README.md")),
    ]
    return [*found, EXPERIMENTS / "README.md", *pages()]


def rows_of(page: Path) -> list[str]:
    return [line for line in INDEX.splitlines() if f"]({page.relative_to(EXPERIMENTS)})" in line]


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.stem)
def test_each_script_has_its_page(script: Path) -> None:
    page = script.parent / "results" / f"{script.stem}.md"
    assert page in pages()
    text = page.read_text(encoding="utf-8")
    measured = any(page.parent.glob(f"{script.stem}*.csv")) and NOT_YET not in text.lower()
    assert measured != any(NOT_YET in row for row in rows_of(page)), page.name


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.stem)
def test_each_page_has_its_row_and_says_how_it_was_made(page: Path) -> None:
    assert rows_of(page), "not in the index"
    assert all(len(row) <= LONGEST_ROW for row in rows_of(page))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ")
    for field in ("command", "hardware", "seconds", "n"):
        assert len(re.findall(rf"(?m)^\| {field} \| \S.* \|$", text)) == 1, field
    assert text.count(f"\n{BY_HAND}\n") == 1


def test_the_index_is_short() -> None:
    tables = [line for line in INDEX.splitlines() if line.startswith("|")]
    assert max(map(len, tables)) <= LONGEST_CLAIM
    assert all(len(line) <= LONGEST_ROW for line in INDEX.splitlines() if line not in tables or "/results/" in line)


def test_links_lead_to_files() -> None:
    for document in documents():
        for link in re.findall(r"\]\((?!https?:|mailto:|#)([^)\s]+)\)", document.read_text(encoding="utf-8")):
            target = document.parent / link.partition("#")[0]
            assert target.exists(), f"{document.relative_to(ROOT)}: {link}"
