"""Where a study is kept: in its run folder, or in a database server that several machines reach."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from nas.config import CONFIG, SearchConfig
from nas.samplers import optuna_private as private
from nas.study import attributes, servers
from nas.study.completeness import AHEAD, BEST, STUDY, TABLE, Kept
from nas.study.passwords import hide, server, without_password
from nas.study.rdb import Storage
from searchspace.document import check_own, user_path
from searchspace.errors import InputError

NAME, FILE = "search", STUDY
FINALS = "/finals"  # what the name of a study's finals ends with
LOCK_TIMEOUT_S, LOCKED_S = 60, 8  # of a study that is used, and of one that is opened
CONNECT_TIMEOUT_S = 10
EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}  # what brings a server's Python driver
NOT_READABLE = "!password,!md5"  # a server that asks for a password in clear text, or nearly so, gets none (libpq)
HEARTBEAT_S, DEAD_AFTER_S = 15, 120
OF_MYSQL = f"SELECT GET_LOCK('nas tables', {LOCK_TIMEOUT_S})"
OF_POSTGRESQL = f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'; SELECT pg_advisory_lock(hashtext('nas tables'))"
TURNS = {"postgresql": OF_POSTGRESQL, "mysql": OF_MYSQL, "mariadb": OF_MYSQL}
LONGEST = 507  # bytes of a path
MOST_ROWS = 20_000  # attributes, choices or scores of one trial: all of a study are read at once
ROOM = 65_536  # bytes that a study takes at least, and SQLite beside it
REFUSED = "disk I/O error|disk is full"  # what SQLite says where its disk does not do as it is told
PERHAPS = f"{REFUSED}|unable to open|readonly"  # or may not
# What a database says where nothing is wrong with the study.
WHOLE = "locked|full|[Pp]ermission denied|disk I/O|unable to open|readonly"
NEEDED = ("role", "digest", "macs", "params", "activations", "peak_memory_mb", "width_mult", "network", "arch")
_COPIES: dict[Path, tempfile.TemporaryDirectory[str]] = {}


class UnreachableError(InputError):
    """A server does not answer, perhaps for now: at the start of a command its address may be wrong."""


@dataclass(frozen=True, slots=True)
class StudyLocation:
    """A study's storage: `url` is empty for the run folder's own file; `name` is the study's there."""

    folder: Path
    url: str = field(default="", repr=False)
    name: str = NAME

    def __str__(self) -> str:
        return f"study {self.name} in {without_password(self.url)}" if self.url else str(self.folder / FILE)

    @property
    def finals(self) -> StudyLocation:
        """Where the study of its finals is: beside it."""
        return replace(self, name=self.name + FINALS)

    @property
    def is_finals(self) -> bool:
        return self.name.endswith(FINALS)

    @classmethod
    def of(cls, run: Path) -> StudyLocation:
        """Where a run folder says that its study is; `InputError` where it is no run folder."""
        if (run / FILE).is_file():
            return cls(run)
        conduct = SearchConfig.load(run).conduct if (run / CONFIG).is_file() else None
        if conduct is None or not conduct.storage:
            raise InputError(f"{run}: no run folder (it has no {FILE}); give the folder of a search")
        servers.check(conduct.storage, run)
        return cls(run, conduct.storage, conduct.study)


def database(place: StudyLocation | Path, make: bool = True) -> optuna.storages.RDBStorage:
    """The storage, opened, and its tables made where there are none; `InputError` where that cannot be done."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = place if isinstance(place, StudyLocation) else StudyLocation.of(place)
    return _of_server(place) if place.url else _of_folder(place.folder / FILE, make)


def _of_folder(path: Path, make: bool) -> optuna.storages.RDBStorage:
    """SQLite in write-ahead mode: a dashboard may read while the search writes."""
    try:
        if make:
            with closing(_connection(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        storage = Storage("sqlite://", engine_kwargs=_by_path(path), skip_table_creation=not make)
    except Exception as error:  # a damaged file may raise nearly anything
        raise damage_error(StudyLocation(path.parent), error) from None
    return storage


def _by_path(path: Path, patience_s: float = LOCK_TIMEOUT_S) -> dict[str, Any]:
    """How SQLAlchemy opens a file: by its path, and not by an address, where ?, % and {} would mean something else;
    by its whole one, since connections are made after `os.chdir` too."""
    path = path.absolute()
    return {"creator": lambda: _connection(path, patience_s), "poolclass": sqlalchemy.pool.QueuePool}


def _connection(path: Path, patience_s: float = LOCK_TIMEOUT_S) -> sqlite3.Connection:
    """A connection that any thread may use; where the folder cannot be written, one that only reads."""
    options: dict[str, Any] = {"timeout": patience_s, "check_same_thread": False}
    if path.exists() and not os.access(path.parent, os.W_OK):
        ahead = path.with_name(AHEAD).exists()
        if ahead and not path.with_name(f"{FILE}-shm").exists():
            path = _copy(path)
        how = "mode=ro" if ahead else "mode=ro&immutable=1"
        address = f"file:{quote(os.fsencode(path.absolute()))}?{how}"
        reading: sqlite3.Connection = sqlite3.connect(address, uri=True, **options)
        return reading
    connection: sqlite3.Connection = sqlite3.connect(path.absolute(), **options)  # file:… relative would be an address
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _copy(path: Path) -> Path:
    """A copy of a study with its write-ahead file, as killed searches leave them: to read both, SQLite makes a file
    beside them. It is gone with this process."""
    if path not in _COPIES:
        folder = tempfile.TemporaryDirectory(prefix="nas-read-")
        for name in (FILE, AHEAD):
            shutil.copyfile(path.with_name(name), Path(folder.name) / name)
        _COPIES[path] = folder
    return Path(_COPIES[path].name) / FILE


def _of_server(place: StudyLocation) -> optuna.storages.RDBStorage:
    """Connections are tried before they are used, since a server may have been started anew between two uses."""
    url = server(place.url)
    connect: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
    if url.get_driver_name() == "psycopg" and "require_auth" not in url.query:
        connect["require_auth"] = NOT_READABLE
    try:
        with warnings.catch_warnings(), _turn_at_tables(url, connect):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return Storage(
                url.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "hide_parameters": True, "connect_args": connect},
                heartbeat_interval=HEARTBEAT_S,
                grace_period=DEAD_AFTER_S,
            )
    except ImportError:
        extra = EXTRAS.get(url.get_driver_name())
        how = f"; pip install 'cnn-budget-search[{extra}]' brings it" if extra else ""
        raise InputError(f"storage {url.drivername}: its Python driver is not installed{how}") from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        said = hide(_brief(error), place.url)
        raise UnreachableError(f"storage {without_password(place.url)}: cannot be opened ({said})") from None


@contextmanager
def _turn_at_tables(url: sqlalchemy.URL, connect: Mapping[str, Any]) -> Iterator[None]:
    """Who opens a server makes its tables where there are none, one after the other: of two at once, one would find
    half of them. The server ends the turn with the connection."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, connect_args=dict(connect))
    with engine.connect() as connection:
        connection.exec_driver_sql(TURNS[url.get_backend_name()])
        yield


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def holds(place: StudyLocation) -> bool:
    """Whether the study is there already, with trials; `InputError` where it has lost some, or is another's."""
    if not place.url:
        check_own(*files(place.folder))
    kept, by_path = Kept.of(place.folder), _by_path(place.folder / FILE, LOCKED_S)
    if not place.url and not kept.study:
        kept.check(())
        return False
    engine = database(place).engine if place.url else sqlalchemy.create_engine("sqlite://", **by_path)
    try:
        programs = [] if place.url else _programs(engine)
        names = [] if programs else _names(engine)
        states = _states(engine, place.name) if place.name in names else {}
        lost = sorted(private.models().BaseModel.metadata.tables.keys() - _tables(engine)) if states else []
        swollen = _swollen(engine, place.name) if states and not lost else ""
    except Exception as error:  # a damaged file may raise nearly anything
        raise damage_error(place, error) from None
    finally:
        engine.dispose()
    if programs:
        raise InputError(f"{place}: holds {programs[0][:80]!r}, a view or a trigger; it is of no search, or damaged")
    if lost:
        raise InputError(f"{place}: has no table {lost[0]}; it may be damaged")
    if swollen:
        raise InputError(f"{place}: {swollen}; of one trial {MOST_ROWS:,} at most are read")
    if place.is_finals:
        return bool(states)
    if names and place.name not in names and not place.url:
        raise InputError(f"{place}: holds the study {names[0][:80]}, and none named {place.name}; give another --run")
    kept.check([number for number, state in states.items() if state.is_finished()])
    return bool(states)


def _states(engine: sqlalchemy.Engine, name: str) -> dict[int, TrialState]:
    """How the trials of a study stand, by number."""
    models = private.models()
    trial, study = models.TrialModel, models.StudyModel
    query = sqlalchemy.select(trial.number, trial.state).join(study, trial.study_id == study.study_id)
    with engine.connect() as connection:
        found = connection.execute(query.where(study.study_name == name)).all()
    return {number: state for number, state in found if number is not None}  # which it is while a trial is made


def _swollen(engine: sqlalchemy.Engine, name: str) -> str:
    """Which trial of a study has more of something than is read of one, and of what; "" where none has."""
    models = private.models()
    trial, study = models.TrialModel, models.StudyModel
    with engine.connect() as connection:
        for said, model in (
            ("attributes", models.TrialUserAttributeModel),
            ("system attributes", models.TrialSystemAttributeModel),
            ("choices", models.TrialParamModel),
            ("scores", models.TrialIntermediateValueModel),
        ):
            rows = sqlalchemy.func.count()
            query = sqlalchemy.select(trial.number, rows).join(study, trial.study_id == study.study_id)
            query = query.join(model, model.trial_id == trial.trial_id).where(study.study_name == name)
            query = query.group_by(trial.trial_id, trial.number).having(rows > MOST_ROWS)
            for number, count in connection.execute(query.limit(1)):
                return f"trial {number} has {count:,} {said}"
    return ""


def _programs(engine: sqlalchemy.Engine) -> list[str]:
    """What a file would have SQLite do when it is read or written, and take for ever: a study has tables alone."""
    query = sqlalchemy.text("SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')")
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


def _tables(engine: sqlalchemy.Engine) -> set[str]:
    return set(sqlalchemy.inspect(engine).get_table_names())


def _names(engine: sqlalchemy.Engine) -> list[str]:
    """The studies there; none where there are no tables yet."""
    if not sqlalchemy.inspect(engine).has_table(private.models().StudyModel.__tablename__):
        return []
    with engine.connect() as connection:
        return list(connection.execute(sqlalchemy.select(private.models().StudyModel.study_name)).scalars())


def files(folder: Path) -> list[Path]:
    """The files of a folder's own study: SQLite opens all of them in place, and follows links."""
    return [folder / f"{FILE}{end}" for end in ("", "-wal", "-shm", "-journal")]


def settle(folder: Path) -> None:
    """Bring the write-ahead file into the study's own, so that a copy needs one file; not where others read it now."""
    file = folder / FILE
    if file.is_file():
        with suppress(sqlite3.Error), closing(sqlite3.connect(file.absolute(), timeout=1)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def run_folder(run: str | Path) -> Path:
    """The path of a run folder; `InputError` for an empty text, which would mean the current one."""
    if not isinstance(run, (str, Path)) or not str(run):
        raise InputError(f"run folder: a path is accepted, not {run!r}")
    return user_path(run)


def load(run: str | Path) -> optuna.Study:
    """The Optuna study of a run folder, as it is, without closing or queueing anything."""
    place = StudyLocation.of(run_folder(run))
    holds(place)
    storage = database(place, make=False)
    try:
        study = optuna.load_study(study_name=place.name, storage=storage)
    except KeyError:
        raise InputError(f"{place}: holds no search") from None
    except Exception as error:
        raise damage_error(place, error) from None
    check(study, place)
    return study


def load_finals(study: optuna.Study) -> optuna.Study | None:
    """The study of a study's finals; None where there were none."""
    try:
        found = optuna.load_study(study_name=study.study_name + FINALS, storage=private.storage_of(study))
    except KeyError:
        return None
    check_attributes(found, f"study {found.study_name}")
    return found


def check(study: optuna.Study, place: StudyLocation) -> None:
    """Read all of a study; `InputError` where that cannot be done, or a trial has no network."""
    try:
        trials, _ = study.get_trials(deepcopy=False), study.user_attrs
    except Exception as error:  # a damaged file may raise nearly anything
        raise damage_error(place, error) from None
    for index, trial in enumerate(trials):
        if trial.number != index:
            raise InputError(f"{place}: trial {index} is missing; the study is damaged")
        if trial.state == TrialState.COMPLETE and not trial.values:
            raise InputError(f"{place}: trial {index} is complete and has no score; the study is damaged")
        for name in NEEDED:
            if name not in trial.user_attrs:
                raise InputError(f"{place}: trial {trial.number} has no {name}; it is of no search, or damaged")
    check_attributes(study, str(place))


def check_attributes(study: optuna.Study, place: str) -> None:
    """`InputError` where what a study keeps beside Optuna's own is not of its types (see `nas.study.attributes`)."""
    known, trials = study.user_attrs, study.get_trials(deepcopy=False)
    attributes.check_study(known, place)
    metric = attributes.metric_of(known)
    minimized = (known.get("identity") or {}).get("minimize", ())
    for trial in trials:
        attributes.check_trial(trial, metric, minimized, place)


def ask_disk(said: str, folder: Path) -> str:
    """What SQLite said, or where that is of its disk, what that says itself to some bytes more: SQLite has two phrases
    for a full disk, a quota, a disk that has become read-only and one that is broken."""
    if re.search(PERHAPS, said):
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(ROOM))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return "disk is full" if error.errno == errno.ENOSPC else f"disk: {error.strerror}"
    return said


def damage_error(place: StudyLocation, error: Exception) -> InputError | OSError:
    """What to raise where a study cannot be read: an `OSError` where its disk refuses, which no other command mends."""
    cause: BaseException = error
    away = False
    while inner := getattr(cause, "orig", None) or cause.__cause__:
        away = away or isinstance(cause, (OperationalError, InterfaceError))
        cause = inner
    said = hide(_brief(cause), place.url)
    if place.url and away:
        return UnreachableError(f"{place}: cannot be read ({said})")
    if not place.url and "unable to open" in said and len(os.fsencode(place.folder.resolve() / FILE)) > LONGEST:
        return InputError(f"{place}: its path is longer than the {LONGEST} bytes that SQLite takes")
    if "no such table: version_info" in said:  # the first of all: it was never made, or is in a file that is not there
        return InputError(f"{place}: holds no search")
    if not place.url and re.search(REFUSED, said):
        return OSError(errno.EIO, ask_disk(said, place.folder), str(place.folder / FILE))
    if re.search(WHOLE, said):
        return InputError(f"{place}: cannot be read ({said})")
    beside = [name for name in (TABLE, BEST) if not place.url and (place.folder / name).is_file()]
    left = f"; {' and '.join(beside)} beside it can still be read" if beside else ""
    return InputError(f"{place}: cannot be read, it may be damaged ({said}){left}")
