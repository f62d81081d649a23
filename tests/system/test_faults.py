"""What breaks under a running search, other than its driver: Ray's daemon, the disk, the networks themselves."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nas.study.drivers import StorageError
from nas.study.records import trial_records
from nas.study.storage import load
from nas.study.study import Study
from nas.workers import coordinator
from tests.nas.test_search import ENVIRONMENT
from tests.system.test_chaos import SMALL, WORKING_S, begin, check_finals, checked, events, finish, read

WILD = """
import sys
from dataclasses import replace
from nas import search
from nas.run import search_options
from searchspace import command
tame = search_options.recipe
search_options.recipe = lambda dataset: replace(tame(dataset), learning_rate=1e30, warmup=0.0)
command.run(search.main, "nas.search")
"""
STOPPING = "stopping: keeping epochs (up to 10 s); again to stop now\n"


def wait_for_events(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while events(run) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid: int, name: str) -> list[int]:
    """The processes of that name which a process, or its children, began."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    parents = {int(child): int(parent) for child, parent, _ in rows}

    def ours(one: int) -> bool:
        return one == pid or (one in parents and one > 1 and ours(parents[one]))

    return [int(child) for child, _, called in rows if called.startswith(name) and ours(int(child))]


@pytest.mark.parametrize(
    ("reasons", "says"),
    [
        (["diverged: loss is nan"] * 7, ""),
        (["diverged: loss is nan", ""] * 4, ""),
        (["diverged: loss is nan"] * 3 + ["out of memory: 7 GB", "out of memory: 8 GB"] + [""] * 4, "5 of 9"),
        ([""] * 20 + ["out of memory: 7 GB"] * 20, ""),
    ],
)
def test_a_run_is_stopped_where_more_than_half_of_eight_or_more_fail(reasons: list[str], says: str) -> None:
    said = coordinator.failing(reasons)
    assert (says in said) if says else not said
    if says:
        assert said.endswith("3 of diverged, as in: diverged: loss is nan")


@pytest.mark.slow
def test_a_run_whose_networks_all_fail_is_stopped_with_the_reason(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-c", WILD, *SMALL[:-1], "--trials", "30", "--run", str(run)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("nas.search: 8 of 8 trials failed, so the run was stopped; 8 of diverged, as in: diverged:")
    assert "Traceback" not in done.stderr
    assert "8 failed: diverged" in done.stdout
    trials = trial_records(load(run))
    assert {trial.state for trial in trials} == {"failed"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_daemon_of_rays_that_dies_is_said_and_the_same_command_carries_on(tmp_path: Path, name: str) -> None:
    """Ray waits 13 and 60 s, and ends the process with lines of its own."""
    run = tmp_path / "run"
    process = begin(run, 8, [])
    wait_for_events(run, 6, process)
    (daemon,) = descendants(process.pid, name)
    os.kill(daemon, signal.SIGKILL)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 1, out + err
    assert err.count("\n") == 1, err
    assert err.startswith(f"nas.search: Ray's {name} has ended")
    assert "the same command carries on" in err
    finish(run, 8, [])
    checked(load(run), run, 8, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "said", "total", "more"),
    [(".", "trial 2 epoch 1", 6, []), ("study.db", "finals, .* epoch 1", 3, ["--finalists", "2"])],
    ids=["its folder, of trials", "its study, of finals"],
)
def test_a_run_that_is_moved_away_ends_its_search_and_carries_on_once_it_is_back(
    tmp_path: Path, what: str, said: str, total: int, more: list[str]
) -> None:
    run = tmp_path / "disk" / "run"
    run.parent.mkdir()
    process = begin(run, total, more)
    deadline = time.monotonic() + WORKING_S
    while not (run / "log.txt").exists() or not re.search(said, (run / "log.txt").read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (run / what).rename(tmp_path / "away")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert err.count("\n") == 1, err
    assert f"{run / what} was moved, removed or replaced" in err
    assert "once it is back, the same command carries on" in err
    assert not (run / what).exists()
    (tmp_path / "away").rename(run / what)
    finish(run, total, more)
    with read(run) as stored:
        checked(stored, run, total, [])
        if more:
            check_finals(stored, run)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_same_command_carries_on(small_disk: Path) -> None:
    run = small_disk / "run"
    process = begin(run, 8, [])
    wait_for_events(run, 6, process)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "Traceback" not in out + err
    assert "the same command carries on" in err
    filler.unlink()
    finish(run, 8, [])
    checked(load(run), run, 8, [])


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 16, 64, 200, 260, 300, 460, 900, 2048])
def test_a_study_on_a_disk_of_any_size_says_that_it_is_full_and_carries_on(small_disk: Path, kilobytes: int) -> None:
    def resized(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(small_disk)], check=True)

    told: dict[str, float] = {}

    def advance(total: int) -> Study:
        with Study.open(small_disk / "run", "rexnet", "100MFLOPs", controls=3, seed=1) as study:
            while study.finished < total:
                trial = study.ask()
                assert study.tell(trial, trial.number / total)
                told[trial.digest] = trial.number / total
            return study

    resized(f"{kilobytes}k")
    with pytest.raises((StorageError, OSError), match=r"disk is full|No space left"):
        advance(1000)
    resized("6m")
    advance(len(told) + 2)
    kept = {one.digest: one.score for one in trial_records(load(small_disk / "run"))}
    assert kept == told


@pytest.mark.slow
@pytest.mark.parametrize("how", ["size=4m", "ro"])
def test_a_small_or_closed_shared_memory_is_enough(tmp_path: Path, how: str) -> None:
    """As containers have it: Ray puts its objects elsewhere."""
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {how} none /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    words = [sys.executable, "-m", "nas.search", *SMALL, "--epochs", "1", "--trials", "2"]
    words += ["--finalists", "0", "--run", str(tmp_path / "run")]
    done = subprocess.run([*alone, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert {trial.state for trial in trial_records(load(tmp_path / "run"))} == {"complete"}


STUDY = """
import sys
from pathlib import Path
from nas.study import Study
from nas.study.drivers import StorageError

def advance(run, total, refuse=None):
    with Study.open(run, "rexnet", "100MFLOPs", controls=3, seed=1) as study:
        while study.finished < total:
            trial = study.ask()
            if trial.number == refuse:
                Path(run + ".errno").write_text(sys.argv[2])
            assert study.tell(trial, 0.5)

for _ in range(2):
    try:
        advance(sys.argv[1], 5, refuse=3)
    except (StorageError, OSError) as error:
        print(error, flush=True)
Path(sys.argv[1] + ".errno").unlink()
advance(sys.argv[1], 5)
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes a folder refuse writes."""
    made = tmp_path_factory.mktemp("library") / "refusals.so"
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    source = Path(__file__).parents[1] / "support" / "refusals.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True)
    return made


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "Disk quota exceeded"),
        (errno.EIO, "Input/output error"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_what_a_disk_refuses_is_said_as_the_disk_says_it(
    tmp_path: Path, refusals: Path, number: int, says: str
) -> None:
    """SQLite calls a quota, and all but a full disk, an I/O error."""
    run = tmp_path / "run"
    there = {**ENVIRONMENT, "LD_PRELOAD": str(refusals), "REFUSED": str(run)}
    words = [sys.executable, "-c", STUDY, str(run), str(number)]
    done = subprocess.run(words, env=there, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2
    assert all(says in line for line in said), said
    assert len(trial_records(load(run))) == 5


@contextmanager
def busy_machine() -> Iterator[None]:
    """Seven processes beside, as where several people use it."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(7)]
    try:
        time.sleep(2)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("count", [0, 3], ids=["while Ray starts", "while trials run"])
def test_a_stop_takes_less_than_ten_seconds_on_a_busy_machine(tmp_path: Path, number: int, count: int) -> None:
    run = tmp_path / "run"
    process = begin(run, 8, [])
    deadline = time.monotonic() + 60
    while not (run / "log.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    wait_for_events(run, count, process)
    with busy_machine():
        asked = time.monotonic()
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - asked
    print(f"stopped after {took:.1f} s at a load of {os.getloadavg()[0]:.0f}")
    assert took < 10, out + err
    assert process.returncode == 128 + number
    assert err == (STOPPING if count else "nas.search: interrupted\n")
    assert run.exists() == bool(count), "a start without trials leaves nothing"
