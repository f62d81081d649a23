"""A network by what people call it: a name of the zoo, one of timm's (`timm:hardcorenas_d`), or a file."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from searchspace.arch import Arch
from searchspace.document import read_yaml
from searchspace.errors import InputError
from searchspace.networks import names, zoo
from searchspace.space.space import Space

TIMM = "timm:"


def network(name: str) -> Arch:
    """The zoo's network of this name, timm's, or that of a file, written in stages or in blocks."""
    if name.startswith(TIMM):
        found: Arch = import_module("searchspace").from_timm(name.removeprefix(TIMM))
        return found
    path = Path(name)
    if name in names() or not (path.suffix or os.path.exists(name) or len(path.parts) > 1):
        return zoo(name)
    data, _ = read_yaml(path)
    if not (isinstance(data, dict) and "stages" in data):
        return Arch.load(path)
    space = Space.load(path)
    if space.choices or space.fit_range:
        raise InputError(
            f"{path}: a space, not a network ({len(space.choices)} values are free); describe shows spaces"
        )
    return space.arch()
