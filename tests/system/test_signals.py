"""How commands end by a signal: exit codes, one line, what is ignored, what a second signal does. No Ray."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from searchspace import signals
from tests.support.paths import ROOT

SLEEPS = """
import sys, time
from searchspace import command
def main(arguments):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("cleaned", flush=True)
        if arguments:
            time.sleep(60)
command.run(main, "nas.test")
"""


def begun(*arguments: str, before: str = "") -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", before + SLEEPS, *arguments], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_in_order_with_its_own_code(number: int, code: int) -> None:
    process = begun()
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("cleaned\n", "nas.test: interrupted\n")
    assert process.returncode == code


def test_a_second_signal_ends_it_at_once() -> None:
    process = begun("slowly")
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    assert process.stdout.readline() == "cleaned\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_a_second_signal_is_as_it_was_before_where_the_handler_was_put_back() -> None:
    """Ray Tune puts back the handler that it found, when its own is called."""
    calls = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append("before"))
    try:
        with signals.ending(lambda number: calls.append("ending")):
            ours = signal.getsignal(signal.SIGINT)
            for _ in range(3):
                signal.signal(signal.SIGINT, ours)
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == ["ending", "before", "before"]


def test_what_is_ignored_stays_ignored() -> None:
    """As by nohup, or for SIGINT in the background of a script."""
    ignore = "import signal\nfor n in (signal.SIGHUP, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n"
    process = begun(before=ignore)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_a_command_ends_without_a_search_for_what_is_still_in_memory() -> None:
    """Which takes seconds of a stop on a busy machine, for all that Ray and others have imported."""
    leaves = """
import gc
gc.disable()  # until the exit
class Left:
    def __del__(self):
        print("found")
left = Left()
left.itself = left
del left
"""
    process = begun(before=leaves)
    process.terminate()
    assert process.communicate(timeout=30)[0] == "cleaned\n"


def test_a_terminal_that_is_gone_takes_no_more_lines() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    assert os.read(ours, 100).strip() == b"begun"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 129


def test_a_terminal_may_say_twice_that_it_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLEEPS, "slow"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "cleaned\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.parametrize("module", ["search", "train", "report", "export", "dashboard", "measure"])
def test_ctrl_c_while_a_command_imports_is_silent(module: str, tmp_path: Path) -> None:
    """The import of rich, which all of them need, stands for any."""
    (tmp_path / "rich.py").write_text("import sys, time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", f"nas.{module}", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_importing_the_package_leaves_signals_alone() -> None:
    asks = "import signal, nas, searchspace; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    got: list[int] = []
    with signals.ending(got.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert got == [signal.SIGTERM]
        assert [signal.getsignal(number) for number in signals.ENDING] == before
    with signals.ending(got.append):
        pass
    assert [signal.getsignal(number) for number in signals.ENDING] == before
