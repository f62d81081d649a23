"""What a run ran on: versions and devices, kept in RUN/environment.yaml, since a report may be made elsewhere."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from searchspace.document import read_yaml, write_yaml
from searchspace.errors import InputError

FILE = "environment.yaml"
PACKAGES = ("cnn-budget-search", "torch", "ray", "optuna", "numpy", "scikit-learn")

Environment = dict[str, str]


def here() -> Environment:
    """This machine, as far as results may depend on it."""
    import torch

    from nas.latency.timing import device_name

    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    found |= {"cpu": f"{device_name('cpu')}, {os.cpu_count()} cores"}
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        found["gpu"] = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
    return found | {name: version(name) for name in PACKAGES}


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of a checkout"


def note(run: Path) -> None:
    """Add this machine to those that the run ran on, unless the last one is equal."""
    found, known = here(), load(run)
    if known[-1:] != [found]:
        write_yaml(run / FILE, [*known, found], "where the run ran, one entry for every change")


def load(run: Path) -> list[Environment]:
    """Where a run ran; empty where that was not kept."""
    path = run / FILE
    if not path.is_file():
        return []
    data, _ = read_yaml(path)
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise InputError(f"{path}: a list of mappings is accepted; the run can do without the file")
    return [{str(name): str(value) for name, value in entry.items()} for entry in data]
