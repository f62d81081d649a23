"""Every trial's network on a run's page: its numbers, a drawing and its layers, where a dot's link leads."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nas.analysis import comparison
from nas.trial import TrialRecord, rank
from nas.views.markup import address
from nas.views.sketch import sketch
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.table import Row, table

MOST = 100  # a network takes 7 kB of the page


def trials_in_detail(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials whose networks the page shows: all of a usual run, of a long one the best, the front and the known."""
    if len(trials) <= MOST:
        return list(trials)
    complete = rank(trials)
    wanted = [*(t for t in trials if t.role == "baseline"), *comparison.front(trials), *complete]
    numbers = list(dict.fromkeys(trial.number for trial in wanted))[:MOST]
    return [trial for trial in trials if trial.number in set(numbers)]


def details(trials: Sequence[TrialRecord], images: int) -> str:
    return "".join(network(trial, images) for trial in trials)


def network(trial: TrialRecord, images: int) -> str:
    """A trial, folded; the part inside has the trial's address, since browsers unfold what holds a link's target."""
    arch = trial.arch
    return (
        f"<details><summary>{escape(title(trial, images))}</summary>"
        f'<div class="trial" id="{address(trial.number)}"><p class="network">{escape(trial.network)}</p>'
        f'<p class="note">{escape("; ".join(measurements(trial)))}</p>{sketch(arch)}{layers(arch)}</div></details>'
    )


def title(trial: TrialRecord, images: int) -> str:
    """A trial in a line: its number and role, how it did, what it costs."""
    role = f"known network {trial.baseline}" if trial.baseline else trial.role
    costs = [amount(trial.cost.macs, "macs"), amount(trial.cost.params, "params")]
    if trial.predicted_ms is not None:
        costs.append(f"{trial.predicted_ms:.1f} ms predicted")
    ended = [] if trial.state == "complete" else [trial.state]
    return ", ".join([f"trial {trial.number} ({role})", *ended, *score_cells(trial, images), *costs])


def score_cells(trial: TrialRecord, images: int) -> list[str]:
    """The score with its interval, where there is one."""
    if trial.score is None:
        return []
    return [f"{trial.metric.words} {trial.score:.4f} {interval(trial, images)}".rstrip()]


def interval(trial: TrialRecord, images: int) -> str:
    """The 90 % interval of a trial's score, in brackets; "" where there is none."""
    within = trial.interval(images)
    return f"[{within[0]:.4f}, {within[1]:.4f}]" if within else ""


def measurements(trial: TrialRecord) -> list[str]:
    """What else is known of a trial."""
    numbers = (
        (trial.loss, "validation loss {:.3f}"),
        (trial.alone_ms, "{:.1f} ms after the trials"),
        (trial.images_per_s, "trained at {:.0f} images/s"),
        (trial.seconds, "{:.1f} s in all"),
    )
    parts = ["1 epoch" if trial.epochs == 1 else f"{trial.epochs} epochs"]
    parts += [words.format(number) for number, words in numbers if number is not None]
    return [*parts, f"error: {trial.error}"] if trial.error else parts


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
