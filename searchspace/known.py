"""Known networks as points of a space: the `known` section of a space file, read and checked.

    known:
      rexnet_100: {schedule.kind: linear, stage*.expansion: [1, 6, 6, 6, 6, 6], stage*.kernel: 3, …}

A `*` stands for any part of a name, as in `stage*.kernel`; a list gives every match its own value, in order. Every free
value has to be named, so that the network is a whole point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from searchspace.choices import Scalar, name
from searchspace.document import Location
from searchspace.errors import InputError

Known = dict[str, dict[str, Scalar]]


def known_points(
    section: Any, data: Any, choices: Mapping[str, tuple[Scalar, ...]], source: str
) -> tuple[Known, dict[str, str]]:
    """The points of the entries whose values the space offers, and for each other entry what it lacks.

    `data` is the space's file without the section. A value that the file fixes has to be the entry's. Raises
    `InputError` where an entry names what is not there, or leaves a free value open.
    """
    if not isinstance(section, dict) or not all(isinstance(entry, dict) for entry in section.values()):
        raise InputError(f"{source}: known: a mapping of names to the values of all free parameters is accepted")
    offered = {name(at): options for at, options in sorted(_places(data), key=lambda place: place[0])}
    points: Known = {}
    lacking: dict[str, str] = {}
    for title, entry in section.items():
        place = f"{source}: known.{title}"
        wanted = _spelt_out(entry, list(offered), place)
        missing = choices.keys() - wanted.keys()
        if missing:
            raise InputError(f"{place}: has to name every free value; {min(missing)} is missing")
        lacks = [f"{one}={value}" for one, value in wanted.items() if value not in offered[one]]
        if lacks:
            lacking[title] = lacks[0]
        else:
            points[title] = {one: options[options.index(wanted[one])] for one, options in choices.items()}
    return points, lacking


def _spelt_out(entry: Mapping[str, Any], names: list[str], place: str) -> dict[str, Scalar]:
    """An entry with one value a name; later lines win."""
    wanted: dict[str, Scalar] = {}
    for pattern, value in entry.items():
        matches = [one for one in names if fnmatchcase(one, pattern)]
        values = value if isinstance(value, list) else [value] * len(matches)
        if not matches or len(values) != len(matches):
            raise InputError(f"{place}: {pattern}: {len(values)} values for {len(matches)} names of that form")
        wanted |= dict(zip(matches, values, strict=True))
    return wanted


def _places(node: Any, at: Location = ()) -> Iterator[tuple[Location, list[Any]]]:
    """Every value of a file with what it may be: its choices, or the one that it is fixed to."""
    if isinstance(node, dict) and "choice" in node:
        yield at, node["choice"]
    elif isinstance(node, (dict, list)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _places(child, (*at, key))
    else:
        yield at, [node]
