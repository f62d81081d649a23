"""Trials that share a GPU: how many, and NVIDIA's daemon (MPS) by which their kernels run side by side.

Small images leave most of a GPU idle. Without the daemon processes take turns on it; with it they run at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
START_S = 20.0
SMALL, MIDDLE = 64, 128  # pixels a side
CORES_FOR_EIGHT = 12
# Makes a context on the GPU, as a trial will, with the driver alone.
PROBE = """
import ctypes, sys
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
done = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0)]
done.append(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
sys.exit(any(done))
"""


def share_of_gpu(pixels: int, cores: float, side_by_side: bool) -> float:
    """The part of a GPU that a trial is given: a quarter at up to 64 px, an eighth where kernels run side by side and
    there are 12 CPU cores a GPU or more, a half at up to 128 px; never more trials than cores."""
    at_once = 1
    if pixels <= SMALL:
        at_once = 8 if side_by_side and cores >= CORES_FOR_EIGHT else 4
    elif pixels <= MIDDLE:
        at_once = 2
    return 1 / max(1, min(at_once, int(cores)))


def is_installed() -> bool:
    """Whether processes could run side by side here."""
    return PIPES in os.environ or shutil.which(CONTROL) is not None


def room(gpus: float, share: float) -> int:
    """How many trials with such a share fit: a share of less than a GPU lies on one."""
    return int(gpus) * int(1 / share + 1e-9) if share < 1 else int(gpus // share)


@contextmanager
def side_by_side(wanted: bool) -> Iterator[dict[str, str] | None]:
    """Meanwhile the environment variables that let processes run side by side on GPUs; None where they cannot, or that
    is not wanted. A daemon that somebody has started is used and left as it is."""
    if PIPES in os.environ:
        yield {}
        return
    control = shutil.which(CONTROL) if wanted else None
    if control is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="mps-"))
    own = {PIPES: str(folder), LOGS: str(folder)}
    try:
        yield own if started(control, own) else None
    finally:
        quit_daemon(control, own)
        shutil.rmtree(folder, ignore_errors=True)


def started(control: str, own: dict[str, str]) -> bool:
    """Whether the daemon runs, and a process can use a GPU through it."""
    environment = {**os.environ, **own}
    try:
        for command in ([control, "-d"], [sys.executable, "-c", PROBE]):
            done = subprocess.run(
                command, env=environment, timeout=START_S, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if done.returncode:
                return False
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


def quit_daemon(control: str, own: dict[str, str]) -> None:
    """End the daemon; where it does not answer, that is not waited for."""
    environment = {**os.environ, **own}
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([control], input="quit\n", text=True, env=environment, timeout=START_S, capture_output=True)
