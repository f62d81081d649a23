"""A search with a block and a cost of the user's own, those of the README: from the command to report and export."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nas import Run
from nas.config import SearchConfig
from nas.run import search_options
from searchspace import InputError
from searchspace.__main__ import main as show
from tests.nas.test_search import ENVIRONMENT
from tests.support.paths import ROOT

README = (ROOT / "searchspace" / "README.md").read_text(encoding="utf-8")
WORDS = "--space uib.yaml --resolution 32 --budget 60kWB --minimize weight_bytes --trials 2 --epochs 1 --run run"
OTHER = """
from nas import Run
from searchspace import register_block
from searchspace.blocks.blocks import project, sequential, spatial

@register_block("slim", expansion=2.0)
def slim(b):
    return sequential(("spatial", spatial(b, b.in_channels, b.hidden, b.stride)), ("project", project(b, b.hidden)))

space = {"width_mult": {"fit": [0.1, 4]}, "stem": {"width": 8}, "schedule": {"start": 8, "end": 16}, "num_classes": 10,
         "stages": [{"block": "slim", "depth": {"choice": [1, 2, 3]}, "stride": 2}], "resolution": 32}
run = Run.search("1MFLOPs", space=space, trials=2, epochs=1, folder="script", quiet=True)
print(run.best.arch.blocks[0].type, run.config.conduct.plugins)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's files, and a run of a search with them."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in re.findall(r"```(?:yaml|python)\n# (\S+\.(?:yaml|py))\n(.*?)```", README, re.DOTALL):
        (folder / name).write_text(text)
    assert ran(folder, f"nas.search --plugin my_blocks.py --plugin my_costs.py {WORDS}").returncode == 0
    return folder


def ran(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *words.split()]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_run_remembers_its_plugins_and_has_their_cost(folder: Path) -> None:
    conduct = yaml.safe_load((folder / "run" / "config.yaml").read_text())["conduct"]
    assert conduct["plugins"] == [str(folder / "my_blocks.py"), str(folder / "my_costs.py")]
    rows = list(csv.DictReader((folder / "run" / "trials.csv").read_text().splitlines()))
    assert [row["outcome"] for row in rows] == ["complete"] * 2
    assert all(0 < float(row["weight_bytes"]) <= 60_000 for row in rows)


def test_the_report_loads_them_by_itself(folder: Path) -> None:
    done = ran(folder, "nas.report run")
    assert done.returncode == 0, done.stderr
    page = (folder / "run" / "report.html").read_text()
    assert "weight_bytes" in page
    assert "kWB" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nas.export run --out best", "tried in a fresh interpreter"),
        ("nas.export run/best.yaml --out other", "tried in a fresh interpreter"),
        ("nas.train run --epochs 1 --out trained", "trained network: trained"),
        ("nas.train run --epochs 1 --workers 2 --out parallel", "trained network: parallel"),
        ("nas.train run/best.yaml --dry-run", "epoch"),
        (f"nas.search {WORDS.replace('--trials 2', '--trials 3')}", "3 of 3 trials"),
        ("searchspace show run/best.yaml --plugin my_blocks.py", "uib"),
        (
            "nas.deploy --plugin my_blocks.py --space uib.yaml --resolution 32 --budget 4MFLOPs --trials 1 --epochs 1 "
            "--full-epochs 1 --run deployed --out deploy",
            "wrote deploy",
        ),
    ],
)
def test_every_command_loads_them_by_itself(folder: Path, words: str, says: str) -> None:
    done = ran(folder, words)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


@pytest.mark.slow
def test_a_training_remembers_them_too(folder: Path) -> None:
    assert ran(folder, "nas.train run --epochs 1 --out again").returncode == 0
    assert "my_blocks.py" in (folder / "again" / "training.yaml").read_text()
    assert ran(folder, "nas.export again --out served").returncode == 0


@pytest.mark.slow
def test_a_file_that_has_gone_is_named_and_may_be_given(folder: Path) -> None:
    moved = folder / "elsewhere"
    moved.mkdir()
    (folder / "my_costs.py").rename(moved / "my_costs.py")
    try:
        done = ran(folder, "nas.report run")
        assert (done.returncode, done.stdout) == (2, "")
        gone = f"nas.report: plugin {folder / 'my_costs.py'}: there is no such file; "
        assert done.stderr == f"{gone}where it has been moved, --plugin NEW/PLACE/my_costs.py stands for it\n"
        assert ran(folder, "nas.report run --plugin elsewhere/my_costs.py").returncode == 0
    finally:
        (moved / "my_costs.py").rename(folder / "my_costs.py")


def test_a_network_of_a_block_that_is_not_registered_is_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match=r'best.yaml:\d+: blocks\.0\.type: .* is accepted, not "uib" \(--plugin FILE'):
        show(["show", str(folder / "run" / "best.yaml")])


@pytest.mark.slow
def test_a_block_of_a_script_reaches_the_workers(folder: Path) -> None:
    (folder / "script.py").write_text(OTHER)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("slim ()\n"), done.stdout + done.stderr
    with pytest.raises(InputError, match=r'not "slim" \(--plugin FILE registers blocks of your own\)'):
        _ = Run.open(folder / "script").config.space


@pytest.mark.parametrize("plugins", [3, "x", [3]])
def test_a_config_that_names_no_plugins_is_refused(tmp_path: Path, plugins: object) -> None:
    identity = {"space": {}, "budget": ["1MFLOPs"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"identity": identity, "conduct": {"plugins": plugins}}))
    with pytest.raises(InputError, match=r"config.yaml:\d+: conduct\.plugins"):
        SearchConfig.load(tmp_path)


@pytest.mark.parametrize("given", [3, [3]])
def test_python_is_told_what_a_plugin_is(given: object) -> None:
    with pytest.raises(InputError, match="plugin: a text or a list of texts is accepted"):
        search_options.from_python({"budget": "1MFLOPs", "plugin": given})
