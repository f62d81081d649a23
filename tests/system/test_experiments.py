"""Every experiment has a smoke mode, which runs to its table and its figure."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from nas.config import recipe
from nas.data.datasets import load_test
from searchspace import Arch, Budget, InputError, Space, cost, zoo
from searchspace.blocks.blocks import Block
from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Stem
from tests.support.oracle import library
from tests.support.paths import ROOT

EXPERIMENTS = ROOT / "experiments"


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import what lies beside them."""
    monkeypatch.syspath_prepend(EXPERIMENTS)


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(found)
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


def test_factor_analysis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("factor_analysis").main(["--smoke", "--out", str(tmp_path)])
    assert "8 trainings" in capsys.readouterr().out
    assert (tmp_path / "factor_analysis.png").stat().st_size > 10_000
    found = rows(tmp_path / "factor_analysis.csv")
    assert [row["n"] for row in found] == ["2"] * 4
    assert all(0 < float(row["share"]) <= 1 <= float(row["directions"]) <= 512 for row in found)


def test_the_two_blocks_cost_what_the_paper_says() -> None:
    found = script("factor_analysis")
    for row in found.ROWS.values():
        arch = found.two_blocks(row, found.matched(row))
        assert cost(arch).macs == pytest.approx(row.macs, rel=0.005)
        for block in arch.blocks:
            assert block.hidden == row.expansion * block.in_channels
            assert block.in_channels / block.out_channels == pytest.approx(row.ratio, rel=0.02)


def test_channel_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("channel_search").main(["--smoke", "--out", str(tmp_path)])
    assert "the straight line, 34-39-45-51-57, is number" in capsys.readouterr().out
    assert (tmp_path / "channel_search.png").stat().st_size > 10_000
    found = rows(tmp_path / "channel_search.csv")
    assert [row["group"] for row in found if row["group"]] == ["top", "middle", "bottom"]
    accuracies = [float(row["accuracy"]) for row in found]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize("name", "abcd")
def test_channel_search_keeps_both_bounds(name: str) -> None:
    """And the paper's own networks cost, with the strides that are assumed, what it prints."""
    found = script("channel_search")
    constraint, budget = found.CONSTRAINTS[name], Budget.parse(found.CONSTRAINTS[name].budget)
    for widths in found.models(constraint, 2, seed=1):
        spent = cost(found.network(widths, constraint.strided))
        assert list(widths) == sorted(widths)
        assert all(0.97 <= limit.of(spent) / limit.high <= 1 for limit in budget.limits)
    printed = {"a": (30e6, 30e6), "b": (101e6, 97e6), "c": (210e6, 200e6), "d": (351e6, 351e6)}[name]
    for widths, macs in zip((constraint.best, constraint.worst), printed, strict=True):
        assert cost(found.network(widths, constraint.strided)).macs == pytest.approx(macs, rel=0.052)


def test_linearity_of_widths() -> None:
    found = script("channel_search")
    assert found.linearity((10, 20, 30, 40)) == pytest.approx(1)
    assert found.linearity((10, 10, 10, 40)) == pytest.approx(0.6)
    assert found.first_half((10, 20, 30)) == pytest.approx(20 / 60)


def test_schedules(tmp_path: Path) -> None:
    script("schedules").main(["--smoke", "--out", str(tmp_path)])
    found = {row["network"]: row for row in rows(tmp_path / "schedules.csv")}
    assert len(found) == 8
    assert all(29.4 <= float(row["MMACs"]) <= 30 for row in found.values())
    assert found["linear"]["p"] == ""
    assert 0 < float(found["doubling stages"]["p"]) <= float(found["doubling stages"]["p (Holm)"]) <= 1
    assert (tmp_path / "schedules.png").stat().st_size > 10_000


def test_nonlinearity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("nonlinearity").main(["--smoke", "--out", str(tmp_path)])
    assert "14 trainings" in capsys.readouterr().out
    assert len(rows(tmp_path / "nonlinearity.csv")) == 14
    assert [row["pairs"] for row in rows(tmp_path / "nonlinearity_effects.csv")] == ["4"] * 3
    assert (tmp_path / "nonlinearity.png").stat().st_size > 10_000


def test_the_effect_of_a_place_is_what_it_adds() -> None:
    """In whatever combination: here 0.1 after the 1×1, and 0.02 lost after the addition."""
    found = script("nonlinearity")
    added = {"expand_act": 0.1, "spatial_act": 0.0, "add_act": -0.02}
    scores = {
        name: [0.5 + sum(added[place] for place, act in acts.items() if act == "silu") + seed / 100 for seed in (0, 1)]
        for name, acts in found.where().items()
    }
    effects = {row["SiLU after"]: row for row in found.effects(scores)}
    assert {title: row["effect"] for title, row in effects.items()} == {
        "1×1": "+0.1000",
        "depthwise": "+0.0000",
        "addition": "-0.0200",
    }
    assert effects["1×1"]["p"] == "0.008"  # 2 of 2^8 sign flips are as far from zero


def test_headline(tmp_path: Path) -> None:
    """With a network that was searched elsewhere, where neither Ray nor Optuna is installed."""
    best = Space.load("mobile").sample(seed=0, budget=Budget.parse("30MFLOPs"))
    best.save(tmp_path / "best.yaml")
    absent = "import sys; sys.modules.update(ray=None, optuna=None); import headline; headline.main()"
    command = [sys.executable, "-c", absent, "--smoke", "--winner", str(tmp_path), "--out", str(tmp_path)]
    paths = os.pathsep.join([str(EXPERIMENTS), str(EXPERIMENTS.parent)])
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": paths})
    found = {row["network"]: row for row in rows(tmp_path / "headline.csv")}
    assert list(found) == ["search", "ReXNet", "MobileNetV2", "EfficientNet", "RegNetY", "random"]
    assert all(27 <= float(row["MMACs"]) <= 30 for row in found.values())
    assert Arch.load(tmp_path / "headline.yaml") == best
    assert len(list((tmp_path / "headline-weights").iterdir())) == 6
    assert (tmp_path / "headline.png").stat().st_size > 10_000


@pytest.mark.slow
def test_headline_searches(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = {"trials": 4, "controls": 2, "seeds": 2, "images": 200, "epochs": 1, "budget": "40MFLOPs", "out": tmp_path}
    script("headline").main([f"--{name}={value}" for name, value in sizes.items()])
    assert "4 of 4 trials" in capfd.readouterr().out.replace("\n", " ")
    best = Arch.load(tmp_path / "headline-mobile-40MFLOPs-search" / "best.yaml")
    assert Arch.load(tmp_path / "headline-40MFLOPs.yaml") == best


def test_headline_wants_a_network_within_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo("mobilenet_v2").save(tmp_path / "best.yaml")
    for place, said in ((tmp_path, "is outside 30MFLOPs"), (tmp_path / "x", "an arch.yaml or the folder")):
        with pytest.raises(SystemExit) as stopped:
            script("findings").run(lambda _, place=place: script("headline").main(["--winner", str(place)]))
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_kept_networks_are_tested_once(tmp_path: Path) -> None:
    """What is in the log of tests is not tested again, and a training whose weights are gone is carried out again."""
    trainings = script("trainings")
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


def test_two_groups() -> None:
    """Five values all above five others: one of 252 ways to divide them is as far apart, and its mirror image."""
    findings = script("findings")
    low, high = [1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]
    assert findings.shuffled(high, low) == pytest.approx(2 / 252)
    assert findings.shuffled(low, low) == 1
    assert findings.shuffled(high * 4, low * 4) < 0.001
    difference, below, above = findings.apart(high, low)
    assert (difference, above - difference) == (5, pytest.approx(1.860 * 1, abs=1e-3))  # t of 8 degrees of freedom
    assert below == pytest.approx(2 * difference - above)
    assert findings.apart([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert findings.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


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
    check = script("gpu_check")
    assert check.main(["--smoke", "--patience", "3", "--device", "cpu", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found.keys() == check.PARTS.keys()
    assert not any("error" in part for part in found.values())
    assert all(found[part]["passed"] for part in ("networks", "training", "oom", "search"))
    assert len(found["networks"]["rows"]) == 2
    assert [row["images/s"] > 0 for row in found["packing"]["rows"] if "way" in row] == [True, True]
    assert all(row["images/s"] > 0 for row in found["speed"]["rows"] if "way" in row)
    assert rows(tmp_path / "gpu_check_search.csv")[0]["outcome"] == "complete"
    assert len(list(tmp_path.iterdir())) <= 8  # which is what comes back from a borrowed machine
    assert "wrote" in capsys.readouterr().out


SLOW_PART = """
import subprocess, sys, time

def slow(args, note):
    daemon = subprocess.Popen(["sleep", "300"], start_new_session=True)
    note({"daemon": daemon.pid, "child": subprocess.Popen(["sleep", "300"]).pid})
    time.sleep(300)

def quick(args, note):
    note({"passed": True})
"""


def test_finals_are_not_in_the_time_of_a_searchs_trials(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "2026-11-26 07:12:45,913 trial 0 started: baseline ed13\n"
        "2026-11-26 07:13:04,035 trial 5 complete \n"
        "2026-11-26 07:14:08,125 finals, round 1: trial 30 epoch 1: accuracy 0.3638\n"
    )
    first, last = script("gpu_packing").moments(log)
    assert (last - first).total_seconds() == pytest.approx(18.122)


def test_gpu_check_keeps_the_rows_of_a_part_that_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends what it has started, also what has a session of its own."""
    check, more = script("gpu_check"), {"slow": ("slow_part", 6, False), "quick": ("slow_part", 60, False)}
    (tmp_path / "slow_part.py").write_text(SLOW_PART)
    entry = tmp_path / "entry.py"
    path = f"import sys; sys.path.insert(0, {str(EXPERIMENTS)!r})"
    entry.write_text(f"{path}\nimport gpu_check\ngpu_check.PARTS |= {more}\nsys.exit(gpu_check.main())\n")
    monkeypatch.setattr(check, "SCRIPT", entry)
    monkeypatch.setattr(check, "PARTS", more)
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert check.main(["--parts", "slow,quick", *out]) == 1
    found = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert "took longer than 6 s" in found["slow"]["error"]
    assert "slow: took longer than 6 s, 1 rows" in capsys.readouterr().out
    (row,) = found["slow"]["rows"]
    assert not any(running(pid) for pid in row.values())
    assert found["quick"]["passed"]
    assert check.main(["--parts", "quick", *out]) == 0  # what other parts have found stays
    assert json.loads((tmp_path / "out" / "gpu_check.json").read_text())["slow"]["rows"] == [row]
    assert check.main(["--parts", "quick", "--budget-s", "1", *out]) == 0
    assert "quick: no time left" in capsys.readouterr().out


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_images_are_counted_in_a_window_of_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten images a second, a window from 2.5 to 7.5 s, marks every two steps."""
    packing = script("gpu_packing")
    clock = [0.0]
    monkeypatch.setattr(packing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(packing, "EVERY_S", 2.0)
    monkeypatch.setattr(packing.sys, "stdin", io.StringIO("2.5 7.5\n"))
    windows = packing.Counted("cpu", batch=10, warm=2)
    with suppress(packing.EnoughError):  # no other window comes
        for number in range(1, 20):
            clock[0] = float(number)
            windows(number, torch.zeros(()))
    assert capsys.readouterr().out.split() == ["ready", "50.0"]


def test_graphs_that_keep_a_rate_are_seen() -> None:
    """A graph whose rate stays that of its capture, the fourth of ten steps of a warm-up."""
    correctness = script("gpu_correctness")
    eager = {"steps": [2.0, 1.0], "epochs": [1.0], "start": torch.zeros(3), "end": torch.full((3,), 55.0)}
    same = {**eager, "why no graphs": ""}
    assert correctness.as_eager(same, eager)["passed"]
    assert not correctness.as_eager({**same, "end": torch.full((3,), 34.0)}, eager)["passed"]
    assert not correctness.as_eager({**same, "steps": [2.0, 1.05]}, eager)["passed"]
    assert not correctness.as_eager({**same, "why no graphs": "it waits"}, eager)["passed"]


@pytest.mark.slow
def test_efficiency(tmp_path: Path) -> None:
    script("efficiency").main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "efficiency.csv")
    of_search = [float(row["share"].split()[0]) for row in found if row["what"].startswith("search, 2 trials")]
    assert len(of_search) == 3
    assert sum(of_search) == pytest.approx(100, abs=0.2)
    assert found[-1]["part"] == "after 10 trials"
    assert (tmp_path / "efficiency.png").stat().st_size > 10_000


def test_convolutions(tmp_path: Path) -> None:
    script("convolutions").main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "convolutions.csv")
    assert [row["what"].split()[0] for row in found] == ["depthwise", "depthwise", "1×1,", "mobile"]
    assert all(float(row["ours ms"]) > 0 for row in found)
    assert (tmp_path / "convolutions.png").stat().st_size > 10_000


def test_end_game(tmp_path: Path) -> None:
    script("samplers")
    end_game = script("end_game")
    end_game.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "end_game.csv")
    assert len(found) == 4 * len(end_game.RETURNED)
    regret = {row["returned"]: float(row["regret@50"]) for row in found if row["budget"] == "all"}
    assert regret["best network tried"] <= min(regret[end_game.SCORE], regret[end_game.EXPECTED])
    end_game.main(["--smoke", "--out", str(tmp_path)])  # from its log
    assert rows(tmp_path / "end_game.csv") == found
    assert (tmp_path / "end_game.png").stat().st_size > 10_000


def test_recipe(tmp_path: Path) -> None:
    script("recipe").main(["--smoke", "--out", str(tmp_path)])
    found = {row["recipe"]: row for row in rows(tmp_path / "recipe.csv")}
    assert float(found["as it is"]["difference"]) == 0
    assert set(found) == {"as it is", "rate 0.016"}
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
    with pytest.MonkeyPatch.context() as patch, trainings._held(folder, "what comes next"):
        patch.setattr(trainings.time, "sleep", sleep)
        found = trainings.carry_out(jobs, split, "cpu", tmp_path / "log.jsonl", Console(quiet=True))
        with trainings._held(folder, "what comes next") as free:
            assert not free
    assert asked == [1]
    assert [record["seed"] for record in found] == [0, 1]


def test_trainings_on_a_gpu_replay_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = script("trainings")
    monkeypatch.setattr(trainings, "Training", lambda *given, **more: (given[-1], more))
    arch = Space.load("mobile").sample(seed=0, budget=Budget.parse("20MFLOPs"))
    job, split = trainings.Job("one", arch, recipe("digits")), trainings.images("digits", 200)
    assert trainings.begun(job, split, "cuda") == ("cuda", {"graphs": True})
    assert trainings.begun(job, split, "cpu") == ("cpu", {"graphs": False})


def test_torchvision_is_helped_beside_a_cpu_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = script("throughput")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.library.Library", lambda *names: pytest.fail("declared twice beside CUDA"))
    throughput.allow_torchvision()


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


def test_space_distributions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("space_distributions").main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "space_distributions.csv")
    assert [row["space"] for row in found] == ["plain_mobilenet", "mobile_wide", "mobile"]
    assert found[0]["median − plain"] == ""
    assert len(rows(tmp_path / "space_distributions_networks.csv")) == 9
    assert "rexnet_100" in capsys.readouterr().out
    assert (tmp_path / "space_distributions.png").stat().st_size > 10_000


@pytest.mark.slow
def test_winner(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script("winner").main(["--smoke", "--out", str(tmp_path)])
    (row,) = rows(tmp_path / "winner-digits-8MFLOPs.csv")
    assert float(row["gain"]) == pytest.approx(float(row["trained"]) - float(row["its"]), abs=2e-4)
    assert "printed minus fresh" in capfd.readouterr().out


def test_each_has_a_row_and_its_results() -> None:
    readme = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for path in EXPERIMENTS.glob("*.py"):
        if "def main(" not in path.read_text(encoding="utf-8"):
            continue
        assert f"]({path.name})" in readme, path.name
        (row,) = (line for line in readme.splitlines() if f"]({path.name})" in line)
        measured = (EXPERIMENTS / "results" / f"{path.stem}.csv").is_file()
        assert measured != ("not run in full yet" in row), path.name
