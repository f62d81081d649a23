"""Whether an image and its mirror image are of the same class, as the classes' names say it.

They are not where a name has a word for a side or a sense of turning (`left`, `turnRight`, `clockwise`), where two
differ by an L and an R alone (`knee_L`, `knee_R`), nor where at least half of the names speak of what is written or
points somewhere (`letter-b`, `arrow_up`, `speed sign`), or are digits or letters themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = frozenset({"left", "right", "lefthand", "righthand", "leftward", "rightward", "leftwards", "rightwards"})
TURNS = frozenset({"clockwise", "counterclockwise", "anticlockwise", "cw", "ccw"})
POINTING = frozenset({"arrow", "arrows", "east", "west"})
WRITTEN = frozenset(
    {
        "text",
        "letter",
        "letters",
        "digit",
        "digits",
        "number",
        "numbers",
        "numeral",
        "numerals",
        "character",
        "characters",
    }
    | {"glyph", "glyphs", "alphabet", "word", "words", "font", "fonts", "handwriting", "handwritten", "script"}
    | {"sign", "signs", "speed", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
)
SHOWN = 3


def may_mirror(classes: Sequence[str], named: bool = True) -> tuple[bool, str]:
    """Whether training images may be mirrored at random, and why. Labels that are not `named` are mere numbers."""
    if not named:
        return True, "its classes have no names"
    sided = [name for name in classes if (SIDES | TURNS) & set(words(name))] or _pairs(classes)
    if sided:
        return False, f"there are classes {_first_names(sided)}"
    written = [name for name in classes if len(name.strip()) == 1 or (POINTING | WRITTEN) & set(words(name))]
    if 2 * len(written) >= len(classes):
        return False, f"there are classes {_first_names(written)}"
    return True, ""


def _pairs(classes: Sequence[str]) -> list[str]:
    """Classes that differ by an L and an R alone, as `knee_L` and `knee_R`, `l hand` and `r hand`."""
    known = {tuple(words(name)): name for name in classes}
    others = {parts: tuple("r" if word == "l" else word for word in parts) for parts in known if "l" in parts}
    return [name for parts, other in others.items() if other in known for name in (known[parts], known[other])]


def words(name: str) -> list[str]:
    """The words of a class name in lower case: of `turnLeft_2` turn, left and 2."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+", name)]


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
