"""What of a machine this process may use: its cores, its memory and its number of processes, of which a container or a
batch system grants a part. A cgroup, of either version, limits what is within it, and so do those that it is in.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """How many cores this process can keep busy: of those that it may run on as many as it is granted time of."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_core_limits()]))


def memory() -> int:
    """How many bytes of memory it can have."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_memory_limits()])


def processes() -> float:
    """How many processes and threads this process may still begin, by its cgroups; infinite where nothing says."""
    return min([math.inf, *_process_limits()])


def _core_limits() -> Iterator[int]:
    """In whole cores: what is left of a second one would hold up what runs on it."""
    for folder in _folders("cpu"):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and words[0].isdigit():  # else max, or -1
            yield int(words[0]) // int(words[1])


def _memory_limits() -> Iterator[int]:
    for folder in _folders("memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        yield from (int(word) for word in words if word.isdigit())


def _process_limits() -> Iterator[int]:
    for folder in _folders("pids"):
        most, there = _words(folder / "pids.max"), _words(folder / "pids.current")
        if most and there and most[0].isdigit() and there[0].isdigit():  # else max
            yield max(0, int(most[0]) - int(there[0]))


def _folders(controller: str) -> Iterator[Path]:
    """Those of this process's cgroup and of all above it. In a container its path may be one of outside, of which only
    the highest is there."""
    lines = OWN.read_text(encoding="utf-8", errors="replace").splitlines() if OWN.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):  # of version 2, or 1
            own = PurePosixPath(path.lstrip("/"))
            yield from (GROUPS / (controller if controllers else "") / part for part in (own, *own.parents))


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text(encoding="ascii", errors="replace").split()
    return []
