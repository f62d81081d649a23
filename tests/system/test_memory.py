"""A search in a cgroup whose memory runs out, as in a container: the kernel kills a worker or the driver, for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nas.study.records import trial_records
from searchspace import machine
from tests.nas.test_search import ENVIRONMENT
from tests.system.test_chaos import SMALL, WORKING_S, checked, finish, read
from tests.system.test_faults import wait_for_events

pytestmark = pytest.mark.slow
OWN = """
import time
from pathlib import Path
from nas import Result

def train(trial, context):
    for epoch in range(1, context.epochs + 1):
        time.sleep(0.3)
        hungry = Path(__file__).with_name("hungry")
        if epoch == 2 and trial.number >= 3 and hungry.exists():
            hungry.unlink(missing_ok=True)
            held = []
            while True:
                held.append(bytearray(b"1") * 50_000_000)
        yield Result(score=epoch / 100 + int(trial.digest[:4], 16) / 2**17, images=64)
"""
BESIDE = """
import time
held = []
while len(held) < 145:
    held.append(bytearray(b"1") * 20_000_000)
time.sleep(60)
"""


def made_group() -> Path:
    """A cgroup of this test, of either version; it is skipped where none can be made."""
    for root, files in ((machine.GROUPS / "memory", "memory.limit_in_bytes"), (machine.GROUPS, "memory.max")):
        group = root / f"nas-test-{os.getpid()}-{time.monotonic_ns()}"
        with suppress(OSError):
            if files == "memory.max":
                (root / "cgroup.subtree_control").write_text("+memory")
            group.mkdir()
            if (group / files).exists():
                return group
            group.rmdir()
    pytest.skip("no cgroup can be made here: that takes root and a /sys/fs/cgroup that can be written")


@pytest.fixture
def group() -> Iterator[Path]:
    made = made_group()
    yield made
    deadline = time.monotonic() + 30
    while (left := (made / "cgroup.procs").read_text().split()) and time.monotonic() < deadline:
        for process in left:
            with suppress(OSError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.2)
    made.rmdir()


def limited(group: Path, gigabytes: float, run: Path, total: int, more: list[str]) -> subprocess.Popen[str]:
    """A search in the cgroup, which may have so much memory."""
    name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
    (group / name).write_text(str(int(gigabytes * 1e9)))
    words = ["-m", "nas.search", *SMALL, "--trials", str(total), "--run", str(run), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(within(group, *words), stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=run.parent)


def within(group: Path, *words: str) -> list[str]:
    """Python with these arguments in the cgroup."""
    return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), sys.executable, *words]


def killed(group: Path) -> int:
    """How many processes the kernel has killed in it for want of memory."""
    name = "memory.events" if (group / "memory.events").exists() else "memory.oom_control"
    return int(dict(line.split() for line in (group / name).read_text().splitlines())["oom_kill"])


def test_a_worker_that_is_killed_for_its_memory_loses_its_trial_to_the_next(tmp_path: Path, group: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "hungry").touch()
    run, more = tmp_path / "run", ["--evaluate", "own:train", "--finalists", "2"]
    process = limited(group, 3, run, 8, more)
    out, err = process.communicate(timeout=WORKING_S)
    assert (process.returncode, err) == (0, ""), out + err
    assert killed(group) == 1
    assert "1 interrupted trial" in out
    with read(run) as stored:
        checked(stored, run, 8, [])


def test_a_driver_that_is_killed_for_its_memory_loses_nothing_that_had_ended(tmp_path: Path, group: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    run, more = tmp_path / "run", ["--evaluate", "own:train", "--finalists", "2"]
    process = limited(group, 3, run, 8, more)
    Path(f"/proc/{process.pid}/oom_score_adj").write_text(
        "1000"
    )  # as Ray's workers: it is killed before what is beside
    wait_for_events(run, 9, process)
    with subprocess.Popen(within(group, "-c", BESIDE)) as beside:
        _, err = process.communicate(timeout=WORKING_S)
        beside.kill()
    assert process.returncode == -signal.SIGKILL
    assert killed(group) >= 1
    assert "Traceback" not in err
    with read(run) as stored:
        ended = {one.digest: one.score for one in trial_records(stored) if one.state == "complete"}
    assert ended
    finish(run, 8, more)
    with read(run) as stored:
        after = checked(stored, run, 8, [])
    assert ended.items() <= {one.digest: one.score for one in after.trials}.items()


@pytest.mark.parametrize("gigabytes", [0.4, 1.0])
def test_a_memory_in_which_no_trial_has_room_is_said_at_once(tmp_path: Path, group: Path, gigabytes: float) -> None:
    """Without a word the driver was killed by the kernel, or all workers were, one after the other."""
    process = limited(group, gigabytes, tmp_path / "run", 4, [])
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1, out + err
    assert err.count("\n") == 1
    assert "Ray and one trial need" in err
    assert f"{gigabytes:.2g} GB are granted here" in err
    assert killed(group) == 0
    assert not (tmp_path / "run").exists()


def test_a_memory_for_one_worker_has_one_at_a_time(tmp_path: Path, group: Path) -> None:
    """With two, which there are cores for, both were killed in turns."""
    process = limited(group, 1.4, tmp_path / "run", 3, ["--finalists", "0"])
    out, err = process.communicate(timeout=WORKING_S)
    assert (process.returncode, err) == (0, ""), out + err
    assert killed(group) == 0
    with read(tmp_path / "run") as stored:
        checked(stored, tmp_path / "run", 3, [])
