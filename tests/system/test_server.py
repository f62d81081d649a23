"""A study in a server, PostgreSQL or MariaDB: drivers that share it, one that dies, a server that is started anew."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from nas import dashboard, export, report
from nas.samplers import optuna_private as private
from nas.study import drivers
from nas.study.records import trial_records
from nas.study.storage import StudyLocation, load
from nas.study.study import FullError, Study
from nas.trial import Result, Trial
from searchspace import Budget, InputError, Space
from tests.nas.study.test_study import score
from tests.nas.test_search import ENVIRONMENT, TINY
from tests.support import mariadb, postgres
from tests.support.mariadb import MariaDB
from tests.support.postgres import PASSWORD
from tests.support.proxy import between

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")]
Server = postgres.Server | MariaDB
SPACE, BUDGET = Space.load("rexnet"), Budget.parse("100MFLOPs")


@pytest.fixture(scope="module", params=[postgres, mariadb], ids=["PostgreSQL", "MariaDB"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param.server() as made:
        yield made


def opened(run: Path, server: Server, name: str, **changes: Any) -> Study:
    place = StudyLocation(run, server.url, name)
    return Study.open(run, **{"space": SPACE, "budget": BUDGET, "controls": 3, "seed": 1, "place": place, **changes})


def test_two_drivers_never_ask_the_same_and_share_the_total(tmp_path: Path, server: Server) -> None:
    """Two drivers with the same seed would propose the same, were they not to ask in turn."""
    told: list[Trial] = []

    def drive(folder: str) -> None:
        study = opened(tmp_path / folder, server, "pair")
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
    study = opened(tmp_path / "c", server, "pair")
    assert study.finished == len(study.trials) == 25 == len({trial.digest for trial in told})
    names = {(tmp_path / folder / "driver").read_text() for folder in ("a", "b")}
    assert {trial.user_attrs["driver"] for trial in study.trials} == names
    assert sum(trial.user_attrs["role"] == "control" for trial in study.trials) == 3
    with pytest.raises(FullError):
        study.ask(total=25)
    assert study.ask(total=26).number == 25


def test_a_living_trial_is_left_alone_and_a_dead_ones_is_asked_again(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(drivers, "DEAD_AFTER_S", 2)
    first = opened(tmp_path / "a", server, "death")
    lost = first.ask()
    time.sleep(4)
    other = opened(tmp_path / "b", server, "death")
    assert other.ask().digest != lost.digest, "its heart beats"
    first.drivers.close()  # its heart stops
    time.sleep(4)
    again = other.ask()
    assert again.digest == lost.digest
    assert not first.tell(lost, 0.9), "it was believed dead"
    assert other.tell(again, 0.5)
    assert other.finished == 1
    other.close()


def set_clock(study: Study, hours: int) -> None:
    """As if the server's clock had gone on by so many hours: all heartbeats are earlier by that."""
    beat = private.models().TrialHeartbeatModel
    with study.drivers.storage.engine.begin() as connection:  # type: ignore[attr-defined]
        for number, at in connection.execute(sqlalchemy.select(beat.trial_id, beat.heartbeat)).all():
            earlier = at - timedelta(hours=hours)
            connection.execute(sqlalchemy.update(beat).where(beat.trial_id == number).values(heartbeat=earlier))


@pytest.mark.parametrize("hours", [2, -2], ids=["forward", "backward"])
def test_a_servers_clock_that_is_set_takes_no_trial_from_the_living_and_keeps_none_for_the_dead(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """As that of a machine that was asleep."""
    monkeypatch.setattr(drivers, "HEARTBEAT_S", 1)
    name = f"clock {hours}"
    first, other = opened(tmp_path / "a", server, name), opened(tmp_path / "b", server, name)

    lost = first.ask()
    set_clock(other, hours)
    begun = time.monotonic()
    assert other.ask().digest != lost.digest, "its heart beats"
    assert time.monotonic() - begun < 10
    first.drivers.close()  # its heart stops
    set_clock(other, hours)
    again = other.ask()
    assert again.digest == lost.digest
    assert other.tell(again, 0.5)
    for study in (first, other):
        study.close()


def test_drivers_that_open_a_new_server_at_one_instant_share_one_study(tmp_path: Path, server: Server) -> None:
    """It has no tables yet, which all of them would make."""
    for number in range(3):
        engine = sqlalchemy.create_engine(server.url)
        private.models().BaseModel.metadata.drop_all(engine)
        engine.dispose()
        run, start = tmp_path / str(number), threading.Barrier(4)

        def drive(name: str, run: Path = run, start: threading.Barrier = start) -> list[Trial]:
            told: list[Trial] = []
            start.wait()
            study = opened(run / name, server, f"instant {run.name}")
            with suppress(FullError):
                while True:
                    told.append(study.ask(total=8))
                    assert study.tell(told[-1], score(told[-1]))
            study.close()
            return told

        with ThreadPoolExecutor(4) as pool:
            asked = [trial for told in pool.map(drive, "abcd") for trial in told]
        assert len(asked) == 8 == len({trial.digest for trial in asked})


def test_a_new_driver_in_the_same_folder_need_not_wait(tmp_path: Path, server: Server) -> None:
    first, other = opened(tmp_path / "a", server, "same"), opened(tmp_path / "b", server, "same")
    lost, elsewhere = first.ask(), other.ask()
    with pytest.raises(InputError, match="another search is running in it"):
        opened(tmp_path / "a", server, "same")
    first.close()
    set_clock(first, 2)
    for trial_id in list(other.drivers.mine):
        other.drivers.take(trial_id)
    begun = time.monotonic()
    again = opened(tmp_path / "a", server, "same")
    assert time.monotonic() - begun < 10
    assert again.ask().digest == lost.digest
    assert again.ask().digest not in (lost.digest, elsewhere.digest)


def test_what_died_while_it_asked_is_asked_again(tmp_path: Path, server: Server) -> None:
    """A trial without a heartbeat: its driver died between the two."""
    first = opened(tmp_path / "a", server, "asking")
    first.drivers.take = lambda trial_id: None  # type: ignore[method-assign]
    lost = first.ask()
    assert opened(tmp_path / "b", server, "asking").ask().digest == lost.digest


def test_another_search_is_refused(tmp_path: Path, server: Server) -> None:
    opened(tmp_path / "a", server, "other", identity={"seed": 1})
    with pytest.raises(InputError, match=r"holds another search .*seed: 1 → 2"):
        opened(tmp_path / "b", server, "other", identity={"seed": 2})
    with pytest.raises(InputError, match="budget: 100MFLOPs → 90MFLOPs") as refused:
        opened(tmp_path / "b", server, "other", budget=Budget.parse("90MFLOPs"))
    assert PASSWORD not in str(refused.value)


def test_a_server_that_is_started_anew_is_waited_for(tmp_path: Path, server: Server) -> None:
    study = opened(tmp_path / "a", server, "restart")
    before = study.ask()
    server.stop("immediate")
    starter = threading.Timer(3, server.start)
    starter.start()
    assert study.tell(before, 0.5)
    starter.join()
    assert study.ask().digest != before.digest
    assert study.finished == 1
    server.stop()
    study.drivers.hurry.set()
    begun = time.monotonic()
    try:
        with pytest.raises(drivers.StorageError):
            study.ask()
        assert time.monotonic() - begun < 10, "who is asked to stop does not wait for a server"
    finally:
        server.start()


def test_a_trial_whose_asking_was_cut_off_is_asked_again(tmp_path: Path, server: Server) -> None:
    """It is in the study, and its heartbeat, when the connection that holds the turn is cut."""
    with between(server.port) as proxy:
        study = opened(tmp_path / "a", replace(server, port=proxy.port), "cut")
        take, cuts = study.drivers.take, [1]

        def take_and_cut(trial_id: int) -> None:
            take(trial_id)
            for _ in range(len(cuts)):
                cuts.pop()
                proxy.cut()

        study.drivers.take = take_and_cut  # type: ignore[method-assign]
        trial = study.ask(total=1)
        assert [private.trial_id(study.trials[trial.number])] == list(study.drivers.mine)
        assert study.taken == 1
        assert study.tell(trial, 0.5)
        assert study.finished == 1
        assert len(study.trials) == 2
        study.close()


def test_a_network_that_cuts_and_delays_loses_nothing(tmp_path: Path, server: Server) -> None:
    told: dict[str, float] = {}
    with between(server.port) as proxy:
        study = opened(tmp_path / "a", replace(server, port=proxy.port), "weather")
        with proxy.weather(seed=1), suppress(FullError):
            while True:
                trial = study.ask(total=30)
                for epoch in (1, 2):
                    assert study.report(trial, Result(epoch=epoch, score=score(trial) / 2 * epoch, loss=1.0))
                assert study.tell(trial, score(trial))
                told[trial.digest] = score(trial)
        assert study.finished == study.taken == 30
        study.close()
        assert proxy.cuts
    records = trial_records(load_at(tmp_path / "b", server, "weather"))
    assert {one.digest: one.score for one in records} == pytest.approx(told)
    assert all(list(one.curve) == [1, 2] for one in records)
    print(f"{proxy.cuts} connections cut")


def load_at(run: Path, server: Server, name: str) -> optuna.Study:
    study = opened(run, server, name)
    study.close()
    return study.optuna


def test_two_searches_share_one_run_and_every_command_finds_it(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_file = isinstance(server, MariaDB)
    url = server.url_by_option_file(tmp_path / "options") if isinstance(server, MariaDB) else server.url
    runs = [tmp_path / "here" / "run", tmp_path / "there" / "run"]
    processes = []
    for run in runs:
        run.parent.mkdir()
        command = [sys.executable, "-m", "nas.search", *TINY, "--trials", "5", "--concurrent", "1"]
        command += ["--run", str(run), "--storage", url]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT))
    said = ["".join(process.communicate(timeout=300)) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert not [path for run in runs for path in run.iterdir() if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in "".join(said)
    if not by_file:
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
