"""Whoever watches a search: the terminal, the run's files, trackers, a user's own. One that fails loses nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nas.trial import Result, Trial
from nas.workers.coordinator import Watcher
from searchspace.errors import InputError

METHODS = ("started", "epoch", "ended", "close")


def check(watchers: Any) -> None:
    """`InputError` for what is no list of watchers, and for one that nothing would be told."""
    if not isinstance(watchers, (list, tuple)):
        raise InputError(f"watchers: a list of objects is accepted, not {watchers!r}")
    for watcher in watchers:
        if isinstance(watcher, type) or not any(callable(getattr(watcher, name, None)) for name in METHODS):
            accepted = f"an object with at least one of the methods {', '.join(METHODS)} is accepted"
            raise InputError(f"watchers: {accepted}, not {watcher!r}")


class Watchers:
    """Tells all of them, in their order. `own` are those of this project, whose errors are errors; what a user's own
    raises is a warning, once, and the search goes on. A watcher need not have all methods."""

    def __init__(self, own: Sequence[Watcher], users: Sequence[Any], log: logging.Logger) -> None:
        self.own, self.users, self.log = own, users, log
        self.failures: dict[int, str] = {}

    def started(self, trial: Trial) -> None:
        self._tell("started", trial)

    def epoch(self, trial: Trial, result: Result) -> None:
        self._tell("epoch", trial, result)

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self._tell("ended", trial, outcome, result)
        if result.note:
            self.log.warning("trial %d %s", trial.number, result.note)

    def stopping(self) -> None:
        for watcher in self.own:  # from a signal's handler: nothing of a user's may run there
            watcher.stopping()

    def close(self) -> None:
        """The search is over: trackers write what they have."""
        for watcher in self.users:
            self._call(watcher, "close")

    @property
    def sentences(self) -> list[str]:
        """What a person should know of watchers that failed."""
        return list(self.failures.values())

    def _tell(self, what: str, *arguments: Any) -> None:
        for watcher in self.own:
            getattr(watcher, what)(*arguments)
        for watcher in self.users:
            self._call(watcher, what, *arguments)

    def _call(self, watcher: Any, what: str, *arguments: Any) -> None:
        method = getattr(watcher, what, None)
        if method is None:
            return
        try:
            method(*arguments)
        except Exception as error:
            name, said = type(watcher).__name__, " ".join(str(error).split())[:160]
            self.log.warning("watcher %s failed at %s: %s: %s", name, what, type(error).__name__, said)
            first = f"watcher {name} failed ({type(error).__name__}: {said}); the search is complete without it"
            self.failures.setdefault(id(watcher), first)
