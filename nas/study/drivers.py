"""Drivers of one study: whose trials are alive, who may ask. Alone with a run folder, or several with one server.

A driver may have several threads, which ask one after the other.

Drivers ask in turn, so that they count the same trials and propose different ones. A driver's running trials have a
heartbeat; those of a driver that has been silent for long are another's to run again. The server's clock says for how
long, and may be wrong: who seems silent is listened to before.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import InterfaceError, OperationalError

from nas.samplers import optuna_private as private
from nas.study.storage import DEAD_AFTER_S, HEARTBEAT_S, UnreachableError, ask_disk
from searchspace.document import write_text

PATIENCE_S = 120
LOCK_S = 10
LISTEN_BEATS = 2
NAME = "driver"
TURN = "identity"  # the study's attribute whose row is locked by the one who asks; never written again
LostError = UpdateFinishedTrialError

T = TypeVar("T")


class StorageError(RuntimeError):
    """The study cannot be read or written now; what is in it is safe, and the same command carries on."""


class MissingError(StorageError):
    """The study's folder or file is no longer where it was opened, and so is not written."""


class SingleDriver:
    """The only driver of a study. It holds the run folder, so a running trial that is not its own was abandoned."""

    name = ""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder  # where the study is
        self.mine: set[int] = set()  # trial ids
        self.hurry = threading.Event()
        self.asking = threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Where trials are counted and asked."""
        with self.asking:
            yield

    def take(self, trial_id: int) -> None:
        """From now on the trial is run here."""
        self.mine.add(trial_id)

    def drop(self, trial_id: int) -> None:
        self.mine.discard(trial_id)

    def abandoned(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Of the running trials those that nobody runs any more, as far as this driver can know."""
        return [trial for trial in running if private.trial_id(trial) not in self.mine]

    def persist(self, call: Callable[[], T]) -> T:
        """What the call returns; `StorageError` where the disk is full or the file has gone."""
        try:
            return call()
        except (StorageInternalError, OperationalError, OSError) as error:
            said = reason(error)
            raise StorageError(ask_disk(said, self.folder) if self.folder else said) from None

    def close(self) -> None:
        """This driver ends."""


class SharedDriver(SingleDriver):
    """One of several drivers of a study in a database server, named in its run folder, which one holds at a time."""

    def __init__(self, study: optuna.Study, storage: RDBStorage, folder: Path) -> None:
        super().__init__()
        self.study_id, self.storage = private.study_id(study), storage
        self.name = _name(folder / NAME)
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A lock on a row, which the server gives up with the connection of who held it. Where that is cut, what was
        taken meanwhile is nobody's: who asks again does not know of it."""
        with self.asking:
            before = set(self.mine)
            try:
                with self._turn():
                    yield
            except BaseException:
                self.mine &= before
                raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        kept = private.models().StudyUserAttributeModel
        row = sqlalchemy.select(kept.value_json).where(kept.study_id == self.study_id, kept.key == TURN)
        with self.storage.engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # one whose machine is cut off while it asks holds up nobody
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
                connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE_S}s'")
            connection.execute(row.with_for_update())
            yield

    def take(self, trial_id: int) -> None:
        self.storage.record_heartbeat(trial_id)
        super().take(trial_id)
        if self._beating is None:
            self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._beating.start()

    def abandoned(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Those of an earlier driver of this folder, of one that is silent, or of one that died while it asked.

        Call it inside `turn()`: a new trial has no heartbeat until its driver has left `turn()`.
        """
        others = [trial for trial in running if private.trial_id(trial) not in self.mine]
        if not others:
            return []
        elsewhere = {private.trial_id(trial) for trial in others if trial.user_attrs.get("driver") != self.name}
        beats = private.heartbeats(self.storage, self.study_id)
        beats = {trial: beat for trial, beat in beats.items() if trial in elsewhere}
        alive = beats.keys() - self._silent(beats)
        return [trial for trial in others if private.trial_id(trial) not in alive]

    def _silent(self, beats: Mapping[int, tuple[datetime, float]]) -> set[int]:
        """The trials whose last heartbeat is long ago or to come, by a clock that may have been set since, as that of
        a machine that was asleep is; and that have none while we listen."""
        seem = {trial for trial, (_, age) in beats.items() if abs(age) > DEAD_AFTER_S}
        if not seem or self.hurry.wait(LISTEN_BEATS * HEARTBEAT_S):
            return set()
        later = private.heartbeats(self.storage, self.study_id)
        return {trial for trial in seem & later.keys() if later[trial][0] == beats[trial][0]}

    def persist(self, call: Callable[[], T]) -> T:
        """Again and again for two minutes while the server cannot be reached; not where somebody wants to stop."""
        until = time.monotonic() + PATIENCE_S  # an attempt alone may take ten seconds
        while True:
            try:
                return call()
            except (StorageInternalError, OperationalError, InterfaceError, UnreachableError, OSError) as error:
                if time.monotonic() >= until or self.hurry.is_set():
                    raise StorageError(reason(error)) from None
            self.hurry.wait(1.0)

    def close(self) -> None:
        self._ended.set()
        if self._beating is not None:
            self._beating.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            for trial_id in list(self.mine):
                try:
                    self.storage.record_heartbeat(trial_id)
                except (StorageInternalError, OperationalError, InterfaceError, OSError):
                    break  # the server is away for a while, which others see as well as we


def _name(path: Path) -> str:
    """The name in a file, made there where there is none: paths and hosts of containers may be the same twice."""
    if not path.is_file():
        write_text(path, uuid.uuid4().hex)
    return path.read_text(encoding="utf-8")


def reason(error: BaseException) -> str:
    """What the database said, in a line; Optuna hides it behind a sentence of its own."""
    said = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    said = getattr(said, "orig", None) or said
    return " ".join(str(said).split())[:160]
