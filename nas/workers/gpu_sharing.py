"""Trials that share a GPU: how many, and NVIDIA's daemon (MPS) by which their kernels run side by side.

Small images leave most of a GPU idle. Without the daemon processes take turns on it; with it they run at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas.workers import memory

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS, VISIBLE = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"
USUAL_PIPES = Path("/tmp/nvidia-mps")  # where every process looks for a daemon that is told nothing
SHORT = "/tmp"  # the path of a socket has at most 107 characters
START_S = 20.0
SMALL, MIDDLE = 64, 128  # pixels a side
CORES_FOR_EIGHT = 12
UNITS = 10_000  # of a GPU, in which Ray counts
# Makes a context on the GPU, as a trial will, with the driver alone.
PROBE = """
import ctypes, subprocess, sys
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
done = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0)]
done.append(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
if any(done):
    sys.exit(f"a process that uses it fails with CUDA error {max(done)}")
servers = subprocess.run([sys.argv[1]], input="get_server_list\\n", text=True, capture_output=True).stdout
sys.exit(None if servers.strip() else "processes on the GPU do not use it")
"""
# Ends the daemon when its input ends: with this process, also where that is killed.
QUIT = 'cat > /dev/null; echo quit | "$0"; rm -rf "$1"'


def share_of_gpu(pixels: int, cores: float, side_by_side: bool) -> float:
    """The part of a GPU that a trial is given: a quarter at up to 64 px, an eighth where kernels run side by side and
    there are 12 CPU cores a GPU or more, a half at up to 128 px; never more trials than cores."""
    at_once = 1
    if pixels <= SMALL:
        at_once = 8 if side_by_side and cores >= CORES_FOR_EIGHT else 4
    elif pixels <= MIDDLE:
        at_once = 2
    return part(min(at_once, int(cores)))


def part(trials: int) -> float:
    """The share of each of so many trials, rounded down as Ray counts: a sixth rounded up would fit five times."""
    return UNITS // max(1, trials) / UNITS


def room(gpus: float, share: float) -> int:
    """How many trials with such a share fit: a share of less than a GPU lies on one."""
    share = max(round(share * UNITS), 1) / UNITS
    return int(gpus) * int(1 / share + 1e-9) if share < 1 else int(gpus // share)


def here() -> dict[str, float]:
    """The CPU cores that there is memory for, and the GPUs that are granted here, as Ray is told to count them."""
    import torch

    return {"CPU": float(max(1, memory.room_for_workers())), "GPU": float(torch.cuda.device_count())}


def words(share: float) -> str:
    """`a quarter of a GPU each`."""
    if share >= 1:
        return "a GPU each" if share == 1 else f"{share:g} GPUs each"
    named = {2: "half a GPU", 3: "a third of a GPU", 4: "a quarter of a GPU", 8: "an eighth of a GPU"}
    found = [name for trials, name in named.items() if part(trials) == share]
    return f"{found[0] if found else f'{share:g} of a GPU'} each"


def is_running() -> bool:
    """Whether somebody has started a daemon that this machine's processes use."""
    return Path(os.environ.get(PIPES, USUAL_PIPES), "control").exists()


def is_installed() -> bool:
    """Whether processes could run side by side here. Where somebody has said where a daemon is, none is started."""
    return is_running() or (PIPES not in os.environ and shutil.which(CONTROL) is not None)


@contextmanager
def side_by_side(wanted: bool, say: Callable[[str], None] = lambda why: None) -> Iterator[dict[str, str] | None]:
    """Meanwhile the environment variables that let processes run side by side on GPUs; None where they cannot, or that
    is not wanted. `say` is told why they cannot.

    A daemon that somebody has started is used, unasked too, and left as it is. One that is started here ends with the
    block, and with this process.
    """
    if is_running():
        yield {}
        return
    control = shutil.which(CONTROL)
    if not wanted or PIPES in os.environ or control is None:
        if wanted:
            say(f"{PIPES} names a folder without a daemon" if PIPES in os.environ else f"{CONTROL} is not installed")
        yield None
        return
    folder = tempfile.mkdtemp(prefix="mps-", dir=SHORT if os.access(SHORT, os.W_OK) else None)
    own = {PIPES: folder, LOGS: folder}
    ending = subprocess.Popen(
        ["/bin/sh", "-c", QUIT, control, folder],
        env={**os.environ, **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        why = failure(control, own)
        if why:
            say(why)
        yield None if why else own
    finally:
        assert ending.stdin is not None
        ending.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # it goes on without us
            ending.wait(START_S)


def failure(control: str, own: dict[str, str]) -> str:
    """Why the daemon does not run, or no process can use a GPU through it; "" where one can."""
    trial = {**os.environ, **own}
    daemon = dict(trial)
    if not daemon.get(VISIBLE, "").startswith(("GPU-", "MIG-")):
        daemon.pop(VISIBLE, None)  # else the numbers of GPUs would mean others in the processes
    for command, environment in (([control, "-d"], daemon), ([sys.executable, "-c", PROBE, control], trial)):
        try:
            with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open as long as the daemon
                done = subprocess.run(
                    command, env=environment, timeout=START_S, stdin=subprocess.DEVNULL, stdout=said, stderr=said
                )
                said.seek(0)
                if done.returncode:
                    return " ".join(said.read().split())[:160] or f"{CONTROL} ended with {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)[:160]
    return ""
