"""How many CPU threads a training gets."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nas.config import DataConfig, full_recipe
from nas.data.datasets import load
from nas.training import threads
from nas.training.trainer import Training
from nas.workers import cluster
from searchspace import Space
from tests.nas.test_train import NETWORK


def test_numbers_to_compare() -> None:
    assert threads.counts(1) == [1]
    assert threads.counts(2) == [2, 1]
    assert threads.counts(6) == [6, 4, 2, 1]
    assert threads.counts(16) == [16, 8, 4, 2, 1]


def test_the_fewest_threads_that_are_about_as_fast() -> None:
    assert threads.fewest({4: 100.0, 2: 99.0, 1: 60.0}) == 2
    assert threads.fewest({2: 140.0, 1: 95.0}) == 2
    assert threads.sentence({4: 100.0, 2: 140.0, 1: 95.0}, 2) == "2 threads: 140 images/s; 4: 100; 1: 95"
    assert threads.sentence({1: 95.2}, 1) == "1 thread: 95 images/s"


def test_steps_are_timed_and_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    split = load(DataConfig(images=100), seed=0)
    arch = Space(NETWORK).arch().adapt(10, 16)
    before, state = torch.get_num_threads(), torch.get_rng_state()
    found = threads.speeds(arch, split, replace(full_recipe("digits"), epochs=1), [2, 1], limit_s=0.2)
    assert found.keys() == {2, 1}
    assert min(found.values()) > 0
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_slow_numbers_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    split = load(DataConfig(images=100), seed=0)
    arch, timed = Space(NETWORK).arch().adapt(10, 16), list[int]()
    real = Training._epoch

    def epoch(self: Training, number: int) -> object:
        found = real(self, number)
        timed.append(torch.get_num_threads())
        return replace(found, images_per_s={4: 10.0, 2: 100.0, 1: 95.0}[torch.get_num_threads()])

    monkeypatch.setattr(Training, "_epoch", epoch)
    found = threads.speeds(arch, split, full_recipe("digits"), [4, 2, 1], limit_s=0.3)
    assert found == {4: 10.0, 2: 100.0, 1: 95.0}
    assert timed[:4] == [4, 4, 2, 1]
    assert timed.count(4) == 2


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_passively_unless_a_user_says_otherwise(given: str | None, policy: str) -> None:
    """The runtime that torch loads says what it has read."""
    environment = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": given} if given else {})
    command = (
        "import nas.latency.timing; from nas.workers.cluster import WORKER_ENV; print(WORKER_ENV['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == policy
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert cluster.WORKER_ENV["OMP_NUM_THREADS"] == "1"
