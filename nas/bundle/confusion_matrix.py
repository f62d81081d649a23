"""A confusion matrix as a drawing."""

from __future__ import annotations

from collections import Counter
from html import escape

from nas.analysis.confusion import Confusion, classes_to_show

LETTER = 6.2  # pixels of one at 11 px
LONGEST = 18
# One hue, so that the colour-blind read it too: dark is often.
RIGHT, WRONG = "#1f6fb4", "#c4500a"


def matrix(found: Confusion, standalone: bool = False) -> str:
    """Rows are true classes, columns answers, a cell as dark as its share of the row. SVG for a page, or as a file."""
    classes = classes_to_show(found)
    names = [short(found.classes[c]) for c in classes]
    cell = 26 if len(classes) <= 15 else 16 if len(classes) <= 30 else 11
    left = round(LETTER * max(map(len, names))) + 10
    side = left + cell * len(classes)
    images = Counter[int]()
    for truth, _, n in found.counts:
        images[truth] += n
    place = {c: i for i, c in enumerate(classes)}
    cells = [
        _cell(found, (truth, answer, n), images[truth], (left + cell * place[answer], left + cell * place[truth]), cell)
        for truth, answer, n in found.counts
        if truth in place and answer in place
    ]
    words = [_names(name, left, left + cell * i + cell / 2) for i, name in enumerate(names)]
    frame = f'<path fill="none" stroke="currentColor" stroke-width=".5" d="M{left} {left}H{side}V{side}H{left}z"/>'
    inside = "".join((*words, *cells, frame))
    if not standalone:
        return f'<svg class="matrix" style="max-width:{side + 2}px" viewBox="0 0 {side + 2} {side + 2}">{inside}</svg>'
    style = "<style>text{font:11px sans-serif;fill:#222}svg{color:#222}</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side + 2}" height="{side + 2}" '
        f'viewBox="0 0 {side + 2} {side + 2}"><rect width="100%" height="100%" fill="#fff"/>{style}{inside}</svg>\n'
    )


def _names(name: str, left: int, middle: float) -> str:
    """A class beside its row and above its column."""
    said = escape(name)
    return (
        f'<text x="{left - 5}" y="{middle + 4:g}" text-anchor="end">{said}</text>'
        f'<text transform="translate({middle + 4:g} {left - 5})rotate(-90)">{said}</text>'
    )


def _cell(found: Confusion, counted: tuple[int, int, int], images: int, corner: tuple[int, int], size: int) -> str:
    truth, answer, n = counted
    share = n / images
    colour = RIGHT if truth == answer else WRONG
    said = f"{one_line(found.classes[truth])} → {one_line(found.classes[answer])}: {n:,} of {images:,} ({share:.1%})"
    (x, y), opacity = corner, max(0.08, share)
    number = ""
    if size >= 16 and n < 10 ** (size // 8):
        white = ' style="fill:#fff"' if opacity > 0.6 else ""
        number = f'<text x="{x + size / 2:g}" y="{y + size / 2 + 4:g}" text-anchor="middle"{white}>{n}</text>'
    box = f'<rect x="{x}" y="{y}" width="{size}" height="{size}" fill="{colour}" fill-opacity="{opacity:.2f}"/>'
    return f"<g><title>{escape(said)}</title>{box}{number}</g>"


def short(name: str) -> str:
    line = one_line(name)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def one_line(name: str) -> str:
    """A class's name without what is not printed: SVG is XML, which forbids some of it."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())
