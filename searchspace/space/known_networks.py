"""Known networks as points of a space: the `known` section of a space file, read and checked.

    known:
      rexnet_100: {schedule.kind: linear, stage*.expansion: [1, 6, 6, 6, 6, 6], stage*.kernel: 3, …}

A `*` stands for any part of a name, as in `stage*.kernel`; a list gives every match its own value, in order. Every free
value has to be named, so that the network is a whole point; but of a free resolution it is one point each, as in
`rexnet_100@160`, since a paper's network is scaled in resolution too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from searchspace.document import Location
from searchspace.errors import InputError
from searchspace.space.choices import Scalar, name

RESOLUTION = "resolution"


class Known(NamedTuple):
    """The known networks of a space: their `points`, for each that it does not offer what is `lacking`, and of every
    one the values that are `written`, in full."""

    points: dict[str, dict[str, Scalar]]
    lacking: dict[str, str]
    written: dict[str, dict[str, Scalar]]


def known_points(section: Any, data: Any, choices: Mapping[str, tuple[Scalar, ...]], source: str) -> Known:
    """The points of the entries whose values the space offers, and for each other entry what it lacks.

    `data` is the space's file without the section. A value that the file fixes has to be the entry's. Raises
    `InputError` where an entry names what is not there, or leaves a free value open.
    """
    if not isinstance(section, dict) or not all(isinstance(entry, dict) for entry in section.values()):
        raise InputError(f"{source}: known: a mapping of names to the values of all free parameters is accepted")
    offered = {name(at): options for at, options in sorted(_places(data), key=lambda place: place[0])}
    found = Known({}, {}, {})
    for title, entry in section.items():
        place = f"{source}: known.{title}"
        wanted = found.written[title] = _spelt_out(entry, list(offered), place)
        missing = choices.keys() - wanted.keys() - {RESOLUTION}
        if missing:
            raise InputError(f"{place}: has to name every free value; {min(missing)} is missing")
        lacks = [f"{one}={value}" for one, value in wanted.items() if value not in offered[one]]
        if lacks:
            found.lacking[title] = lacks[0]
        else:
            found.points[title] = {
                one: options[options.index(wanted[one])] for one, options in choices.items() if one in wanted
            }
    return found._replace(points=_at_resolutions(found.points, choices.get(RESOLUTION, ())))


def _at_resolutions(
    points: Mapping[str, dict[str, Scalar]], resolutions: tuple[Scalar, ...]
) -> dict[str, dict[str, Scalar]]:
    """The points at every resolution that is free; all networks at the largest before any at a smaller one."""
    named = {title: point for title, point in points.items() if not resolutions or RESOLUTION in point}
    return named | {
        f"{title}@{pixels}": {**point, RESOLUTION: pixels}
        for pixels in sorted(resolutions, key=float, reverse=True)  # type: ignore[arg-type]
        for title, point in points.items()
        if title not in named
    }


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
