"""Every experiment has a smoke mode, which runs to its table and its figure."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from nas.config import recipe
from searchspace import Budget, Space
from tests.oracle import library

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import what lies beside them."""
    monkeypatch.syspath_prepend(EXPERIMENTS)


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_cost_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("cost_speed").main(["--smoke", "--out", str(tmp_path)])
    assert "pre-flight of mobile over 1,000 random points" in capsys.readouterr().out
    assert (tmp_path / "cost_speed.png").stat().st_size > 10_000
    found = {row["what"]: row for row in rows(tmp_path / "cost_speed.csv")}
    assert found["build + fvcore"]["counts"] == found["build + torch's counter, meta"]["counts"] == "exact"


def test_fitting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("fitting").main(["--smoke", "--out", str(tmp_path)])
    assert "rexnet.yaml: at 102 % of the smallest network" in capsys.readouterr().out
    assert (tmp_path / "fitting.png").stat().st_size > 10_000
    assert all(row["inside"] == row["proposals"] for row in rows(tmp_path / "fitting.csv"))


@pytest.mark.slow
def test_proxy_rank(tmp_path: Path) -> None:
    script("proxy_rank").main(["--smoke", "--out", str(tmp_path)])
    assert len(rows(tmp_path / "proxy_rank.csv")) == 3
    found = {row["what"]: row for row in rows(tmp_path / "proxy_rank_correlations.csv")}
    assert {"1 epoch", "ceiling: 2 epochs, one seed against another", "synflow", "params"} <= found.keys()
    assert all(-1 <= float(row["spearman"]) <= 1 for row in found.values())
    assert (tmp_path / "proxy_rank.png").stat().st_size > 10_000


@pytest.mark.slow
def test_gpu_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("gpu_check").main(["--smoke", "--patience", "10", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["networks"]["number"] == 3
    assert all(found[part]["passed"] for part in ("networks", "training", "memory"))
    assert found["packing"]["2"]["all"] > 0
    assert "wrote" in capsys.readouterr().out


@pytest.mark.slow
def test_efficiency(tmp_path: Path) -> None:
    script("efficiency").main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "efficiency.csv")
    of_search = [float(row["share"].split()[0]) for row in found if row["what"].startswith("search, 2 trials")]
    assert len(of_search) == 3
    assert sum(of_search) == pytest.approx(100, abs=0.2)
    assert found[-1]["part"] == "after 10 trials"
    assert (tmp_path / "efficiency.png").stat().st_size > 10_000


def test_recipe(tmp_path: Path) -> None:
    script("recipe").main(["--smoke", "--out", str(tmp_path)])
    found = {row["recipe"]: row for row in rows(tmp_path / "recipe.csv")}
    assert float(found["as it is"]["difference"]) == 0
    assert set(found) == {"as it is", "batch 64"}
    assert (tmp_path / "recipe.png").stat().st_size > 10_000


def trained(folder: Path, epochs: int, seeds: int = 2, stop_after: int = 99) -> list[dict[str, Any]]:
    """Small trainings; a process that dies after some epochs leaves its checkpoint."""
    trainings = script("trainings")
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
    speed = {"images_per_s": 0, "seconds": 0}
    assert [record | speed for record in cut] == [record | speed for record in whole]
    assert [record["done"] for record in cut] == [2, 2]
    assert not (tmp_path / "cut" / "log.partial").exists()
    again = trained(tmp_path / "cut", epochs=2, stop_after=1, seeds=1)  # from the log: nothing is trained
    assert again == cut[:1]


def test_trainings_are_shared_by_processes(tmp_path: Path) -> None:
    """What another process holds is waited for, and taken over when it dies."""
    trainings = script("trainings")
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings.time, "sleep", sleep)
        found = trainings.carry_out(jobs, split, "cpu", tmp_path / "log.jsonl", Console(quiet=True))
    assert asked == [1]
    assert [record["seed"] for record in found] == [0, 1]


@pytest.mark.slow
def test_throughput(tmp_path: Path) -> None:
    library("timm")
    script("throughput").main(["--smoke", "--out", str(tmp_path)])
    assert all(float(row["images_per_s"]) > 0 for row in rows(tmp_path / "throughput.csv"))
    assert len(rows(tmp_path / "throughput.csv")) >= 4
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


@pytest.mark.slow
def test_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("scale").main(["--smoke", "--out", str(tmp_path)])
    assert "ms at 40 trials" in capsys.readouterr().out
    assert (tmp_path / "scale.png").stat().st_size > 10_000
    assert [row["trials"] for row in rows(tmp_path / "scale.csv")] == ["20", "40"]


def test_each_has_a_row_and_its_results() -> None:
    readme = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for path in EXPERIMENTS.glob("*.py"):
        if "def main(" not in path.read_text(encoding="utf-8"):
            continue
        assert f"]({path.name})" in readme, path.name
        (row,) = (line for line in readme.splitlines() if f"]({path.name})" in line)
        measured = (EXPERIMENTS / "results" / f"{path.stem}.csv").is_file()
        assert measured != ("not run in full yet" in row), path.name
