"""The report's page: complete, escaped, self-contained."""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import random
import re
import shutil
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nas import report
from nas.analysis.comparison import Progress
from nas.config import SearchConfig
from nas.run import environment, folder, search_options
from nas.run.report import findings
from nas.run.run import Run
from nas.study.opening import open_study
from nas.trial import Result
from nas.views import figures, page, trial_details
from searchspace import Space
from searchspace.figures import picture
from tests.support.records import record

AGAINST = [f"Accuracy against {cost}" for cost in ("FLOPs", "parameters", "latency")]
ARGUMENTS = ["--budget", "100MFLOPs", "--space", "rexnet", "--trials", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made through the study alone, with an outcome of every kind."""
    run = tmp_path_factory.mktemp("page") / "<b>run</b> & co"
    command = argparse.Namespace(command="python -m nas.search --budget &")
    config = search_options.config_from_args(search_options.parser().parse_args([*ARGUMENTS], command))
    with folder.lock_run(run, config):
        study = open_study(run, config)
        study.validation_images = 300
        for index in range(6):
            trial = study.ask()
            if index == 4:
                study.tell(trial, error="out of memory: <script>alert(1)</script>")
            elif index < 5:
                study.report(trial, Result(epoch=1, score=0.5 + index / 10, loss=1.0, images_per_s=9, contended_ms=3))
                study.tell(trial, 0.5 + index / 10, pruned=index == 0)
        folder.write_results(study, run)
    return run


@pytest.fixture(scope="module")
def shown(run: Path) -> str:
    """The run's page."""
    return page.page(findings(Run.open(run)))


def test_the_page_is_complete_and_escaped(run: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    assert report.main([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert [len(table.findall("./tbody/tr")) for table in tables(page)] == [3, 1, 6]
    titles = ("Search and random control", "Accuracy by trial", "Learning curves", *AGAINST)
    assert [page.count(f">{title}</text>") for title in titles] == [1] * len(titles)
    assert page.count("<figure>") == page.count("<figcaption>") == len(titles) + 3
    assert page.count('<svg class="sketch"') == 6
    assert '<pre class="command">python -m nas.search --budget &amp;</pre>' in page
    assert "Too few networks to say (4 of the 50 that it takes)." in page
    table = pd.read_parquet(run / "trials.parquet")
    assert table["outcome"].tolist() == ["pruned", *["complete"] * 3, "failed", "running"]
    assert table.columns.tolist() == pd.read_csv(run / "trials.csv").columns.tolist()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script") == 1
    assert "<b>run</b>" not in page
    assert not re.search(r"(src|href)=.http", page)
    said = capsys.readouterr().out
    assert "6 trials: 3 complete, 1 pruned, 1 failed, 1 not ended." in said
    assert "trial 3 (search), validation accuracy 0.8000" in said


def test_a_run_without_outcomes_has_a_page_too(tmp_path: Path) -> None:
    config = search_options.config_from_args(search_options.parser().parse_args([*ARGUMENTS]))
    with folder.lock_run(tmp_path / "new", config):
        open_study(tmp_path / "new", config)
    assert report.main([str(tmp_path / "new")]) == 0
    assert "0 trials" in (tmp_path / "new" / "report.html").read_text()


def test_how_many_images_scored_is_said_without_a_share(run: Path) -> None:
    """With --images those that score are another share of the images than `validation`."""
    said = page.conditions(findings(Run.open(run)))
    assert "on the 300 validation images, held out of the training images of digits, after at most" in said
    assert "20 %" not in said


def test_where_a_run_ran_is_kept_and_told(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    assert "It was not kept what this run ran on." in page.conditions(findings(Run.open(copied)))
    environment.note(copied)
    environment.note(copied)
    (here,) = environment.load(copied)
    assert here == environment.here()
    assert f"torch {here['torch']}" in page.conditions(findings(Run.open(copied)))
    (copied / environment.FILE).write_text("- {torch: <b>1</b>}\n")
    environment.note(copied)
    assert len(environment.load(copied)) == 2
    assert "torch &lt;b&gt;1&lt;/b&gt;" in page.conditions(findings(Run.open(copied)))


def tables(page: str) -> list[ElementTree.Element]:
    """The sortable tables of a page."""
    return [ElementTree.fromstring(one) for one in re.findall(r'<table class="sortable">.*?</table>', page)]


def test_only_the_pages_own_script_may_run_and_nothing_is_loaded(shown: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown)
    (script,) = re.findall(r"<script>(.*?)</script>", shown, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert shown.index("Content-Security-Policy") < shown.index("<style>") < shown.index("<script>")
    assert not re.search(r"\son\w+=|javascript:|@import|url\((?!#)", shown)
    linked = set(re.findall(r'(?:href|src)="([^"]*)"', shown.replace(script, "")))
    assert all(address.startswith("#") for address in linked)


def test_every_dot_says_its_trial_and_leads_to_its_network(shown: str) -> None:
    dots = re.findall(r'<a class="dot" href="#(trial-\d+)" tabindex="-1"><title>([^<]*)</title>', shown)
    assert {address for address, _ in dots} == {f"trial-{n}" for n in range(4)}
    said = next(title for address, title in dots if address == "trial-3")
    assert re.fullmatch(
        r"trial 3 \(search\), accuracy 0\.8000 \[0\.\d{4}, 0\.\d{4}\], [\d.]+MFLOPs, [\d.]+[kM]Params", said
    )
    for address in dict(dots):
        assert shown.count(f'id="{address}"') == 1
        network = shown[shown.index(f'id="{address}"') :]
        assert network.index('class="network"') < network.index('class="sketch"') < network.index('class="layers"')


def test_tables_have_intervals_and_no_latency_of_a_busy_machine(shown: str) -> None:
    first, *_, every = tables(shown)
    names = ["".join(head.itertext()) for head in first.findall(".//th")]
    assert names == ["trial", "role", "accuracy", "90 % interval", "epochs", "MFLOPs", "MParams", "network"]
    cells = dict(zip(names, ("".join(cell.itertext()) for cell in first.findall("tbody/tr")[0]), strict=True))
    assert (cells["accuracy"], cells["90 % interval"]) == ("0.8000", "[0.7594, 0.8352]")
    assert all(head.get("title") for head in every.findall(".//th") if head.text in ("role", "MFLOPs", "ms (alone)"))


@pytest.mark.parametrize(
    ("budget", "columns", "near"),
    [
        (["100MFLOPs"], [], "FLOPs"),
        (["5MParams"], [], "parameters"),
        (["4MB"], ["peak memory (kB)"], "peak memory"),
        (["300kB int8", "900kBFlash int8"], ["int8 arena (kB)", "int8 flash (kB)"], None),
    ],
)
def test_what_the_budget_limits_is_shown_and_said_to_differ_little(
    run: Path, budget: list[str], columns: list[str], near: str | None
) -> None:
    found = findings(Run.open(run))
    identity = replace(found.config.identity, budget=tuple(budget))
    told = replace(found, config=replace(found.config, identity=identity))
    cells = page.row(found.trials[1], told.images, told.memory)
    assert [name for name in cells if name.endswith("(kB)")] == columns
    assert all(float(cells[name]) > 0 for name in columns)
    drawn = [(one.axes[0].get_title().removeprefix("Accuracy against "), said) for one, said in page.costs(told)]
    assert [title for title, said in drawn if "differ little" in said] == [near] * (near is not None)
    assert {name.removesuffix(" (kB)") for name in columns} <= {title for title, _ in drawn}


def test_a_run_of_other_peoples_words_is_text_in_every_figure() -> None:
    for name in (r"$\frac{", "_hidden", "a$b$c", "<b>&", "日本"):
        known = Progress(2, [0.5], [0.4, 0.5], [0.3, 0.4], [0.5, 0.6], {name: 0.4})
        assert f"{escape(name, quote=False)}<" in figures.svg(figures.progress(known))


def test_no_figure_has_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib reads one of this variable, and raised where it is no number."""
    known = Progress(2, [0.5], [0.4, 0.5], [0.3, 0.4], [0.5, 0.6], {"a": 0.4})
    drawn = figures.svg(figures.progress(known))
    for date in ("0", "abc"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
        assert figures.svg(figures.progress(known)) == drawn


def test_one_random_network_is_a_dot_and_has_no_band() -> None:
    lone = figures.progress(Progress(2, [0.5], [0.4], [0.4], [0.4], {}))
    (control,) = (line for line in lone.axes[0].lines if line.get_label() == "random control: one network")
    assert control.get_marker() == "."
    several = figures.progress(Progress(2, [0.5], [0.4, 0.5], [0.3, 0.4], [0.5, 0.6], {}))
    assert "random control: mean, 90 % band" in [line.get_label() for line in several.axes[0].lines]


def test_a_legend_stands_below_its_figure_and_covers_nothing() -> None:
    blocks = {"resolution": 64, "stem": {"width": 8}, "schedule": {"kind": "linear", "start": 8, "end": 64}}
    stages = [{"block": kind, "depth": 3, "stride": 1} for kind in ("mbconv", "fused_mbconv", "inverted", "bottleneck")]
    drawn = picture(Space({**blocks, "stages": stages}).arch(), r"$\frac{", (4.4, 3.7))
    drawn.draw_without_rendering()
    (legend,) = drawn.legends
    lowest = min(axes.get_tightbbox().y0 for axes in drawn.axes)
    assert legend.get_window_extent().y1 <= lowest + 1
    assert legend.get_window_extent().y0 >= 0


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_of_few_trials_or_only_failures_has_a_page(count: int, fails: bool, tmp_path: Path) -> None:
    made = told(tmp_path / "few", count, fails)
    shown = page.page(findings(Run.open(made)))
    assert shown.count('<svg class="sketch"') == count
    assert ("No trial is complete yet." in shown) == (fails or not count)
    assert "What to do next" in shown
    assert f"The search has stopped: {count} of 8 trials ended" in shown


def told(run: Path, count: int, fails: bool = False) -> Path:
    """A run of so many trials that have ended."""
    config = search_options.config_from_args(search_options.parser().parse_args([*ARGUMENTS]))
    with folder.lock_run(run, config):
        study = open_study(run, config)
        study.validation_images = 300
        for _ in range(count):
            trial = study.ask()
            if fails:
                study.tell(trial, error="out of memory")
            else:
                study.report(trial, Result(epoch=1, score=0.5, loss=1.0))
                study.tell(trial, 0.5)
    return run


def test_a_running_search_and_interrupted_trials_are_said(tmp_path: Path) -> None:
    run = told(tmp_path / "run", 2)
    config = SearchConfig.load(run)
    with folder.lock_run(run, config):
        open_study(run, config).ask()
        assert Run.open(run).alive
        assert "The search is running: 2 of 8 trials ended, 1 is being trained." in page.page(findings(Run.open(run)))
    gc.collect()  # a study that nobody holds any more keeps its lock until then
    assert Run.open(run).alive is False
    said = Run.open(run).describe()
    assert "trial 2 began and did not end" in said
    assert "1 not ended." in said
    assert "running" not in said
    with folder.lock_run(run, config):
        open_study(run, config)  # closes the trial of the run that is gone
    shown = page.page(findings(Run.open(run)))
    assert "1 interrupted trial (2) will be asked again when the search carries on." in shown


def test_a_page_of_a_thousand_trials_is_small_and_quick(run: Path) -> None:
    found, rng = findings(Run.open(run)), random.Random(0)
    some = [trial for trial in found.trials if trial.score is not None]
    trials = []
    for number in range(1000):
        accuracies = {epoch: rng.random() for epoch in range(1, 5)}
        end = "pruned" if number % 3 else "complete"
        like = rng.choice(some)
        spent = replace(like.cost, macs=rng.randrange(10**8), latency_ms=rng.random())
        trials.append(replace(like, number=number, curve=accuracies, state=end, cost=spent))
    began = time.process_time()
    shown = page.page(replace(found, trials=trials))
    assert time.process_time() - began < 15
    assert len(shown.encode()) < 3_000_000
    assert shown.count('<svg class="sketch"') == trial_details.MOST
    assert {f'id="trial-{n}"' for n in range(1000)} == set(re.findall(r'id="trial-\d+"', shown))


def test_the_page_replaces_a_link_and_not_what_it_leads_to(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    (tmp_path / "mine").write_text("mine")
    (copied / "report.html").unlink(missing_ok=True)
    (copied / "report.html").symlink_to(tmp_path / "mine")
    assert report.main([str(copied)]) == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert "<h1>" in (copied / "report.html").read_text()


def test_failures_are_grouped_by_reason() -> None:
    failed = [record(n, "failed", None, error=reason) for n, reason in enumerate(("a & b", "c", "a & b"))]
    told = page.failures(failed)
    assert "<td>0, 2</td><td>2</td>" in told
    assert "a &amp; b" in told
    assert told.index("a &amp; b") < told.index(">c<")
