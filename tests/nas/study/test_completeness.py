"""Where a study is kept: in its folder's own file, whatever the folder is called, and whole, or it is not used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError

from nas import dashboard, export, report, search
from nas.run import folder, search_options
from nas.run.run import Run
from nas.study import storage
from nas.study.opening import open_study
from nas.study.storage import StudyLocation, load
from nas.study.study import Study
from nas.trial import Result
from nas.views.dashboard_storage import ReadOnlyStorage
from searchspace import InputError
from tests.nas.study.test_study import SPACE, advance, opened

ARGUMENTS = ["--budget", "100MFLOPs", "--space", "rexnet", "--trials", "4", "--quiet"]
CONFIG = search_options.config_from_args(search_options.parser().parse_args(ARGUMENTS))
NAMES = ["a?1", "p%41q", "q{x}", "m[/x]", "#a", "a b", "x;y:z&", "~", "-q", "file:q?mode=ro", "'\"", "a\\b", ":memory:"]
NAMES += ["ümlaut", os.fsdecode(b"raw\xff"), "a?b/run", "p%41{x}/run", os.fsdecode(b"\xff?/run")]


def shown(folder: Path) -> ReadOnlyStorage:
    """What the dashboard reads of a run."""
    run = Run.open(folder)
    return ReadOnlyStorage(run.name, run.config, run.study)


def made(run: Path, trials: int = 3) -> Path:
    """A run folder with so many finished trials, their table and the best network."""
    with folder.lock_run(run, CONFIG), open_study(run, CONFIG) as study:
        study.validation_images = 300
        for number in range(trials):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=number / 10, loss=1.0))
            study.tell(trial, number / 10)
        folder.write_results(study, run)
    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_in_its_own_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    with opened(run) as study:
        digests = advance(study, 1)
    assert (run / "study.db").stat().st_size > 0
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {run / "study.db", run / "config.yaml"}, "and nowhere else"
    assert storage.holds(StudyLocation(run))
    assert [trial.user_attrs["digest"] for trial in load(run).trials] == digests
    other = run.with_name(f"{run.name}2")  # which shares what stands before a question mark
    with opened(other, seed=2) as study:
        assert study.finished == 0


def test_every_command_finds_a_run_that_was_moved_to_a_strange_name(tmp_path: Path) -> None:
    run = made(tmp_path / "plain").rename(tmp_path / "q?x%41{y}[z]#")
    assert report.main([str(run)]) == 0
    assert export.main([str(run), "--out", str(tmp_path / "best")]) == 0
    assert len(shown(run).get_all_trials(1)) == 3
    with pytest.raises(InputError, match="port"):
        dashboard.main([str(run), "--port", "0"])
    with folder.lock_run(run, CONFIG), open_study(run, CONFIG) as study:
        assert study.finished == 3
    assert {path.name for path in tmp_path.iterdir()} == {run.name, "best"}


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only disk, or another user's: with its write-ahead file, without it, with that of a killed search
    that was copied without what SQLite shares of it."""
    run = made(tmp_path / "run")
    live = opened(tmp_path / "live")
    advance(live, 2)
    without_shared = shutil.ignore_patterns("study.db-shm")
    killed = Path(shutil.copytree(tmp_path / "live", tmp_path / "killed", ignore=without_shared))
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK)
    for place, trials in ((run, 3), (tmp_path / "live", 2), (killed, 2)):
        before = sorted(path.name for path in place.iterdir())
        stored = load(place)
        assert len(stored.trials) == trials
        with pytest.raises(StorageInternalError):
            stored.set_user_attr("a", 1)
        assert sorted(path.name for path in place.iterdir()) == before
    with pytest.raises(InputError, match="readonly") as refused:
        opened(run)
    assert "damaged" not in str(refused.value)


def test_a_path_that_sqlite_does_not_take_is_called_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longer than the 507 bytes that SQLite takes"):
        opened(tmp_path.joinpath(*["x" * 100] * 6))


KILLED = """
import os, signal, sys
from pathlib import Path
from nas.run import folder
from nas.study import Study
from searchspace import Budget, Space

study = Study.open(sys.argv[1], Space.load("rexnet"), Budget.parse("100MFLOPs"), controls=8, seed=0)
for _ in range(4):
    study.tell(study.ask(), 0.5)
folder.write_results(study, Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_study_copied_without_its_write_ahead_file_is_not_begun_anew(tmp_path: Path) -> None:
    run, copy, whole = tmp_path / "run", tmp_path / "copy", tmp_path / "whole"
    run.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(run)], check=False)
    CONFIG.save(run)
    assert (run / "study.db-wal").stat().st_size > 0
    for folder_, left_out in ((copy, "study.db-*"), (whole, "")):
        shutil.copytree(run, folder_, ignore=shutil.ignore_patterns(left_out))
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.name != "study.db"}
    words = "of the 4 ended trials of trials.csv .study.db-wal is not there.*best.yaml can still be read"
    for refuse in (
        lambda: opened(copy, controls=8, seed=0),
        lambda: storage.holds(StudyLocation(copy)),
        lambda: search.main([*ARGUMENTS, "--run", str(copy)]),
        lambda: report.main([str(copy)]),
        lambda: load(copy),
        lambda: Study.read(copy),
    ):
        with pytest.raises(InputError, match=words):
            refuse()
    assert {n: content for n in before if (content := (copy / n).read_bytes())} == before
    assert len(load(whole).trials) == 4
    (copy / "trials.csv").unlink()  # who wants to, begins anew
    with opened(copy, controls=8, seed=0) as study:
        assert study.finished == 0


@pytest.mark.parametrize(
    "change",
    [
        "delete from trials",
        "delete from trials; delete from studies",
        "delete from trials where number = 2",
        "update trials set state = 'RUNNING' where number = 1",
    ],
)
def test_a_study_that_has_lost_trials_is_not_used(tmp_path: Path, change: str) -> None:
    run = made(tmp_path / "run")
    with sqlite3.connect(run / "study.db") as database:
        database.executescript(change)
    before = (run / "trials.csv").read_bytes()
    for refuse in (lambda: search.main([*ARGUMENTS, "--run", str(run)]), lambda: report.main([str(run)])):
        with pytest.raises(InputError, match=r"of the 3 ended trials of trials\.csv"):
            refuse()
    assert (run / "trials.csv").read_bytes() == before


@pytest.mark.parametrize("empty", [True, False])
def test_a_study_that_is_gone_is_not_begun_anew(tmp_path: Path, empty: bool) -> None:
    run = made(tmp_path / "run")
    (run / "study.db").unlink()
    if empty:
        (run / "study.db").touch()
    for refuse in (lambda: search.main([*ARGUMENTS, "--run", str(run)]), lambda: open_study(run, CONFIG)):
        with pytest.raises(InputError, match=r"its study is gone, with the 3 trials of trials.csv"):
            refuse()


def test_a_study_of_another_name_is_none_of_ours(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        advance(study, 1)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("update studies set study_name = 'mine'")
    for refuse in (lambda: opened(tmp_path), lambda: storage.holds(StudyLocation(tmp_path)), lambda: load(tmp_path)):
        with pytest.raises(InputError, match="holds the study mine, and none named search"):
            refuse()


def test_a_start_that_was_killed_before_its_first_trial_is_begun_again(tmp_path: Path) -> None:
    opened(tmp_path / "a").close()
    assert not storage.holds(StudyLocation(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    with sqlite3.connect(tmp_path / "b" / "study.db") as database:
        database.execute("create table version_info (version_info_id integer)")
    assert not storage.holds(StudyLocation(tmp_path / "b"))
    (tmp_path / "c").mkdir()
    with sqlite3.connect(tmp_path / "c" / "study.db") as database:
        database.execute("PRAGMA journal_mode=WAL")
    with pytest.raises(InputError, match="holds no search"):
        load(tmp_path / "c")
    opened(tmp_path / "c").close()


def test_a_table_that_somebody_has_changed_refuses_nothing_that_is_there(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    for text in ("", "nothing of a table\n", "trial,outcome\nx,complete\n2,running\n9,running\n", "\0\n"):
        (run / "trials.csv").write_text(text)
        assert storage.holds(StudyLocation(run))
    (run / "trials.csv").write_bytes(b"trial,outcome\n\xff,complete\n")
    assert storage.holds(StudyLocation(run))
    assert SPACE.source


def test_a_relative_path_is_never_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reads file:other/study.db as the address of other/study.db."""
    monkeypatch.chdir(tmp_path)
    with opened(Path("other")) as study:
        trial = study.ask()
        for name in ("file:other", "file:x?mode=memory", ":memory:"):
            with opened(Path(name)) as another:
                assert another.trials == []
                advance(another, 1)
            assert (tmp_path / name / "study.db").stat().st_size > 0
        assert study.tell(trial, 0.5)


def test_a_log_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (run / "log.txt").unlink()
    os.mkfifo(run / "log.txt")
    with pytest.raises(InputError, match=r"log\.txt: a file or folder of its own"):
        search.main([*ARGUMENTS, "--run", str(run)])


@pytest.mark.parametrize(
    "program",
    [
        "create view endless as with recursive c(x) as (select 1 union all select x + 1 from c) select x from c",
        "create trigger t after update on trials begin delete from trials; end",
    ],
)
def test_a_study_that_would_have_something_done_is_refused(program: str, tmp_path: Path) -> None:
    """In the place of a table such a view would be read for ever, in C, where no signal is heard."""
    run = made(tmp_path / "run", 1)
    with closing(sqlite3.connect(run / "study.db")) as database:
        database.execute(program)
    with pytest.raises(InputError, match="a view or a trigger"):
        Run.open(run)
    with pytest.raises(InputError, match="a view or a trigger"):
        opened(run)
