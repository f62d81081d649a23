"""Temporary folders of killed runs go with the next start, and nobody else's."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.workers import leftovers

HOLD = """
import sys
import time
from pathlib import Path

import pytest
from nas.workers import leftovers
leftovers.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_removed_once_nobody_holds_it(tmp_path: Path) -> None:
    made, foreign = tmp_path / "nas-a", tmp_path / "nas-b"
    made.mkdir()
    foreign.mkdir()
    words = [sys.executable, "-c", HOLD, str(made)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        leftovers.remove(tmp_path, "nas-*")
        assert made.is_dir()
        process.send_signal(signal.SIGKILL)
    (made / "more").mkdir()
    leftovers.remove(tmp_path, "nas-*")
    assert not made.exists()
    assert foreign.is_dir(), "it has no mark, so is somebody else's"


def test_a_folder_is_no_leftover_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock says, as one that has been set two hours forward."""
    made, real = tmp_path / "nas-a", fcntl.flock
    made.mkdir()

    def look_and_lock(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        leftovers.remove(tmp_path, "nas-*")
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", look_and_lock)
    monkeypatch.setattr(time, "time", lambda: 1e10)
    held = leftovers.hold(made)
    leftovers.remove(tmp_path, "nas-*")
    assert made.is_dir()
    os.close(held)
    leftovers.remove(tmp_path, "nas-*")
    assert not made.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.close(leftovers.hold(outside))
    (tmp_path / "nas-link").symlink_to(outside)
    (tmp_path / "nas-a").mkdir()
    (tmp_path / "nas-a" / leftovers.FILE).symlink_to(outside / leftovers.FILE)
    leftovers.remove(tmp_path, "nas-*")
    assert (outside / leftovers.FILE).is_file()
    assert (tmp_path / "nas-a").is_dir()
