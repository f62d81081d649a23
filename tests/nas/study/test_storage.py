"""Addresses of servers, and that no password is kept. The server itself is in test_server.py."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from nas import search
from nas.config import SearchConfig
from nas.study import storage
from nas.study.passwords import hidden, without_password
from nas.study.storage import StudyLocation
from searchspace import InputError

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
    assert hidden(f"could not reach {url}", url) == f"could not reach {shown}"
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
