"""How far a training is and how long the rest takes: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nas.training.trainer import SCORING_COST

FIRST_S, EVERY_S = 3.0, 7.0


class TrainingProgress:
    """Told of every batch (see `trainer.Each`). An epoch trains on `train` images and scores on `score`; `done` of the
    `epochs` were made before."""

    def __init__(self, console: Console, quiet: bool, epochs: int, done: int, train: int, score: int) -> None:
        self.console, self.quiet = console, quiet
        self.epochs, self.number, self.train = epochs, done + 1, train
        self.work = train + SCORING_COST * score
        self.first = self.at = done * self.work
        self.begun = self.epoch_begun = time.monotonic()
        self.said = self.begun - EVERY_S + FIRST_S
        terminal = console.is_terminal and not console.is_dumb_terminal
        columns = (BarColumn(20), TextColumn("{task.description}"))
        self.bar = Progress(
            *columns, console=console, transient=True, refresh_per_second=2, disable=quiet or not terminal
        )
        self.task = self.bar.add_task("starting", total=epochs * self.work)
        self.bar.update(self.task, completed=self.at)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        part = self.train * done / total if what == "training" else self.train + SCORING_COST * done
        self.at = (self.number - 1) * self.work + part
        self._say(self.line(what, done, total))

    def line(self, what: str, done: int, total: int) -> str:
        """`epoch 1 of 30: 23 %, 71 images/s, about 1:40:00 left`."""
        now = time.monotonic()
        share = f"{100 * (self.at / self.work - self.number + 1):.0f} %"
        how = f"{done / max(now - self.epoch_begun, 1e-9):.0f} images/s"
        if what != "training":
            how = f"scoring {done:,} of {total:,} images"
        return f"epoch {self.number} of {self.epochs}: {share}, {how}, about {self.time_left(now)} left"

    def time_left(self, now: float) -> timedelta:
        """The time for what is left, at the pace since this process began."""
        made = max(self.at - self.first, 1e-9)
        return timedelta(seconds=round((now - self.begun) / made * (self.epochs * self.work - self.at)))

    def ended(self, number: int) -> None:
        """An epoch is over."""
        self.number, self.at, self.epoch_begun = number + 1, number * self.work, time.monotonic()
        self.bar.update(self.task, completed=self.at)

    def testing(self, what: str, done: int, total: int) -> None:
        """Told of every batch of test images."""
        self._say(f"testing: {done:,} of {total:,} images")

    def _say(self, text: str) -> None:
        if self.quiet:
            return
        if not self.bar.disable:
            self.bar.update(self.task, completed=self.at, description=text)
        elif time.monotonic() - self.said >= EVERY_S:
            self.said = time.monotonic()
            self.console.print(text)
