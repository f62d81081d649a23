"""Pictures of a run: every function draws one figure with one thing to see; `svg` makes an element of a page of it.

What stands for a trial, a dot or a line, is a link to the trial's network in the page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
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
from nas.analysis.importance import Importances
from nas.analysis.progress import Progress
from nas.analysis.results import front as unbeaten_in
from nas.study.objectives import front
from nas.trial import Outcome
from searchspace.figures import legend_below, literal

COLOURS = {"search": "#1f6fb4", "control": "#e08214", "baseline": "#2ca02c"}
NAMES = {"search": "search", "control": "random control", "baseline": "known network"}
MARKERS = {"search": "o", "control": "^", "baseline": "s"}  # told apart without colour too
PRUNED_ALPHA = 0.35
NAMED = 3
SIZE = (4.4, 3.2)
ACCURACY = "validation accuracy"
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


def by_trial(trials: Sequence[Outcome]) -> Figure:
    """Every trial's last accuracy in the order of the run, and the best so far."""
    figure, axes = single()
    _points(axes, trials, [float(trial.number) for trial in trials])
    best: list[tuple[int, float]] = []
    for trial in trials:
        if trial.outcome == "complete" and trial.accuracy is not None:
            best.append((trial.number, max(trial.accuracy, best[-1][1] if best else 0.0)))
    if best:
        axes.step(*zip(*best, strict=True), where="post", color="#555555", lw=1, label="best so far", zorder=1)
    axes.set(xlabel="trial", ylabel=ACCURACY, title="Accuracy by trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return legend_below(figure, *axes.get_legend_handles_labels())


def learning_curves(trials: Sequence[Outcome]) -> Figure:
    figure, axes = single()
    begun = [trial for trial in trials if trial.curve]
    colours = [to_rgba(COLOURS[t.role], 1.0 if t.outcome == "complete" else PRUNED_ALPHA) for t in begun]
    lines = [sorted(trial.curve.items()) for trial in begun]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.2, urls=_links(begun)))
    _dots(axes, begun, [line[-1] for line in lines], color=colours, s=12)
    for role, colour in COLOURS.items():
        if any(trial.role == role for trial in begun):
            axes.plot([], [], color=colour, label=NAMES[role])
    axes.set(xlabel="epoch", ylabel=ACCURACY, title="Learning curves")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.autoscale_view()
    return legend_below(figure, *axes.get_legend_handles_labels())


def progress(found: Progress) -> Figure:
    """The best of the first n networks of the search over the best of n random ones."""
    figure, axes = single()
    counts = range(1, len(found.control) + 1)
    axes.fill_between(counts, found.low, found.high, color=COLOURS["control"], alpha=0.2, lw=0)
    axes.plot(counts, found.control, color=COLOURS["control"], label="random control: mean, 90 % band")
    reached = range(1, len(found.search) + 1)
    axes.step(reached, found.search, where="post", color=COLOURS["search"], label="search", marker=".", ms=4)
    named = found.known if len(found.known) <= NAMED else {}
    for (name, accuracy), dashes in zip(named.items(), ("--", ":", "-."), strict=False):
        axes.axhline(accuracy, color=COLOURS["baseline"], lw=1, ls=dashes, label=literal(name))
    if not named and found.known:
        best = max(found.known, key=lambda name: found.known[name])
        axes.axhline(found.known[best], color=COLOURS["baseline"], lw=1, ls="--")
        label = literal(f"best of {len(found.known)} known networks: {best}")
        axes.plot([], [], color=COLOURS["baseline"], lw=1, ls="--", label=label)
    after = "1 epoch" if found.epochs == 1 else f"{found.epochs} epochs"
    axes.set(xlabel="networks n", ylabel=f"best accuracy of n after {after}", title="Search and random control")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return legend_below(figure, *axes.get_legend_handles_labels())


def against(trials: Sequence[Outcome], cost: str, label: str, scale: float = 1.0, measured: str = "") -> Figure:
    """Accuracy against a cost of the trials, over `scale`, and the complete ones that no other beats in both.

    Where `measured` names another number of the same unit, what it says is marked with diamonds.
    """
    figure, axes = single()
    known = [trial for trial in trials if trial.measured.get(cost) is not None]
    _points(axes, known, [trial.measured[cost] / scale for trial in known])
    complete = [t for t in known if t.outcome == "complete" and t.accuracy is not None]
    unbeaten = front([t.accuracy or 0.0 for t in complete], [[t.measured[cost]] for t in complete])
    line = [(complete[i].measured[cost] / scale, complete[i].accuracy or 0.0) for i in unbeaten]
    if line:
        axes.step(*zip(*line, strict=True), where="post", lw=1, label=FRONT, **RINGS)
    pairs = [(t.measured[measured], t.accuracy) for t in known if t.measured.get(measured) is not None]
    if pairs:
        at, accuracies = zip(*pairs, strict=True)
        axes.scatter(at, accuracies, marker="D", s=28, fc="none", ec="black", label="measured alone", zorder=3)
    axes.set(xlabel=label, ylabel=ACCURACY, title=f"Accuracy against {label.split(' (')[0]}")
    return legend_below(figure, *axes.get_legend_handles_labels())


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


def tradeoff(trials: Sequence[Outcome], minimized: Sequence[str], name: str) -> Figure:
    """Accuracy against one of the costs that are minimised, with what nothing beats in accuracy and all of them."""
    figure, axes = single()
    _points(axes, trials, [trial.measured["minimize"][name] for trial in trials])
    line = sorted((trial.measured["minimize"][name], trial.accuracy) for trial in unbeaten_in(trials))
    joined = 1 if len(minimized) == 1 else 0  # a front over several costs is no line
    if line:
        axes.plot(*zip(*line, strict=True), lw=joined, label=FRONT, **RINGS)
    axes.set(xlabel=name, ylabel=ACCURACY, xscale="log", title=f"Accuracy against {name}, minimised")
    return legend_below(figure, *axes.get_legend_handles_labels())


def hypervolume(volumes: Sequence[tuple[int, float]]) -> Figure:
    """The share of the box from accuracy 0 and the budget that is beaten, trial by trial."""
    figure, axes = single()
    if volumes:
        axes.step(*zip(*volumes, strict=True), where="post", color=COLOURS["search"])
    axes.set(xlabel="trial", ylabel="share of the box", title="Hypervolume from accuracy 0 and the budget")
    return figure


def importance(mattered: Importances) -> Figure:
    """The factors with their shares and intervals, the weightiest on top."""
    figure, axes = single((SIZE[0], 1.2 + 0.25 * len(mattered.factors)))
    factors = mattered.factors[::-1]
    shares = [f.share for f in factors]
    errors = [[max(0.0, f.share - f.low) for f in factors], [max(0.0, f.high - f.share) for f in factors]]
    axes.barh([f.factor for f in factors], shares, xerr=errors, color=COLOURS["search"], ecolor="#888888")
    axes.axvline(0, color="#555555", lw=0.8)
    axes.set(xlabel="share of the variance of accuracy", title=f"Parameter importance ({mattered.trials} trials)")
    return figure


def retrained(rows: Sequence[Retrained]) -> Figure:
    """Accuracy after full training over that after brief training, every network with its trial's number."""
    figure, axes = single()
    for row in rows:
        dot = axes.scatter([row.brief], [row.full], color=COLOURS.get(row.role, COLOURS["baseline"]))
        dot.set_urls([f"#trial-{row.trial}", None])
        axes.annotate(str(row.trial), (row.brief, row.full), (4, 4), textcoords="offset points", fontsize=8)
    for role in (role for role in COLOURS if any(row.role == role for row in rows)):
        axes.scatter([], [], color=COLOURS[role], label=NAMES[role])
    axes.margins(0.1)
    epochs = ", ".join(str(number) for number in sorted({row.epochs for row in rows}))
    axes.set(xlabel="validation accuracy in the search", ylabel=f"after {epochs} epochs in full")
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


def _points(axes: Axes, trials: Sequence[Outcome], x: Sequence[float]) -> None:
    for role, colour in COLOURS.items():
        for complete in (True, False):
            chosen = [
                (trial, (at, trial.accuracy))
                for at, trial in zip(x, trials, strict=True)
                if trial.role == role and trial.accuracy is not None and (trial.outcome == "complete") == complete
            ]
            if chosen:
                of, places = zip(*chosen, strict=True)
                alpha, label = (1.0, NAMES[role]) if complete else (PRUNED_ALPHA, None)
                _dots(axes, of, places, color=colour, marker=MARKERS[role], alpha=alpha, label=label)


def _dots(axes: Axes, trials: Sequence[Outcome], places: Sequence[tuple[float, float]], **looks: Any) -> None:
    """A dot for every trial, which links to it."""
    if places:
        dots = axes.scatter(*zip(*places, strict=True), clip_on=False, **looks)
        dots.set_urls(_links(trials))


def _links(trials: Sequence[Outcome]) -> list[str | None]:
    """A link for every trial, and one that is not used: Matplotlib does not write a lone one."""
    return [*(f"#trial-{trial.number}" for trial in trials), None]


def svg(figure: Figure, titles: dict[int, str] | None = None) -> str:
    """The figure as an <svg> element, the same for the same figure; `titles` says what a trial's dots tell."""
    buffer = io.StringIO()
    with matplotlib.rc_context(SVG), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser has letters that our font has not
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])  # every figure has the same ones

    told: set[int] = set()

    def linked(found: re.Match[str]) -> str:
        number = int(found[1])
        said = escape((titles or {}).get(number, f"trial {number}"), quote=False)
        title = "" if number in told else f"<title>{said}</title>"  # of a curve its dot has it
        told.add(number)
        return f'<a class="dot" href="#trial-{number}" tabindex="-1">{title}'

    text = PLACES.sub(lambda found: DIGITS.sub(r"\1", found[0]), LINK.sub(linked, text))
    return re.sub(r">\s+<", "><", re.sub(r"\n\s*", " ", text)).rstrip()
