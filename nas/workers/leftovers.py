"""Temporary folders that are held while they are used: the next start finds those of killed runs, and removes them.

A folder is held by a lock on a file in it, which ends with its process, however that ends, and which processes of other
containers see too. The file has its name once it is locked, so that no clock has to say how young it is. A folder
without such a file is somebody else's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

FILE = "nas.held"


def hold(folder: Path) -> int:
    """The folder is in use until the descriptor is closed, or this process has ended."""
    unnamed = folder / f"{FILE}.new"
    held = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder / FILE)
    return held


def remove(parent: Path, pattern: str) -> None:
    """Remove this user's folders of such names that nobody holds any more."""
    for folder in parent.glob(pattern):
        with suppress(OSError):
            held = os.open(folder / FILE, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if os.fstat(held).st_uid == os.getuid() and not folder.is_symlink():
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)
