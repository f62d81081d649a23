"""How busy this machine's GPUs are, in one short text. Asks nvidia-smi: torch would open a context of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

TOOL = "nvidia-smi"
USE = "utilization.gpu,memory.used,memory.total"
HIDDEN = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that leave a process no GPU
EVERY_S = 5.0
TIMEOUT_S = 2.0


class GpuUse:
    """The use of all GPUs, asked for again after some seconds; "" where there is none, or none that tells."""

    def __init__(self) -> None:
        self.there = shutil.which(TOOL) is not None
        self.said, self.asked_at = "", -EVERY_S

    def __str__(self) -> str:
        if self.there and time.monotonic() - self.asked_at >= EVERY_S:
            self.asked_at = time.monotonic()
            self.said = describe(query())
        return self.said


def query(what: str = USE) -> str:
    """What nvidia-smi prints of the GPUs that this process may use, else of all; empty where it fails or takes long."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in HIDDEN:
        return ""
    # Not every nvidia-smi knows a slice of a GPU (MIG-…) by its name.
    for own in ([f"--id={visible}"] if visible else [], []):
        command = [TOOL, f"--query-gpu={what}", "--format=csv,noheader,nounits", *own]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode == 0:
            return done.stdout
    return ""


def names() -> str:
    """`NVIDIA H200`, every name once; empty where none is told."""
    return ", ".join(dict.fromkeys(line.strip() for line in query("name").splitlines() if line.strip()))


def describe(printed: str) -> str:
    """`GPU 97 %, 12.3 of 139.8 GiB` of one line a GPU: percent, MiB used, MiB in all."""
    try:
        rows = [[float(cell) for cell in line.split(",")] for line in printed.splitlines() if line.strip()]
        busy, used, total = (sum(column) for column in zip(*rows, strict=True))
    except ValueError:  # none, or "[N/A]" where a GPU does not tell
        return ""
    name = "GPU" if len(rows) == 1 else f"{len(rows)} GPUs"
    return f"{name} {busy / len(rows):.0f} %, {used / 1024:.1f} of {total / 1024:.1f} GiB"
