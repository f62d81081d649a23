"""Plugins that a file names: loaded where this user has used them before, so that opening a run runs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.cache import cache_folder
from searchspace.errors import InputError
from searchspace.registry.plugins import is_loaded, load, resolve, sources

FILE = "plugins"  # one per line, in the user's cache folder


def plugins_in_use() -> tuple[str, ...]:
    """The plugins that register what is registered here. From now on runs may name them."""
    found = sources()
    known = _registered_names()
    if new := [text for text in found if text not in known]:
        with suppress(OSError):
            cache_folder().mkdir(parents=True, exist_ok=True)
            with (cache_folder() / FILE).open("a", encoding="utf-8") as file:
                file.writelines(f"{text}\n" for text in new)
    return found


def load_named(plugins: Any) -> None:
    """Load the plugins that a file names; what is no list of texts is refused where the file is parsed.

    `InputError` for one that nobody has used here.
    """
    if not isinstance(plugins, list) or not all(isinstance(text, str) for text in plugins):
        return
    for text in _not_loaded(plugins):
        if resolve(text) not in _registered_names() and (Path(text).exists() or not text.endswith(".py")):
            raise InputError(f"plugin {text}: not used here before; read it, then --plugin {text} loads it")
        load(text)


def _not_loaded(plugins: Iterable[str]) -> list[str]:
    return [text for text in plugins if not is_loaded(text)]


def _registered_names() -> set[str]:
    try:
        return set((cache_folder() / FILE).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeError):
        return set()
