"""The sampler as a package of its own: no import of this project, and the same proposals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from nas.samplers import Predictor, hub
from searchspace import InputError

# As OptunaHub loads it, where nothing of this project can be imported.
SCRIPT = """
import importlib.util, json, sys, types
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nas", "searchspace"):
            raise ImportError(f"{name} is of the project")

sys.meta_path.insert(0, Refuse())
folder = Path(sys.argv[1])
places = {"submodule_search_locations": [str(folder)]}
spec = importlib.util.spec_from_file_location("hub_package", folder / "__init__.py", **places)
module = importlib.util.module_from_spec(spec)
sys.modules["hub_package"] = module
spec.loader.exec_module(module)
sys.modules["optunahub"] = types.SimpleNamespace(load_module=lambda package: module)
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
example = {"__name__": "example"}
exec((folder / "example.py").read_text(), example)
sampler = module.Predictor(example["choices"], cost=example["cost"], budget=300e6, seed=3)
study = optuna.create_study(direction="maximize", sampler=sampler)
study.optimize(example["objective"], n_trials=24)
print(json.dumps([[trial.params for trial in study.trials], sampler.winner(study).number]))
"""


def test_it_needs_nothing_of_this_project_and_proposes_the_same(tmp_path: Path) -> None:
    made = hub.write(tmp_path / "package")
    assert {path.name for path in made} >= {"__init__.py", "README.md", "LICENSE", "example.py", "predictor.py"}
    for path in made:
        if path.suffix == ".py":
            assert "searchspace" not in path.read_text()
            assert "from nas" not in path.read_text()
    ran = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(tmp_path / "package")], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    theirs, winner = json.loads(ran.stdout)
    example: dict[str, object] = {"__name__": "example"}
    text = (tmp_path / "package" / "example.py").read_text().replace("import optunahub\n", "")
    exec(text, example)
    sampler = Predictor(example["choices"], cost=example["cost"], budget=300e6, seed=3)  # type: ignore[arg-type]
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(example["objective"], n_trials=24)  # type: ignore[arg-type]
    assert [trial.params for trial in study.trials] == theirs
    assert sampler.winner(study).number == winner


def test_its_readme_begins_as_optunahub_wants_it(tmp_path: Path) -> None:
    hub.write(tmp_path)
    head = (tmp_path / "README.md").read_text().split("---")[1].strip().splitlines()
    fields = ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert [line.partition(":")[0] for line in head] == fields
    assert "Apache License" in (tmp_path / "LICENSE").read_text()


def test_a_folder_that_has_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="a folder that is not there yet, or empty"):
        hub.main([str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
