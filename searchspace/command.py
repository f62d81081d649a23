"""What every command shares: one-line errors, signals and exit codes.

0 done, 1 the work failed, 2 the command was wrong; 130, 143, 129: ended by SIGINT (Ctrl-C), SIGTERM, SIGHUP.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from searchspace.errors import InputError

FAILED, WRONG = 1, 2
BY_SIGNAL = 128  # a shell's exit code of what a signal ended is this and the signal's number
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(KeyboardInterrupt):
    """A signal has come that ends the command."""

    def __init__(self, number: int) -> None:
        self.number = number


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def console() -> Console:
    """Standard output: prose is wrapped at words in a terminal, and left in one line elsewhere.

    A notebook is no terminal, also for what it runs with `!`: it shows every state of what is drawn over and over.
    Nor are its own widgets used, one for every line.
    """
    terminal = sys.stdout.isatty() and "JPY_PARENT_PID" not in os.environ
    return Console(highlight=False, soft_wrap=not terminal, force_terminal=terminal, force_jupyter=False)


def line(module: str, arguments: Sequence[str]) -> str:
    """The command that was given, as it can be given again in a shell."""
    return shlex.join(["python", "-m", module, *arguments])


@contextmanager
def ending(handle: Callable[[int], None]) -> Iterator[None]:
    """The first of SIGINT, SIGTERM and SIGHUP calls `handle` with its number; a second one is as it was before.

    A signal that is ignored, as by nohup, stays ignored. Only in the main thread; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, frame: FrameType | None) -> None:
        restore()
        if number == signal.SIGHUP:  # the terminal is gone
            _silence(terminals)
        handle(number)

    for number in before:
        signal.signal(number, first)
    try:
        yield
    finally:
        restore()


def say(line: str) -> None:
    """A line on standard error from a signal's handler, where what was being printed cannot be printed into."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _silence(streams: Iterable[int]) -> None:
    """What is still printed to these goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)


def run(main: Callable[[Sequence[str]], int], name: str) -> NoReturn:
    """Call a command's main with the process's arguments and exit with its code; bad input is one line on stderr."""

    def end(number: int) -> None:
        say(f"{name}: interrupted")
        raise StoppedError(number)

    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # imports are done: see nas/__init__.py
        with ending(end):
            code = main(sys.argv[1:])
        sys.stdout.flush()
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = WRONG
    except KeyboardInterrupt as stopped:
        code = BY_SIGNAL + (stopped.number if isinstance(stopped, StoppedError) else signal.SIGINT)
    except BrokenPipeError:  # the reader of a pipe has gone, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
