"""What happens on Ctrl-C (SIGINT), SIGTERM and SIGHUP: a command is told, ends, and exits with 130, 143 or 129."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

BY_SIGNAL = 128  # a shell's exit code of what a signal ended is this and the signal's number
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(KeyboardInterrupt):
    """A signal has come that ends the command."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def ending(handle: Callable[[int], None]) -> Iterator[None]:
    """The first of SIGINT, SIGTERM and SIGHUP calls `handle` with its number; a second one is as it was before, also
    where this handler has been put back meanwhile, as Ray Tune does when its own is called.

    A signal that is ignored, as by nohup, stays ignored. Only in the main thread; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    warned, hung_up = threading.Event(), threading.Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        if hung_up.is_set():  # the kernel and a shell may both say that a terminal is gone, in any order
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def first(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            hung_up.set()
        restore()
        if warned.is_set():
            os.kill(os.getpid(), number)
            return
        warned.set()
        if number == signal.SIGHUP:  # the terminal is gone
            _silence(terminals)
        handle(number)

    for number in before:
        signal.signal(number, first)
    try:
        yield
    finally:
        restore()


def end_at_once() -> None:
    """From now on Ctrl-C ends the process without another word: it is ending already."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def say(line: str) -> None:
    """A line on standard error from a signal's handler, where what was being printed cannot be printed into."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def exit_code(stopped: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal has ended; Ctrl-C where nothing else is known."""
    return BY_SIGNAL + (stopped.number if isinstance(stopped, StoppedError) else signal.SIGINT)


def _silence(streams: Iterable[int]) -> None:
    """What is still printed to these goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
