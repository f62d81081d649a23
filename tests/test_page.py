"""The report's page: complete, escaped, self-contained."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nas import cli, environment, folder, page, report, search
from nas.trial import Outcome, Result

AGAINST = [f"Accuracy against {cost}" for cost in ("FLOPs", "parameters", "latency")]
ARGUMENTS = ["--budget", "100MFLOPs", "--space", "rexnet", "--trials", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made through the study alone, with an outcome of every kind."""
    run = tmp_path_factory.mktemp("page") / "<b>run</b> & co"
    command = argparse.Namespace(command="python -m nas.search --budget &")
    config = cli.configured(cli.parser().parse_args([*ARGUMENTS], command))
    with folder.opened(run, config):
        study = search.open_study(run, config)
        study.validation_images = 300
        for index in range(6):
            trial = study.ask()
            if index == 4:
                study.tell(trial, error="out of memory: <script>alert(1)</script>")
            elif index < 5:
                study.report(trial, Result(epoch=1, accuracy=0.5 + index / 10, loss=1.0, images_per_s=9, latency_ms=3))
                study.tell(trial, 0.5 + index / 10, pruned=index == 0)
        folder.write_results(study, run)
    return run


def test_the_page_is_complete_and_escaped(run: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    assert report.main([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count("<tr>") == (1 + 3) + (1 + 1) + (1 + 6)
    titles = ("Search and random control", "Accuracy by trial", "Learning curves", *AGAINST)
    assert [page.count(f">{title}</text>") for title in titles] == [1] * len(titles)
    assert page.count("<svg") == len(titles) + 3
    assert page.count("<figcaption>") == page.count("<svg")
    assert "<pre>python -m nas.search --budget &amp;</pre>" in page
    assert "Too few networks to say (4 of the 50 that it takes)." in page
    table = pd.read_parquet(run / "trials.parquet")
    assert table["outcome"].tolist() == ["pruned", *["complete"] * 3, "failed", "running"]
    assert table.columns.tolist() == pd.read_csv(run / "trials.csv").columns.tolist()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<b>run</b>" not in page
    assert not re.search(r"(src|href)=.http", page)
    said = capsys.readouterr().out
    assert "6 trials: 3 complete, 1 pruned, 1 failed, 1 running." in said
    assert "trial 3 (search), validation accuracy 0.8000" in said


def test_a_run_without_outcomes_has_a_page_too(tmp_path: Path) -> None:
    config = cli.configured(cli.parser().parse_args([*ARGUMENTS]))
    with folder.opened(tmp_path / "new", config):
        search.open_study(tmp_path / "new", config)
    assert report.main([str(tmp_path / "new")]) == 0
    assert "0 trials" in (tmp_path / "new" / "report.html").read_text()


def test_where_a_run_ran_is_kept_and_told(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    assert "It was not kept what this run ran on." in page.conditions(report.gathered(copied))
    environment.note(copied)
    environment.note(copied)
    (here,) = environment.load(copied)
    assert here == environment.here()
    assert f"torch {here['torch']}" in page.conditions(report.gathered(copied))
    (copied / environment.FILE).write_text("- {torch: <b>1</b>}\n")
    environment.note(copied)
    assert len(environment.load(copied)) == 2
    assert "torch &lt;b&gt;1&lt;/b&gt;" in page.conditions(report.gathered(copied))


def test_failures_are_grouped_by_reason() -> None:
    failed = [Outcome(n, "failed", None, {}, {}, {"error": reason}) for n, reason in enumerate(("a & b", "c", "a & b"))]
    told = page.failures(failed)
    assert "<td>0, 2</td><td>2</td>" in told
    assert "a &amp; b" in told
    assert told.index("a &amp; b") < told.index(">c<")
