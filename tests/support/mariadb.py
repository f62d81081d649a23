"""A MariaDB server for tests: Debian's, in a folder of its own, run by a user without rights, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.postgres import PASSWORD, collected, free_port, plain_user

START_S = 60


@dataclass
class MariaDB:
    """As `tests.support.postgres.Server`."""

    folder: Path
    port: int
    user: str | None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"mysql+pymysql://nas:{PASSWORD}@127.0.0.1:{self.port}/runs"

    def url_by_option_file(self, path: Path) -> str:
        """Its address without the password, which is put into a file."""
        path.write_text(f"[client]\npassword={PASSWORD}\n")
        return f"mysql+pymysql://nas@127.0.0.1:{self.port}/runs?read_default_file={path}"

    @property
    def _options(self) -> list[str]:
        return [f"--datadir={self.folder / 'data'}", f"--socket={self.folder / 'socket'}"]

    def make(self) -> None:
        first = self.folder / "first.sql"
        first.write_text(
            f"CREATE DATABASE IF NOT EXISTS runs;\nCREATE OR REPLACE USER nas@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON runs.* TO nas@'127.0.0.1';\n"
        )
        words = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", *self._options]
        done = subprocess.run(words, user=self.user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        words = [
            "mariadbd",
            "--no-defaults",
            *self._options,
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
        ]
        words += ["--bind-address=127.0.0.1", "--skip-name-resolve", f"--init-file={self.folder / 'first.sql'}"]
        words += ["--innodb-flush-log-at-trx-commit=2"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, user=self.user, cwd="/", stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def _answers(self) -> bool:
        import pymysql

        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user="nas", password=PASSWORD, database="runs").close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self, how: str = "fast") -> None:
        """`immediate`, as by the loss of its machine, or in order."""
        assert self.process
        self.process.send_signal(signal.SIGKILL if how == "immediate" else signal.SIGTERM)
        self.process.wait(timeout=START_S)


@contextmanager
def server() -> Iterator[MariaDB]:
    pytest.importorskip("pymysql")
    if not shutil.which("mariadbd") and os.geteuid() == 0 and shutil.which("apt-get"):
        words = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "mariadb-server-core", "mariadb-client"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(words, env=quiet, capture_output=True, check=False)
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed, and cannot be by apt-get as this user")
    user = plain_user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="nas-mariadb-"))
    if user:
        shutil.chown(folder, user)
    made = MariaDB(folder, free_port(), user)
    try:
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        collected()
