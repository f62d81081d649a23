"""The report's page: complete, escaped, self-contained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nas import folder, report, search
from nas.trial import Result

ARGUMENTS = ["--budget", "100MFLOPs", "--space", "rexnet", "--trials", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made through the study alone, with an outcome of every kind."""
    run = tmp_path_factory.mktemp("page") / "<b>run</b> & co"
    config = search.configured(search.parser().parse_args([*ARGUMENTS]))
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
    assert page.count("<tr>") == (1 + 3) + (1 + 6)
    assert page.count("<svg") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<b>run</b>" not in page
    assert not re.search(r"(src|href)=.http", page)
    said = capsys.readouterr().out
    assert "6 trials: 3 complete, 1 pruned, 1 failed, 1 running." in said
    assert "trial 3 (search), validation accuracy 0.8000" in said


def test_a_run_without_outcomes_has_a_page_too(tmp_path: Path) -> None:
    config = search.configured(search.parser().parse_args([*ARGUMENTS]))
    with folder.opened(tmp_path / "new", config):
        search.open_study(tmp_path / "new", config)
    assert report.main([str(tmp_path / "new")]) == 0
    assert "0 trials" in (tmp_path / "new" / "report.html").read_text()
