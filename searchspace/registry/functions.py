"""What is asked of any function that a user registers."""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

MAIN = "__main__"


def replaces(function: Any, before: Any) -> bool:
    """Whether a function takes the place of one that was registered: where a notebook's cell is run again."""
    modules = {getattr(one, "__module__", None) for one in (function, before)}
    return modules == {MAIN} and not hasattr(sys.modules[MAIN], "__file__")


def source_of(function: Any) -> Any:
    """What a function says: equal of two that a file made when it was loaded twice."""
    code = getattr(function, "__code__", None)
    if code is None:
        return function
    enclosed = (cell.cell_contents for cell in function.__closure__ or ())
    return _instructions(code), function.__defaults__, tuple(map(source_of, enclosed))


def _instructions(code: CodeType) -> tuple[Any, ...]:
    constants = (_instructions(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, *constants
