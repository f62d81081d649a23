"""Work in chunks on every core that is granted here."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from types import ModuleType
from typing import Any

from searchspace import machine

Mapped = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def processes(number: int, many: int, first: Callable[[], None] | None = None) -> Iterator[Mapped]:
    """A `map` in order, over one process per core, which takes few chunks ahead; the built-in one where a `number` of
    things to do is not `many`. The function must not be of the script that runs. Every process does `first` first."""
    if number < many:
        yield map
        return
    workers = machine.cores()
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(first,)) as pool:

        def submit(function: Callable[[Any], Any], chunk: Any) -> Future[Any]:
            with _without_main():
                return pool.submit(function, chunk)

        def map_chunks(function: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
            waiting = iter(chunks)
            under_way = [submit(function, chunk) for chunk in islice(waiting, 2 * workers)]
            while under_way:
                result = under_way.pop(0).result()
                under_way += [submit(function, chunk) for chunk in islice(waiting, 1)]
                yield result

        yield map_chunks


@contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started now does not run the user's script again, which Python would have it do."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin(first: Callable[[], None] | None = None) -> None:
    """Ctrl-C goes to every process of a terminal: the one that began the others ends them, also where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if first is not None:
        first()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
