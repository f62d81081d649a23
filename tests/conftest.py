"""One thread: small networks gain nothing from more, and spinning barriers lose everything where a core is busy.

Latency tables of this machine are neither used nor made: commands under test look into an empty cache.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, which commands under test inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
os.environ["TRITON_INTERPRET"] = "1"  # kernels for a GPU are carried out here, number by number
# Files of few and long tests, whole searches among them: begun first, so that no process has one left at the end.
LONGEST_FIRST = (
    "nas/run/",
    "nas/test_",
    "nas/bundle/",
    "nas/training/",
    "nas/latency/",
    "system/",
    "experiments/",
    "nas/",
)
os.environ["NAS_CACHE"] = tempfile.mkdtemp(prefix="nas-tests-")
atexit.register(shutil.rmtree, os.environ["NAS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def imports() -> Iterator[None]:
    """All that is imported before the first test, which no collection of garbage has to search: each took 0.4 s."""
    gc.freeze()
    yield
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((at for at, part in enumerate(LONGEST_FIRST) if path.startswith(part)), len(LONGEST_FIRST))

    items.sort(key=place)
