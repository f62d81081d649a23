"""A kit runs where this project is not, and what it writes is a table to search with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import yaml

from nas import measure, search
from searchspace import InputError
from searchspace.costs.latency import LatencyTable
from tests.nas.test_search import refusal
from tests.searchspace.costs.test_latency import SPACE

ALONE = "import sys, runpy; sys.modules.update(dict.fromkeys(('nas', 'searchspace', 'torch', 'onnx'))); "


def run_there(kit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The kit's script where nothing of this project, torch or onnx can be imported."""
    code = f"{ALONE}sys.argv = ['measure.py', *{list(words)!r}]; runpy.run_path('measure.py', run_name='__main__')"
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, "-c", code], cwd=kit, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module", params=["float32", "int8"])
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    words = ["--space", str(folder / "tiny.yaml"), "--dtype", request.param, "--kit", str(folder / "kit")]
    assert measure.main(words) == 0
    return folder / "kit"


def test_a_kit_times_another_machine(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {file.name: file.stat().st_size for file in kit.iterdir()}
    assert max(size for name, size in sizes.items() if name.endswith(".onnx")) < 200_000  # weights are not among it
    done = run_there(kit, "--out", "there.json", "--rounds", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote there.json" in done.stdout
    table = LatencyTable.load(kit / "there.json")
    manifest = json.loads((kit / "kit.json").read_text())
    assert table.onnxruntime == onnxruntime.__version__
    assert table.dtype == manifest["table"]["dtype"]
    assert len(table.checked) == len(manifest["checked"]) == measure.CHECKED
    assert set(table.times) == {kernel[0] for one in manifest["timed"] for kernel in one["kernels"]}

    words = ["--check", "--table", str(kit / "there.json"), "--space", str(kit.parent / "tiny.yaml")]
    code = measure.main(words)
    said = " ".join(capsys.readouterr().out.split())
    assert measure.main(words[:3]) == code  # a table knows which networks it has: no space has to be given
    assert " ".join(capsys.readouterr().out.split()) == said
    assert f"{len(table.checked)} networks that were measured there" in said
    assert ("does NOT hold" in said) == (code == 1)
    assert (kit / "there.png").stat().st_size > 5_000

    common = ["--space", str(kit.parent / "tiny.yaml"), "--latency-table", str(kit / "there.json"), "--dry-run"]
    assert search.main([*common, "--budget", "0.5ms", "--band", "5"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"latency predicted for {table}" in said
    assert "predictions may be far off" not in said
    assert search.main([*common, "--budget", "0.5ms", "--band", "5", "--fix", "resolution=64"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "there.json is of tiny.yaml at 32 px, not of tiny.yaml at 64 px: predictions may be far off" in said
    assert "its networks are of tiny.yaml at 32 px, not of tiny.yaml at 64 px; a kit of that" in refusal(
        measure.main, [*words, "--resolution", "64"], capsys
    )


def test_what_is_wrong_with_a_kit_is_one_line(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = str(kit.parent / "tiny.yaml")
    assert "is not empty; give another folder" in refusal(measure.main, ["--space", space, "--kit", str(kit)], capsys)
    done = run_there(kit, "--threads", "0")
    assert done.returncode == 2
    assert "at least 1" in done.stderr
    done = run_there(kit, "--out", "nowhere/there.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "argument --out: nowhere/there.json cannot be written (No such file or directory)" in done.stderr
    (kit / "000.onnx").rename(kit / "away")
    done = run_there(kit, "--out", str(tmp_path / "none.json"))
    (kit / "away").rename(kit / "000.onnx")
    assert done.returncode == 1
    assert "000.onnx: is not there; copy the whole kit" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none.json").exists()


def test_a_table_with_missing_rows_is_refused_in_one_line(kit: Path, tmp_path: Path) -> None:
    done = run_there(kit, "--out", str(tmp_path / "there.json"), "--rounds", "1")
    assert done.returncode == 0
    whole = json.loads((tmp_path / "there.json").read_text())
    del whole["times"]["conv 3×3 s2"]
    (tmp_path / "less.json").write_text(json.dumps(whole))
    common = ["--space", str(kit.parent / "tiny.yaml"), "--budget", "0.5ms", "--dry-run", "--latency-table"]
    with pytest.raises(InputError, match=r"no times of conv 3×3 s2 in its table"):
        search.main([*common, str(tmp_path / "less.json")])
    whole["times"]["silu"] = [[1, 2, 3]]
    (tmp_path / "less.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match=r"less\.json: times\.silu"):
        search.main([*common, str(tmp_path / "less.json")])
