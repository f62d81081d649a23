"""Plugins: Python files, or modules, that register blocks and costs (`--plugin my_blocks.py`)."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from searchspace.blocks.blocks import STRUCTURES, Structure
from searchspace.budget import OWN_COSTS, OwnCost
from searchspace.errors import InputError, reason
from searchspace.registry.blocks import PACKAGE, forget, same

PLUGIN = "searchspace_plugin_"  # begins the names of modules that were loaded from files
LOADED: dict[Path, str] = {}


def resolve(text: str) -> str:
    """A plugin as `sources` calls it: a file by its whole path."""
    return str(Path(text).resolve()) if text.endswith(".py") else text


def is_loaded(text: str) -> bool:
    """Whether a plugin was loaded; one that was moved stands for the file that a run remembers."""
    if not text.endswith(".py"):
        return text in sys.modules
    path = Path(text).resolve()
    return path in LOADED or (not path.is_file() and path.name in {one.name for one in LOADED})


def load(text: str) -> None:
    """Import a plugin, a file or a module's name; once per process. `InputError` where that cannot be."""
    is_file = text.endswith(".py")
    path = Path(text).resolve()
    if is_loaded(text):
        return
    if is_file and not path.is_file():
        moved = f"where it has been moved, --plugin NEW/PLACE/{path.name} stands for it"
        raise InputError(f"plugin {text}: there is no such file; {moved}")
    try:
        _import_file(path) if is_file else importlib.import_module(text)
    except InputError as error:
        raise InputError(f"plugin {text}: {error}") from None
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise InputError(f"plugin {text}: cannot be imported ({reason(error)}{line})") from None


def _import_file(path: Path) -> None:
    place = hashlib.sha256(bytes(path)).hexdigest()[:8]  # two files may have one name
    name = PLUGIN + re.sub(r"\W", "_", path.stem) + f"_{place}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    LOADED[path] = name


def load_all(texts: Iterable[str]) -> None:
    for text in texts:
        load(text)


def sources() -> tuple[str, ...]:
    """The plugins that register what is registered, as `load` takes them; nothing of a script or a notebook."""
    found = (_source(function) for function in own_functions())
    return tuple(dict.fromkeys(text for text in found if text))


def has_sourceless() -> bool:
    """Whether something is registered that no other process can load: by a script or a notebook."""
    return not all(map(_source, own_functions()))


def own_functions() -> list[Callable[..., Any]]:
    """The functions that are registered."""
    return [*(kind.layers for kind in own().blocks.values()), *(cost.of for cost in OWN_COSTS.values())]


class Declared(NamedTuple):
    """What is registered in a process."""

    blocks: dict[str, Structure]
    costs: dict[str, OwnCost]


def own() -> Declared:
    return Declared({name: kind for name, kind in STRUCTURES.items() if name not in PACKAGE}, dict(OWN_COSTS))


def adopt(declared: Declared) -> None:
    """Register what another process checked."""
    OWN_COSTS.update(declared.costs)
    if any(name not in STRUCTURES or not same(STRUCTURES[name], kind) for name, kind in declared.blocks.items()):
        STRUCTURES.update(declared.blocks)
        forget()


def _source(function: Callable[..., Any]) -> str:
    name = getattr(function, "__module__", "__main__")
    file = getattr(sys.modules.get(name), "__file__", None)
    if name == "__main__" or file is None:
        return ""
    return name if "." in name else str(Path(file).resolve())


class _Load(argparse.Action):
    """Loads a plugin as soon as it is read, and so before anything that needs it."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        load(values)
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), values])


def plugin_option(parser: argparse.ArgumentParser) -> None:
    """`--plugin`, for a command that reads files which may name blocks and costs of the user's own."""
    parser.add_argument(
        "--plugin",
        action=_Load,
        metavar="FILE",
        help="a Python file that registers blocks or costs of your own; several",
    )
