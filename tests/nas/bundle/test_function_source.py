"""What is copied out of this project runs without it, says no types of its own, and reads as it did."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from nas.bundle.function_source import sort_imports, standalone

SECOND = '''
import struct
from typing import Any

WORDS = {1: "a", 2: "it\'s"}
Tags = dict[int, str]

class OddError(ValueError):
    """Odd."""

def even(number: int, *, strict: bool = True, **rest: Any) -> int:
    """The number, as it is."""
    tags: Tags = WORDS  # a comment that stays
    if strict and number % 2:
        raise OddError(f"{number} is odd")
    return struct.calcsize(f"{number}s") + len(tags)
'''
FIRST = """
from collections.abc import Sequence
from math import prod
import os.path as place
from nas import sample_b
from nas.sample_b import WORDS

def total(
    numbers: Sequence[int],
    all_of_them: bool = True,
) -> int:
    even = [sample_b.even(number) for number in numbers]  # the name of a function there
    return prod(even) + len(place.join("a", "b")) + len(WORDS)
"""


def loaded(folder: Path, name: str, code: str) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(f"nas.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"nas.{name}"] = module
    spec.loader.exec_module(module)
    return module


def test_functions_come_with_what_they_need(tmp_path: Path) -> None:
    import nas

    nas.sample_b = loaded(tmp_path, "sample_b", SECOND)  # type: ignore[attr-defined]
    try:
        imports, code = standalone(loaded(tmp_path, "sample_a", FIRST).total)
    finally:
        del nas.sample_b, sys.modules["nas.sample_b"], sys.modules["nas.sample_a"]  # type: ignore[attr-defined]
    assert sort_imports(imports) == (
        "import posixpath as place\nimport struct\nfrom math import prod\nfrom types import SimpleNamespace"
    )
    assert "def total(numbers, all_of_them=True):" in code
    assert "    tags = WORDS  # a comment that stays\n" in code
    (tmp_path / "alone.py").write_text(f"{sort_imports(imports)}\n\n{code}\nprint(total([2, 4]))\ntotal([1])\n")
    done = subprocess.run([sys.executable, "-I", tmp_path / "alone.py"], capture_output=True, text=True)
    assert done.stdout == f"{4 * 6 + 3 + 2}\n"
    assert done.stderr.endswith("OddError: 1 is odd\n")
