"""A server that does not answer at some moment, whichever that is: it is waited for, and nothing is lost."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from nas.samplers import optuna_private as private
from nas.study import storage
from nas.study.drivers import PATIENCE_S, SharedDriver, StorageError
from nas.study.storage import StudyLocation, UnreachableError
from nas.study.study import Study
from nas.trial import Result
from tests.nas.study.test_study import score


def shared(run: Path) -> Study:
    """A study with the driver that it has in a server."""
    study = Study.open(run, "rexnet", "100MFLOPs", controls=2, seed=1)
    rdb = private.backend_of(study._rdb)
    study.drivers = SharedDriver(study.optuna, rdb, run)  # type: ignore[arg-type]
    study.drivers.hurry.wait = lambda timeout=None: False  # type: ignore[method-assign]
    return study


def work(study: Study) -> dict[str, float | None]:
    """Everything that a search does with its study; returns what it is told."""
    study.check_images("of images", 100)
    for _ in range(2):
        trial = study.ask(4)
        study.report(trial, Result(epoch=1, score=score(trial), loss=1.0))
        study.tell(trial, score(trial))
    study.interrupt(study.ask(4))
    while not study.full(4):
        trial = study.ask(4)
        study.tell(trial, score(trial))
    study.alone_ms, study.busy = {0: 1.0}, "a load of 9"
    study.close_interrupted()
    assert study.validation_images == 100
    assert study.busy == "a load of 9"
    assert study.alone_ms == {0: 1.0}
    assert study.finals is None
    assert not study.waiting
    return {record.digest: record.score for record in study.records}


def listen(study: Study, before: Callable[..., None]) -> None:
    """Have a function called before every statement."""
    rdb = private.backend_of(study._rdb)
    sqlalchemy.event.listen(rdb.engine, "before_cursor_execute", before)  # type: ignore[attr-defined]


def test_two_minutes_are_two_minutes_though_every_attempt_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a host drops what it is sent: each attempt to reach it takes ten seconds."""
    with shared(tmp_path / "run") as study:
        passed, attempts = [0.0], []
        monkeypatch.setattr("nas.study.drivers.time", SimpleNamespace(monotonic=lambda: passed[0]))
        monkeypatch.setattr(study.drivers.hurry, "wait", lambda seconds: passed.__setitem__(0, passed[0] + seconds))

        def unreachable() -> None:
            passed[0] += 10.0
            attempts.append(passed[0])
            raise OperationalError("connect", {}, Exception("timed out"))

        with pytest.raises(StorageError):
            study.drivers.persist(unreachable)
        assert PATIENCE_S <= attempts[-1] <= PATIENCE_S + 11


def test_every_statement_is_one_that_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many images scores are of, and that a worker died, were asked and told once, and ended a search."""
    with shared(tmp_path / "run") as study:
        persist, within, once = study.drivers.persist, [0], set[str]()

        def counted(call: Callable[[], Any]) -> Any:
            within[0] += 1
            try:
                return persist(call)
            finally:
                within[0] -= 1

        def before(connection: object, cursor: object, statement: str, *others: object) -> None:
            if not within[0]:
                once.add(next(line.name for line in traceback.extract_stack() if "nas/study" in line.filename))

        monkeypatch.setattr(study.drivers, "persist", counted)
        listen(study, before)
        work(study)
        assert not once


@pytest.mark.parametrize("moment", [5, 61, 117, 173])
def test_a_server_that_is_away_at_a_statement_loses_nothing(tmp_path: Path, moment: int) -> None:
    seen: list[int] = []

    def before(*_: object) -> None:
        seen.append(1)
        if len(seen) == moment:
            raise OperationalError("the server is away", None, Exception("the server is away"))

    with shared(tmp_path / "whole") as study:
        whole = work(study)
    with shared(tmp_path / "run") as study:
        listen(study, before)
        assert work(study) == whole
    assert len(seen) > moment


def test_a_server_that_does_not_answer_at_once_is_waited_for_where_finals_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be taken for a wrong address, as at the start of a command."""
    study = shared(tmp_path / "run")
    made, refused = storage.database, iter([True, True])

    def database(place: StudyLocation) -> object:
        if next(refused, False):
            raise UnreachableError(f"{place}: does not answer")
        return made(place)

    monkeypatch.setattr("nas.study.study.database", database)
    with study, study.open_finals() as finals:
        assert not finals.trials
    assert next(refused, None) is None
