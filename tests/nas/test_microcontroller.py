"""From a budget in deployed bytes to a file of a microcontroller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas import Run, export, search, train
from nas.bundle import micro
from nas.run import search_options
from nas.study.opening import textbook_networks
from searchspace import cost
from searchspace.space.deployment import Deployment
from tests.nas.test_search import refusal

BUDGET = ["--budget", "64kB", "--budget", "256kBFlash", "--dtype", "int8"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--budget or --target is missing"),
        (["--budget", "64kX"], "unknown unit 'kX'"),
        (["--budget", "8MFLOPs", "--dtype", "int8"], "only budgets in bytes have one"),
        (
            ["--budget", "5kB", "--dtype", "int8", "--space", "mcu"],
            "cannot be met: networks of mcu.yaml cost 40.46kB int8",
        ),
        (["--target", "stm33"], "one of esp32s3"),
        (["--target", "stm32f446", "--dtype", "float32"], "networks for stm32f446 are int8"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert says in refusal(search.main, [*arguments, "--dry-run", "--run", str(tmp_path / "run")], capsys)


def test_a_board_is_a_space_and_two_budgets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--target", "stm32f746", "--budget", "100kB", "--fix", "in_channels=1", "--resolution", "32"]
    assert search.main([*options, "--trials", "2", "--epochs", "1", "--dry-run", "--run", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "budget 100kB int8 and 950.272kBFlash int8 for the network as deployed: 32 px" in said
    assert "space mcu.yaml" in said
    assert "can be brought to 85-100 % of the budget" in said
    assert "deploy mcu: gate none; activation none, relu, relu6" in said


@pytest.mark.parametrize("options", [["--target", "stm32f746"], [*BUDGET, "--space", "mcu"]])
def test_every_network_for_a_board_can_be_written_for_it(options: list[str]) -> None:
    args = search_options.settle_budget(search_options.parser().parse_args([*options, "--trials", "24"]))
    config = search_options.config_from_args(args)
    textbook = textbook_networks(config.space, config)
    assert textbook
    assert not [one.baseline for one in textbook if Deployment.load("mcu").broken(one.candidate.arch)]
    own = search_options.settle_budget(search_options.parser().parse_args([*options, "--deploy", "edgetpu"]))
    assert own.deploy == "edgetpu"


@pytest.mark.slow
def test_a_search_ends_in_a_file_that_is_within(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(micro.PACKAGE)
    run = tmp_path / "run"
    options = ["--space", "mcu", "--fix", "in_channels=1", "--resolution", "16", "--trials", "3", "--epochs", "2"]
    assert search.main([*BUDGET, *options, "--run", str(run), "--quiet"]) == 0
    found = Run.open(run)
    assert all((trial.cost.int8_arena_bytes or 64_001) <= 64_000 for trial in found.trials)
    assert all((trial.cost.int8_flash_bytes or 256_001) <= 256_000 for trial in found.trials)
    assert max(found.frame()["int8_arena_bytes"]) <= 64_000
    spent = cost(found.best.arch)
    trained, home = tmp_path / "trained", tmp_path / "home"
    assert train.main([str(run), "--dataset", "digits", "--epochs", "4", "--out", str(trained), "--quiet"]) == 0
    assert export.main([str(trained), "--out", str(home), "--format", "tflite"]) == 0
    size = (home / "model.int8.tflite").stat().st_size
    images = np.zeros((1, 1, 16, 16), np.float32)
    arena = micro.measure(home / "model.int8.tflite", images).arena
    assert spent.int8_arena_bytes is not None
    assert 0.95 * spent.int8_arena_bytes <= arena <= spent.int8_arena_bytes <= 64_000
    assert size <= 256_000
    assert (home / "model.int8.onnx").is_file()
    said = capsys.readouterr().out
    assert f"runs it in an arena of {arena:,} bytes" in " ".join(said.split())
    assert "| B int8 |" in (home / "card.md").read_text()
