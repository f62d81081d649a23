"""Timing for real, on tiny networks; nothing is asserted of times but that they are there."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings

from nas import cli, latencies, measure, search, timing
from searchspace import InputError, Space, build
from searchspace.arch import lower
from searchspace.latency import LatencyTable
from searchspace.layers import steps
from searchspace.network import Network
from tests.strategies import networks
from tests.test_latency import SPACE

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


def test_measures_once_keeps_it_and_checks(space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cache" / "table.json"
    arguments = ["--space", str(space), "--table", str(path)]
    assert measure.main(arguments) == 0
    assert "networks in" in capsys.readouterr().out
    table = LatencyTable.load(path)
    assert measure.NETWORKS <= table.spaces["tiny.yaml at 32 px"] < measure.MOST + measure.AT_ONCE
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
    path, calls, real = tmp_path / "table.json", [], timing.layer_ms

    def interrupted(*arguments: Any) -> Any:
        calls.append(len(arguments[0]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(timing, "layer_ms", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure.main(["--space", str(space), "--table", str(path)])
    kept = sum(LatencyTable.load(path).spaces.values())
    assert kept == calls[0] + calls[1]
    assert measure.main(["--space", str(space), "--table", str(path)]) == 0
    assert kept + sum(calls[3:]) == LatencyTable.load(path).spaces["tiny.yaml at 32 px"] >= measure.NETWORKS


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
    drawn = measure.networks(space, random.Random(0))
    for arch in itertools.islice(drawn, 20):
        assert arch.digest
    if space.fit_range and space.fit_range[0] > 1:
        wide = next(drawn)
        assert wide.stem.width >= space.arch(space.random_point(random.Random(0)), 1.0).stem.width


def test_an_operator_that_no_timed_network_has_ends_the_timing() -> None:
    arch = Space(SPACE).arch({name: options[0] for name, options in Space(SPACE).choices.items()})
    assert measure.chosen(itertools.repeat(arch), {"an operator of other widths"}, {"relu"}) == []
    assert measure.chosen(itertools.repeat(arch), {"batch norm", "x"}, {"relu"}) == [arch] * measure.AT_ONCE


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
    run = ["--budget", "20ms", "--band", "10", "--run", str(tmp_path / "run"), *common]
    assert search.main([*run, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "timing layers on" in said
    assert "networks cost" in said
    assert "latency predicted for" in said
    assert "plan: 4 trials (1 known network, 1 random controls)" in " ".join(said.split())
    kept = measure.default_path("cpu")
    assert kept.parent == tmp_path / "cache" / "latency"

    config = cli.configured(cli.parser().parse_args([*run]))
    timed = latencies.timed(config, tmp_path / "run", False, None, search.command.console(), True)
    assert timed.latency == LatencyTable.load(kept)
    with search.folder.opened(tmp_path / "run", config):
        timed.latency.save(tmp_path / "run" / search.folder.TABLE)
        trial = search.open_study(tmp_path / "run", config, timed).ask()
    assert trial.cost.latency_ms == timed.latency.predict(trial.arch) <= 20
    LatencyTable("a phone", "2.0", "2026-01-01").save(tmp_path / "phone.json")
    with pytest.raises(InputError, match="has another latency table"):
        search.main([*run, "--latency-table", str(tmp_path / "phone.json")])
    with pytest.raises(InputError, match="latency on a phone: no times of"):
        search.main([*common, "--budget", "20ms", "--latency-table", str(tmp_path / "phone.json"), "--dry-run"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other\.json: device: is missing"):
        search.main([*common, "--budget", "20ms", "--latency-table", str(tmp_path / "other.json"), "--dry-run"])
