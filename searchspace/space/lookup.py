"""A network by what people call it: a name of the zoo, one of timm's (`timm:hardcorenas_d`), or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from searchspace.arch import Arch
from searchspace.document import read_yaml
from searchspace.errors import InputError
from searchspace.networks import names, zoo
from searchspace.space.space import Space

TIMM = "timm:"
OF_FOLDERS = ("arch.yaml", "best.yaml")  # the network of an export, and the best of a search


def network(name: str, resolution: int | None = None, num_classes: int | None = None) -> Arch:
    """The zoo's network of this name, timm's, or that of a file, written in stages or in blocks, or of the folder of an
    export or a search. Another resolution or number of classes than its own is for the zoo's, and files in stages."""
    said = {"resolution": resolution, "num_classes": num_classes}
    given = {option: number for option, number in said.items() if number is not None}
    if name.startswith(TIMM):
        _check_blocks(name, given)
        found: Arch = import_module("searchspace").from_timm(name.removeprefix(TIMM))
        return found
    path = Path(name)
    if name in names() or not (path.suffix or os.path.exists(name) or len(path.parts) > 1):
        return zoo(name, 1000 if num_classes is None else num_classes, resolution)
    if os.path.isdir(path):
        own = file_of(path)
        if own is None:
            none = " or ".join(OF_FOLDERS)
            raise InputError(
                f"{path}: cannot be read; of folders an export's or a search's is accepted, and it has no {none}"
            )
        path = own
    data, _ = read_yaml(path)
    if not (isinstance(data, dict) and "stages" in data):
        _check_blocks(name, given)
        return Arch.load(path)
    space = Space.load(path).fix([f"{option}={number}" for option, number in given.items()])
    if space.choices or space.fit_range:
        raise InputError(
            f"{path}: a space, not a network ({len(space.choices)} values are free); describe shows spaces"
        )
    return space.arch()


def file_of(folder: Path) -> Path | None:
    """The file of the network of an export's or a search's folder; None of another."""
    return next((folder / file for file in OF_FOLDERS if (folder / file).is_file()), None)


def _check_blocks(name: str, given: Mapping[str, int]) -> None:
    for option in given:
        raise InputError(
            f"{option.replace('_', '-')}: a name of the zoo or a file in stages takes it; {name} is neither"
        )
