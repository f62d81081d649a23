"""What the dashboard says in words: Markdown notes of a trial's network and of a whole run. No Optuna here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas.analysis.comparison import findings
from nas.analysis.importance import FEWEST, usable
from nas.bundle.card import escape, one_line
from nas.config import CALLER, SearchConfig
from nas.study.finals import Finals, best_first
from nas.trial import Trial, TrialRecord
from searchspace.budget import Limit, amount
from searchspace.space.preflight import known_within
from searchspace.table import Row, table

ROLES = {
    "search": "Search: proposed by the sampler",
    "control": "Random control: drawn at random within the budget, to compare the search with",
    "baseline": "Known network",
}
SHOWN, KNOWN = 5, 10
GAP = "\N{NO-BREAK SPACE}" * 2  # the dashboard sets its tables without any
Cells = Iterable[Sequence[object]]


def of_trial(trial: Trial, record: TrialRecord, picture: str, interrupted: str = "") -> str:
    """A trial's role and end, its network as a table, and the picture at that address. `interrupted` says what came of
    a trial that was."""
    role = ROLES[trial.role] + (f": {escape(trial.baseline)}, scaled to the budget" if trial.baseline else "")
    error = f": {escape(record.error)}" if record.error else ""
    score = "" if record.score is None else f", {record.metric.validation} {record.score:.4f}"
    rows = [[f"{cell:,}" if isinstance(cell, int) else escape(cell) for cell in row] for row in table(trial.arch)]
    sections = [
        f"**{role}.** {interrupted or f'{record.state.capitalize()}{error}{score}.'}",
        f"![channels and resolution over depth]({picture})",
        markdown_table(Row._fields, rows),
        "One of the `macs` is one multiply-add of a convolution or linear layer, at "
        f"{trial.arch.resolution} px and {trial.arch.num_classes} classes.",
    ]
    return "\n\n".join(sections)


def of_run(
    config: SearchConfig,
    trials: Sequence[TrialRecord],
    images: int,
    picture: str = "",
    interruptions: Sequence[str] = (),
    finals: Finals | None = None,
    chance: float | None = None,
) -> str:
    """What a run found so far, its best networks, and the known networks at its budget. `interruptions` are sentences
    about trials that are not among the outcomes."""
    space, budget, identity = config.space, config.budget, config.identity
    done = sum(trial.state != "running" for trial in trials)
    complete = best_first(trials, finals)
    best = [
        (
            t.number,
            escape(t.name),
            f"{t.score:.4f}",
            *costs(t),
            escape(t.network),
        )
        for t in complete[:SHOWN]
    ]
    said = findings(trials, images, finals, chance=chance)
    of, how = "", CALLER
    if config.wanted is not None:  # who asks and tells says neither
        of = f"of {max(done, config.wanted)} "
        how = f"trained for at most {identity.train.epochs} epochs on {identity.data.dataset}"
    sections = [
        f"# {escape(config.space_name)} within {escape(str(budget))}",
        *too_few(trials),
        f"{done} {of}trials done. Networks for {space.pixels} and {space.network.num_classes} classes, {escape(how)}; "
        f"the objective is the {identity.metric.words} on validation images.",
        "\n".join(f"- {escape(line)}" for line in [*said, *interruptions]),
    ]
    if best:
        sections += [
            "## Best networks",
            markdown_table(("trial", "role", identity.metric.words, *COSTS, "network"), best),
        ]
    if best and picture:
        sections += [f"![channels and resolution of the best network over depth]({picture})"]
    return "\n\n".join([*sections, at_budget(config), "## Repeat", f"    {one_line(config.conduct.command)}"])


def too_few(trials: Sequence[TrialRecord]) -> list[str]:
    """A warning where the dashboard's own figures show noise."""
    number = len(usable(trials))
    if number >= FEWEST:
        return []
    return [
        "**The dashboard draws parameter importances and contours from any number of trials. It takes "
        f"{FEWEST} to tell them from noise; here are {number}.**"
    ]


COSTS = ("MFLOPs", "MParams", "pred. ms")


def costs(trial: TrialRecord) -> tuple[str, str, str]:
    ms = "" if trial.predicted_ms is None else f"{trial.predicted_ms:.1f}"
    return f"{trial.cost.macs / 1e6:.1f}", f"{trial.cost.params / 1e6:.2f}", ms


def at_budget(config: SearchConfig) -> str:
    """The zoo's networks that keep the budget as their papers have them, the dearest first."""
    title, budget = "## The papers' networks within this budget, not scaled", config.budget
    if any(limit.currency == "latency_ms" for limit in budget.limits):
        return f"{title}\n\nTheir latency on the run's device was not looked up."
    found = known_within(config.space, budget)
    if not found:
        return f"{title}\n\nNo network of the zoo is within it as its paper has it."
    rows = [
        (name, arch.resolution, *(amount(limit.of(spent), limit.currency) for limit in limits_to_show(budget.limits)))
        for name, arch, spent in found[:KNOWN]
    ]
    heads = ("network", "px", *(limit.currency for limit in limits_to_show(budget.limits)))
    return f"{title}\n\nAs in their papers, with 1000 classes:\n\n{markdown_table(heads, rows)}"


def limits_to_show(limits: Sequence[Limit]) -> list[Limit]:
    """The limits, and multiply-adds and parameters where none is of them."""
    named = {limit.currency for limit in limits}
    return [*limits, *(Limit(other, 1) for other in ("macs", "params") if other not in named)]


def markdown_table(names: Sequence[str], rows: Cells) -> str:
    lines = [[f"{cell}{GAP}" for cell in line] for line in (names, *rows)]
    lines.insert(1, ["---"] * len(names))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
