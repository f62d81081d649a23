"""Where what takes long to make is kept between commands: layer times, decoded images."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """`NAS_CACHE`, else `XDG_CACHE_HOME`/nas, else ~/.cache/nas."""
    if given := os.environ.get("NAS_CACHE"):
        return Path(given)
    own = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME") or os.path.expanduser("~"), ".cache")
    return Path(own) / "nas"
