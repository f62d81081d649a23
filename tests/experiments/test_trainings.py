"""Trainings that go on where they were cut off, are shared by processes, and are tested once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from experiments import trainings
from nas.config import recipe
from nas.data.datasets import load_test
from searchspace import Budget, Space


def test_kept_networks_are_tested_once(tmp_path: Path) -> None:
    """What is in the log of tests is not tested again, and a training whose weights are gone is carried out again."""
    split, log, keep = trainings.images("digits", 60), tmp_path / "log.jsonl", tmp_path / "weights"
    arch = Space.load("mobile").sample(seed=0, budget=Budget.parse("20MFLOPs"))
    jobs = trainings.repeated({"a": arch}, replace(recipe("digits"), epochs=1), seeds=2)
    with pytest.MonkeyPatch.context() as patch:
        read: list[str] = []
        patch.setattr(trainings, "load_test", lambda split: read.append(split.name) or load_test(split))
        trainings.carry_out(jobs, split, "cpu", log, Console(quiet=True), keep=keep)
        (keep / f"{jobs[1].key}.safetensors").unlink()
        trainings.carry_out(jobs, split, "cpu", log, Console(quiet=True), keep=keep)
        assert len(log.read_text().splitlines()) == 3
        found = trainings.tested(jobs, split, "cpu", keep, tmp_path / "tests.jsonl")
        assert trainings.tested(jobs, split, "cpu", keep, tmp_path / "tests.jsonl") == found
        assert read == ["digits"]
    assert all(0 <= accuracy <= 1 for accuracy in found)


def trained(folder: Path, epochs: int, seeds: int = 2, stop_after: int = 99) -> list[dict[str, Any]]:
    """Small trainings; a process that dies after some epochs leaves its checkpoint."""
    split = trainings.images("digits", 200)
    arch = Space.load("mobile").sample(seed=0, budget=Budget.parse("20MFLOPs"))
    train = replace(recipe("digits"), epochs=epochs)
    jobs = [trainings.Job(f"seed {seed}", arch, train, seed) for seed in range(seeds)]
    advance, seen = Progress.advance, []

    def counted(self: Progress, task: Any, by: float = 1) -> None:
        advance(self, task, by)
        seen.append(by)
        if len(seen) > stop_after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "advance", counted)
        found: list[dict[str, Any]] = trainings.carry_out(
            jobs, split, "cpu", folder / "log.jsonl", Console(quiet=True), lambda training: {"done": training.done}
        )
    return found


def test_trainings_go_on_where_they_were_cut_off(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", epochs=2)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", epochs=2, stop_after=1)
    assert len(list((tmp_path / "cut" / "log.partial").glob("*.safetensors"))) == 1
    cut = trained(tmp_path / "cut", epochs=2)
    speed = {"images_per_s": 0, "seconds": 0, "ended": 0}
    assert [record | speed for record in cut] == [record | speed for record in whole]
    assert [record["done"] for record in cut] == [2, 2]
    assert not (tmp_path / "cut" / "log.partial").exists()
    again = trained(tmp_path / "cut", epochs=2, stop_after=1, seeds=1)  # from the log: nothing is trained
    assert again == cut[:1]


def test_trainings_are_shared_by_processes(tmp_path: Path) -> None:
    """What another process holds is waited for, and taken over when it dies."""
    folder = tmp_path / "log.partial"
    split = trainings.images("digits", 200)
    arch = Space.load("mobile").sample(seed=0, budget=Budget.parse("20MFLOPs"))
    jobs = [trainings.Job(f"seed {seed}", arch, replace(recipe("digits"), epochs=1), seed) for seed in range(2)]
    asked = []

    def sleep(seconds: float) -> None:
        asked.append(len(trainings.finished(tmp_path / "log.jsonl")))
        holder.__exit__(None, None, None)

    holder = trainings._held(folder, jobs[0].key)
    assert holder.__enter__()
    with pytest.MonkeyPatch.context() as patch, trainings._held(folder, "what comes next"):
        patch.setattr(trainings.time, "sleep", sleep)
        found = trainings.carry_out(jobs, split, "cpu", tmp_path / "log.jsonl", Console(quiet=True))
        with trainings._held(folder, "what comes next") as free:
            assert not free
    assert asked == [1]
    assert [record["seed"] for record in found] == [0, 1]


def test_several_trainings_at_once_tell_what_they_tell_one_by_one(tmp_path: Path) -> None:
    """Each in a process of its own, as on a GPU."""
    split, archs = trainings.images("digits", 200), Space.load("mobile")
    drawn = {f"network {seed}": archs.sample(seed, Budget.parse("20MFLOPs")) for seed in range(3)}
    jobs = trainings.repeated(drawn, replace(recipe("digits"), epochs=1), seeds=1)
    alone = trainings.carry_out(jobs, split, "cpu", tmp_path / "alone.jsonl", Console(quiet=True))
    beside = trainings.carry_out(jobs, split, "cpu", tmp_path / "beside.jsonl", Console(quiet=True), at_once=2)
    speed = {"images_per_s": 0, "seconds": 0, "ended": 0}
    assert [record | speed for record in beside] == [record | speed for record in alone]
    assert not (tmp_path / "beside.partial").exists()


def test_processes_that_end_before_their_trainings_are_told_of(tmp_path: Path) -> None:
    arch = Space.load("mobile").sample(seed=0, budget=Budget.parse("20MFLOPs"))
    jobs = [trainings.Job("one", arch, recipe("digits"), seed) for seed in range(2)]
    split = replace(trainings.images("digits", 200), train_labels=None)
    with pytest.raises(RuntimeError, match="ended before their trainings did"):
        trainings.carry_out(jobs, split, "cpu", tmp_path / "log.jsonl", Console(quiet=True), at_once=2)


def test_a_gpu_has_room_for_several_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(trainings.gpu_sharing, "is_installed", lambda: True)
    assert [trainings.room(device, 32) for device in ("cpu", "cuda", "cuda:1")] == [1, 8, 8]
    monkeypatch.setattr(trainings.gpu_sharing, "is_installed", lambda: False)
    assert [trainings.room("cuda", pixels) for pixels in (32, 128, 224)] == [4, 2, 1]


def test_trainings_on_a_gpu_replay_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "Training", lambda *given, **more: (given[-1], more))
    arch = Space.load("mobile").sample(seed=0, budget=Budget.parse("20MFLOPs"))
    job, split = trainings.Job("one", arch, recipe("digits")), trainings.images("digits", 200)
    assert trainings.begun(job, split, "cuda") == ("cuda", {"graphs": True})
    assert trainings.begun(job, split, "cpu") == ("cpu", {"graphs": False})
