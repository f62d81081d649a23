"""Every experiment has a smoke mode, which runs to its table and its figure."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.oracle import library

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


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
def test_proxy_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed after a few trainings, it carries on with those in its log."""
    main = script("proxy_rank").main
    main(["--smoke", "--out", str(tmp_path)])
    first = rows(tmp_path / "proxy_rank.csv")
    log = tmp_path / "proxy_rank.jsonl"
    kept = log.read_text().splitlines(keepends=True)
    assert len(kept) == 9
    log.write_text("".join(kept[:4]))
    main(["--smoke", "--out", str(tmp_path)])
    speed = {"images_per_s": ""}
    assert [row | speed for row in rows(tmp_path / "proxy_rank.csv")] == [row | speed for row in first]
    found = {row["what"]: row for row in rows(tmp_path / "proxy_rank_correlations.csv")}
    assert {"1 epoch", "ceiling: 2 epochs, one seed against another", "synflow", "params"} <= found.keys()
    assert all(-1 <= float(row["spearman"]) <= 1 for row in found.values())
    assert (tmp_path / "proxy_rank.png").stat().st_size > 10_000


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
        assert f"]({path.name})" in readme, path.name
        (row,) = (line for line in readme.splitlines() if f"]({path.name})" in line)
        measured = (EXPERIMENTS / "results" / f"{path.stem}.csv").is_file()
        assert measured != ("not run in full yet" in row), path.name
