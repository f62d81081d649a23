"""How far a run is and how long the rest takes, from epochs and not from ends: known once a first epoch is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nas.study.early_stopping import FEWEST_SCORES, REDUCTION, EarlyStopping

PRIOR_TRIALS = 4  # as many as the assumption counts of how many trials are stopped early


class TimeLeft:
    """Told of every start, epoch and end of a run of `total` trials. `earlier` are the epochs of trials that had ended,
    `stops` says whether some are stopped early.

    Trials run at once on as many slots as were ever seen busy. An epoch takes what those of its trial took, or else
    what others took, with all that a trial does before its first.
    """

    def __init__(
        self,
        total: int,
        epochs: int,
        earlier: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
        stops: bool = True,
    ) -> None:
        self.total, self.rule, self.clock = total, EarlyStopping(epochs, stops), clock
        self.done = 0
        self._ended: list[int] = []  # the epochs of every trial
        self._running: dict[int, tuple[int, float, float]] = {}  # its epochs, its seconds, when that was known
        self._timed = (0, 0.0)  # epochs, and the seconds that they took
        self._slots = 1
        for number in earlier:
            self.done += number
            self._ended.append(number)

    def started(self, trial: int) -> None:
        self._running[trial] = 0, 0.0, self.clock()
        self._slots = max(self._slots, len(self._running))

    def epoch(self, trial: int, number: int, seconds: float) -> None:
        """A trial has ended the epoch of this number, so many seconds after its start."""
        before, since, begun = self._running.get(trial, (0, 0.0, self.clock()))
        took = seconds - since if seconds > since else self.clock() - begun
        self._timed = self._timed[0] + number - before, self._timed[1] + took
        self._running[trial] = number, max(seconds, since), self.clock()
        self.done += number - before

    def ended(self, trial: int, counts: bool = True) -> None:
        """A trial has ended; one that does not count runs again."""
        number, _, _ = self._running.pop(trial, (0, 0.0, 0.0))
        if counts:
            self._ended.append(number)
        else:
            self.done -= number

    def share(self) -> float:
        """The share of all epochs that are done."""
        return self.done / ((self.done + self._epochs_left()) or 1)

    def seconds_left(self) -> float | None:
        """Seconds until the last trial ends; None before the first epoch."""
        if not self._timed[0]:
            return None
        now = self.clock()
        each = self._epoch_s(now)
        rests = [
            max(0.0, self._of_running(n) * (seconds / n if n else each) - (now - known))
            for n, seconds, known in self._running.values()
        ]
        new = self._of_new(self._waiting) * each
        longest = max([*rests, self._of_new(1) * each if self._waiting else 0.0])
        return max((sum(rests) + new) / self._slots, longest)

    def _epoch_s(self, now: float) -> float:
        epochs, seconds = self._timed
        each = seconds / epochs
        if epochs >= self._slots:
            return each
        # The first to end an epoch are the fastest: those that are still at theirs have waited for a part of one.
        waited = [now - known for _, _, known in self._running.values() if now > known]
        return (seconds + sum(waited)) / (epochs + sum(one / (one + each) for one in waited))

    @property
    def _waiting(self) -> int:
        return max(0, self.total - len(self._ended) - len(self._running))

    def _epochs_left(self) -> float:
        return self._of_new(self._waiting) + sum(self._of_running(n) for n, _, _ in self._running.values())

    def _of_running(self, number: int) -> float:
        """The epochs that a running trial has before it after this one."""
        whole = number >= self.rule.rung
        return max(0.0, (self.rule.epochs if whole else self._of_new(1)) - number)

    def _of_new(self, trials: int) -> float:
        scored = sum(n >= self.rule.rung for n in self._ended)
        scored += sum(n >= self.rule.rung for n, _, _ in self._running.values())
        return self.rule.expected(trials, scored, self._share_stopped())

    def _share_stopped(self) -> float:
        """The share of trials that are stopped early: a third goes on, until enough were to say."""
        compared = self._ended[FEWEST_SCORES:]
        stopped = sum(number == self.rule.rung for number in compared)
        return ((1 - 1 / REDUCTION) * PRIOR_TRIALS + stopped) / (PRIOR_TRIALS + len(compared))
