"""A PostgreSQL server for tests: Debian's, in a folder of its own, run by a user without rights, gone afterwards."""

from __future__ import annotations

import gc
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "k3pt-s3cr3t"


@dataclass
class Server:
    binaries: Path
    data: Path
    port: int
    user: str | None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://nas:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def run(self, *words: str) -> None:
        command = [str(self.binaries / words[0]), *words[1:]]
        done = subprocess.run(
            command, user=self.user, cwd="/", capture_output=words[0] != "pg_ctl", text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -k {self.data.parent} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.data.parent / "log")
        self.run("pg_ctl", "-D", str(self.data), "-w", "-s", "-l", log, "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-s", "-m", how, "stop")


def binaries() -> Path:
    """Where PostgreSQL's programs are; the test is skipped where they are not and cannot be installed."""
    if not _installed() and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-y", "-q", "postgresql"], env=quiet, capture_output=True, check=False)
    found = _installed()
    if found is None:
        pytest.skip("PostgreSQL is not installed, and cannot be by apt-get as this user")
    return found


def _installed() -> Path | None:
    path = shutil.which("initdb")
    if path:
        return Path(path).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg")
    where = binaries()
    user = plain_user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="nas-postgres-"))
    word = folder / "password"
    word.write_text(PASSWORD)
    if user:
        shutil.chown(folder, user)
        shutil.chown(word, user)
    made = Server(where, folder / "data", free_port(), user)
    try:
        made.run("initdb", "-D", str(made.data), "-U", "nas", "-A", "scram-sha-256", f"--pwfile={word}", "--no-sync")
        made.start()
        try:
            yield made
        finally:
            made.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        collected()


def collected() -> None:
    """Drivers that are to look dead leave connections open, of which their packages warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
