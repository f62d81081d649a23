"""How busy this machine's GPUs are, in one short text. Asks nvidia-smi: torch would open a context of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
EVERY_S = 5.0
TIMEOUT_S = 2.0


class GpuUse:
    """The use of all GPUs, asked for again after some seconds; "" where there is none, or none that tells."""

    def __init__(self) -> None:
        self.there = shutil.which(QUERY[0]) is not None
        self.said, self.asked_at = "", -EVERY_S

    def __str__(self) -> str:
        if self.there and time.monotonic() - self.asked_at >= EVERY_S:
            self.asked_at = time.monotonic()
            self.said = said(asked())
        return self.said


def asked() -> str:
    """What nvidia-smi prints of the GPUs that this process may use; empty where it fails or takes too long."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    own = [] if not visible or "MIG" in visible else [f"--id={visible}"]  # slices of a GPU are not known by their names
    try:
        done = subprocess.run([*QUERY, *own], capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def said(printed: str) -> str:
    """`GPU 97 %, 12.3 of 139.8 GiB` of one line a GPU: percent, MiB used, MiB in all."""
    try:
        rows = [[float(cell) for cell in line.split(",")] for line in printed.splitlines() if line.strip()]
        busy, used, total = (sum(column) for column in zip(*rows, strict=True))
    except ValueError:  # none, or "[N/A]" where a GPU does not tell
        return ""
    name = "GPU" if len(rows) == 1 else f"{len(rows)} GPUs"
    return f"{name} {busy / len(rows):.0f} %, {used / 1024:.1f} of {total / 1024:.1f} GiB"
