"""What a search found beside known networks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import findings
from experiments.search import headline
from searchspace import Arch, Budget, Space, zoo
from tests.support.paths import ROOT
from tests.support.tables import rows


def test_headline(tmp_path: Path) -> None:
    """With a network that was searched elsewhere, where neither Ray nor Optuna is installed."""
    best = Space.load("mobile").sample(seed=0, budget=Budget.parse("30MFLOPs"))
    best.save(tmp_path / "best.yaml")
    absent = "import sys; sys.modules.update(ray=None, optuna=None)\n"
    absent += "from experiments.search import headline\nheadline.main()"
    command = [sys.executable, "-c", absent, "--smoke", "--winner", str(tmp_path), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    found = {row["network"]: row for row in rows(tmp_path / "headline.csv")}
    assert list(found) == ["search", "ReXNet", "MobileNetV2", "EfficientNet", "RegNetY", "random"]
    assert all(27 <= float(row["MMACs"]) <= 30 for row in found.values())
    assert Arch.load(tmp_path / "headline.yaml") == best
    assert len(list((tmp_path / "headline-weights").iterdir())) == 6
    assert (tmp_path / "headline.png").stat().st_size > 10_000


@pytest.mark.slow
def test_headline_searches(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = {"trials": 4, "controls": 2, "seeds": 2, "images": 200, "epochs": 1, "budget": "40MFLOPs", "out": tmp_path}
    headline.main([f"--{name}={value}" for name, value in sizes.items()])
    assert "4 of 4 trials" in capfd.readouterr().out.replace("\n", " ")
    best = Arch.load(tmp_path / "headline-mobile-40MFLOPs-search" / "best.yaml")
    assert Arch.load(tmp_path / "headline-40MFLOPs.yaml") == best


def test_headline_wants_a_network_within_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo("mobilenet_v2").save(tmp_path / "best.yaml")
    for place, said in ((tmp_path, "is outside 30MFLOPs"), (tmp_path / "x", "an arch.yaml or the folder")):
        with pytest.raises(SystemExit) as stopped:
            findings.run(lambda _, place=place: headline.main(["--winner", str(place)]))
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
