"""Pictures of a run: every function draws one figure with one thing to see; `svg` makes an element of a page of it.

What stands for a trial, a dot or a line, is a link to the trial's network in the page.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from itertools import accumulate
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.analysis.agreement import Retrained
from nas.analysis.channels import Widths
from nas.analysis.comparison import Progress, metric_of
from nas.analysis.comparison import front as unbeaten_in
from nas.analysis.importance import Importances
from nas.metric import DEFAULT_METRIC, Metric
from nas.study.objectives import front
from nas.trial import TrialRecord
from searchspace.figures import legend_below, literal

COLOURS = {"search": "#1f6fb4", "control": "#e08214", "baseline": "#2ca02c"}
NAMES = {"search": "search", "control": "random control", "baseline": "known network"}
MARKERS = {"search": "o", "control": "^", "baseline": "s"}  # told apart without colour too
PRUNED_ALPHA = 0.35
NAMED = 3
SIZE = (4.4, 3.2)
RINGS: dict[str, Any] = {"color": "#555555", "marker": "o", "mfc": "none", "ms": 9, "zorder": 1}
FRONT = "Pareto front"
# Letters of one width in every browser, in a tenth of the space that Matplotlib's list of fonts takes.
SVG: Any = {"svg.hashsalt": "nas", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"]}
PLACES = re.compile(r' (?:d|x|y)="[^"]*"')
DIGITS = re.compile(r"(\.\d\d)\d+")  # a hundredth of a pixel is enough
LINK = re.compile(r'<a xlink:href="#trial-(\d+)" target="_blank">')


def single(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """A figure of one panel, small enough that its letters can be read on a phone."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def by_trial(trials: Sequence[TrialRecord]) -> Figure:
    """Every trial's last score in the order of the run, and the best so far."""
    figure, axes = single()
    metric = metric_of(trials)
    _points(axes, trials, [float(trial.number) for trial in trials])
    complete = [(t.number, t.gain) for t in trials if t.state == "complete" and t.gain is not None]
    if complete:
        numbers, gains = zip(*complete, strict=True)
        best = [metric.natural(gain) for gain in accumulate(gains, max)]
        axes.step(numbers, best, where="post", color="#555555", lw=1, label="best so far", zorder=1)
    axes.set(xlabel="trial", ylabel=metric.validation, title=f"{title_of(metric)} by trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return legend_below(figure, *axes.get_legend_handles_labels())


def learning_curves(trials: Sequence[TrialRecord]) -> Figure:
    figure, axes = single()
    begun = [trial for trial in trials if trial.curve]
    colours = [to_rgba(COLOURS[t.role], 1.0 if t.state == "complete" else PRUNED_ALPHA) for t in begun]
    lines = [sorted(trial.curve.items()) for trial in begun]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.2, urls=_links(begun)))
    _dots(axes, begun, [line[-1] for line in lines], color=colours, s=12)
    for role, colour in COLOURS.items():
        if any(trial.role == role for trial in begun):
            axes.plot([], [], color=colour, label=NAMES[role])
    axes.set(xlabel="epoch", ylabel=metric_of(trials).validation, title="Learning curves")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.autoscale_view()
    return legend_below(figure, *axes.get_legend_handles_labels())


def finals_curves(lines: Sequence[tuple[TrialRecord, Sequence[float]]]) -> Figure:
    """Of each network of the last rounds the mean score after every epoch."""
    figure, axes = single()
    for network, scores in lines:
        of = f"{network.number}: {network.name}"
        axes.plot(range(1, len(scores) + 1), scores, color=COLOURS[network.role], marker=".", label=literal(of))
    axes.set(xlabel="epoch", ylabel=metric_of([network for network, _ in lines]).validation, title="The last two")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return legend_below(figure, *axes.get_legend_handles_labels())


def progress(found: Progress) -> Figure:
    """The best of the first n networks of the search over the best of n random ones."""
    figure, axes = single()
    counts = range(1, len(found.control) + 1)
    axes.fill_between(counts, found.low, found.high, color=COLOURS["control"], alpha=0.2, lw=0)
    alone = len(found.control) == 1
    label = "random control: one network" if alone else "random control: mean, 90 % band"
    axes.plot(counts, found.control, color=COLOURS["control"], marker="." if alone else "", label=label)
    reached = range(1, len(found.search) + 1)
    axes.step(reached, found.search, where="post", color=COLOURS["search"], label="search", marker=".", ms=4)
    named = found.known if len(found.known) <= NAMED else {}
    for (name, score), dashes in zip(named.items(), ("--", ":", "-."), strict=False):
        axes.axhline(score, color=COLOURS["baseline"], lw=1, ls=dashes, label=literal(name))
    if not named and found.known:
        best = max(found.known, key=lambda name: found.metric.gain(found.known[name]))
        axes.axhline(found.known[best], color=COLOURS["baseline"], lw=1, ls="--")
        label = literal(f"best of {len(found.known)} known networks: {best}")
        axes.plot([], [], color=COLOURS["baseline"], lw=1, ls="--", label=label)
    after = "1 epoch" if found.epochs == 1 else f"{found.epochs} epochs"
    axes.set(
        xlabel="networks n", ylabel=f"best {found.metric.words} of n after {after}", title="Search and random control"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return legend_below(figure, *axes.get_legend_handles_labels())


def against(
    trials: Sequence[TrialRecord],
    spent: Callable[[TrialRecord], float | None],
    label: str,
    scale: float = 1.0,
    measured: Callable[[TrialRecord], float | None] = lambda trial: None,
) -> Figure:
    """Score against a cost of the trials, over `scale`, and the complete ones that no other beats in both.

    Where `measured` tells another number of the same unit, it is marked with a diamond.
    """
    figure, axes = single()
    metric = metric_of(trials)
    known = [(trial, cost) for trial in trials if (cost := spent(trial)) is not None]
    _points(axes, [trial for trial, _ in known], [cost / scale for _, cost in known])
    complete = [(cost, t.gain) for t, cost in known if t.state == "complete" and t.gain is not None]
    unbeaten = front([gain for _, gain in complete], [[cost] for cost, _ in complete])
    line = [(complete[i][0] / scale, metric.natural(complete[i][1])) for i in unbeaten]
    if line:
        axes.step(*zip(*line, strict=True), where="post", lw=1, label=FRONT, **RINGS)
    pairs = [(ms, t.score) for t, _ in known if (ms := measured(t)) is not None]
    if pairs:
        at, scores = zip(*pairs, strict=True)
        axes.scatter(at, scores, marker="D", s=28, fc="none", ec="black", label="measured alone", zorder=3)
    title = f"{title_of(metric)} against {label.split(' (')[0]}"
    axes.set(xlabel=label, ylabel=metric.validation, title=title)
    return legend_below(figure, *axes.get_legend_handles_labels())


def title_of(metric: Metric) -> str:
    """The metric's name where a title begins."""
    return metric.words[:1].upper() + metric.words[1:]


def channels(found: Widths) -> Figure:
    """ReXNet's figure: mean channels over depth of the best, middle and worst networks."""
    figure, axes = single()
    for group, colour in zip(found.groups, ("#1f6fb4", "#777777", "#c0392b"), strict=False):
        axes.plot(group.positions, group.channels, color=colour, label=f"{group.name} ({group.networks})")
        low, high = group.channels - group.deviation, group.channels + group.deviation
        axes.fill_between(group.positions, low, high, color=colour, alpha=0.15, lw=0)
    where = "block" if found.equal_depth else "position of the block, from first (0) to last (1)"
    axes.set(xlabel=where, ylabel="mean output channels", title="Channels over depth", ylim=(0, None))
    return legend_below(figure, *axes.get_legend_handles_labels())


def tradeoff(trials: Sequence[TrialRecord], minimized: Sequence[str], name: str) -> Figure:
    """Score against one of the costs that are minimised, with what nothing beats in the score and all of them."""
    figure, axes = single()
    _points(axes, trials, [trial.minimized[name] for trial in trials])
    line = sorted((trial.minimized[name], trial.score) for trial in unbeaten_in(trials))
    joined = 1 if len(minimized) == 1 else 0  # a front over several costs is no line
    if line:
        axes.plot(*zip(*line, strict=True), lw=joined, label=FRONT, **RINGS)
    metric = metric_of(trials)
    title = f"{title_of(metric)} against {name}, minimised"
    axes.set(xlabel=name, ylabel=metric.validation, xscale="log", title=title)
    return legend_below(figure, *axes.get_legend_handles_labels())


def hypervolume(volumes: Sequence[tuple[int, float]]) -> Figure:
    """The share of the box from the worst score and the budget that is beaten, trial by trial."""
    figure, axes = single()
    if volumes:
        axes.step(*zip(*volumes, strict=True), where="post", color=COLOURS["search"])
    axes.set(xlabel="trial", ylabel="share of the box", title="Hypervolume from the worst score and the budget")
    return figure


def importance(mattered: Importances) -> Figure:
    """The factors with their shares and intervals, the weightiest on top."""
    figure, axes = single((SIZE[0], 1.2 + 0.25 * len(mattered.factors)))
    factors = mattered.factors[::-1]
    shares = [f.share for f in factors]
    errors = [[max(0.0, f.share - f.low) for f in factors], [max(0.0, f.high - f.share) for f in factors]]
    axes.barh([f.factor for f in factors], shares, xerr=errors, color=COLOURS["search"], ecolor="#888888")
    axes.axvline(0, color="#555555", lw=0.8)
    axes.set(xlabel="share of the variance of the score", title=f"Parameter importance ({mattered.trials} trials)")
    return figure


def retrained_figure(rows: Sequence[Retrained]) -> Figure:
    """Scores after full training over that after brief training, every network with its trial's number."""
    figure, axes = single()
    for row in rows:
        dot = axes.scatter([row.brief], [row.full], color=COLOURS.get(row.role, COLOURS["baseline"]))
        dot.set_urls([f"#trial-{row.trial}", None])
        axes.annotate(str(row.trial), (row.brief, row.full), (4, 4), textcoords="offset points", fontsize=8)
    for role in (role for role in COLOURS if any(row.role == role for row in rows)):
        axes.scatter([], [], color=COLOURS[role], label=NAMES[role])
    axes.margins(0.1)
    epochs = ", ".join(str(number) for number in sorted({row.epochs for row in rows}))
    axes.set(
        xlabel=f"{(rows[0].brief_metric if rows else DEFAULT_METRIC).validation} in the search",
        ylabel=f"after {epochs} epochs in full",
    )
    axes.set_title("Brief and full training")
    return legend_below(figure, *axes.get_legend_handles_labels())


def predictions(predicted: Sequence[float], measured: Sequence[float], conditions: str) -> Figure:
    """Predicted against measured latency, with the line of equality and the 10 % on its sides."""
    figure = Figure(figsize=(5.4, 5), layout="constrained")
    axes = figure.subplots()
    ends = [min(*predicted, *measured) / 1.2, max(*predicted, *measured) * 1.2]
    axes.fill_between(ends, [0.9 * end for end in ends], [1.1 * end for end in ends], color="#dddddd", label="± 10 %")
    axes.plot(ends, ends, color="#888888", lw=1)
    axes.scatter(measured, predicted, color=COLOURS["search"], s=18, zorder=2)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured ms", ylabel="predicted ms")
    axes.set_title(conditions, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _points(axes: Axes, trials: Sequence[TrialRecord], x: Sequence[float]) -> None:
    for role, colour in COLOURS.items():
        for complete in (True, False):
            chosen = [
                (trial, (at, trial.score))
                for at, trial in zip(x, trials, strict=True)
                if trial.role == role and trial.score is not None and (trial.state == "complete") == complete
            ]
            if chosen:
                of, places = zip(*chosen, strict=True)
                alpha, label = (1.0, NAMES[role]) if complete else (PRUNED_ALPHA, None)
                _dots(axes, of, places, color=colour, marker=MARKERS[role], alpha=alpha, label=label)


def _dots(axes: Axes, trials: Sequence[TrialRecord], places: Sequence[tuple[float, float]], **looks: Any) -> None:
    """A dot for every trial, which links to it."""
    if places:
        dots = axes.scatter(*zip(*places, strict=True), clip_on=False, **looks)
        dots.set_urls(_links(trials))


def _links(trials: Sequence[TrialRecord]) -> list[str | None]:
    """A link for every trial, and one that is not used: Matplotlib does not write a lone one."""
    return [*(f"#trial-{trial.number}" for trial in trials), None]


@contextmanager
def _hide_date() -> Iterator[None]:
    """Matplotlib measures a figure by writing it with the date of a variable, which need not be a number."""
    date = os.environ.pop("SOURCE_DATE_EPOCH", None)
    try:
        yield
    finally:
        if date is not None:
            os.environ["SOURCE_DATE_EPOCH"] = date


def svg(figure: Figure, titles: dict[int, str] | None = None) -> str:
    """The figure as an <svg> element, the same for the same figure; `titles` says what a trial's dots tell."""
    buffer = io.StringIO()
    with matplotlib.rc_context(SVG), warnings.catch_warnings(), _hide_date():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser has letters that our font has not
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])  # every figure has the same ones

    titled: set[int] = set()

    def link(found: re.Match[str]) -> str:
        number = int(found[1])
        said = escape((titles or {}).get(number, f"trial {number}"), quote=False)
        title = "" if number in titled else f"<title>{said}</title>"  # of a curve its dot has it
        titled.add(number)
        return f'<a class="dot" href="#trial-{number}" tabindex="-1">{title}'

    text = PLACES.sub(lambda found: DIGITS.sub(r"\1", found[0]), LINK.sub(link, text))
    return re.sub(r">\s+<", "><", re.sub(r"\n\s*", " ", text)).rstrip()
