"""Pictures of a run, as SVG: accuracy by trial, learning curves, accuracy against cost, the best network's widths."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nas.importance import Importances
from nas.results import front
from nas.trial import Outcome
from searchspace.arch import Arch
from searchspace.costs import section_costs

COLOURS = {"search": "#1f6fb4", "control": "#e08214", "baseline": "#2ca02c"}
NAMES = {"search": "search", "control": "random control", "baseline": "known network"}
PRUNED_ALPHA = 0.35


def overview(trials: Sequence[Outcome], best: Arch | None) -> Figure:
    """Four panels that tell a run."""
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    by_trial(first, trials)
    learning_curves(second, trials)
    against_cost(third, trials)
    if best is not None:
        widths(fourth, best)
    else:
        fourth.set_axis_off()
    for axes in (first, second, third, fourth):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def tradeoff(trials: Sequence[Outcome], minimized: Sequence[str], volumes: Sequence[tuple[int, float]]) -> Figure:
    """Accuracy against every cost that is minimised, with the front, and the hypervolume by trial."""
    figure = Figure(figsize=(5.5 * (len(minimized) + 1), 3.8), layout="constrained")
    panels = figure.subplots(1, len(minimized) + 1)
    best, joined = front(trials), 1 if len(minimized) == 1 else 0  # a front over several costs is no line
    for axes, name in zip(panels, minimized, strict=False):
        _points(axes, trials, [trial.measured["minimize"][name] for trial in trials])
        line = sorted((trial.measured["minimize"][name], trial.accuracy) for trial in best)
        if line:
            axes.plot(
                *zip(*line, strict=True),
                color="#555555",
                lw=joined,
                marker="o",
                mfc="none",
                label="not beaten",
                zorder=1,
            )
            axes.legend(frameon=False, fontsize=8)
        axes.set(xlabel=name, ylabel="validation accuracy", xscale="log", title=f"Accuracy against {name}")
    if volumes:
        panels[-1].step(*zip(*volumes, strict=True), where="post", color=COLOURS["search"])
    panels[-1].set(xlabel="trial", ylabel="share of the box", title="Hypervolume from accuracy 0 and the budget")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def importance(mattered: Importances) -> Figure:
    """The factors with their shares and intervals, the weightiest on top."""
    figure = Figure(figsize=(7, 1 + 0.3 * len(mattered.factors)), layout="constrained")
    axes = figure.subplots()
    factors = mattered.factors[::-1]
    shares = [f.share for f in factors]
    errors = [[max(0.0, f.share - f.low) for f in factors], [max(0.0, f.high - f.share) for f in factors]]
    axes.barh([f.factor for f in factors], shares, xerr=errors, color=COLOURS["search"], ecolor="#888888")
    axes.axvline(0, color="#555555", lw=0.8)
    axes.set(xlabel="share of the variance of accuracy", title=f"What mattered ({mattered.trials} trials)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def by_trial(axes: Axes, trials: Sequence[Outcome]) -> None:
    """Every trial's last accuracy in the order of the run, and the best so far."""
    _points(axes, trials, [float(trial.number) for trial in trials])
    best: list[tuple[int, float]] = []
    for trial in trials:
        if trial.outcome == "complete" and trial.accuracy is not None:
            best.append((trial.number, max(trial.accuracy, best[-1][1] if best else 0.0)))
    if best:
        axes.step(*zip(*best, strict=True), where="post", color="#555555", lw=1, label="best so far", zorder=1)
    axes.set(xlabel="trial", ylabel="validation accuracy", title="Accuracy by trial (pale: stopped early)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def learning_curves(axes: Axes, trials: Sequence[Outcome]) -> None:
    for trial in trials:
        if trial.curve:
            alpha = 1.0 if trial.outcome == "complete" else PRUNED_ALPHA
            epochs = sorted(trial.curve)
            scores = [trial.curve[epoch] for epoch in epochs]
            axes.plot(epochs, scores, color=COLOURS[trial.role], alpha=alpha, lw=1.2, marker=".", ms=4)
    axes.set(xlabel="epoch", ylabel="validation accuracy", title="Learning curves (pale: stopped early)")


def against_cost(axes: Axes, trials: Sequence[Outcome]) -> None:
    """Accuracy against parameters: multiply-adds are nearly equal in a run, parameters are not."""
    _points(axes, trials, [trial.measured["params"] / 1e6 for trial in trials])
    axes.set(xlabel="million parameters", ylabel="validation accuracy", title="Accuracy against parameters")


def widths(axes: Axes, arch: Arch) -> None:
    """Channels and map size by block: how a network spends its depth."""
    index = list(range(1, len(arch.blocks) + 1))
    axes.plot(index, [block.out_channels for block in arch.blocks], color=COLOURS["search"], marker="o", ms=4)
    axes.set(xlabel="block", title="Best network: channels (line) and map size (steps)", ylim=(0, None))
    axes.set_ylabel("output channels", color=COLOURS["search"])
    right = axes.twinx()
    sizes = [part.output[1] for part in section_costs(arch)[1:-1]]
    right.step(index, sizes, where="mid", color="#999999", lw=1)
    right.set(ylim=(0, None))
    right.set_ylabel("pixels a side", color="#777777")
    right.spines["top"].set_visible(False)


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
                (at, trial.accuracy)
                for at, trial in zip(x, trials, strict=True)
                if trial.role == role and trial.accuracy is not None and (trial.outcome == "complete") == complete
            ]
            if chosen:
                label = NAMES[role] if complete else None
                axes.scatter(
                    *zip(*chosen, strict=True), color=colour, alpha=1.0 if complete else PRUNED_ALPHA, label=label
                )


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, the same for the same figure."""
    with matplotlib.rc_context({"svg.hashsalt": "nas", "svg.fonttype": "none"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
