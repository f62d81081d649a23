"""What a machine has, and what a process is granted of it: trees of files as Linux shows cgroups."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from nas.data import decoding
from nas.workers import gpu_sharing, memory
from searchspace import machine

GB = 10**9


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cgroups of a machine with 8 cores and 64 GB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 64 * GB // 4000, "SC_PAGE_SIZE": 4000}.__getitem__)
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    return tmp_path


def write(folder: Path, own: str, files: dict[str, str]) -> None:
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("own", "files", "granted"),
    [
        ("0::/\n", {}, (8, 64)),
        ("", {}, (8, 64)),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, (8, 64)),
        ("0::/\n", {"cpu.max": "100000 100000", "memory.max": "2000000000"}, (1, 2)),
        ("0::/\n", {"cpu.max": "50000 100000"}, (1, 64)),
        ("0::/\n", {"cpu.max": "390000 100000"}, (3, 64)),
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/memory.max": "3000000000"},
            (2, 3),
        ),
        ("0::/\n", {"cpu.max": "", "memory.max": "?"}, (8, 64)),
        (
            "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/docker/1\n",  # the path of outside, in a container
            {
                "cpu/cpu.cfs_quota_us": "200000",
                "cpu/cpu.cfs_period_us": "50000",
                "memory/memory.limit_in_bytes": f"{GB}",
            },
            (4, 1),
        ),
        (
            "5:memory:/a\n4:cpu:/a\n",
            {
                "cpu/a/cpu.cfs_quota_us": "-1",
                "cpu/a/cpu.cfs_period_us": "100000",
                "memory/a/memory.limit_in_bytes": "9223372036854771712",
            },
            (8, 64),
        ),
    ],
)
def test_what_a_cgroup_grants(large: Path, own: str, files: dict[str, str], granted: tuple[int, int]) -> None:
    write(large, own, files)
    assert (machine.cores(), machine.memory() / GB) == granted


def test_processes_are_what_a_cgroup_leaves(large: Path) -> None:
    write(large, "0::/\n", {"pids.max": "max", "pids.current": "7"})
    assert machine.processes() == math.inf
    write(large, "3:pids:/a/b\n", {"pids/a/b/pids.max": "max", "pids/a/pids.max": "100", "pids/a/pids.current": "30"})
    assert machine.processes() == 70


def test_a_batch_system_grants_cores_by_affinity(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5})
    write(large, "0::/\n", {"cpu.max": "400000 100000"})
    assert machine.cores() == 2


def test_workers_and_images_are_planned_by_what_is_granted(large: Path) -> None:
    """By the machine's own 8 cores they would hold each other up, by its 64 GB the process would be killed."""
    write(large, "0::/\n", {"cpu.max": "100000 100000", "memory.max": f"{2 * GB}"})
    assert gpu_sharing.here()["CPU"] == 1
    assert decoding.memory_limit() == int(decoding.MEMORY_SHARE * 2 * GB)


@pytest.mark.parametrize(("granted", "workers"), [(64.0, 8), (3.0, 5), (1.4, 1), (1.0, 0), (0.3, 0)])
def test_no_more_workers_are_begun_than_there_is_memory_for(large: Path, granted: float, workers: int) -> None:
    """With 1.4 GB for two workers they were killed in turns, with 1.0 every trial failed, with 0.3 the driver died."""
    write(large, "0::/\n", {"memory.max": str(int(granted * GB))})
    assert memory.room_for_workers() == workers
    assert gpu_sharing.here()["CPU"] == max(1, workers)
