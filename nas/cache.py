"""The folder in which this machine keeps what is made once and used by many runs: layer times and decoded images."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`NAS_CACHE`, else `nas` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`); it may not exist yet."""
    if named := os.environ.get("NAS_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas"
