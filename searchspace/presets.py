"""What ships as files and may be somebody's own file instead: spaces, boards, rules of deployments."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from searchspace.errors import InputError

SUFFIX = ".yaml"


def names(folder: str) -> list[str]:
    """The names of those that ship in a folder of this package."""
    there = resources.files("searchspace") / folder
    return sorted(entry.name.removesuffix(SUFFIX) for entry in there.iterdir() if entry.name.endswith(SUFFIX))


def find(kind: str, folder: str, given: str | Path) -> Path:
    """The file of one by its name, or of somebody's own; `InputError` where there is none."""
    given = name = os.path.expanduser(str(given))
    known = names(folder)
    own = os.path.exists(given) and not Path(given).is_dir()
    if name not in known and not own:
        name = name.lower()  # a file of somebody's own may be called like one but for its capitals
    if name in known:
        return Path(str(resources.files("searchspace") / folder / f"{name}{SUFFIX}"))
    if not own:
        raise InputError(f"{kind} {given!r}: a file, or one of {', '.join(known)} is accepted")
    return Path(given)
