"""How far a training is, in words and numbers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from nas.config import DataConfig, TrainConfig
from nas.data.datasets import load
from nas.training.trainer import Training
from nas.views import training_progress
from nas.views.training_progress import TrainingProgress
from nas.workers import data_parallel
from searchspace import Space, build
from tests.nas.test_train import NETWORK


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training_progress, "time", clock)
    return clock


def shown(terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, color_system=None, _environ={"TERM": "xterm"}), out


def test_elsewhere_a_line_comes_within_seconds_and_then_every_few(clock: Clock) -> None:
    console, out = shown(False)
    with TrainingProgress(console, False, epochs=30, done=0, train=1000, score=300) as told:
        for second in range(1, 31):
            clock.now = 100.0 + second
            told("training", 10 * second, 1000)
    lines = out.getvalue().splitlines()
    assert lines[0] == "epoch 1 of 30: 3 %, 10 images/s, about 0:54:57 left"
    assert len(lines) == 4
    assert lines[-1].startswith("epoch 1 of 30: 22 %, 10 images/s")


def test_the_time_left_counts_scoring_and_the_epochs_made_before(clock: Clock) -> None:
    told = TrainingProgress(shown(False)[0], True, epochs=4, done=2, train=1000, score=300)
    clock.now += 100
    told("training", 1000, 1000)
    assert told.line("training", 1000, 1000) == "epoch 3 of 4: 91 %, 10 images/s, about 0:02:00 left"
    clock.now += 10
    told("scoring", 300, 300)
    assert told.line("scoring", 300, 300).startswith("epoch 3 of 4: 100 %, scoring 300 of 300 images, about 0:01:50")
    told.ended(3)
    clock.now += 50
    told("training", 500, 1000)
    assert "epoch 4 of 4: 45 %, 10 images/s" in told.line("training", 500, 1000)


def test_a_terminal_has_a_bar_and_quiet_nothing(clock: Clock) -> None:
    console, out = shown(True)
    with TrainingProgress(console, False, 2, 0, 100, 10) as told:
        clock.now += 1
        told("training", 50, 100)
        told.bar.refresh()
        assert "epoch 1 of 2: 48 %, 50 images/s, about 0:00:03 left" in out.getvalue()
    for terminal in (True, False):
        console, out = shown(terminal)
        with TrainingProgress(console, True, 2, 0, 100, 10) as told:
            clock.now += 60
            told("training", 50, 100)
            told.testing("scoring", 5, 10)
        assert out.getvalue() == ""


def test_every_batch_is_told_and_changes_nothing() -> None:
    split = load(DataConfig(images=200), seed=0)
    arch, told = Space(NETWORK).arch().adapt(10, 16), list[tuple[str, int, int]]()
    epochs = []
    for watched in (False, True):
        torch.manual_seed(0)
        training = Training(build(arch), split, TrainConfig(epochs=1), 0, "cpu")
        if watched:
            training.each = lambda *news: told.append(news)
        epochs += [replace(epoch, images_per_s=0.0) for epoch in training]
    assert epochs[0] == epochs[1]
    assert told == [("training", 64, 128), ("training", 128, 128), ("scoring", 40, 40)]


def test_the_first_of_several_workers_tells_the_driver(tmp_path: Path) -> None:
    class At:
        done = 3

    news = data_parallel.News(tmp_path / "news", At())  # type: ignore[arg-type]
    assert data_parallel.read_news(tmp_path / "news", 2) is None
    news("training", 5, 10)
    news("training", 6, 10)  # within half a second
    assert data_parallel.read_news(tmp_path / "news", 2) == ("training", 5, 10)
    assert data_parallel.read_news(tmp_path / "news", 3) is None
    (tmp_path / "news").write_text("[1,")
    assert data_parallel.read_news(tmp_path / "news", 2) is None
