from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from searchspace.processes import processes

# As users write them: nothing keeps what the script does from those who import it.
SCRIPT = """
import time
from searchspace.processes import processes
print("begins")
with processes(2, 1) as mapped:
    for found in mapped({function}, {values}):
        print(found, flush=True)
"""


def begun(folder: Path, function: str, values: str) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(SCRIPT.format(function=function, values=values))
    return subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def children(pid: int) -> set[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    return {child for child, parent in pairs if parent == pid}


def alive(pids: set[int]) -> set[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    running = {int(line.split()[0]) for line in listing.splitlines() if not line.split()[1].startswith("Z")}
    return pids & running


def test_the_script_that_asks_is_not_run_again(tmp_path: Path) -> None:
    out, err = begun(tmp_path, "abs", "range(-3, 0)").communicate(timeout=60)
    assert out.split() == ["begins", "3", "2", "1"], err
    assert err == ""


def test_no_process_outlives_the_one_that_began_it(tmp_path: Path) -> None:
    process = begun(tmp_path, "time.sleep", "[0.1] * 10_000")
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == ["begins\n", "None\n"]
    begun_by_it = children(process.pid)
    assert len(begun_by_it) >= 2  # a worker, and Python's own that tracks what is shared
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while left := alive(begun_by_it):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_results_are_in_order_and_few_chunks_are_taken_ahead() -> None:
    taken: list[int] = []

    def chunks() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield -number

    with processes(2, 1) as mapped:
        for index, found in enumerate(mapped(abs, chunks())):
            assert found == index
            assert len(taken) <= index + 40


def test_what_is_raised_comes_through() -> None:
    with processes(2, 1) as mapped, pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(mapped(math.sqrt, [1.0, -1.0]))
