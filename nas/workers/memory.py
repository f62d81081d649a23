"""What a search takes of memory, and how many workers have room where a container or batch system grants little.

The kernel kills who takes more than a cgroup allows: a worker, and the driver without a word.
"""

from __future__ import annotations

from searchspace import machine

# Bytes that are a process's own, as a cgroup counts them, measured with PyTorch's CPU build and small images.
DRIVER, DAEMONS, WORKER = 0.35e9, 0.3e9, 0.4e9
NEEDED = DRIVER + DAEMONS + WORKER


def room_for_workers() -> int:
    """How many workers this machine, or what is granted of it, has cores and memory for; perhaps none."""
    return max(0, min(machine.cores(), int((machine.memory() - DRIVER - DAEMONS) / WORKER)))
