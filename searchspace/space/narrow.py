"""A space's file with some options left out: `--without se,silu`, or all that a compiler does not like."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from searchspace.document import Location, scalar
from searchspace.errors import InputError
from searchspace.format.network import DEFAULTS, Network
from searchspace.space import choices as free
from searchspace.space.choices import Scalar
from searchspace.space.deployment import Deployment

OFF = (0, None, "none", False)  # what switches a field off
NEAR = 0.5


def without(data: Any, locations: Mapping[str, Location], words: Iterable[str], source: str) -> Any:
    """The file's data without what the words name; see `Space.without`. `locations` are those of its free values."""
    kept = copy.deepcopy(data)
    for word in words:
        wanted, found = scalar(word), _is_off(kept, word)
        for name, location in locations.items():
            node = free.at(kept, location)
            options = node["choice"]
            left = [place for place, option in enumerate(options) if not free.same(option, wanted)]
            if name.rpartition(".")[2] == word:
                left = [place for place, option in enumerate(options) if option in OFF]
            if not left:
                raise InputError(f"without {word!r}: nothing would be left to choose for {name}")
            found = found or len(left) < len(options)
            free.keep_at(kept, location, left)
        fixed = _find_fixed(kept, word, wanted)
        if fixed:
            raise InputError(f"without {word!r}: {fixed} in {source} and not free; change the file or --fix it")
        if not found:
            every = {name: free.at(kept, location)["choice"] for name, location in locations.items()}
            raise InputError(f"without {word!r}: no free value has it; {_meant(every, word, source)}")
    return kept


def offer(data: Any, locations: Mapping[str, Location], rules: Deployment) -> Any:
    """The file's data with the options that keep to the rules; where none does, fixed to what they say instead."""
    kept = copy.deepcopy(data)
    for name, location in locations.items():
        node = free.at(kept, location)
        left = [place for place, option in enumerate(node["choice"]) if rules.admits(name, option)]
        if left:
            free.keep_at(kept, location, left)
        else:
            free.set_at(kept, location, rules.instead(name))
    return kept


def fixed_places(network: Network) -> Iterator[tuple[Location, Any]]:
    """What a network is at every place that a rule may be about, whether its file says so or the block's paper."""
    yield ("schedule", "divisor"), network.schedule.divisor
    for name in ("act", "kernel"):
        yield ("stem", name), getattr(network.stem, name)
    for name in ("act", "hidden_act"):
        yield ("head", name), getattr(network.head, name)
    yield ("stem", "norm", "kind"), network.stem.norm.kind
    yield ("head", "norm", "kind"), network.head.norm.kind
    for index, stage in enumerate(network.stages):
        for name, written in stage.fill_in().items():
            at = ("stages", index, name)
            yield ((*at, "kind"), written.kind) if name == "norm" else (at, written)


def _find_fixed(data: Any, word: str, wanted: Scalar) -> str:
    """Which value of the file is fixed to a word, or which field of that name is fixed to something but off."""
    written = {part: node for part, node in data.items() if part not in free.BESIDE}
    for location, value in free.scalars(written):
        on = location[-1] == word and value not in OFF
        if on or (isinstance(wanted, str) and value == wanted):
            return f"{free.name(location)} is {value}"
    return ""


def _is_off(data: Any, field: str) -> bool:
    """Whether a field of this name is written, and switched off."""
    return any(location[-1] == field and value in OFF for location, value in free.scalars(data))


def _meant(choices: Mapping[str, Iterable[Scalar]], word: str, source: str) -> str:
    """What could have been meant by a word that nothing free has: the nearest words, or all."""
    if word in DEFAULTS:
        return f"{source} does not say it: it is as in the blocks' papers; --fix stage*.{word}=VALUE sets it"
    values = {option for options in choices.values() for option in options if isinstance(option, str)}
    off = {name.rpartition(".")[2] for name, options in choices.items() if any(option in OFF for option in options)}
    known = sorted(values - {"none"} | off)
    near = difflib.get_close_matches(word, known, 3, NEAR)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
