"""Timing for real, on tiny networks; nothing is asserted of times but that they are there."""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from rich.console import Console

from nas import measure, search, train
from nas.config import DataConfig, Execution, Prescreen, TrainConfig
from nas.data.datasets import load
from nas.latency import device_table, timing
from nas.run import estimate, folder, latencies, search_options
from nas.run.run import TABLE
from nas.study.opening import open_study
from nas.training.prescreen import Screen
from nas.trial import after_trials
from searchspace import Budget, InputError, Space, build
from searchspace.arch import lower
from searchspace.blocks.layers import steps
from searchspace.costs.latency import LatencyTable
from searchspace.format.network import Network
from tests.searchspace.costs.test_latency import SIZES, SPACE
from tests.support.records import record
from tests.support.strategies import networks

KNOWN = {"schedule.end": 48, "stage*.kernel": 3, "stage*.expansion": 4, "stage2.depth": 2}


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SPACE | {"known": {"one": KNOWN}}))
    return path


@settings(max_examples=15, deadline=None)
@given(networks())
def test_running_in_marked_steps_computes_the_same(network: Network) -> None:
    arch = network.arch()
    model, images = build(arch).eval(), torch.rand(1, arch.in_channels, arch.resolution, arch.resolution)
    marks: list[int] = []
    program = list(timing.program(lower(arch), model))
    with torch.inference_mode():
        torch.testing.assert_close(timing.run_marked(program, images, lambda: marks.append(1)), model(images))
    assert len(marks) == len(list(steps(lower(arch), (arch.in_channels, arch.resolution, arch.resolution))))


def test_a_table_that_is_not_there_is_not_checked(space: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json: no such file to check; without --check it is made"):
        measure.main(["--space", str(space), "--table", str(tmp_path / "missing.json"), "--check"])
    assert not (tmp_path / "missing.json").exists()


def test_measures_once_keeps_it_and_checks(space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cache" / "table.json"
    arguments = ["--space", str(space), "--table", str(path)]
    assert measure.main(arguments) == 0
    assert "networks in" in capsys.readouterr().out
    table = LatencyTable.load(path)
    assert device_table.NETWORKS <= table.spaces["tiny.yaml at 32 px"] < device_table.MOST + device_table.AT_ONCE
    assert {"conv 5×5 s2 depthwise", "batch norm", "Residual", "PadChannels"} <= table.times.keys()
    written = path.stat().st_mtime_ns
    assert measure.main(arguments) == 0
    assert "has all" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == written

    code = measure.main([*arguments, "--check"])
    said = capsys.readouterr().out
    assert "mean error" in said
    assert ("does NOT hold" in said) == (code == 1)
    assert path.with_suffix(".png").stat().st_size > 5_000
    arch = Space.load(space).arch({name: options[0] for name, options in Space(SPACE).choices.items()})
    (measured,) = timing.network_ms([timing.ready(arch, "cpu")], [arch], "cpu")
    assert measured / 4 < table.predict(arch) < measured * 4


def test_what_is_interrupted_goes_on(space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "table.json", timing.layer_ms
    calls: list[int] = []  # the networks of each that were not timed before: some are timed again where times disagree
    seen: set[str] = set()

    def interrupted(*arguments: Any) -> Any:
        new = {arch.digest for arch in arguments[0]} - seen
        calls.append(len(new))
        if len(calls) == 3:
            raise KeyboardInterrupt
        seen.update(new)
        return real(*arguments)

    monkeypatch.setattr(timing, "layer_ms", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure.main(["--space", str(space), "--table", str(path)])
    kept = sum(LatencyTable.load(path).spaces.values())
    assert kept == calls[0] + calls[1]
    assert measure.main(["--space", str(space), "--table", str(path)]) == 0
    assert kept + sum(calls[3:]) == LatencyTable.load(path).spaces["tiny.yaml at 32 px"] >= device_table.NETWORKS


@pytest.mark.parametrize(
    "change",
    [
        {"width_mult": {"fit": [2.0, 4.0]}},
        {"width_mult": {"fit": [2.0, 2.0001]}},
        {"width_mult": {"fit": [0.01, 0.02]}},
        {"width_mult": {"fit": [2.0, 4.0]}, "schedule": {**SPACE["schedule"], "divisor": 64}},
        {"width_mult": 1.0},
    ],
)
def test_networks_to_time_are_found_whatever_widths_a_space_offers(change: dict[str, Any]) -> None:
    space = Space(SPACE | change)
    drawn = device_table.networks(space, random.Random(0))
    for arch in itertools.islice(drawn, 20):
        assert arch.digest
    if space.fit_range and space.fit_range[0] > 1:
        wide = next(drawn)
        assert wide.stem.width >= space.arch(space.random_point(random.Random(0)), 1.0).stem.width


def test_an_operator_that_no_timed_network_has_ends_the_timing() -> None:
    arch = Space(SPACE).arch({name: options[0] for name, options in Space(SPACE).choices.items()})
    table = timing.conditions("cpu")
    assert device_table.choose_networks(itertools.repeat(arch), {"an operator of other widths"}, {"relu"}, table) == []
    found = device_table.choose_networks(itertools.repeat(arch), {"batch norm", "x"}, {"relu"}, table)
    assert found == [arch] * device_table.AT_ONCE


def test_another_devices_table_is_not_added_to(space: Path, tmp_path: Path) -> None:
    LatencyTable("a phone", "2.0", "2026-01-01").save(tmp_path / "phone.json")
    with pytest.raises(InputError, match=r"phone\.json is of a phone, batch 1.* give another --table"):
        measure.main(["--space", str(space), "--table", str(tmp_path / "phone.json")])
    with pytest.raises(InputError, match="batch-size: at least 1"):
        measure.main(["--batch-size", "0"])


def test_a_latency_budget_measures_first_and_a_run_keeps_its_table(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    common = ["--space", str(space), "--epochs", "1", "--trials", "4"]
    run = ["--budget", "20ms", "--band", "5", "--run", str(tmp_path / "run"), *common]
    assert search.main([*run, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "timing layers on" in said
    assert "networks cost" in said
    assert "latency predicted for" in said
    assert "plan: 4 trials (1 textbook network, 1 random control)" in " ".join(said.split())
    kept = device_table.default_path(timing.conditions("cpu"))
    assert kept.parent == tmp_path / "cache" / "latency"

    config = search_options.config_from_args(search_options.parser().parse_args([*run]))
    timed = latencies.with_latencies(config, tmp_path / "run", False, None, search.command.console(), True)
    assert timed.latency == LatencyTable.load(kept)
    with folder.lock_run(tmp_path / "run", config):
        timed.latency.save(tmp_path / "run" / TABLE)
        trial = open_study(tmp_path / "run", config, timed).ask()
    assert trial.cost.latency_ms == timed.latency.predict(trial.arch) <= 20
    LatencyTable("a phone", "2.0", "2026-01-01").save(tmp_path / "phone.json")
    with pytest.raises(InputError, match="has another latency table"):
        search.main([*run, "--latency-table", str(tmp_path / "phone.json")])
    with pytest.raises(InputError, match="latency on a phone: no times of"):
        search.main([*common, "--budget", "20ms", "--latency-table", str(tmp_path / "phone.json"), "--dry-run"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other\.json: device: is missing"):
        search.main([*common, "--budget", "20ms", "--latency-table", str(tmp_path / "other.json"), "--dry-run"])


def test_a_name_that_stands_for_many_processors_has_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"model name": "AMD EPYC", "cpu family": "25", "model": "17", "stepping": "1"}
    monkeypatch.setattr(timing, "_cpu_facts", lambda: facts)
    monkeypatch.setenv("NAS_CACHE", "/cache")
    first = device_table.default_path(timing.conditions("cpu"))
    assert timing.device_name("cpu") == "AMD EPYC (family 25, model 17, stepping 1)"
    monkeypatch.setattr(timing, "_cpu_facts", lambda: {**facts, "model": "1"})
    assert device_table.default_path(timing.conditions("cpu")) != first
    monkeypatch.setattr(timing, "_cpu_facts", dict)
    assert timing.device_name("cpu")
    monkeypatch.setattr(timing, "_cpu_facts", lambda: {"BogoMIPS": "50.00", "CPU part": "0xd0c"})
    assert timing.device_name("cpu").endswith("(part 0xd0c)")


def test_times_are_compared_under_equal_conditions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_cpu_facts", lambda: {"model name": "AMD EPYC", "model": "17"})
    here = timing.conditions("cpu", 2, 3)
    assert timing.alike(here, here)
    assert timing.alike(replace(here, device="AMD EPYC"), here)  # as tables were before models were in them
    for other in ({"device": "AMD EPYC (model 1)"}, {"torch": "2.0"}, {"batch_size": 1}, {"threads": 1}):
        assert not timing.alike(replace(here, **other), here)


def test_the_load_is_kept_with_the_times_and_a_high_one_is_said(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.json"
    monkeypatch.setattr(os, "getloadavg", lambda: (50.0, 50.0, 50.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert measure.main(["--space", str(space), "--table", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"times of layers may be too long: the load was 50.0 on 4 cores; delete {path}" in said
    (session,) = LatencyTable.load(path).sessions
    assert (session.load, session.cores, session.busy) == (50.0, 4, True)
    assert session.networks == LatencyTable.load(path).spaces["tiny.yaml at 32 px"]
    assert LatencyTable.load(path).busiest == session


def test_times_that_disagree_with_the_table_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Space(SPACE)
    archs = list(itertools.islice(device_table.networks(small, random.Random(0)), 4))
    real, slow = [[("relu", SIZES[0], 1.0)]] * 4, [[("relu", SIZES[0], 3.0)]] * 4
    told = [real, slow, real, real, slow, slow, slow]
    monkeypatch.setattr(timing, "layer_ms", lambda *_: told.pop(0))
    monkeypatch.setattr(LatencyTable, "predict", lambda self, arch: 1.0)
    monkeypatch.setattr(LatencyTable, "missing", lambda self, arch: [])
    table = timing.conditions("cpu")
    for networks_known, kept, left in ((0, 1.0, 6), (8, 1.0, 4), (8, 1.0, 3), (8, 3.0, 0)):
        known = replace(table, spaces={"name": networks_known})
        found = device_table.layer_times(known, "name", archs, lambda: None)
        assert [rows[0][2] for rows in found] == [kept] * 4
        assert len(told) == left


def test_a_cache_that_cannot_be_used_stops_only_what_needs_it(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "file" / "cache"))
    common = ["--space", str(space), "--band", "10", "--run", str(tmp_path / "run")]
    config = search_options.config_from_args(search_options.parser().parse_args([*common, "--budget", "3MFLOPs"]))
    console = search.command.console()
    untimed = latencies.with_latencies(config, tmp_path / "run", False, None, console, False)
    assert untimed.latency is None
    (tmp_path / "run").mkdir()
    found = latencies.with_layer_times(untimed, config, tmp_path / "run", console, False)
    assert LatencyTable.load(tmp_path / "run" / "latency.json") == found.latency
    assert found.latency is not None
    assert found.latency.times
    said = capsys.readouterr().out
    assert "NAS_CACHE names another folder; layers are timed for this run alone" in said
    with pytest.raises(InputError, match=r"cannot be written .*NAS_CACHE names another folder"):
        search.main([*common, "--budget", "20ms", "--run", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=r"cannot be written .*NAS_CACHE names another folder"):
        measure.main(["--space", str(space)])


@pytest.mark.parametrize("content", ["", "{}", "\x00", '{"device": 1}'])
def test_a_damaged_cache_file_stops_no_search_that_needs_none(
    content: str, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    kept = device_table.default_path(timing.conditions("cpu"))
    kept.parent.mkdir()
    kept.write_text(content)
    config = search_options.config_from_args(
        search_options.parser().parse_args(["--budget", "3MFLOPs", "--space", str(space)])
    )
    assert (
        latencies.with_latencies(config, tmp_path / "run", False, None, search.command.console(), True).latency is None
    )
    monkeypatch.setattr(device_table, "NETWORKS", 4)
    assert (
        latencies.with_cached_layer_times(Space.load(space), "cpu", search.command.console(), True).latency is not None
    )


def test_best_networks_are_timed_where_their_predictions_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    here, timed = timing.conditions("cpu", 2, 1), list[Any]()

    def network_ms(models: Any, archs: Any, device: str, batch_size: int, *_: Any) -> list[float]:
        timed.append((device, batch_size, torch.get_num_threads()))
        return [9.0] * len(archs)

    monkeypatch.setattr(timing, "network_ms", network_ms)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    trial = SimpleNamespace(number=3, arch=Space(SPACE).sample(0, Budget.parse("3MFLOPs")))

    def told(table: LatencyTable | None, **conduct: Any) -> tuple[str, dict[int, float]]:
        study: Any = SimpleNamespace(
            records=[record(3)], finals=None, alone_ms={}, trial=lambda _: trial, space=SimpleNamespace(latency=table)
        )
        return latencies.time_best(study, Execution(**conduct)), study.alone_ms

    assert told(here) == ("", {3: 9.0})
    monkeypatch.setattr(os, "getloadavg", lambda: (50.0, 0.5, 0.5))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    study: Any = SimpleNamespace(records=[record(3)], finals=None, alone_ms={}, trial=lambda _: trial)
    study.space = SimpleNamespace(latency=here)
    assert latencies.time_best(study, Execution()) == ""
    assert after_trials(study.busy) == "once the trials had ended, at a load of 50.0 on 4 cores: perhaps too long"
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    assert told(here, ray_address="somewhere:6379") == ("", {3: 9.0})
    assert told(None, device="cpu") == ("", {3: 9.0})
    assert timed == [("cpu", 2, 1), ("cpu", 2, 1), ("cpu", 2, 1), ("cpu", 1, 1)]
    for other in (replace(here, device="a phone"), replace(here, torch="2.0")):
        why, none = told(other)
        assert f"not timed: predictions are for {other}; this is {here.device}" in why
        assert not none
    why, none = told(None, ray_address="somewhere:6379")
    assert "not timed: trials ran on a cluster's devices, this is" in why
    assert not none


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (search.main, ["--budget", "3MFLOPs", "--run", "out"]),
        (search.main, ["--budget", "3MFLOPs", "--run", "out", "--dry-run"]),
        (train.main, ["resnet18", "--dataset", "digits", "--out", "out"]),
        (train.main, ["resnet18", "--dataset", "digits", "--out", "out", "--workers", "2"]),
        (measure.main, []),
    ],
)
def test_a_gpu_that_is_not_there_is_one_line(
    main: Any, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device cuda: PyTorch sees no GPU here; cpu and auto are accepted"):
        main([*words, "--device", "cuda"])
    assert not list(tmp_path.iterdir())


def test_what_times_on_one_thread_leaves_as_many_as_there_were() -> None:
    split = load(DataConfig(), seed=0)
    arch = Space(SPACE).sample(0, Budget.parse("3MFLOPs")).adapt(10, 16)
    with timing.threads(2):
        estimate.sample(arch, arch, split, TrainConfig(), Execution(device="cpu"))
        Screen(Prescreen(2), split, 0).score(SimpleNamespace(arch=arch))  # type: ignore[arg-type]
        assert torch.get_num_threads() == 2


def test_a_search_on_a_gpu_times_no_layers_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That would take longer than many of its trials; a table that is there already is used."""
    monkeypatch.setattr(timing, "is_here", lambda wanted: True)
    monkeypatch.setattr(timing, "device_for", lambda wanted: "cuda")
    monkeypatch.setattr(latencies, "with_cached_layer_times", lambda *given: pytest.fail("layers are timed"))
    config = SimpleNamespace(conduct=SimpleNamespace(device="cuda", ray_address=None))
    space = Space.load("rexnet")
    found = latencies.with_layer_times(space, config, tmp_path, Console(), quiet=True)  # type: ignore[arg-type]
    assert found is space
    assert latencies.runs_to_time(space, config, existed=False) == 0  # type: ignore[arg-type]
