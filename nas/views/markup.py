"""The pieces that a page is made of: its head, tables, figures, links. Everything that is put in is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Container, Iterable
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from nas.metric import DEFAULT_METRIC
from nas.views import figures

HERE = Path(__file__).parent
# Columns of words, to the left and sorted as words; the long ones are given room.
TEXT = {"role", "outcome", "network", "reason", "factor", "class", "most often taken for", "truth", "answer"}
LONG = {"network", "reason"}
MEANINGS = {
    "role": "baseline: a known network; control: a random one, to compare the search with; search: proposed",
    "outcome": "complete: trained to the end; pruned: stopped early, so its score is of fewer epochs",
    DEFAULT_METRIC.words: "on the validation images, after the trial's last epoch",
    "90 % interval": "how far the luck of which images were drawn reaches (Wilson)",
    "MFLOPs": "million multiply-adds of convolutions and linear layers, one image",
    "MParams": "million parameters",
    "peak memory (kB)": "of float32 maps alive at one time, one image",
    "flash (kB)": "weights and biases in float32",
    "int8 arena (kB)": "all of TensorFlow Lite Micro's arena: maps and records",
    "int8 flash (kB)": "the int8 file: weights, biases and scales",
    "ms (predicted)": "latency of one image, predicted from layer times of the device",
    "ms (alone)": "latency of one image, measured after the trials",
    "images/s": "speed of training",
    "seconds": "what the trial took, all included",
    "recall": "of the images of this class, the share that is recognised",
    "precision": "of the answers with this class, the share that is right",
}
Row = dict[str, str]


def document(title: str, body: Iterable[str]) -> str:
    """A page that loads nothing and runs only its own script, whatever is written into it."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style>"
    )
    scripted = f"{''.join(body)}<script>{script}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{scripted}</body></html>\n'


def table(rows: Iterable[Row], targets: Container[int] = ()) -> str:
    """Rows of the same columns, to be sorted by their heads; nothing where there are none.

    A trial's number is a link to its network; a row of `targets` is what such links lead to.
    """
    listed = list(rows)
    if not listed:
        return ""
    head = "".join(_head(name) for name in listed[0])
    body = "".join(_row(cells, targets) for cells in listed)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _head(name: str) -> str:
    kind = ' class="text"' if name in TEXT else ""
    meaning = f' title="{escape(MEANINGS[name])}"' if name in MEANINGS else ""
    return f"<th{kind}{meaning}>{escape(name)}</th>"


def _row(cells: Row, targets: Container[int]) -> str:
    number = cells.get("trial", "")
    identity = f' id="{address(int(number))}"' if number and int(number) in targets else ""
    return f"<tr{identity}>{''.join(_cell(name, text) for name, text in cells.items())}</tr>"


def _cell(name: str, text: str) -> str:
    kinds = [kind for kind, names in (("text", TEXT), ("long", LONG), ("network", {"network"})) if name in names]
    shown = link(int(text)) if name == "trial" else escape(text)
    return f'<td class="{" ".join(kinds)}">{shown}</td>' if kinds else f"<td>{shown}</td>"


def address(trial: int) -> str:
    return f"trial-{trial}"


def link(trial: int) -> str:
    return f'<a href="#{address(trial)}">{trial}</a>'


def grid(drawn: Iterable[tuple[Figure, str]], titles: dict[int, str] | None = None) -> str:
    """Figures with captions, as many beside each other as the window is wide; dots say what `titles` has of trials."""
    shown = (
        f"<figure>{figures.svg(one, titles)}<figcaption>{escape(said)}</figcaption></figure>" for one, said in drawn
    )
    return f'<div class="figures">{"".join(shown)}</div>'
