"""The live view: what it shows, that it fits 80 columns, and that elsewhere lines are plain."""

from __future__ import annotations

import io
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from nas.analysis.time_left import TimeLeft
from nas.metric import Metric
from nas.run import search_options
from nas.trial import Result, Trial
from nas.views import gpu_use
from nas.views.terminal import STOPPING, Display, best_table, print_preflight
from searchspace import Budget, Space
from searchspace.costs.network_cost import cost
from searchspace.space.preflight import preflight
from tests.support.records import record

ARCH = Space.load("rexnet").sample(seed=0, budget=Budget.parse("300MFLOPs"))


def trial(number: int, role: Any = "search") -> Trial:
    return Trial(number, ARCH, cost(ARCH), role)


def display(terminal: bool, term: str = "xterm", **options: Any) -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=80, height=30, color_system=None, _environ={"TERM": term}
    )
    title = "300MFLOPs in mobile.yaml on images: runs/" + "a-long-name-" * 6
    return Display(console, logging.Logger("test"), 40, 3, 0.5, False, title=title, **options), out


def drawn(shown: Display) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(shown.draw())
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_shows_where_a_search_stands_within_80_columns() -> None:
    shown, _ = display(True, counts={"complete": 2, "failed": 1}, timed=True)
    shown.gpus.there, shown.gpus.said, shown.gpus.asked_at = True, "8 GPUs 100 %, 1100.1 of 1118.4 GiB", 1e18
    lines = drawn(shown)
    assert lines[:2] == ["300MFLOPs in mobile.yaml on images:", "runs/" + "a-long-name-" * 6]
    assert "3/40" in lines[2]
    assert lines[3] == "best 0.5000   2 complete, 0 pruned, 1 failed, 0 running"
    assert lines[4].startswith("starting workers   8 GPUs 100 %")
    for number in range(1000, 1030):
        shown.started(trial(number, "baseline"))
        shown.epoch(trial(number), Result(epoch=100, score=0.75, images_per_s=123456))
    shown.ended(trial(1000), "complete", Result(epoch=100, score=0.875, images_per_s=123456))
    shown.ended(trial(1001), "pruned", Result(epoch=1, score=0.25))
    shown.ended(trial(1002), "interrupted", Result())
    lines = drawn(shown)
    assert "5/40" in lines[2]
    assert lines[3] == "best 0.8750   3 complete, 1 pruned, 1 failed, 27 running"
    assert lines[4].startswith("3333312 images/s   8 GPUs")
    assert len(lines) == 6 + 8
    assert lines[-1].split() == ["1029", "search", *lines[-2].split()[2:]]
    assert max(len(line) for line in lines) <= 80


def test_the_time_left_is_shown_from_the_first_epoch_on() -> None:
    shown, _ = display(True, time_left=TimeLeft(40, 3, [3, 3, 3]))
    shown.started(trial(3))
    assert shown.time_left_text() == ""
    shown.epoch(trial(3), Result(epoch=1, score=0.5, seconds=60.0))
    assert shown.time_left_text() == "about 1:50:00 left"  # 37 trials of 3 epochs, of which one is done
    assert shown.standing() == "3 of 40 trials, 10 epochs done, 1 running, about 1:50:00 left"
    assert "3/40" in drawn(shown)[2]
    assert shown.bar.tasks[0].completed == pytest.approx(10 / 120)


def test_what_pruned_means_is_said_once() -> None:
    shown, out = display(False)
    with shown:
        for number in range(3):
            shown.started(trial(number))
            shown.ended(trial(number), "pruned", Result(epoch=2, score=0.2))
    assert out.getvalue().count("pruned: stopped early, its score was behind those of the best third") == 1


def test_a_long_silence_is_broken_by_how_far_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.views.terminal.SILENCE_S", 0.5)
    shown, out = display(False, time_left=TimeLeft(40, 3, [3, 3, 3]))
    with shown:
        for _ in range(100):
            time.sleep(0.1)
            if "epochs done" in out.getvalue():
                break
    assert "3 of 40 trials, 9 epochs done\n" in out.getvalue()
    printed = len(out.getvalue())
    time.sleep(1.2)
    assert len(out.getvalue()) == printed, "nothing is said after the end"


def test_that_a_run_stops_is_shown_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    live, _ = display(True)
    with live:
        live.stopping()
        assert drawn(live)[4] == STOPPING
    assert capfd.readouterr().err == ""
    plain, _ = display(False)
    plain.stopping()
    assert capfd.readouterr().err == STOPPING + "\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_without_a_cursor_to_move_lines_are_plain(terminal: bool) -> None:
    shown, out = display(terminal, "dumb")
    with shown:
        shown.started(trial(7))
        shown.ended(trial(7), "complete", Result(epoch=3, score=0.625, images_per_s=99))
        assert not shown.live.is_started
    starting, header, line = out.getvalue().splitlines()
    assert starting == "starting workers"
    assert header.split()[:2] == ["trial", "role"]
    assert line.split()[-4:] == ["3", "0.6250", "99", "complete"]
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("97, 12595, 143156\n", "GPU 97 %, 12.3 of 139.8 GiB"),
        ("100, 1024, 2048\n50, 0, 2048\n", "2 GPUs 75 %, 1.0 of 4.0 GiB"),
        ("[N/A], 1, 2\n", ""),
        ("", ""),
        ("Failed to initialize NVML\n", ""),
    ],
)
def test_the_use_of_gpus_in_words(printed: str, said: str) -> None:
    assert gpu_use.describe(printed) == said


def test_asks_for_the_use_of_gpus_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(gpu_use.GpuUse()) == ""
    tool, count = tmp_path / "nvidia-smi", tmp_path / "count"
    tool.write_text(f"#!/bin/sh\necho asked >> {count}\necho 97, 12595, 143156\n")
    tool.chmod(0o755)
    use = gpu_use.GpuUse()
    assert [str(use), str(use)] == ["GPU 97 %, 12.3 of 139.8 GiB"] * 2
    assert count.read_text() == "asked\n"
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert str(gpu_use.GpuUse()) == ""


@pytest.mark.parametrize(
    ("visible", "asked", "printed"),
    [
        (None, [""], "NVIDIA H200"),
        ("1,2", ["--id=1,2"], "NVIDIA H200"),
        ("GPU-1b", ["--id=GPU-1b"], "NVIDIA H200"),
        ("MIG-2c", ["--id=MIG-2c", ""], "NVIDIA H200"),  # which this one does not know
        ("", [], ""),
        ("-1", [], ""),
    ],
)
def test_asks_for_the_gpus_that_this_process_may_use(
    visible: str | None, asked: list[str], printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, seen = tmp_path / "nvidia-smi", tmp_path / "seen"
    tool.write_text(f'#!/bin/sh\necho "$3" >> {seen}\ncase "$3" in *MIG*) exit 6;; esac\necho NVIDIA H200\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_use.names() == printed
    assert (seen.read_text().split("\n")[:-1] if seen.exists() else []) == asked


def told(*arguments: str) -> list[str]:
    """The lines of a pre-flight."""
    config = search_options.config_from_args(search_options.parser().parse_args(arguments))
    out = io.StringIO()
    found = preflight(config.space, config.budget, config.identity.band, sample=500)
    print_preflight(Console(file=out, width=10_000), found, config)
    return out.getvalue().splitlines()


def test_the_pre_flight_of_a_small_budget_says_what_networks_become_and_what_else_there_is() -> None:
    lines = told("--budget", "40MFLOPs", "--fix", "stem.width=24", "--num-classes", "1000")
    assert lines[0].startswith(
        "budget 40MFLOPs for the network as deployed: 224 px, 1000 classes; 1 FLOP = 1 multiply-add of a co"
    )
    assert lines[2].startswith("its networks cost ")
    assert "; before widths are scaled to the budget, half of them cost more than " in lines[2]
    assert " random networks " in lines[3]
    assert " % can be brought to 97-100 % of the budget; only such are trained" in lines[3]
    assert lines[4].startswith("typical width multiplier 0.")
    assert "(first stage 8 channels); in 6" in lines[4]
    levers = "--resolution 96,128,160 or --without fused_mbconv,inverted or --space mobile_small"
    assert lines[5].endswith(f"times as much or more; {levers} would leave wider networks")
    why = "it has stem.width=32, which this space has not"
    assert lines[6:] == [f"known network rexnet_100 is left out as a point of the space: {why}"]
    both = told("--budget", "40MFLOPs", "--budget", "2MParams")[2]
    numbers = r"[\d.]+\w?FLOPs and [\d.]+\w?Params"
    assert re.match(
        f"its networks cost {numbers} to {numbers}; .*more than [0-9.]+.FLOPs, half more than .*Params$", both
    )
    minimized = told("--budget", "40MFLOPs", "--minimize", "params")[3]
    assert minimized.endswith(" % of the budget; with costs minimised such and cheaper ones are trained")


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--budget", "300MFLOPs"], "the budget is small"),
        (["--budget", "40MFLOPs", "--space", "mobile_small"], "the budget is small"),
        (["--budget", "40MFLOPs", "--resolution", "96,128"], "--resolution"),
        (["--budget", "40MFLOPs", "--resolution", "96"], "--resolution"),
        (["--budget", "40MFLOPs", "--without", "fused_mbconv,inverted"], "--without"),
        (["--budget", "2MParams"], "--resolution"),
    ],
)
def test_no_lever_is_named_that_is_pulled_or_not_needed(arguments: list[str], absent: str) -> None:
    lines = told(*arguments)
    assert not any(absent in line for line in lines)
    assert not any("left out" in line for line in lines)


@pytest.mark.parametrize(("name", "column"), [("f1_macro", False), ("accuracy", True)])
def test_a_metric_without_intervals_has_no_column_of_them(name: str, column: bool) -> None:
    best = [replace(record(0, "complete", 0.5), metric=Metric(name))]
    study = SimpleNamespace(budget=Budget.parse("1MFLOPs"), metric=Metric(name), records=best, finals=None)
    table = best_table(best, study, 100)  # type: ignore[arg-type]
    assert [one.header for one in table.columns].count("90 % interval") == column
    assert len(table.columns) == 6 + column
