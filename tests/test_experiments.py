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
from searchspace import Arch, Budget, InputError, Space, cost
from searchspace.blocks import Block
from searchspace.ends import Stem
from searchspace.layers import Norm
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


def test_rank_study(tmp_path: Path) -> None:
    study = script("rank_study")
    study.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "rank_study.csv")
    assert len(found) == 2 * 4 * 3 * 8  # conditions, panels, ratios, nonlinearities
    assert all(0 < float(row["rank ratio"]) <= 1 for row in found)
    assert {
        row["paper"] for row in found if (row["panel"], row["ratio"], row["nonlinearity"]) == ("a", "0.1", "SiLU")
    } == {"0.958"}
    assert (tmp_path / "rank_study.png").stat().st_size > 10_000


def test_ranks_of_linear_networks_are_their_input_channels() -> None:
    study = script("rank_study")
    sizes = study.Sizes(20, 20, 1.2, None)
    condition = study.Condition(norm=False, shortcut=False, expansion=(1.0, 3.0))
    for panel in study.PANELS:
        found = study.rank_ratios(panel, 0.3, condition, sizes, seed=0)
        assert found["Linear"] == 0.3, panel
        assert found["SiLU"] >= 0.3, panel
    assert study.rank_ratios("b", 0.3, study.CONDITIONS["literal, maps of 3×3"], sizes, seed=0)["Linear"] == 1.0


def test_roadmap(tmp_path: Path) -> None:
    script("roadmap").main(["--smoke", "--out", str(tmp_path)])
    costs = rows(tmp_path / "roadmap_costs.csv")
    assert len(costs) == 16
    assert all(abs(float(row["difference"])) < 0.06 for row in costs)
    first, last = rows(tmp_path / "roadmap.csv")
    assert (first["step"], last["step"]) == ("resnet50", "separate downsampling")
    assert float(last["change"]) == pytest.approx(float(last["accuracy"]) - float(first["accuracy"]))
    assert (tmp_path / "roadmap.png").stat().st_size > 10_000


def test_rexnet_more(tmp_path: Path) -> None:
    script("rexnet_more").main(["--smoke", "--out", str(tmp_path)])
    first, second = rows(tmp_path / "rexnet_more_scaling.csv")
    assert (float(first["G multiply-adds"]), float(second["G multiply-adds"])) == (0.348, 0.398)
    spectra = rows(tmp_path / "rexnet_more.csv")
    assert [row["network"] for row in spectra] == ["ReXNet", "ReXNet without shortcuts", "MobileNetV2"]
    assert all(9.7 <= float(row["M multiply-adds"]) <= 10 for row in spectra)
    depth = rows(tmp_path / "rexnet_more_depth.csv")
    assert sorted(row["place"] for row in depth) == ["1", "2", "3", "4", "5"]
    assert [row["straight"] for row in depth].count("True") == 1
    assert all((tmp_path / f"rexnet_more{part}.png").stat().st_size > 10_000 for part in ("", "_scaling", "_depth"))


def test_widths_of_a_fixed_depth() -> None:
    more = script("rexnet_more")
    found = more.models(5, 10, Budget.parse("17MFLOPs"))
    straight, *others = found
    assert more.linearity(straight) > 0.99 > min(map(more.linearity, others))
    for widths, arch in found.items():
        values = [int(width) for width in widths.split("-")]
        assert values == sorted(values) == [block.out_channels for block in arch.blocks]
        assert 0.97 * 17e6 <= cost(arch).macs <= 17e6
    with pytest.raises(InputError, match="no network of 5 blocks"):
        more.models(5, 1, Budget.parse("1MFLOPs"))


def test_blocks(tmp_path: Path) -> None:
    script("blocks").main(["--smoke", "--out", str(tmp_path)])
    measured = rows(tmp_path / "blocks_measured.csv")
    assert all(9.7 <= float(row["M multiply-adds"]) <= 10 for row in measured)
    for pair in rows(tmp_path / "blocks_fused.csv"):
        width = int(pair["width"])  # 3×3 to 4 times the width and 1×1 back, against 1×1, depthwise 3×3, 1×1
        assert pair["× multiply-adds"] == f"{(9 + 1) * 4 * width / (2 * 4 * width + 9 * 4):.2f}"
    assert len(rows(tmp_path / "blocks.csv")) == 2
    assert all((tmp_path / f"blocks{part}.png").stat().st_size > 10_000 for part in ("", "_measured"))


def test_bytes_and_intensity_of_a_block() -> None:
    """A stem, a depthwise 3×3 and a 1×1 of 4 channels and nothing between, then pool and classifier."""
    blocks = script("blocks")
    none = Norm("none")
    block = Block("mbconv", 4, 4, 4, groups=4, expand_act="none", spatial_act="none", norm=none)
    stem = Stem(4, kernel=1, stride=1, act="none", norm=none)
    arch = Arch(stem, (block,), resolution=8, num_classes=2)
    maps, weights = 4 * 64, 3 * 4 + 9 * 4 + 4 * 4
    numbers = (3 * 64 + maps) + 2 * (maps + maps) + weights + (maps + 4) + (4 + 4) + (4 + 2 + 10)
    assert blocks.intensity(arch) == pytest.approx((weights * 64 + 4 * 2) / (4 * numbers))
    assert blocks.kept_bytes(arch, "cpu") == 4 * (3 * 64 + 2 * maps + 4)  # what has weights keeps what it was given


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
    assert set(found) == {"as it is", "rate 0.008"}
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
