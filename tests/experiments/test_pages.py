"""Every experiment has its page and its row."""

from __future__ import annotations

from tests.support.paths import ROOT

EXPERIMENTS = ROOT / "experiments"


def test_each_has_a_row_and_its_results() -> None:
    readme = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for path in EXPERIMENTS.glob("*/*.py"):
        if "def main(" not in path.read_text(encoding="utf-8"):
            continue
        name = path.relative_to(EXPERIMENTS)
        assert f"]({name})" in readme, name
        (row,) = (line for line in readme.splitlines() if f"]({name})" in line)
        measured = (path.parent / "results" / f"{path.stem}.csv").is_file()
        assert measured != ("not run in full yet" in row), name
