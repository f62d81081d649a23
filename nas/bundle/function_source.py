"""Functions of this project as text, with all that they need, for a file that goes where the project is not.

What they call here comes along, under the names that it has; annotations stay behind, since they name types of ours.
"""

from __future__ import annotations

import ast
import dis
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

Part = Callable[..., Any]
PACKAGES = ("nas", "searchspace")


def standalone(*functions: Part) -> tuple[set[str], str]:
    """The imports that the functions need, and their code: constants first, then whatever is called."""
    imports: set[str] = set()
    constants: dict[str, str] = {}
    code: dict[str, str] = {}
    modules: dict[str, set[str]] = {}
    waiting: list[Part] = list(functions)
    while waiting:
        part = waiting.pop(0)
        if part.__name__ in code:
            continue
        text = code[part.__name__] = bare(textwrap.dedent(inspect.getsource(part))).strip("\n") + "\n"
        for name, found in _globals_of(part):
            if isinstance(found, ModuleType) and _is_own(found):
                members = sorted(set(re.findall(rf"\b{name}\.(\w+)", text)))
                modules.setdefault(name, set()).update(members)
                waiting += [getattr(found, member) for member in members]
            elif _is_own(found):
                waiting.append(found)
            elif isinstance(found, ModuleType) or hasattr(found, "__module__"):
                imports.add(_import(name, found))
            else:
                constant = f"{name} = {_literal(found)}\n"
                assert constants.setdefault(name, constant) == constant, f"two modules have a {name}"
    if modules:
        imports.add("from types import SimpleNamespace")
    blocks = ["".join(constants.values()), *code.values(), "".join(map(_namespace, modules, modules.values()))]
    return imports, "\n\n".join(filter(None, blocks))


def _namespace(name: str, members: set[str]) -> str:
    """What stands for a module of ours: its members that are used, under its name."""
    lines = "".join(f"    {member}={member},\n" for member in sorted(members))
    return f"{name} = SimpleNamespace(\n{lines})\n"


def _literal(constant: object) -> str:
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', repr(constant))


def sort_imports(imports: set[str]) -> str:
    """Imports as they stand at the head of a file: the standard library first, each module once."""
    taken: dict[str, list[str]] = {}
    for line in sorted(imports):
        if line.startswith("from "):
            module, _, name = line.removeprefix("from ").partition(" import ")
            taken.setdefault(module, []).append(name)
    lines = sorted(line for line in imports if line.startswith("import "))
    lines += [f"from {module} import {', '.join(names)}" for module, names in sorted(taken.items())]
    groups: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        groups[line.split()[1].partition(".")[0] not in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)


def _globals_of(part: Part) -> list[tuple[str, Any]]:
    """The globals that a function's or a class's code looks up, by name, in the order of their first use."""
    if isinstance(part, type):
        methods = [method for method in vars(part).values() if isinstance(method, FunctionType)]
        bases = [(base.__name__, base) for base in part.__bases__ if base.__module__ != "builtins"]
        return bases + [pair for method in methods for pair in _globals_of(method)]
    assert isinstance(part, FunctionType), f"{part} is no plain function"
    names = dict.fromkeys(_names_in(part.__code__))
    return [(name, part.__globals__[name]) for name in names if name in part.__globals__]


def _names_in(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names_in(inner)


def _is_own(found: Any) -> bool:
    name = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", "")
    return str(name).partition(".")[0] in PACKAGES


def _import(name: str, found: Any) -> str:
    parent, _, last = found.__name__.rpartition(".") if isinstance(found, ModuleType) else (found.__module__, "", name)
    if not isinstance(found, ModuleType):
        assert getattr(sys.modules[parent], name, None) is found, f"{name} is not to be imported from {parent}"
    if last == name:
        return f"from {parent} import {name}" if parent else f"import {name}"
    return f"import {found.__name__} as {name}"


def bare(code: str) -> str:
    """Code without its annotations, everything else as it was written."""
    lines = code.split("\n")
    for node in sorted(ast.walk(ast.parse(code)), key=lambda node: getattr(node, "lineno", 0), reverse=True):
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            _remove_annotation(lines, node.target, node.annotation)
        elif isinstance(node, ast.FunctionDef):
            _plain_head(lines, node)
    return "\n".join(lines)


def _remove_annotation(lines: list[str], target: ast.expr, annotation: ast.expr) -> None:
    """Remove an annotation that follows its target on one line."""
    assert annotation.end_lineno is not None
    assert annotation.end_lineno == target.end_lineno
    row = annotation.end_lineno - 1
    line = lines[row].encode()  # columns are counted in bytes
    lines[row] = (line[: target.end_col_offset] + line[annotation.end_col_offset :]).decode()


def _plain_head(lines: list[str], node: ast.FunctionDef) -> None:
    arguments = node.args
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    head = f"{' ' * node.col_offset}def {node.name}({ast.unparse(arguments)}):"
    lines[node.lineno - 1 : node.body[0].lineno - 1] = [head]
