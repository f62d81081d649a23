"""Under a notebook: a search and a training in a real kernel print plain lines, and what is wrong in one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from searchspace import InputError, command
from tests.nas.test_search import ENVIRONMENT
from tests.support.paths import ROOT

SMALL = "['--budget', '20MFLOPs', '--space', 'rexnet', '--trials', '2', '--epochs', '1', '--run', 'run']"
CELLS = {
    "search": f"from nas.search import main\nmain({SMALL})",
    "train": "from nas import train\ntrain.main(['run', '--epochs', '1', '--out', 'out'])",
    "shell": "!python -m nas.train run --epochs 1 --out other",
    "nonsense": "main(['--budget', '5 apples'])",
    "flag": "main(['--nonsense'])",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def test_a_console_in_a_notebook_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels set it
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert command.console().is_terminal
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    found = command.console()
    assert not found.is_terminal
    assert found.soft_wrap
    assert not found.is_jupyter


def test_ipython_shows_what_is_wrong_as_a_line() -> None:
    assert InputError("budget: no number")._render_traceback_() == ["InputError: budget: no number"]
    with pytest.raises(InputError, match="no such option --x"):
        command.Parser(prog="x").parse_args(["--x"])


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What every cell shows."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("notebook")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS.values()])
    with pytest.MonkeyPatch.context() as patched:
        for name, word in ENVIRONMENT.items():
            patched.setenv(name, word)
        patched.setenv("PYTHONPATH", str(ROOT))
        place = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(book, timeout=300, resources=place, allow_errors=True).execute()
    return {name: cell.outputs for name, cell in zip(CELLS, book.cells, strict=True)}


def said(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_plain_lines(outputs: dict[str, list[Any]]) -> None:
    for name in ("search", "train", "shell"):
        assert not CONTROL.search(said(outputs[name]).replace("\r\n", "\n").removesuffix("\x1b[0m")), name
        assert not [one for one in outputs[name] if one.output_type in ("display_data", "error")], name
    for name, line in {
        "search": r"^budget 20MFLOPs at 224 px",
        "train": r"^epoch 1 of 1: train loss",
        "shell": r"^epoch 1 of 1: train loss",
    }.items():
        assert len(re.findall(line, said(outputs[name]), re.MULTILINE)) == 1, name
    assert re.search(r"^best network: run", said(outputs["search"]), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "says"), [("nonsense", "unknown unit 'apples'"), ("flag", "(see --help)")])
def test_a_notebook_shows_an_error_in_one_line(outputs: dict[str, list[Any]], name: str, says: str) -> None:
    (wrong,) = outputs[name]
    (line,) = wrong.traceback
    assert line.startswith("InputError: ")
    assert says in line


@pytest.fixture(scope="module")
def own() -> Any:
    """The notebook of blocks and costs of one's own, as it is kept."""
    return json.loads((ROOT / "experiments" / "your_own.ipynb").read_text(encoding="utf-8"))


def test_the_notebook_declares_what_the_readme_does(own: Any) -> None:
    code = ["".join(cell["source"]) for cell in own["cells"] if cell["cell_type"] == "code"]
    readme = (ROOT / "searchspace" / "README.md").read_text(encoding="utf-8")
    declared = re.findall(r"```python\n# \S+\.py\n.*?(@register.*?)\n```", readme, re.DOTALL)
    assert len(declared) == 2
    assert all(any(text in cell for cell in code) for text in declared)
    assert not any(cell.get("outputs") for cell in own["cells"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_of_ones_own_runs(own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    nbformat = pytest.importorskip("nbformat")
    for name, word in {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, word)
    book = nbformat.reads(json.dumps(own), as_version=4)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs for cell in book.cells if cell.cell_type == "code"]
    assert "image/png" in shown[1][0].data
    assert "weight_bytes" in shown[2][0].data["text/plain"]
    assert "weight_bytes" in shown[3][-1].data["text/html"]
    assert "class Network" in (tmp_path / "runs" / "own" / "best" / "model.py").read_text()
