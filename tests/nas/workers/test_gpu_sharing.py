"""How many trials share a GPU, and the daemon by which they run side by side, on a machine that has neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nas.config import Execution
from nas.run import search_options
from nas.run.search import Search
from nas.workers import gpu_sharing
from nas.workers.cluster import Cluster
from nas.workers.gpu_sharing import part, room, share_of_gpu, side_by_side
from nas.workers.tuner import Resources, describe, plan
from searchspace import InputError
from tests.support.paths import ROOT

FAKE = """#!/bin/sh
read word
echo "$*" "$word" "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_VISIBLE_DEVICES" >> {told}
if [ "$1" = -d ]; then echo the reason >&2; exit {code}; fi
if [ "$word" = get_server_list ]; then echo "{servers}"; fi
"""
# In place of the GPU's driver: `result` of every call.
DRIVER = """
import sys, ctypes
class Driver:
    def __getattr__(self, name):
        return lambda *given: {result}
ctypes.CDLL = lambda name: Driver()
"""


@pytest.mark.parametrize(
    ("pixels", "cores", "daemon", "share"),
    [
        (32, 16, False, 1 / 4),
        (64, 16, True, 1 / 8),
        (64, 8, True, 1 / 4),
        (128, 16, True, 1 / 2),
        (160, 16, True, 1),
        (32, 2, True, 1 / 2),
        (32, 0.5, False, 1),
        (32, 6, True, 1 / 4),
        (32, 3, True, 0.3333),
    ],
)
def test_small_images_share_a_gpu(pixels: int, cores: float, daemon: bool, share: float) -> None:
    assert share_of_gpu(pixels, cores, daemon) == share


@pytest.mark.parametrize(
    ("gpus", "share", "trials"),
    [(2, 0.4, 4), (1, 0.25, 4), (1, 1 / 8, 8), (3, 2, 1), (4, 2, 2), (1, 1, 1), (1, 2, 0), (1, 0.166666, 5)],
)
def test_a_share_lies_on_one_gpu(gpus: float, share: float, trials: int) -> None:
    assert room(gpus, share) == trials


def test_a_plan_follows_images_cores_and_what_was_asked() -> None:
    there = {"GPU": 2.0, "CPU": 32.0}
    auto = plan(there, Execution(), 32)
    assert (auto.device, auto.concurrent, auto.gpus, auto.cpus) == ("cuda", 8, 0.25, 1.0)
    assert plan(there, Execution(), 32, side_by_side=True).concurrent == 16
    assert plan(there, Execution(), None).concurrent == 2  # a training of one's own has a GPU
    assert plan(there, Execution(gpus_per_trial=0.4), 32).concurrent == 4
    assert plan(there, Execution(concurrent=3), 32).concurrent == 3
    assert plan({"CPU": 2.0}, Execution(), 32).gpus == 0
    few = plan(there, Execution(concurrent=2), 32, side_by_side=True)
    assert (few.concurrent, few.gpus) == (2, 1.0)  # and all of a GPU's memory each
    assert plan({"GPU": 1.0, "CPU": 2.0}, Execution(), 32) == plan({"GPU": 1.0, "CPU": 2.0}, Execution(), 128)
    with pytest.raises(InputError, match="gpus-per-trial 4: Ray sees 2 GPUs"):
        plan(there, Execution(gpus_per_trial=4), 32)


@pytest.mark.parametrize("trials", range(1, 100))
def test_so_many_shares_fit_a_gpu_as_ray_counts_them(trials: int) -> None:
    assert trials * int(part(trials) * 10_000 + 0.5) <= 10_000
    assert room(1, part(trials)) >= trials


def test_how_trials_share_gpus_is_said() -> None:
    one = Resources("cuda", 4, 1.0, 0.25)
    assert describe(one, 1.0, "NVIDIA H200", True) == (
        "4 trials at once on 1 GPU (NVIDIA H200), a quarter of a GPU each, side by side (MPS)"
    )
    assert describe(one, 1.0, "", False, "it is not installed") == (
        "4 trials at once on 1 GPU, a quarter of a GPU each, in turns (no MPS: it is not installed)"
    )
    assert describe(Resources("cuda", None, 1.0, 0.125), 2.0, "", False).startswith("16 trials at once on 2 GPUs, an")
    assert describe(Resources("cuda", 1, 1.0, 1.0), 1.0, "A", True) == "1 trial at once on 1 GPU (A), a GPU each"
    assert [gpu_sharing.words(share) for share in (2.0, 0.5, part(3), 0.4)] == [
        "2 GPUs each",
        "half a GPU each",
        "a third of a GPU each",
        "0.4 of a GPU each",
    ]


def test_a_slice_of_a_gpu_is_one_gpu_to_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts whole GPUs, but no more than CUDA_VISIBLE_DEVICES names."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4b0e1f4c-0000")
    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", staticmethod(lambda: 8))
    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_accelerator_type", staticmethod(lambda: "H100"))
    spec = ResourceAndLabelSpec(num_cpus=16)
    assert spec.resolve(is_head=True).num_gpus == 1
    found = plan({"GPU": 1.0, "CPU": 16.0}, Execution(), 32)
    assert (found.concurrent, found.gpus) == (4, 0.25)


def daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0, servers: str = "4711", result: int = 0
) -> Path:
    """A program of the daemon's name and a driver that says `result`; where the program writes what it is told."""
    told = folder / "told"
    program = folder / gpu_sharing.CONTROL
    program.write_text(FAKE.format(told=told, code=code, servers=servers))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv(gpu_sharing.PIPES, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_sharing, "USUAL_PIPES", folder / "nowhere")
    monkeypatch.setattr(gpu_sharing, "PROBE", DRIVER.format(result=result) + gpu_sharing.PROBE)
    return told


def lines(told: Path) -> list[list[str]]:
    return [line.split() for line in told.read_text().splitlines()]


def test_the_daemon_runs_meanwhile_and_is_ended_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = daemon(tmp_path, monkeypatch)
    pipes = ""

    def stopped() -> None:
        nonlocal pipes
        with side_by_side(True) as found:
            assert found is not None
            pipes = found[gpu_sharing.PIPES]
            assert Path(pipes).is_dir()
            assert len(f"{pipes}/control_privileged") < 100
            assert lines(told) == [["-d", pipes], ["get_server_list", pipes]]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert lines(told)[2:] == [["quit", pipes]]
    assert not Path(pipes).exists()
    assert gpu_sharing.PIPES not in os.environ


def test_the_daemon_ends_with_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = daemon(tmp_path, monkeypatch)
    program = (
        "import os, signal\nfrom nas.workers import gpu_sharing\n"
        f"gpu_sharing.PROBE, gpu_sharing.USUAL_PIPES = {gpu_sharing.PROBE!r}, gpu_sharing.Path('/nowhere')\n"
        "with gpu_sharing.side_by_side(True) as found:\n    assert found\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while "quit" not in told.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lines(told)[-1][0] == "quit"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"code": 1}, "the reason"),
        ({"result": 805}, "a process that uses it fails with CUDA error 805"),
        ({"servers": ""}, "processes on the GPU do not use it"),
    ],
)
def test_a_daemon_that_fails_or_lets_nobody_on_the_gpu_is_done_without(
    broken: dict[str, Any], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = daemon(tmp_path, monkeypatch, **broken)
    said: list[str] = []
    with side_by_side(True, said.append) as found:
        assert found is None
    assert said == [why]
    assert lines(told)[-1][0] == "quit"


@pytest.mark.parametrize(("visible", "seen"), [("1", []), ("GPU-1b", ["GPU-1b"]), ("MIG-2c", ["MIG-2c"])])
def test_the_daemon_does_not_renumber_gpus(
    visible: str, seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that sees GPU 1 alone calls it 0; a worker that is given 1 then finds none."""
    told = daemon(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with side_by_side(True):
        assert [line[2:] for line in lines(told)] == [seen, [visible]]


def test_the_daemon_is_not_started_unasked_nor_beside_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = daemon(tmp_path, monkeypatch)
    with side_by_side(False) as found:
        assert found is None
    theirs = tmp_path / "theirs"
    monkeypatch.setenv(gpu_sharing.PIPES, str(theirs))
    assert not gpu_sharing.is_installed()
    said: list[str] = []
    with side_by_side(True, said.append) as found:
        assert found is None
    assert said == ["CUDA_MPS_PIPE_DIRECTORY names a folder without a daemon"]
    theirs.mkdir()
    (theirs / "control").touch()
    for wanted in (False, True):
        with side_by_side(wanted) as found:
            assert found == {}  # what somebody has started is there for all processes
    monkeypatch.delenv(gpu_sharing.PIPES)
    monkeypatch.setattr(gpu_sharing, "USUAL_PIPES", theirs)
    with side_by_side(True) as found:
        assert found == {}
    assert not told.exists()


@pytest.mark.parametrize(
    ("options", "gpus", "shared"),
    [
        ([], 1, True),
        (["--gpus-per-trial", "0.5"], 1, True),
        (["--evaluate", "tests.support.paths:own_training", "--gpus-per-trial", "0.5"], 1, True),
        (["--gpus-per-trial", "1"], 1, False),
        (["--train-resolution", "160"], 1, False),
        (["--concurrent", "1"], 1, False),
        (["--evaluate", "tests.support.paths:own_training"], 1, False),
        (["--device", "cpu"], 1, False),
        (["--no-mps"], 1, False),
        (["--ray-address", "head:6379"], 1, False),
        ([], 0, False),
    ],
)
def test_a_search_wants_the_daemon_where_trials_share_a_gpu(
    options: list[str], gpus: int, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon(tmp_path, monkeypatch)
    monkeypatch.setattr(gpu_sharing, "here", lambda: {"CPU": 16.0, "GPU": float(gpus)})
    monkeypatch.setattr(search_options, "function", lambda what, text: lambda trial, context: iter([0.5]))
    words = ["--budget", "8MFLOPs", "--resolution", "32", "--run", str(tmp_path / "run"), *options]
    assert Search(search_options.parser().parse_args(words))._shares_gpus is shared


def test_ray_s_processes_find_the_daemon_and_its_end_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = daemon(tmp_path, monkeypatch)
    seen: list[dict[str, str]] = []
    monkeypatch.setattr("ray.init", lambda **options: seen.append(dict(os.environ)))
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("nas.workers.ray_private.session_folder", lambda: tmp_path)
    monkeypatch.setattr("ray.shutdown", lambda: seen.append({"quit": str("quit" in told.read_text())}))
    with Cluster(None, "", shared=True) as cluster:
        cluster.ready()
        assert cluster.side_by_side
        assert gpu_sharing.PIPES not in os.environ  # this process uses the GPU by itself
    assert seen[0][gpu_sharing.PIPES] == lines(told)[0][1]
    assert seen[0]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:2:16:8"
    assert seen[1] == {"quit": "False"}
    assert lines(told)[-1][0] == "quit"


def test_why_trials_take_turns_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon(tmp_path, monkeypatch, code=1)
    monkeypatch.setattr("ray.init", lambda **options: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("nas.workers.ray_private.session_folder", lambda: tmp_path)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with Cluster(None, "", shared=True) as cluster:
        cluster.ready()
        assert (cluster.side_by_side, cluster.in_turns) == (False, "the reason")
