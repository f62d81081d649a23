"""What Ray Tune is told of a run: when it is to end."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nas.workers import tuner
from searchspace import InputError


def test_a_time_limit_does_not_go_by_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is set anew while searches run; by it, one of ten minutes ended after seconds, or hours too late."""
    passed, set_by = [0.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: 1000 + passed[0])
    monkeypatch.setattr(time, "time", lambda: 10**9 + passed[0] + set_by[0])
    limit = tuner.time_limit(600)
    for seconds, hours, over in ((1, 0, False), (2, 2, False), (3, -3, False), (599, -3, False), (600, -3, True)):
        passed[0], set_by[0] = seconds, 3600 * hours
        assert limit.stop_all() is over
        assert not limit("trial", {})


def test_the_loss_of_ray_ends_no_process_where_nothing_listens() -> None:
    """Before trials, between them and finals, and in another thread; there what Ray Tune sends itself would end it."""
    script = """
import threading
from types import SimpleNamespace
from nas.workers import tuner
from nas.workers.cluster import Cluster, LostClusterError
here = Cluster(None, "python -m nas.search")
coordinator = SimpleNamespace(broken=None, halt=lambda number: None)
def lose(what):
    with tuner._stoppable(coordinator, here):
        here.when_lost(LostClusterError(what))
thread = threading.Thread(target=lose, args=("in a thread",))
thread.start()
thread.join()
print(coordinator.broken)
here.when_lost(LostClusterError("later"))
print(coordinator.broken)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "in a thread\nin a thread\n"), done.stderr


def test_a_search_in_a_watcher_of_another_is_refused() -> None:
    with tuner._alone():
        with pytest.raises(InputError, match="a search in a watcher of another"), tuner._alone():
            pass
        with ThreadPoolExecutor(1) as other:  # which waits for its turn
            other.submit(lambda: tuner._alone().__enter__()).result()
    with tuner._alone():
        pass
