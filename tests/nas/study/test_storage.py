"""Addresses of servers, and that no password is kept. The server itself is in test_server.py."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import sqlite3
import struct
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas import search
from nas.config import SearchConfig
from nas.run import search_options
from nas.run.run import Run
from nas.study import servers, storage
from nas.study.passwords import hide, without_password
from nas.study.storage import StudyLocation, database
from nas.study.study import Study
from searchspace import InputError
from tests.nas.study.test_study import opened

SECRET = "k3pt-s3cr3t"
URLS = [
    (f"postgresql+psycopg://nas:{SECRET}@db:5432/runs", "postgresql+psycopg://nas@db:5432/runs"),
    (f"postgresql://nas@db/runs?password={SECRET}&sslmode=require", "postgresql://nas@db/runs?sslmode=require"),
    (f"mysql+pymysql://nas:{SECRET}@db/runs?ssl_key_password={SECRET}", "mysql+pymysql://nas@db/runs"),
    ("postgresql+psycopg://nas:a%40b%2F@db/runs", "postgresql+psycopg://nas@db/runs"),
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_what_is_kept_of_an_address_has_no_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert hide(f"could not reach {url}", url) == f"could not reach {shown}"
    assert str(StudyLocation(Path("a"), url, "a")) == f"study a in {shown}"
    assert SECRET not in repr(StudyLocation(Path("a"), url, "a"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("study.db", "not an address of a database"),
        ("sqlite:///study.db", "storage sqlite: postgresql"),
        ("postgresql+psycopg://nas@db", "names no database"),
        ("oracle://nas@db/runs", "storage oracle"),
        ("postgresql+psycopg://nas@db:many/runs", "not an address"),
        (f"postgresql+nodriver://nas:{SECRET}@db/runs", "not an address"),
    ],
)
def test_other_addresses_are_refused(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage") as refused:
        search.main(["--budget", "20MFLOPs", "--run", str(tmp_path / "r"), "--storage", url])
    assert says in str(refused.value)
    assert SECRET not in str(refused.value)
    assert not (tmp_path / "r").exists()


def test_a_part_of_the_option_is_refused_without_its_password() -> None:
    for given in ([f"--stor={URLS[0][0]}"], ["--stor", URLS[0][0]]):
        with pytest.raises(InputError, match=r"no such option --stor; did you mean --storage\?") as refused:
            search.main(["--budget", "20MFLOPs", *given])
        assert SECRET not in str(refused.value)


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(InputError, match="cannot be opened") as refused:
        storage.database(StudyLocation(tmp_path, f"postgresql+psycopg://nas:{SECRET}@127.0.0.1:9/runs", "r"))
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("joined", [True, False])
def test_the_command_that_is_kept_has_no_password(
    joined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped where the study would be opened: the folder's config.yaml is written by then."""
    monkeypatch.setattr(storage, "holds", lambda place: True)

    def open_study(*arguments: Any) -> None:
        assert arguments[-2].url == URLS[0][0]
        raise RuntimeError("enough")

    monkeypatch.setattr("nas.run.search.open_study", open_study)
    given = [f"--storage={URLS[0][0]}"] if joined else ["--storage", URLS[0][0]]
    arguments = ["--budget", "20MFLOPs", "--space", "rexnet", "--quiet", "--run", str(tmp_path / "r")]
    with pytest.raises(RuntimeError, match="enough"):
        search.main([*arguments, *given])
    assert not [path for path in (tmp_path / "r").iterdir() if SECRET in path.read_text()]
    conduct = SearchConfig.load(tmp_path / "r").conduct
    assert (conduct.storage, conduct.study) == (URLS[0][1], "r")
    assert URLS[0][1] in " ".join(shlex.split(conduct.command))
    assert StudyLocation.of(tmp_path / "r") == StudyLocation(tmp_path / "r", URLS[0][1], "r")

    other = ["--storage", "postgresql+psycopg://nas@elsewhere/runs"]
    with pytest.raises(InputError, match="keeps its study in postgresql"):
        search.main([*arguments, *other])


def foreign(tmp_path: Path, url: str) -> Path:
    """A run folder as somebody else may have made it, which names a server."""
    config = search_options.config_from_args(search_options.parser().parse_args(["--budget", "20MFLOPs"]))
    run = tmp_path / "foreign"
    run.mkdir()
    replace(config, conduct=replace(config.conduct, storage=url, study="r")).save(run)
    return run


def test_a_server_that_only_a_run_folder_names_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at a stranger's run would tell the stranger's server the password in PGPASSWORD."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"postgresql+psycopg://nas@127.0.0.1:{listening.getsockname()[1]}/x"
        run = foreign(tmp_path, url)
        for look in (Run.open, Study.read, StudyLocation.of):
            with pytest.raises(InputError, match=f"no --storage has named here; .*NAS_STORAGE='{re.escape(url)}'"):
                look(run)
        with pytest.raises(InputError, match="which no --storage has named here"):
            search.main(["--budget", "20MFLOPs", "--quiet", "--run", str(run)])
        with pytest.raises(TimeoutError):
            listening.accept()
    monkeypatch.setenv("NAS_STORAGE", url)
    assert StudyLocation.of(run).url == url
    monkeypatch.delenv("NAS_STORAGE")
    servers.note(url.replace("nas@", f"nas:{SECRET}@"))
    assert StudyLocation.of(run).url == url
    assert SECRET not in (tmp_path / "cache" / servers.FILE).read_text()


def test_a_server_that_asks_for_the_password_in_clear_text_gets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of which all is known but that it is the one that was meant."""
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    heard = b""

    def serve(listening: socket.socket) -> None:
        nonlocal heard
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(8)  # whether TLS is spoken here
                    connection.sendall(b"N")
                    connection.recv(1000)  # who wants in
                    connection.sendall(b"R" + struct.pack("!ii", 8, 3))  # AuthenticationCleartextPassword
                    heard += connection.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        url = f"postgresql+psycopg://nas@127.0.0.1:{listening.getsockname()[1]}/x"
        with pytest.raises(InputError, match="authentication method requirement"):
            storage.database(StudyLocation(tmp_path, url, "r"))
    assert SECRET.encode() not in heard


@pytest.mark.parametrize(("driver", "extra"), [("postgresql+psycopg", "postgres"), ("mysql+pymysql", "mysql")])
def test_a_driver_that_is_not_installed_is_named_with_what_brings_it(
    driver: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, driver.partition("+")[2], None)
    place = StudyLocation(tmp_path, f"{driver}://nas@127.0.0.1:9/runs", "x")
    with pytest.raises(InputError, match=rf"{extra}\]' brings it"):
        database(place)


def test_a_study_that_another_program_keeps_locked_is_one_line_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database browser, say; SQLite's own patience is for drivers that write in turns."""
    with opened(tmp_path) as study:
        study.ask()
    monkeypatch.setattr(storage, "LOCKED_S", 0.2)
    with closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(InputError, match=r"cannot be read \(database is locked\)"):
            Study.read(tmp_path)
        assert time.monotonic() - started < storage.LOCK_TIMEOUT_S / 2


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("drop table study_system_attributes", "has no table study_system_attributes; it may be damaged"),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000) "
            "insert into trial_user_attributes (trial_id, key, value_json) select 1, 'note ' || i, '0' from n",
            r"trial 0 has 300,0\d\d attributes; of one trial 20,000 at most are read",
        ),
        (f"update trial_values set value = '{'[' * 9000}'", r"trial 0: a score of \[{80}; the study is damaged"),
    ],
)
def test_a_study_that_was_changed_is_one_short_line(statement: str, says: str, tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        study.tell(study.ask(), 0.5)
    with closing(sqlite3.connect(tmp_path / "study.db")) as other, other:
        other.execute(statement)
    with pytest.raises(InputError, match=says):
        assert Study.read(tmp_path).records
