"""The sampler as an OptunaHub package, which needs nothing of this project: `python -m nas.samplers.hub DIRECTORY`.

OptunaHub loads a package as one folder of Python files (https://hub.optuna.org). These are the modules of this folder
that `Predictor` is made of, with what they take from elsewhere beside them; README, example and licence come along.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from nas.samplers import optuna_private as private
from searchspace import command, errors
from searchspace.document import write_text
from searchspace.errors import InputError
from searchspace.space import choices, repair

HERE = Path(__file__).parent
MODULES = (
    *("domain", "encoding", "gaussian_process", "observations", "optuna_private", "point_sampler", "predictor"),
    *("repaired", "replicates", "taken"),
)
MOVED = {"searchspace.errors": "errors", "searchspace.space.choices": "choices", "searchspace.space.repair": "repair"}
INIT = """from .domain import ExhaustedError, OutOfReachError
from .errors import InputError
from .predictor import Predictor

__all__ = ["Predictor", "InputError", "ExhaustedError", "OutOfReachError"]
"""
OPTIONS = '''"""What a choice may be."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any


'''
EXAMPLE = """import optuna
import optunahub

options = {"expansion": [3, 4, 6], "kernel": [3, 5, 7], "layers": [2, 3, 4], "se": [False, True]}
choices = {f"{name}{block}": values for block in range(7) for name, values in options.items()}


def cost(p):  # what a point costs, known before it is evaluated: multiply-adds, parameters, euros
    return sum(1e5 * p[f"expansion{b}"] * p[f"layers{b}"] * (10 + p[f"kernel{b}"] ** 2) for b in range(7))


def objective(trial):
    p = {name: trial.suggest_categorical(name, values) for name, values in choices.items()}
    return sum(p[f"layers{b}"] * p[f"expansion{b}"] ** 0.5 + p[f"se{b}"] for b in range(7))


if __name__ == "__main__":
    module = optunahub.load_module(package="samplers/budgeted_predictor")
    sampler = module.Predictor(choices, cost=cost, budget=300e6, seed=0, trials=60)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=60)
    print(sampler.winner(study).params)
    assert all(0.85 * 300e6 <= cost(trial.params) <= 300e6 for trial in study.trials)
"""
README = """---
author: The authors of cnn-budget-search
title: Budgeted predictor for categorical spaces with a known cost
description: A Gaussian process for choices under a hard budget whose cost is known before a point is evaluated.
tags: [sampler, categorical, constraint, budget, Gaussian process, architecture search]
optuna_versions: [{optuna}]
license: {licence}
---

## Abstract

For spaces of choices in which what a point costs is known at once, such as multiply-adds of a neural network, and
the budget is hard. Every proposal is inside the budget, uses 85 to 100 % of it as long as the space has new ones there,
and comes once. After 12 random points a Gaussian process over the choices and the logarithm of the cost proposes by
expected improvement; with `tpe_share`, TPE a part of the points, repaired to fit. Where the number of trials is
known, points of the second half may be evaluated once more, where that tells more than a new one does (knowledge
gradient); `winner` names the point that is expected to be best, not that of the luckiest score. Several processes may
share a storage, and a study may have other parameters beside the choices, which TPE samples.

## APIs

`Predictor(choices, cost=None, budget=None, seed=0, low=0.85, tpe_share=0, evidence=(), trials=None, beside=None)`

- `choices`: every parameter's values; the objective suggests each with `suggest_categorical(name, choices[name])`.
- `cost`, `budget`: a function of a point, and what it may be at most; without both, every point fits.
- `low`: the part of the budget that proposals use at least.
- `trials`: how many the study will have.
- `beside`: a function of a point, what it is known to be worth beside its outcome, in standard deviations of outcomes.

`Predictor.winner(study)` is the trial to take. There is one objective; `study.optimize` ends where nothing new is left.

## Installation

```shell
$ pip install optunahub scipy
```

## Example

```python
{example}```

## Where it comes from

Benchmarks beside other samplers on NAS-Bench-Macro, ablations and the tests are in cnn-budget-search, of which this
folder is made by `python -m nas.samplers.hub`, version {version}.
"""


def write(folder: Path) -> list[Path]:
    """The package as files of a folder that is not there yet, or is empty; `InputError` where it is neither."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: a folder that is not there yet, or empty, is accepted")
    texts = {f"{name}.py": (HERE / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    texts["errors.py"] = inspect.getsource(errors)
    texts["repair.py"] = inspect.getsource(repair)
    texts["choices.py"] = OPTIONS + inspect.getsource(choices.Options)
    texts = {name: localise(text) for name, text in texts.items()}
    facts = {"optuna": f"{private.TRIED}.0", "licence": "Apache License 2.0", "version": command.version()}
    texts |= {"__init__.py": INIT, "example.py": EXAMPLE, "README.md": README.format(example=EXAMPLE, **facts)}
    texts |= {"LICENSE": licence(), "requirements.txt": "scipy\nsqlalchemy\n"}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in sorted(texts)]


def localise(text: str) -> str:
    """A module's imports from this project as imports from its own folder."""
    for module, name in MOVED.items():
        text = re.sub(rf"^from {re.escape(module)} import", f"from .{name} import", text, flags=re.MULTILINE)
    text = re.sub(r"^from nas\.samplers import", "from . import", text, flags=re.MULTILINE)
    return re.sub(r"^from nas\.samplers\.", "from .", text, flags=re.MULTILINE)


def licence() -> str:
    """This project's, from its checkout or from what was installed."""
    beside = HERE.parents[1] / "LICENSE"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    installed = [file for file in metadata.files(command.DISTRIBUTION) or () if file.name == "LICENSE"]
    if installed:
        return installed[0].read_text(encoding="utf-8")
    return "Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0\n"


def main(arguments: Sequence[str]) -> int:
    parser = command.Parser(prog="nas.samplers.hub", description=__doc__, example="python -m nas.samplers.hub package")
    parser.add_argument("folder", type=command.path, help="folder to write to")
    made = write(parser.parse_args(arguments).folder)
    command.console().print(f"wrote {made[0].parent}: {', '.join(path.name for path in made)}")
    return 0


if __name__ == "__main__":
    command.run(main, "nas.samplers.hub")
