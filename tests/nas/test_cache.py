"""One cache folder for everything that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.cache import cache_folder
from nas.latency import device_table, timing


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ({"NAS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/nas"),
        ({"HOME": "/c"}, "/c/.cache/nas"),
        ({"NAS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/nas"),
    ],
)
def test_the_folder_that_was_asked_for(given: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, setting in given.items():
        monkeypatch.setenv(name, setting)
    assert cache_folder() == Path(folder)
    assert device_table.default_path(timing.conditions("cpu")).parent == Path(folder) / "latency"
