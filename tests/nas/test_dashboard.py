"""What the dashboard is given: notes, pictures, constraints; and that it changes nothing of a run."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import optuna_dashboard
import pandas as pd
import pytest
from PIL import Image

from nas import report
from nas.config import SearchConfig
from nas.run import folder, search_options
from nas.run.run import Run
from nas.study.opening import open_study
from nas.study.storage import load
from nas.trial import Result
from nas.views import notes
from nas.views.dashboard_storage import PictureStore, ReadOnlyStorage, constraints
from nas.views.terminal import print_summary
from searchspace import Budget, command
from searchspace.budget import Cost
from tests.support.records import record

ARGUMENTS = ["--budget", "90-100MFLOPs", "--space", "rexnet", "--trials", "12"]


def shown_of(folder: Path) -> ReadOnlyStorage:
    """What the dashboard reads of a run."""
    run = Run.open(folder)
    return ReadOnlyStorage(run.name, run.config, run.study)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made through the study alone, with an outcome of every kind."""
    run = tmp_path_factory.mktemp("board") / "a run"
    config = search_options.config_from_args(search_options.parser().parse_args([*ARGUMENTS]))
    with folder.lock_run(run, config):
        asked = open_study(run, config)
        asked.validation_images = 300
        for index in range(7):
            trial = asked.ask()
            if index == 4:
                asked.tell(trial, error="out of memory: <script>alert(1)</script> | a_b")
            elif index < 6:
                asked.report(trial, Result(epoch=1, score=0.5 + index / 100, loss=1.0))
                asked.tell(trial, 0.5 + index / 100, pruned=index == 1)
    return run


class Browser:
    """Calls the dashboard's application as a server does."""

    def __init__(self, run: Path) -> None:
        shown = shown_of(run)
        self.app = optuna_dashboard.wsgi(shown, artifact_store=PictureStore(shown))

    def ask(self, path: str, method: str = "GET", data: Any = None) -> tuple[int, bytes]:
        body, told = json.dumps(data).encode(), []
        path, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
            "HTTP_HOST": "localhost",
        }
        parts = self.app(environ, lambda status, headers, error=None: told.append(status))
        return int(told[0].split()[0]), b"".join(parts)

    def json(self, path: str) -> Any:
        code, body = self.ask(path)
        assert code == 200, body
        return json.loads(body)


def stored(run: Path) -> Any:
    """Everything that the run's study holds."""
    kept = load(run)
    trials = [(t.state, t.values, t.params, t.user_attrs, t.system_attrs) for t in kept.get_trials()]
    return trials, kept.user_attrs, kept._storage.get_study_system_attrs(kept._study_id)


def test_every_trial_has_its_network_its_picture_and_its_constraints(run: Path) -> None:
    browser, before = Browser(run), stored(run)
    shown = browser.json("/api/studies/1")
    assert shown["name"] == "a run"
    for trial in shown["trials"]:
        assert "| stem" in trial["note"]["body"]
        assert "| total" in trial["note"]["body"]
        assert max(trial["constraints"]) <= 0
        assert len(trial["constraints"]) == 2
        assert "arch" not in {attribute["key"] for attribute in trial["user_attrs"]}
        (artifact,) = trial["artifacts"]
        address = f"/artifacts/1/{trial['trial_id']}/{artifact['artifact_id']}"
        assert f"]({address})" in trial["note"]["body"]
    notes = [trial["note"]["body"] for trial in shown["trials"]]
    assert notes[0].startswith("**Known network: rexnet\\_100, scaled")
    assert notes[3].startswith("**Random control:")
    assert notes[5].startswith("**Search: proposed by the sampler.** Complete, validation accuracy 0.5500.")
    assert "Pruned" in notes[1]
    assert r"out of memory: \<script\>alert(1)\</script\> \| a\_b" in notes[4]
    assert shown["best_trials"][0]["number"] == 5
    code, picture = browser.ask(address)
    assert code == 200
    assert Image.open(io.BytesIO(picture)).width > 500
    assert browser.ask(address) == (200, picture)
    assert browser.ask("/artifacts/1/1/0123456789abcdef")[0] == 404
    assert stored(run) == before


def test_the_study_has_a_summary_that_keeps_up_with_the_run(run: Path, tmp_path: Path) -> None:
    live = shutil.copytree(run, tmp_path / "live")
    browser = Browser(live)
    note = browser.json("/api/studies/1")["note"]
    assert "6 of 12 trials done" in note["body"]
    assert "Best: trial 5 (search), validation accuracy 0.5500" in note["body"]
    assert "Known networks at this budget: rexnet" in note["body"]
    assert "| mobilenet\\_v3\\_small" not in note["body"]
    first = note["body"].split("\n\n")[1]
    assert first.endswith("It takes 40 to tell them from noise; here are 4.**")
    assert "## The papers' networks within this budget, not scaled" in note["body"]
    config = search_options.config_from_args(search_options.parser().parse_args([*ARGUMENTS]))
    asked = open_study(live, config)  # trial 6, which was running, is closed as interrupted
    trial = asked.ask()
    asked.report(trial, Result(epoch=1, score=0.75))
    asked.tell(trial, 0.75)
    again = Browser(live).json("/api/studies/1")["note"]
    assert f"Best: trial {trial.number}" in again["body"]
    assert again["version"] > note["version"]
    assert "1 interrupted trial (6) was asked again as 7" in again["body"]
    assert (
        "Interrupted, asked again as trial 7: no" in Browser(live).json("/api/studies/1")["trials"][6]["note"]["body"]
    )


def test_people_may_write_notes_and_nothing_else(run: Path, tmp_path: Path) -> None:
    own = shutil.copytree(run, tmp_path / "own")
    browser, before = Browser(own), stored(own)
    for method, path, data in (
        ("DELETE", "/api/studies/1", {}),
        ("POST", "/api/studies/1/rename", {"study_name": "other"}),
        ("POST", "/api/studies", {"study_name": "other", "directions": ["minimize"]}),
        ("POST", "/api/trials/7/tell", {"state": "Fail"}),
        ("POST", "/api/trials/7/user-attrs", {"user_attrs": {"role": "search"}}),
        ("DELETE", f"/api/artifacts/1/1/{before[0][0][3]['digest']}", {}),
    ):
        code, said = browser.ask(path, method, data)
        assert code >= 400, (path, said)
        assert stored(own) == before, path
    for path, version in (("/api/studies/1/1/note", 2), ("/api/studies/1/note", 8)):
        assert browser.ask(path, "PUT", {"version": version, "body": "mine " * 900})[0] == 204
    shown = Browser(own).json("/api/studies/1")
    assert shown["trials"][0]["note"] == {"version": 2, "body": "mine " * 900}
    assert shown["note"]["body"] == "mine " * 900
    assert "| stem" in shown["trials"][1]["note"]["body"]
    assert stored(own)[:2] == before[:2]


def test_what_was_interrupted_is_told_by_every_view(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = shutil.copytree(run, tmp_path / "live")
    shown = shown_of(live)  # and stays open: what waits today was asked again tomorrow
    asked = open_study(live, search_options.config_from_args(search_options.parser().parse_args([*ARGUMENTS])))
    assert asked.interrupted == {6: None}
    assert "1 interrupted trial (6) will be asked again" in shown.get_study_system_attrs(1)["dashboard:note_str:0"]
    trial = shown.get_all_trials(1)[6]
    assert trial.user_attrs["interrupted"] == "will be asked again"
    again, other = asked.ask(), asked.ask()
    asked.close_interrupted()
    asked.tell(asked.ask(), 0.5)
    assert asked.interrupted == {6: 7, 7: 9, 8: None}
    assert (again.number, other.number) == (7, 8)
    told = {t.number: t.user_attrs for t in shown.get_all_trials(1)}
    assert [told[number].get("interrupted", "") for number in (6, 7, 8, 9)] == [
        "asked again as trial 7",
        "asked again as trial 9",
        "will be asked again",
        "",
    ]
    assert not [number for number in (6, 7, 8) if "error" in told[number]]
    assert "error" in told[4]
    made = shown_of(live).get_study_system_attrs(1)
    note = made["dashboard:7:note_str:0"]
    assert "Interrupted, asked again as trial 7: no failure." in note
    assert "Failed" not in note
    sentences = (
        "2 interrupted trials (6, 7) were asked again as 7, 9.",
        "1 interrupted trial (8) will be asked again when the search carries on.",
    )
    folder.write_results(asked, live)
    table = pd.read_csv(live / "trials.csv").set_index("trial")
    assert table["in_place_of"].dropna().to_dict() == {9: 7}
    print_summary(command.console(), asked, live, SearchConfig.load(live), "stopped")
    assert report.main([str(live)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    page = (live / "report.html").read_text()
    for sentence in sentences:
        assert said.count(sentence) == 2
        assert sentence in page
        assert sentence.replace("(", "\\(") in made["dashboard:note_str:0"] or sentence in made["dashboard:note_str:0"]


def test_pictures_are_not_kept_in_the_run(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "copied")
    (copied / "artifacts").symlink_to(tmp_path)
    digest = stored(copied)[0][2][3]["digest"]
    assert Browser(copied).ask(f"/artifacts/1/3/{digest}")[0] == 200
    assert not (tmp_path / digest).exists()


def test_no_network_of_the_papers_is_so_small() -> None:
    config = search_options.config_from_args(
        search_options.parser().parse_args(["--budget", "3MFLOPs", "--space", "rexnet"])
    )
    told = notes.of_run(config, [], 0)
    assert "No network of the zoo is within it as its paper has it." in told
    assert "here are 0.**" in told
    at_chance = notes.of_run(config, [record(0, score=0.1, curve={1: 0.1}, role="search")], 100, chance=0.1)
    assert "No network is shown to be better than always answering the commonest class" in at_chance


def test_constraints_say_how_much_is_too_much_or_too_little() -> None:
    budget = Budget.parse(["80-100MFLOPs", "2MParams"])
    assert constraints(budget, Cost(90_000_000, 1_000_000, 1, 1)) == pytest.approx([-0.1, -0.5, -0.125])
    assert constraints(budget, Cost(110_000_000, 3_000_000, 1, 1)) == pytest.approx([0.1, 0.5, -0.375])
    assert max(constraints(budget, Cost(40_000_000, 1, 1, 1))) == pytest.approx(0.5)
