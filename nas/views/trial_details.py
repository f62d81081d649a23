"""Every trial's network on a run's page: its numbers, a drawing and its layers, where a dot's link leads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from nas.analysis import results
from nas.trial import Outcome
from nas.views.markup import address
from nas.views.sketch import sketch
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.table import Row, table

MOST = 100  # a network takes 7 kB of the page


def detailed(trials: Sequence[Outcome]) -> list[Outcome]:
    """The trials whose networks the page shows: all of a usual run, of a long one the best, the front and the known."""
    if len(trials) <= MOST:
        return list(trials)
    complete = results.best_complete(trials)
    wanted = [*(t for t in trials if t.role == "baseline"), *results.front(trials), *complete]
    numbers = list(dict.fromkeys(trial.number for trial in wanted))[:MOST]
    return [trial for trial in trials if trial.number in set(numbers)]


def details(trials: Sequence[Outcome], images: int) -> str:
    return "".join(network(trial, images) for trial in trials)


def network(trial: Outcome, images: int) -> str:
    """A trial, folded; the part inside has the trial's address, since browsers unfold what holds a link's target."""
    arch = Arch.from_dict(json.loads(trial.measured["arch"]), f"trial {trial.number}")
    return (
        f"<details><summary>{escape(title(trial, images))}</summary>"
        f'<div class="trial" id="{address(trial.number)}"><p class="network">{escape(trial.measured["network"])}</p>'
        f'<p class="note">{escape("; ".join(measurements(trial)))}</p>{sketch(arch)}{layers(arch)}</div></details>'
    )


def title(trial: Outcome, images: int) -> str:
    """A trial in a line: its number and role, how it did, what it costs."""
    m = trial.measured
    role = f"known network {m['baseline']}" if m.get("baseline") else trial.role
    costs = [amount(m["macs"], "macs"), amount(m["params"], "params")]
    if m.get("predicted_ms") is not None:
        costs.append(f"{m['predicted_ms']:.1f} ms predicted")
    ended = [] if trial.outcome == "complete" else [trial.outcome]
    return ", ".join([f"trial {trial.number} ({role})", *ended, *scored(trial, images), *costs])


def scored(trial: Outcome, images: int) -> list[str]:
    """The accuracy with its interval, where there is one."""
    if trial.accuracy is None:
        return []
    return [f"accuracy {trial.accuracy:.4f} {interval(trial, images)}".rstrip()]


def interval(trial: Outcome, images: int) -> str:
    """The 90 % interval of a trial's accuracy, in brackets; "" where there is none."""
    if trial.accuracy is None or not images:
        return ""
    low, high = results.interval(trial.accuracy, images)
    return f"[{low:.4f}, {high:.4f}]"


def measurements(trial: Outcome) -> list[str]:
    """What else is known of a trial."""
    m: dict[str, Any] = trial.measured
    epochs = max(trial.curve, default=0)
    told = ["1 epoch" if epochs == 1 else f"{epochs} epochs"]
    for name, words in (("loss", "validation loss {:.3f}"), ("measured_ms", "{:.1f} ms when nothing else ran")):
        if m.get(name) is not None:
            told.append(words.format(m[name]))
    for name, words in (("images_per_s", "trained at {:.0f} images/s"), ("seconds", "{:.1f} s in all")):
        if m.get(name) is not None:
            told.append(words.format(m[name]))
    return [*told, f"error: {m['error']}"] if m.get("error") else told


def layers(arch: Arch) -> str:
    """The network's table, without columns that are empty in it. HTML lets a cell and a row end where the next begins,
    which saves a third of the page."""
    rows = table(arch)
    kept = [name for name in Row._fields if any(getattr(row, name) != "" for row in rows)]
    head = "".join(f"<th>{escape(name)}" for name in kept)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(getattr(row, name))}' for name in kept)}" for row in rows)
    return f'<div class="scroll"><table class="layers"><tr>{head}{body}</table></div>'


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(value)
