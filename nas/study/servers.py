"""Database servers that this user has named. A run folder names the server of its study, and may be a stranger's: only
an address that was given here before is asked, and may be told a password.
"""

from __future__ import annotations

import os
from contextlib import suppress

from nas.cache import cache_folder
from nas.study.passwords import without_password
from searchspace.errors import InputError

FILE = "servers"  # addresses without passwords, one per line, in the user's cache folder
VARIABLE = "NAS_STORAGE"


def note(url: str) -> None:
    """The user has given this address: from now on run folders may name it."""
    address = without_password(url)
    if address not in _known_addresses():
        with suppress(OSError):
            cache_folder().mkdir(parents=True, exist_ok=True)
            with (cache_folder() / FILE).open("a", encoding="utf-8") as file:
                file.write(f"{address}\n")


def check(address: str, folder: object) -> None:
    """`InputError` for an address in a run folder that this user has not given."""
    if address not in _known_addresses():
        raise InputError(
            f"run {folder}: keeps its study in {address}, which no --storage has named here; where that server may be "
            f"told your password, {VARIABLE}='{address}' in the environment says so"
        )


def _known_addresses() -> set[str]:
    known = {os.environ.get(VARIABLE, "")}
    with suppress(OSError, UnicodeError):
        known.update((cache_folder() / FILE).read_text(encoding="utf-8").splitlines())
    return known
