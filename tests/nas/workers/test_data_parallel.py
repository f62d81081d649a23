"""Training on several workers: the same numbers as on one, and killed at any point it carries on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nas import train
from nas.bundle import bundle
from nas.data.datasets import load
from nas.full_training import training_folder
from nas.training.ranks import SingleProcess
from nas.training.trainer import DivergedError
from nas.workers import data_parallel
from searchspace import InputError, Space
from tests.nas.test_search import refusal
from tests.nas.test_train import NETWORK
from tests.system.test_faults import descendants

LAYER = {"kind": "layer", "eps": 1e-6}
WITHOUT_BATCH_NORM = {
    "resolution": 64,
    "init": "convnext",
    "stem": {"width": 16, "kernel": 4, "stride": 4, "act": "none", "bias": True, "norm": LAYER},
    "schedule": {"kind": "explicit", "widths": [16, 24]},
    "defaults": {"block": "convnext", "expansion": 2.0, "kernel": 3, "norm": LAYER},
    "stages": [{"depth": 1, "stride": 1}, {"depth": 1, "stride": 2, "downsample": "separate"}],
    "head": {"pooled_norm": True, "norm": LAYER},
}
MEASURED = ["epoch", "train_loss", "accuracy", "loss"]


def of(rank: int, size: int) -> SingleProcess:
    group = SingleProcess()
    group.rank, group.size = rank, size
    return group


@pytest.mark.parametrize(("count", "size"), [(32, 2), (31, 2), (7, 3), (2, 4), (5, 1)])
def test_parts_are_the_batch_and_their_means_its_mean(count: int, size: int) -> None:
    images = torch.randn(count)
    ranks = [of(rank, size) for rank in range(size)]
    parts = [images[group.part(count)] for group in ranks]
    assert torch.equal(torch.cat(parts), images)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    means = [group.share(count) * part.mean() for group, part in zip(ranks, parts, strict=True) if len(part)]
    torch.testing.assert_close(torch.stack(means).sum() / size, images.mean())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--workers", "0"], "one a CPU core, not 0"),
        (["--workers", "-1"], "one a CPU core, not -1"),
        (["--workers", "1000"], "one a CPU core, not 1000"),
        (["--workers", "2", "--batch-size", "1"], "workers: from 1 to 1, one an image of a batch, not 2"),
        (["--workers", "two"], "argument --workers: invalid int value: 'two'"),
    ],
)
def test_a_number_of_workers_that_cannot_be(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["resnet18", "--dataset", "digits", "--device", "cpu", "--out", str(tmp_path / "out"), *words]
    assert says in refusal(train.main, command, capsys)
    assert not (tmp_path / "out").exists()


def test_workers_of_a_gpu_are_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    data_parallel.check(4, "cuda", 128)
    with pytest.raises(InputError, match="workers: from 1 to 4, one a GPU, not 5"):
        data_parallel.check(5, "cuda", 128)


def test_the_reason_of_a_group_is_the_one_that_is_no_consequence() -> None:
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    unreached = UserExceptionWithTraceback(RuntimeError("Connection closed by peer\nmore"), "")
    diverged = UserExceptionWithTraceback(DivergedError("training loss is nan"), "")
    assert str(data_parallel.reason({0: unreached, 1: diverged})) == "training loss is nan"
    assert str(data_parallel.reason({0: unreached, 1: RuntimeError("gone")})) == "worker 2 of the training died"
    found = data_parallel.reason({0: unreached})
    assert str(found) == "worker 1 of the training failed: RuntimeError: Connection closed by peer"
    assert isinstance(found, data_parallel.LostError)


def measured(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / training_folder.METRICS)[MEASURED]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray itself
def test_two_workers_train_what_one_trains(tmp_path: Path) -> None:
    """Without batch norm and dropout; parts are unequal, and images are mixed over the whole batch."""
    Space(WITHOUT_BATCH_NORM).arch().save(tmp_path / "tiny.yaml")
    recipe = [
        "--dataset",
        "digits",
        "--epochs",
        "3",
        "--batch-size",
        "31",
        "--mixup",
        "0.2",
        "--cutmix",
        "1.0",
        "--quiet",
    ]
    for workers in ("1", "2"):
        command = [str(tmp_path / "tiny.yaml"), *recipe, "--out", str(tmp_path / workers), "--workers", workers]
        assert train.main(command) == 0
    one, two = measured(tmp_path / "1"), measured(tmp_path / "2")
    assert len(one) == 3
    assert one["train_loss"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-3)
    weights = [load_file(tmp_path / workers / bundle.WEIGHTS) for workers in ("1", "2")]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[0])


class Halves(nn.Module):
    """A network that normalises both halves of a batch by themselves, as two workers do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = of(0, 2).part(len(images)).stop
        return torch.cat([self.model(images[:middle]), self.model(images[middle:])])


class InHalves(SingleProcess):
    def wrapped(self, model: nn.Module) -> nn.Module:
        return Halves(model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray itself
def test_batch_norm_is_the_only_difference(tmp_path: Path) -> None:
    head = {"width": 32, "act": "relu"}
    Space({**NETWORK, "head": head, "drop_path": 0.0}).arch().save(tmp_path / "tiny.yaml")
    words = [
        "--dataset",
        "digits",
        "--epochs",
        "2",
        "--batch-size",
        "31",
        "--workers",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert train.main([str(tmp_path / "tiny.yaml"), *words]) == 0
    plan = training_folder.load_plan(tmp_path / "out")
    split = load(plan.data, plan.seed)
    expected = list(training_folder.resume(tmp_path / "none", plan, split, "cpu", InHalves()))
    found = measured(tmp_path / "out")
    assert found["train_loss"].tolist() == pytest.approx([epoch.train_loss for epoch in expected], abs=1e-3)
    assert found["loss"].tolist() == pytest.approx([epoch.loss for epoch in expected], abs=1e-3)


def begin(command: list[str], out: Path) -> subprocess.Popen[str]:
    """The command, when its first epoch is behind it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, "-m", "nas.train", *command]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment)
    deadline = time.monotonic() + 300
    while not (out / training_folder.STATE).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray itself
def test_killed_workers_and_drivers_change_nothing(tmp_path: Path) -> None:
    """With batch norm, dropout and stochastic depth: a worker dies, then the driver, then one is asked to stop."""
    Space(NETWORK).arch().save(tmp_path / "tiny.yaml")
    command = [str(tmp_path / "tiny.yaml"), "--dataset", "digits", "--epochs", "40", "--workers", "2", "--out"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert train.main([*command, str(whole), "--quiet"]) == 0

    process = begin([*command, str(out)], out)
    os.kill(descendants(process.pid, "ray::RayTrain")[-1], signal.SIGKILL)
    said, wrong = process.communicate(timeout=60)
    assert process.returncode == 1
    assert wrong.startswith("nas.train: worker ")
    assert wrong.endswith(f"; what was done before is kept in {out}\n")
    assert wrong.count("\n") == 1
    assert all(line.startswith(("data digits", "training tiny", "epoch ")) for line in said.splitlines()), said

    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        behind = len(training_folder.epochs_done(out))  # else the signal comes while Python still starts
        process = begin([*command, str(out)], out)
        while len(training_folder.epochs_done(out)) == behind:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        _, wrong = process.communicate(timeout=60)
        assert process.returncode == code
        stopped = f"stopped after epoch {len(training_folder.epochs_done(out))} of 40; the same command carries on"
        assert wrong == (f"nas.train: interrupted\nnas.train: {stopped}\n" if code == 143 else "")
        if number == signal.SIGKILL:
            time.sleep(5)  # in which its workers notice
        assert not training_folder.is_finished(out)
        assert behind < 40
    assert train.main([*command, str(out)]) == 0
    first, second = load_file(whole / bundle.WEIGHTS), load_file(out / bundle.WEIGHTS)
    assert all(torch.equal(first[name], second[name]) for name in first)
    pd.testing.assert_frame_equal(measured(whole), measured(out))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray itself
def test_divergence_on_two_workers_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Space(NETWORK).arch().save(tmp_path / "tiny.yaml")
    words = [
        "--dataset",
        "digits",
        "--learning-rate",
        "1e30",
        "--epochs",
        "1",
        "--workers",
        "2",
        "--out",
        str(tmp_path / "wild"),
        "--quiet",
    ]
    assert train.main([str(tmp_path / "tiny.yaml"), *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nas.train: training loss is")
    assert said.count("\n") == 1
