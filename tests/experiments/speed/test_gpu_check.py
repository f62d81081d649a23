"""The check of a GPU, and its parts, on whatever device there is."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from experiments import findings
from experiments.speed import gpu_check, gpu_correctness, gpu_packing
from tests.support.tables import rows

SLOW_PART = """
import subprocess, sys, time

def slow(args, note):
    daemon = subprocess.Popen(["sleep", "300"], start_new_session=True)
    note({"daemon": daemon.pid, "child": subprocess.Popen(["sleep", "300"]).pid})
    time.sleep(300)

def quick(args, note):
    note({"passed": True})
"""


@pytest.mark.slow
def test_gpu_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--smoke", "--patience", "3", "--device", "cpu", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found.keys() == gpu_check.PARTS.keys()
    assert not any("error" in part for part in found.values())
    assert all(found[part]["passed"] for part in ("networks", "training", "oom", "search"))
    assert len(found["networks"]["rows"]) == 2
    assert [row["images/s"] > 0 for row in found["packing"]["rows"] if "way" in row] == [True, True]
    assert all(row["images/s"] > 0 for row in found["speed"]["rows"] if "way" in row)
    assert rows(tmp_path / "gpu_check_search.csv")[0]["outcome"] == "complete"
    assert len(list(tmp_path.iterdir())) <= 8  # which is what comes back from a borrowed machine
    assert "page: " in capsys.readouterr().out


def test_gpu_check_keeps_the_rows_of_a_part_that_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends what it has started, also what has a session of its own."""
    more = {"slow": ("slow_part", 4, False), "quick": ("slow_part", 60, False)}
    (tmp_path / "slow_part.py").write_text(SLOW_PART)
    (tmp_path / "entry.py").write_text(
        f"from experiments.speed import gpu_check\ngpu_check.PARTS |= {more}\ngpu_check.main()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu_check, "MODULE", "entry")
    monkeypatch.setattr(gpu_check, "PARTS", more)
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert gpu_check.main(["--parts", "slow,quick", *out]) == 1
    found = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert "took longer than 4 s" in found["slow"]["error"]
    assert "slow: took longer than 4 s, 1 rows" in capsys.readouterr().out
    (row,) = found["slow"]["rows"]
    assert not any(running(pid) for pid in row.values())
    assert found["quick"]["passed"]
    assert gpu_check.main(["--parts", "quick", *out]) == 0  # what other parts have found stays
    assert json.loads((tmp_path / "out" / "gpu_check.json").read_text())["slow"]["rows"] == [row]
    assert gpu_check.main(["--parts", "quick", "--budget-s", "1", *out]) == 0
    assert "quick: no time left" in capsys.readouterr().out


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_finals_are_not_in_the_time_of_a_searchs_trials(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "2026-11-26 07:12:45,913 trial 0 started: baseline ed13\n"
        "2026-11-26 07:13:04,035 trial 5 complete \n"
        "2026-11-26 07:14:08,125 finals, round 1: trial 30 epoch 1: accuracy 0.3638\n"
    )
    first, last = gpu_packing.moments(log)
    assert (last - first).total_seconds() == pytest.approx(18.122)


def test_images_are_counted_in_a_window_of_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten images a second, a window from 2.5 to 7.5 s, marks every two steps."""
    clock = [0.0]
    monkeypatch.setattr(gpu_packing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(gpu_packing, "EVERY_S", 2.0)
    monkeypatch.setattr(gpu_packing.sys, "stdin", io.StringIO("2.5 7.5\n"))
    windows = gpu_packing.Counted("cpu", batch=10, warm=2)
    with suppress(gpu_packing.EnoughError):  # no other window comes
        for number in range(1, 20):
            clock[0] = float(number)
            windows(number, torch.zeros(()))
    assert capsys.readouterr().out.split() == ["ready", "50.0"]


def test_graphs_that_keep_a_rate_are_seen() -> None:
    """A graph whose rate stays that of its capture, the fourth of ten steps of a warm-up."""
    eager = {"steps": [2.0, 1.0], "epochs": [1.0], "start": torch.zeros(3), "end": torch.full((3,), 55.0)}
    same = {**eager, "why no graphs": ""}
    assert gpu_correctness.as_eager(same, eager)["passed"]
    assert not gpu_correctness.as_eager({**same, "end": torch.full((3,), 34.0)}, eager)["passed"]
    assert not gpu_correctness.as_eager({**same, "steps": [2.0, 1.05]}, eager)["passed"]
    assert not gpu_correctness.as_eager({**same, "why no graphs": "it waits"}, eager)["passed"]


def test_gpu_check_needs_little() -> None:
    """It is started on machines where neither Ray, Optuna, fvcore, pandas nor matplotlib is installed."""
    absent = "import sys; sys.modules.update(dict.fromkeys(['ray', 'optuna', 'fvcore', 'pandas', 'matplotlib']))\n"
    absent += "from experiments.speed import gpu_check, gpu_correctness, gpu_packing, gpu_speed"
    subprocess.run([sys.executable, "-c", absent], check=True, env=findings.environment())
