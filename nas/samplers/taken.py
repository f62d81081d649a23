"""`Taken`: the points that were tried, also where a study suggests some of its choices under a condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nas.samplers.domain import Key


class Taken(set[Key]):
    """The points that were tried. What is `in` it beside them: a point that differs from a trial only in choices that
    this was not asked for, and that would be the same trial."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = list(names)
        self._parts: dict[tuple[int, ...], set[Key]] = {}

    def __contains__(self, key: Any) -> bool:
        if super().__contains__(key):
            return True
        return any(tuple([key[i] for i in places]) in found for places, found in self._parts.items())

    def add_part(self, params: Mapping[str, Any]) -> None:
        """The choices that a trial with a score was asked for, which decided that it was asked for no others."""
        places = tuple(i for i, name in enumerate(self._names) if name in params)
        self._parts.setdefault(places, set()).add(tuple(params[self._names[i]] for i in places))
