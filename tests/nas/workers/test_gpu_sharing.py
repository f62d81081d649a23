"""How many trials share a GPU, and the daemon by which they run side by side, on a machine that has neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nas.config import Execution
from nas.workers import gpu_sharing
from nas.workers.gpu_sharing import room, share_of_gpu, side_by_side
from nas.workers.tuner import plan
from searchspace import InputError

FAKE = """#!/bin/sh
read word
echo "$* $word $CUDA_MPS_PIPE_DIRECTORY" >> {told}
exit {code}
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
    ],
)
def test_small_images_share_a_gpu(pixels: int, cores: float, daemon: bool, share: float) -> None:
    assert share_of_gpu(pixels, cores, daemon) == share


@pytest.mark.parametrize(
    ("gpus", "share", "trials"), [(2, 0.4, 4), (1, 0.25, 4), (1, 1 / 8, 8), (3, 2, 1), (4, 2, 2), (1, 1, 1), (1, 2, 0)]
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
    with pytest.raises(InputError, match="gpus-per-trial 4: Ray sees 2 GPUs"):
        plan(there, Execution(gpus_per_trial=4), 32)


def daemon(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> Path:
    """A program of the daemon's name, and where it writes what it is told."""
    told = folder / "told"
    program = folder / gpu_sharing.CONTROL
    program.write_text(FAKE.format(told=told, code=code))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv(gpu_sharing.PIPES, raising=False)
    monkeypatch.setattr(gpu_sharing, "PROBE", "pass")
    return told


def test_the_daemon_runs_meanwhile_and_is_ended_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = daemon(tmp_path, monkeypatch)
    pipes = ""

    def stopped() -> None:
        nonlocal pipes
        with side_by_side(True) as own:
            assert own is not None
            pipes = own[gpu_sharing.PIPES]
            assert Path(pipes).is_dir()
            assert told.read_text().split() == ["-d", pipes]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert told.read_text().splitlines()[-1].split() == ["quit", pipes]
    assert not Path(pipes).exists()
    assert gpu_sharing.PIPES not in os.environ


def test_a_daemon_that_fails_or_lets_nobody_on_the_gpu_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon(tmp_path, monkeypatch, code=1)
    with side_by_side(True) as own:
        assert own is None
    told = daemon(tmp_path, monkeypatch)
    monkeypatch.setattr(gpu_sharing, "PROBE", "raise SystemExit(1)")
    with side_by_side(True) as own:
        assert own is None
    assert "quit" in told.read_text()


def test_the_daemon_is_not_started_unasked_nor_beside_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = daemon(tmp_path, monkeypatch)
    with side_by_side(False) as own:
        assert own is None
    monkeypatch.setenv(gpu_sharing.PIPES, "/somewhere")
    with side_by_side(False) as own:
        assert own == {}  # what somebody has started is there for all processes
    assert not told.exists()
