"""How far a long step is: a bar with the time that is left in a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

EVERY_S = 7.0


class Meter:
    """Told what is done, `done` of `total`; a total of 0 is not known. Another step begins with another name."""

    def __init__(self, console: Console, bar: Progress | None, quiet: bool, title: str = "") -> None:
        self.console, self.bar, self.quiet, self.title = console, bar, quiet, title
        self.done, self.total = 0, 0
        self.task = bar.add_task("", total=None) if bar else None
        self.step, self.begun, self.said = "", time.monotonic(), time.monotonic()

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        self.done, self.total = done, total
        if step != self.step:
            self.step, self.begun, self.said = step, now, now
            if self.bar is not None and self.task is not None:
                self.bar.reset(self.task, total=total or None, description=step)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total or None)
        elif not self.quiet and now - self.said >= EVERY_S:
            self._say_how_far(now)

    def tell(self, over: threading.Event) -> None:
        """Until it is over, a line where there was none for some seconds, also where a step has nothing to tell."""
        while not over.wait(min(1.0, EVERY_S)):
            now = time.monotonic()
            if now - self.said >= EVERY_S:
                self._say_how_far(now)

    def _say_how_far(self, now: float) -> None:
        self.said = now
        self.say(line(self.step, self.done, self.total, now - self.begun) if self.step else self.title)

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self.quiet:
            self.console.print(text, markup=False, highlight=False)


def line(step: str, done: int, total: int, seconds: float) -> str:
    """`decoding images: 1,200 of 9,000, about 0:01:10 left`."""
    if not total:
        return f"{step}: {done:,}"
    left = timedelta(seconds=round(seconds / max(1, done) * (total - done)))
    return f"{step}: {done:,} of {total:,}, about {left} left"


@contextmanager
def meter(console: Console, title: str, quiet: bool = False) -> Iterator[Meter]:
    """A `Meter` on a console, gone when its steps are done; a terminal shows `title` until the first is told."""
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        plain, over = Meter(console, None, quiet, title), threading.Event()
        if not quiet:
            threading.Thread(target=plain.tell, args=(over,), daemon=True).start()
        try:
            yield plain
        finally:
            over.set()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        found = Meter(console, bar, quiet)
        assert found.task is not None
        bar.update(found.task, description=title)
        yield found


@contextmanager
def waiting(console: Console, what: str, quiet: bool = False) -> Iterator[None]:
    """Say what a person waits for that has no steps to count, and every few seconds for how long by now."""
    over, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(EVERY_S):
            console.print(f"{what}: {time.monotonic() - begun:.0f} s", markup=False, highlight=False)

    if quiet:
        yield
        return
    console.print(what, markup=False, highlight=False)
    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        over.set()
