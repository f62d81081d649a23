"""A run as one page of HTML that needs no network. Everything that it shows is escaped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from nas import figures, results
from nas.config import SearchConfig
from nas.environment import Environment
from nas.importance import Importances
from nas.progress import progress
from nas.retraining import Retrained, sentences
from nas.trial import Outcome
from nas.widths import widths
from searchspace.arch import Arch
from searchspace.figures import picture
from searchspace.latency import LatencyTable

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 1.5rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto }
td, th { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th { border-bottom: 2px solid #888 } td.text, th.text { text-align: left }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem 2rem;
  margin-top: 1rem }
figure { margin: 0 } figcaption { font-size: 14px; color: #444 } svg { width: 100%; height: auto; max-width: 40rem }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto } summary { cursor: pointer; margin: .5rem 0 }
.verdict { background: #eef4fa; padding: .6rem 1rem; border-left: 4px solid #1f6fb4; overflow-wrap: anywhere }
"""
COLUMNS = (
    "trial",
    "role",
    "outcome",
    "accuracy",
    "epochs",
    "MFLOPs",
    "MParams",
    "pred. ms",
    "ms",
    "alone ms",
    "images/s",
    "seconds",
    "network",
)
TEXT = {"role", "outcome", "network", "reason", "factor"}
DRAWN = 3
BEST = 10
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run's page is made of. `volumes` are hypervolumes by trial where costs are minimised; `interruptions` are
    sentences about trials that are not among the outcomes."""

    name: str
    config: SearchConfig
    trials: Sequence[Outcome]
    images: int
    mattered: Importances
    interruptions: Sequence[str] = ()
    volumes: Sequence[tuple[int, float]] = ()
    table: LatencyTable | None = None
    environments: Sequence[Environment] = ()
    retrained: Sequence[Retrained] = ()


def page(found: Findings) -> str:
    config, trials = found.config, found.trials
    complete = results.best_complete(trials)
    front = results.front(trials)
    failed = [trial for trial in trials if trial.outcome == "failed"]
    title = f"{found.name}: {config.space_name} within {config.budget} at {config.space.pixels}"
    verdict = [*results.findings(trials, found.images), *found.interruptions]
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict">{"<br>".join(map(escape, verdict))}</p>',
        "<h2>Best networks</h2>",
        table(row(trial) for trial in complete[:BEST]) if complete else "<p>No trial is complete yet.</p>",
        grid(drawings(complete[:DRAWN])),
        *(["<h2>What nothing else beats</h2>", table(row(t) for t in front)] if front else []),
        "<h2>How the search went</h2>",
        grid(course(trials)),
        "<h2>Accuracy and cost</h2>",
        grid(costs(found)),
        "<h2>What mattered</h2>",
        weights(found.mattered),
        "<h2>Channels over depth</h2>",
        schedules(trials),
        *(
            ["<h2>Do brief scores predict full training?</h2>", full_training(found.retrained)]
            if found.retrained
            else []
        ),
        "<h2>Failures</h2>",
        failures(failed) if failed else "<p>None.</p>",
        "<h2>All trials</h2>",
        f"<details><summary>{len(trials)} trials, also in trials.csv and trials.parquet</summary>"
        f"{table(row(t) for t in trials)}</details>",
        "<h2>How to repeat it</h2>",
        f"<pre>{escape(config.conduct.command)}</pre>",
        conditions(found),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(found.name)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(sections)}</body></html>\n'


def drawings(best: Sequence[Outcome]) -> Iterator[tuple[Figure, str]]:
    """The best networks: channels, resolution and multiply-adds over depth."""
    for trial in best:
        m = trial.measured
        arch = Arch.from_dict(json.loads(m["arch"]), f"trial {trial.number}")
        name = f"{m['baseline']}, " if m.get("baseline") else ""
        yield picture(arch, f"trial {trial.number}", (4.4, 3.7)), f"{name}{m['network']}"


def course(trials: Sequence[Outcome]) -> Iterator[tuple[Figure, str]]:
    found = progress(trials)
    if found is not None:
        yield (
            figures.progress(found),
            "The best of the first n networks that the search proposed, beside the best of n random networks within "
            "the same budget: while the line is inside the band, luck alone does as well.",
        )
    yield figures.by_trial(trials), "The last validation accuracy of every trial; pale ones were stopped early."
    yield figures.learning_curves(trials), "Validation accuracy after every epoch; pale lines were stopped early."


def costs(found: Findings) -> Iterator[tuple[Figure, str]]:
    trials, minimized = found.trials, found.config.identity.minimize
    for name in minimized:
        yield (
            figures.tradeoff(trials, minimized, name),
            "Rings: nothing is better in accuracy and all that is minimised.",
        )
    if minimized:
        yield figures.hypervolume(found.volumes), "What the front covers of all that is within the budget."
    rings = "Rings: no complete trial is more accurate at less cost."
    fitted = "Networks are fitted to the budget, so their multiply-adds differ little. "
    yield figures.against(trials, "macs", "FLOPs (million multiply-adds)", 1e6), ("" if minimized else fitted) + rings
    yield figures.against(trials, "params", "parameters (million)", 1e6), rings
    if any(trial.measured.get("predicted_ms") is not None for trial in trials):
        said = f"Milliseconds of one image{device(found.table)}, predicted from layer times; diamonds: of the best, "
        said += f"measured when nothing else ran. {rings}"
        yield figures.against(trials, "predicted_ms", "latency (predicted, ms)", measured="measured_ms"), said
    elif any(trial.measured.get("latency_ms") is not None for trial in trials):
        said = f"Milliseconds of one image, measured while other trials ran. {rings}"
        yield (
            figures.against(trials, "latency_ms", "latency (measured beside other trials, ms)", measured="measured_ms"),
            said,
        )


def device(table: LatencyTable | None) -> str:
    return "" if table is None else f" on {table}"


def weights(mattered: Importances) -> str:
    """The factors with their shares, as a figure and a table; one sentence where nothing can be said."""
    said = f"<p>{escape(mattered.sentence)}</p>"
    if not mattered.factors:
        return said
    rows = (
        {"factor": f.factor, "share": f"{f.share:.3f}", "90 % of resamples": f"{f.low:.3f} to {f.high:.3f}"}
        for f in mattered.factors
    )
    meaning = (
        "The share of the variance of accuracy that a model no longer explains when a factor's values are shuffled "
        "over trials; lines hold 90 % of resamples. What reaches 0 cannot be told from noise."
    )
    drawn = grid([(figures.importance(mattered), meaning)])
    return f"{said}{drawn}<details><summary>Numbers</summary>{table(rows)}</details>"


def schedules(trials: Sequence[Outcome]) -> str:
    """ReXNet's figure, where there are networks enough."""
    found = widths(trials)
    if not found.groups:
        return f"<p>{escape(found.sentence)}</p>"
    meaning = (
        f"{found.sentence} Bands are one standard deviation. After figure 2 of ReXNet (arXiv 2007.00992), where the "
        "best networks widen linearly. Where bands overlap, this run shows no difference."
    )
    return grid([(figures.channels(found), meaning)])


def full_training(rows: Sequence[Retrained]) -> str:
    """Brief scores beside accuracies after full training, with how well the one ranks the other."""
    said = "".join(f"<p>{escape(line)}</p>" for line in sentences(rows))
    cells = (
        {
            "trial": str(row.trial),
            "role": row.role,
            "brief": f"{row.brief:.4f}",
            "epochs in full": str(row.epochs),
            "validation": f"{row.full:.4f}",
            "test": "" if row.test is None else f"{row.test:.4f}",
        }
        for row in rows
    )
    meaning = (
        "Every point is a network with its trial's number: the nearer to a rising line, the better brief scores rank."
    )
    return said + table(cells) + grid([(figures.retrained(rows), meaning)])


def failures(failed: Sequence[Outcome]) -> str:
    """Every reason with how often it was met, and in which trials."""
    reasons = Counter(str(trial.measured.get("error", "")) for trial in failed)
    numbers = {r: ", ".join(str(t.number) for t in failed if t.measured.get("error", "") == r) for r in reasons}
    return table({"trials": numbers[r], "times": str(n), "reason": r} for r, n in reasons.most_common())


def conditions(found: Findings) -> str:
    """What was counted, trained and measured, and on what."""
    identity = found.config.identity
    count = (
        "One FLOP is one multiply-add of a convolution or linear layer. Accuracy is on the "
        f"{found.images or 'not yet known number of'} validation images, {100 * identity.data.validation:g} % of the "
        f"training images of {identity.data.dataset}, after at most {identity.train.epochs} epochs; the test set was "
        "not read. Intervals are of 90 %. Milliseconds are of one image through the deployment network: predicted "
        f"from layer times{device(found.table)}, measured while other trials ran (ms), and of the best measured when "
        "nothing else ran (alone ms)."
    )
    settings = {"sampler": identity.sampler, "seed": identity.seed, "controls": identity.controls}
    settings |= {"baselines": identity.baselines, "recipe": f"({identity.train.words()})"}
    if identity.prescreen.draws > 1:
        settings["pre-screen"] = f"the best of {identity.prescreen.draws} proposals by {identity.prescreen.by}"
    if identity.warm_start:
        settings["warm start"] = ", ".join(identity.warm_start)
    ran = [", ".join(f"{name} {value}" for name, value in one.items()) for one in found.environments]
    ran = ran or ["It was not kept what this run ran on."]
    return (
        f"<p>{escape(count)}</p><pre>{escape(', '.join(f'{name} {value}' for name, value in settings.items()))}</pre>"
        f"<p>Environment: {'<br>'.join(escape(one) for one in ran)}</p>"
    )


def row(trial: Outcome) -> Row:
    """A trial's cells, by column."""
    m = trial.measured
    speed, seconds = m.get("images_per_s"), m.get("seconds")
    predicted, beside, alone = (m.get(name) for name in ("predicted_ms", "latency_ms", "measured_ms"))
    cells = (
        str(trial.number),
        m.get("baseline") or trial.role,
        trial.outcome,
        "" if trial.accuracy is None else f"{trial.accuracy:.4f}",
        str(max(trial.curve, default=0)),
        f"{m['macs'] / 1e6:.1f}",
        f"{m['params'] / 1e6:.2f}",
        *("" if ms is None else f"{ms:.1f}" for ms in (predicted, beside, alone)),
        "" if speed is None else f"{speed:.0f}",
        "" if seconds is None else f"{seconds:.1f}",
        str(m["network"]),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def table(rows: Iterable[Row]) -> str:
    """Rows of the same columns; nothing where there are none."""

    def cell(tag: str, name: str, text: str) -> str:
        kind = ' class="text"' if name in TEXT else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    listed = list(rows)
    if not listed:
        return ""
    head = "".join(cell("th", name, name) for name in listed[0])
    body = "".join("<tr>" + "".join(cell("td", n, text) for n, text in cells.items()) + "</tr>" for cells in listed)
    return f"<table><tr>{head}</tr>{body}</table>"


def grid(drawn: Iterable[tuple[Figure, str]]) -> str:
    """Figures with captions, as many beside each other as the window is wide."""
    shown = (f"<figure>{figures.svg(one)}<figcaption>{escape(said)}</figcaption></figure>" for one, said in drawn)
    return f'<div class="figures">{"".join(shown)}</div>'
