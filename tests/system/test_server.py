"""A study in a PostgreSQL server: two drivers that share it, a driver that dies, a server that is started anew."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas import dashboard, export, report
from nas.study import drivers
from nas.study.records import trial_records
from nas.study.storage import StudyLocation, load
from nas.study.study import FullError, Study
from nas.trial import Trial
from searchspace import Budget, InputError, Space
from tests.nas.study.test_study import score
from tests.nas.test_search import ENVIRONMENT, TINY
from tests.support.postgres import PASSWORD, Server, server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")]
SPACE, BUDGET = Space.load("rexnet"), Budget.parse("100MFLOPs")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as made:
        yield made


def opened(run: Path, postgres: Server, name: str, **changes: Any) -> Study:
    place = StudyLocation(run, postgres.url, name)
    return Study.open(run, **{"space": SPACE, "budget": BUDGET, "controls": 3, "seed": 1, "place": place, **changes})


def test_two_drivers_never_ask_the_same_and_share_the_total(tmp_path: Path, postgres: Server) -> None:
    """Two drivers with the same seed would propose the same, were they not to ask in turn."""
    told: list[Trial] = []

    def drive(folder: str) -> None:
        study = opened(tmp_path / folder, postgres, "pair")
        try:
            while True:
                trial = study.ask(total=25)
                time.sleep(0.02)
                assert study.tell(trial, score(trial))
                told.append(trial)
        except FullError:
            study.close()

    threads = [threading.Thread(target=drive, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = opened(tmp_path / "c", postgres, "pair")
    assert study.finished == len(study.trials) == 25 == len({trial.digest for trial in told})
    names = {(tmp_path / folder / "driver").read_text() for folder in ("a", "b")}
    assert {trial.user_attrs["driver"] for trial in study.trials} == names
    assert sum(trial.user_attrs["role"] == "control" for trial in study.trials) == 3
    with pytest.raises(FullError):
        study.ask(total=25)
    assert study.ask(total=26).number == 25


def test_a_living_trial_is_left_alone_and_a_dead_ones_is_asked_again(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr("nas.study.storage.DEAD_AFTER_S", 2)
    first = opened(tmp_path / "a", postgres, "death")
    lost = first.ask()
    time.sleep(4)
    other = opened(tmp_path / "b", postgres, "death")
    assert other.ask().digest != lost.digest, "its heart beats"
    first.drivers.close()  # its heart stops
    time.sleep(4)
    again = other.ask()
    assert again.digest == lost.digest
    assert not first.tell(lost, 0.9), "it was believed dead"
    assert other.tell(again, 0.5)
    assert other.finished == 1
    other.close()


def test_a_new_driver_in_the_same_folder_need_not_wait(tmp_path: Path, postgres: Server) -> None:
    first = opened(tmp_path / "a", postgres, "same")
    lost, elsewhere = first.ask(), opened(tmp_path / "b", postgres, "same").ask()
    with pytest.raises(InputError, match="another search is running in it"):
        opened(tmp_path / "a", postgres, "same")
    first.close()
    again = opened(tmp_path / "a", postgres, "same")
    assert again.ask().digest == lost.digest
    assert again.ask().digest not in (lost.digest, elsewhere.digest)


def test_what_died_while_it_asked_is_asked_again(tmp_path: Path, postgres: Server) -> None:
    """A trial without a heartbeat: its driver died between the two."""
    first = opened(tmp_path / "a", postgres, "asking")
    first.drivers.take = lambda trial_id: None  # type: ignore[method-assign]
    lost = first.ask()
    assert opened(tmp_path / "b", postgres, "asking").ask().digest == lost.digest


def test_another_search_is_refused(tmp_path: Path, postgres: Server) -> None:
    opened(tmp_path / "a", postgres, "other", identity={"seed": 1})
    with pytest.raises(InputError, match=r"holds another search .*seed: 1 → 2"):
        opened(tmp_path / "b", postgres, "other", identity={"seed": 2})
    with pytest.raises(InputError, match="budget: 100MFLOPs → 90MFLOPs") as refused:
        opened(tmp_path / "b", postgres, "other", budget=Budget.parse("90MFLOPs"))
    assert PASSWORD not in str(refused.value)


def test_a_server_that_is_started_anew_is_waited_for(tmp_path: Path, postgres: Server) -> None:
    study = opened(tmp_path / "a", postgres, "restart")
    before = study.ask()
    postgres.stop("immediate")
    starter = threading.Timer(3, postgres.start)
    starter.start()
    assert study.tell(before, 0.5)
    starter.join()
    assert study.ask().digest != before.digest
    assert study.finished == 1
    postgres.stop()
    study.drivers.hurry.set()
    begun = time.monotonic()
    try:
        with pytest.raises(drivers.StorageError):
            study.ask()
        assert time.monotonic() - begun < 10, "who is asked to stop does not wait for a server"
    finally:
        postgres.start()


def test_two_searches_share_one_run_and_every_command_finds_it(
    tmp_path: Path, postgres: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tmp_path / "here" / "run", tmp_path / "there" / "run"]
    processes = []
    for run in runs:
        run.parent.mkdir()
        command = [sys.executable, "-m", "nas.search", *TINY, "--trials", "5", "--concurrent", "1"]
        command += ["--run", str(run), "--storage", postgres.url]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT))
    said = ["".join(process.communicate(timeout=300)) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert not [path for run in runs for path in run.iterdir() if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in "".join(said)
    with pytest.raises(InputError, match="password"):
        load(runs[0])
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    trials = trial_records(load(runs[0]))
    assert len(trials) == 5 == len({trial.digest for trial in trials})
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert {trial.driver for trial in trials} == {(run / "driver").read_text() for run in runs}
    assert report.main([str(runs[1])]) == 0
    assert "5 trials" in capsys.readouterr().out
    assert PASSWORD not in (runs[1] / "report.html").read_text()
    assert export.main([str(runs[1]), "--out", str(tmp_path / "best")]) == 0
    with pytest.raises(InputError, match="port"):
        dashboard.main([str(runs[1]), "--port", "0"])
