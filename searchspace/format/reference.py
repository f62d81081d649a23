"""Every key that a network file may have, read off the classes that it is parsed into: what is accepted, and what holds
where a key is left out."""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from searchspace.blocks.blocks import STRUCTURES, stage_blocks
from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import DEFAULTS, Network, Stage
from searchspace.format.schedule import Schedule

SECTIONS: dict[str, type] = {
    "network": Network,
    "stage": Stage,
    "schedule": Schedule,
    "stem": Stem,
    "head": Head,
    "norm": Norm,
}
OPTIONS = "options"  # which a file has among the other fields
SPACES = """`defaults` are keys of all stages that do not say otherwise. `{choice: [...]}` in place of a value frees it,
and `width_mult: {fit: [low, high]}` has the multiplier solved for every network, so that it costs what a budget allows:
a file with either is a space. Its `known` names points that are networks of papers."""
NAMES = {int: "a whole number", float: "a number", bool: "true or false"}


class Key(NamedTuple):
    name: str
    accepted: str
    default: str


def keys(section: str) -> list[Key]:
    """The keys of a section in their order. A stage's default says which kinds of blocks have one of their own."""
    cls = SECTIONS[section]
    hints = get_type_hints(cls)
    found = [
        Key(f.name, describe_accepted(hints[f.name]), _default(f, cls))
        for f in dataclasses.fields(cls)
        if f.name != OPTIONS
    ]
    return [*found, *_options()] if cls is Stage else found


def _options() -> list[Key]:
    """The fields that kinds of blocks declare themselves."""
    kinds: dict[str, list[str]] = {}
    for block in stage_blocks():
        for name in STRUCTURES[block].options:
            kinds.setdefault(name, []).append(block)
    values = {name: STRUCTURES[blocks[0]].options[name] for name, blocks in kinds.items()}
    return [
        Key(name, ", ".join(map(_describe, values[name])), f"{', '.join(blocks)}: {_describe(values[name][0])}")
        for name, blocks in kinds.items()
    ]


def about(section: str) -> str:
    """What the section's class says of its keys."""
    return (inspect.getdoc(SECTIONS[section]) or "") + (f"\n\n{SPACES}" if section == "network" else "")


def describe_accepted(hint: Any) -> str:
    """What a field of this type accepts, in words. A kind of block is the one name that is any text."""
    if hint is str:
        return ", ".join(stage_blocks())
    inside = [arg for arg in get_args(hint) if arg is not type(None)]
    if get_origin(hint) is Literal:
        return ", ".join(map(str, inside))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe_accepted(arg) for arg in inside)
    if get_origin(hint) is tuple:
        return f"a list: {describe_accepted(inside[0])}"
    named = next((section for section, cls in SECTIONS.items() if cls is hint), None)
    return f"as {named}" if named else NAMES[hint]


def _default(field: dataclasses.Field[Any], cls: type) -> str:
    if field.default is dataclasses.MISSING:
        return "has to be given"
    if cls is not Stage or field.name not in DEFAULTS:
        return _describe(field.default)
    own: dict[str, list[str]] = {}
    for block in stage_blocks():
        if field.name in (paper := STRUCTURES[block].paper):
            own.setdefault(_describe(paper[field.name]), []).append(block)
    lines = [f"{', '.join(blocks)}: {choice}" for choice, blocks in own.items()]
    return "; ".join([_describe(DEFAULTS[field.name]), *lines])


def _describe(choice: Any) -> str:
    if choice is None:
        return "none"
    if isinstance(choice, bool):
        return str(choice).lower()
    if isinstance(choice, tuple):
        return f"[{', '.join(map(_describe, choice))}]"
    if dataclasses.is_dataclass(choice) and not isinstance(choice, type):
        pairs = ((f, getattr(choice, f.name)) for f in dataclasses.fields(choice))
        changed = [f"{f.name}: {_describe(value)}" for f, value in pairs if value != f.default]
        return f"{{{', '.join(changed)}}}" if changed else "as its own keys say"
    return f"{choice:g}" if isinstance(choice, float) else str(choice)
