"""Temporary folders of killed runs go with the next start, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from nas.workers import leftovers

HOLD = """
import sys
from pathlib import Path
from nas.workers import leftovers
leftovers.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def old(folder: Path) -> None:
    os.utime(folder / leftovers.FILE, (0, 0))


def test_a_folder_is_removed_once_nobody_holds_it(tmp_path: Path) -> None:
    made, foreign = tmp_path / "nas-a", tmp_path / "nas-b"
    made.mkdir()
    foreign.mkdir()
    words = [sys.executable, "-c", HOLD, str(made)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        old(made)
        leftovers.remove(tmp_path, "nas-*")
        assert made.is_dir()
        process.send_signal(signal.SIGKILL)
    (made / "more").mkdir()
    leftovers.remove(tmp_path, "nas-*")
    assert not made.exists()
    assert foreign.is_dir(), "it has no mark, so is somebody else's"


def test_a_folder_that_was_made_a_moment_ago_stays(tmp_path: Path) -> None:
    """Its process may not hold it yet."""
    made = tmp_path / "nas-a"
    made.mkdir()
    os.close(leftovers.hold(made))
    leftovers.remove(tmp_path, "nas-*")
    assert made.is_dir()


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.close(leftovers.hold(outside))
    old(outside)
    (tmp_path / "nas-link").symlink_to(outside)
    (tmp_path / "nas-a").mkdir()
    (tmp_path / "nas-a" / leftovers.FILE).symlink_to(outside / leftovers.FILE)
    leftovers.remove(tmp_path, "nas-*")
    assert (outside / leftovers.FILE).is_file()
    assert (tmp_path / "nas-a").is_dir()
