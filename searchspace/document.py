"""Documents: YAML text to validated values and back, with errors that name file, line, field and value."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from searchspace.errors import InputError

T = TypeVar("T")
Location = tuple[str | int, ...]

# A network of a thousand blocks is less than any of these.
MOST_BYTES, MOST_PLACES, MOST_LEVELS = 500_000, 100_000, 20
SHOWN_ERRORS = 3
REFUSED_BY_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
FREES = "; {choice: [...]} frees a value"
REGISTERS = " (--plugin FILE registers blocks of your own)"


class Loader(yaml.SafeLoader):
    """YAML with the numbers of its version 1.2: 1e-6 is one, and 1:30, 010 and 1_0 are text, not 90, 8 and 10."""


class Dumper(yaml.SafeDumper):
    """Writes in quotes what `Loader` would take for a number."""


_OTHERS = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_WHOLE = r"(0|[1-9]\d*)"
_NUMBERS = {
    "int": rf"[-+]?{_WHOLE}",
    "float": rf"[-+]?({_WHOLE}?\.\d+|{_WHOLE}\.)([eE][-+]?\d+)?|[-+]?{_WHOLE}[eE][-+]?\d+|[-+]?\.inf|\.nan",
}
for _class in (Loader, Dumper):
    _class.yaml_implicit_resolvers = {first: list(resolvers) for first, resolvers in _OTHERS.items()}
    for _tag, _pattern in _NUMBERS.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^({_pattern})$"), list("-+.0123456789"))


def user_path(given: str | Path) -> Path:
    """A path that came from Python, where no shell has read its `~`."""
    return Path(os.path.expanduser(given))


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A frozen, slotted dataclass that people may write in a document; fields it does not know are refused."""
    made = dataclasses.dataclass(frozen=True, slots=True)(cls)
    made.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return made


@lru_cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def parse(
    cls: type[T], data: Any, source: str = "", lines: Mapping[Location, int] | None = None, finite: bool = True
) -> T:
    """Plain data as a value of `cls`; strict: no text for numbers, no unknown fields, and only `finite` numbers.

    Raises `InputError`, one line: source, line, field, what is accepted and what was given.
    """
    try:
        text = json.dumps(data, allow_nan=not finite)
    except RecursionError:
        raise InputError(f"{source or 'document'}: nested too deep") from None
    except (TypeError, ValueError):
        place = spelt(_not_plain(data))
        where = ": ".join(part for part in (source or "document", place) if part)
        raise InputError(f"{where}: only plain data and finite numbers are accepted") from None
    try:
        parsed: T = _adapter(cast(Any, cls)).validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(_describe(error, cls, source, lines or {})) from None
    return parsed


def _not_plain(node: Any) -> Location:
    """Where in the data the first value stands that JSON cannot hold."""
    children: list[tuple[Any, Any]] = []
    if isinstance(node, (dict, list)):
        children = list(node.items() if isinstance(node, dict) else enumerate(node))
    for key, child in children:
        try:
            json.dumps(child, allow_nan=False)
        except (TypeError, ValueError):
            return (key, *_not_plain(child))
    return ()


def spelt(location: Location) -> str:
    """A place in a document as people read it: stages count from 1, as in `stage3.expansion`."""
    if len(location) > 1 and location[0] == "stages" and isinstance(location[1], int):
        location = (f"stage{location[1] + 1}", *location[2:])
    return ".".join(str(part) for part in location)


def _describe(error: ValidationError, cls: Any, source: str, lines: Mapping[Location, int]) -> str:
    """The first few things that are wrong, in one line; what is written once for all stages is said once."""
    if error.errors()[0]["type"] == "json_invalid":
        said = error.errors()[0]["msg"].removeprefix("Invalid JSON: ")
        return f"{source}: no plain data ({said})"
    errors = list(dict.fromkeys(_explain(detail, cls, lines) for detail in error.errors()))
    (line, first), others = errors[0], errors[1:SHOWN_ERRORS]
    if first.endswith((FREES, REGISTERS)):  # what else is wrong with it follows from that
        errors, others = errors[:1], []
    place = ":".join(str(part) for part in (source, line) if part not in ("", None))
    beside = [f"; also {f'line {line}: ' if line else ''}{said}" for line, said in others]
    more = f" (and {len(errors) - SHOWN_ERRORS} more)" if len(errors) > SHOWN_ERRORS else ""
    return f"{place}: {first}".removeprefix(": ") + "".join(beside) + more


def _explain(detail: ErrorDetails, cls: Any, lines: Mapping[Location, int]) -> tuple[int | None, str]:
    """The line on which one thing is wrong, and what: the field, what is accepted and what was given."""
    location: Location = detail["loc"]
    unsaid = location not in lines and ("defaults", *location[2:]) in lines
    if unsaid and location[0] == "stages" and len(location) > 2:  # written once for all stages
        location = ("defaults", *location[2:])
    line = next((lines[location[:n]] for n in range(len(location), -1, -1) if location[:n] in lines), None)
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    said = {"Field required": "is missing", "Unexpected keyword argument": "no such field"}.get(said, said)
    if detail["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(str(detail["loc"][-1]), fields_at(cls, detail["loc"][:-1]), 1)
        said += f"; did you mean {near[0]}?" if near else ""
    given = detail["input"]
    if isinstance(given, dict) and len(given) == 1 and isinstance(next(iter(given.values())), list):
        said += FREES
    elif detail["type"] not in ("missing", "unexpected_keyword_argument", "value_error"):
        said += f", not {json.dumps(given, ensure_ascii=False)[:80]}"
    return line, ": ".join(part for part in (spelt(location), said) if part)


def fields_at(cls: Any, location: Location) -> list[str]:
    """The fields that may be written at a place in a document of this class; empty where there are none."""
    for part in location:
        cls = _within(cls)
        if isinstance(part, str):
            cls = get_type_hints(cls).get(part) if dataclasses.is_dataclass(cls) else None
    cls = _within(cls)
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


def _within(cls: Any) -> Any:
    """Of a list, or of what may be left out, the class that is in it."""
    while not dataclasses.is_dataclass(cls) and get_args(cls):
        cls = next((arg for arg in get_args(cls) if dataclasses.is_dataclass(arg)), get_args(cls)[0])
    return cls


def read_yaml(path: Path) -> tuple[Any, dict[Location, int]]:
    """The file's data and the line number of every place in it.

    `InputError` where it cannot be read, says something twice, or is larger or deeper than any network, which
    includes what aliases make of a short one.
    """
    try:
        check_no_pipe(path)
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES:,} bytes, so no network")
        loader = Loader(raw.decode("utf-8-sig"))
        node = loader.get_single_node()
        lines: dict[Location, int] = {}
        if node is None:
            return None, lines
        _note_lines(node, (), lines, path)
        return loader.construct_document(node), lines
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read (not UTF-8 text)") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise InputError(f"{path}: nested deeper than {MOST_LEVELS} levels") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not YAML: {error}") from None


def check_no_pipe(path: Path) -> None:
    """`InputError` for a named pipe, which a reader may wait for without end; a shell's own pipes are under /dev."""
    if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):
        raise InputError(f"{path}: a file is accepted, not a pipe")


def _note_lines(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    line = lines.setdefault(location, node.start_mark.line + 1)
    place = f"{path}:{line}"
    if len(location) > MOST_LEVELS:
        raise InputError(f"{place}: nested deeper than {MOST_LEVELS} levels")
    if len(lines) > MOST_PLACES:
        raise InputError(f"{place}: more than {MOST_PLACES:,} values, with those of its aliases")
    if isinstance(node, yaml.MappingNode):
        written: set[str] = set()
        for key, child in node.value:
            name = str(key.value)
            if name in written:
                raise InputError(f"{path}:{key.start_mark.line + 1}: {spelt((*location, name))}: written twice")
            written.add(name)
            _note_lines(child, (*location, name), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _note_lines(child, (*location, index), lines, path)


def plain(thing: Any, whole: tuple[type, ...] = ()) -> Any:
    """A value as plain data, leaving out fields that stand at their default: `parse` reads it back equal.

    Values of the classes in `whole` keep all their fields, and so mean the same when defaults have changed.
    """
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        pairs = ((f, getattr(thing, f.name)) for f in dataclasses.fields(thing))
        return {f.name: plain(v, whole) for f, v in pairs if v != f.default or isinstance(thing, whole)}
    if isinstance(thing, dict):
        return {name: plain(item, whole) for name, item in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(item, whole) for item in thing]
    return thing


def scalar(text: str) -> bool | int | float | str | None:
    """A single value as a file has it: 3 and 1e-6 are numbers; 1_0, and what is no single value, is text."""
    try:
        read = yaml.load(text, Loader) if text else text
    except (yaml.YAMLError, ValueError):
        return text
    return read if read is None or isinstance(read, (bool, int, float, str)) else text


def write_yaml(path: Path, data: Any, title: str = "") -> None:
    """Data as YAML, in one step."""
    text = yaml.dump(data, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=160, allow_unicode=True)
    write_text(path, (f"# {title}\n" if title else "") + text)


def write_text(path: Path, text: str) -> None:
    """Text in one step: a reader sees the old file or the new one, whatever happens."""
    part = part_of(path)
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):  # a full disk does not say of which file, others name the one that nobody knows
            error.filename, error.filename2 = str(path), None
        raise


def part_of(path: Path) -> Path:
    """Where a new file is written before it takes the place of `path`: nothing is there, no link to elsewhere.

    Another process may write the same file now, and has a part of its own.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with suppress(OSError):  # whoever writes it says what is wrong
        part.unlink()
    return part


def check_own(*paths: Path) -> None:
    """`InputError` for a link, which may lead anywhere, or a pipe, which would wait, where a folder's own file is read
    and written in place; not for what is not there."""
    for path in paths:
        if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
            raise InputError(f"{path}: a file or folder of its own is accepted there, not a link, pipe or device")


@contextmanager
def writing(what: str, hint: str = "") -> Iterator[None]:
    """`InputError` where `what` cannot be written, and the `OSError` itself where the disk is full or broken: that is
    nothing that another command mends."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED_BY_DISK:
            error.filename = error.filename or what
            raise
        raise InputError(f"{what}: cannot be written ({error.strerror}){hint}") from None
