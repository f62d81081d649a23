"""A run as one page of HTML that needs no network. Everything that it shows is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from nas.analysis import comparison, confusion
from nas.analysis.agreement import Retrained, sentences
from nas.analysis.channels import channel_profile
from nas.analysis.comparison import metric_of, progress
from nas.analysis.confusion import Confusion
from nas.analysis.importance import Importances
from nas.analysis.state import State
from nas.analysis.tables import own_column
from nas.bundle import confusion_matrix
from nas.config import CALLER, SearchConfig, currencies
from nas.data.labelled import count_of
from nas.study.finals import Finals, best_first
from nas.trial import TrialRecord, after_trials
from nas.views import figures, trial_details
from nas.views.markup import Row, document, grid, link, table
from nas.views.next_steps import steps
from searchspace.budget import amount, unit_of
from searchspace.costs.latency import LatencyTable
from searchspace.figures import picture

DRAWN = 3
BEST = 10
FEW_CONTROLS = 8
# Budgets in bytes, as a column and an axis are called.
MEMORY = {
    "peak_memory_bytes": "peak memory (kB)",
    "flash_bytes": "flash (kB)",
    "int8_arena_bytes": "int8 arena (kB)",
    "int8_flash_bytes": "int8 flash (kB)",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run's page is made of. `folder` is the run's as it was given, `volumes` are hypervolumes by trial where
    costs are minimised, `confusions` are of the trials that were trained in full, `chance` is the score
    of always answering the same, where that is known."""

    name: str
    config: SearchConfig
    trials: Sequence[TrialRecord]
    images: int
    mattered: Importances
    state: State
    folder: Path
    volumes: Sequence[tuple[int, float]] = ()
    table: LatencyTable | None = None
    busy: str = ""
    environments: Sequence[Mapping[str, str]] = ()
    retrained: Sequence[Retrained] = ()
    confusions: dict[int, Confusion] = field(default_factory=dict)
    finals: Finals | None = None
    chance: float | None = None

    @property
    def titles(self) -> dict[int, str]:
        """What the dots of every trial say."""
        return {trial.number: trial_details.title(trial, self.images) for trial in self.trials}

    @property
    def limited(self) -> list[str]:
        """The costs that the budget limits."""
        return [limit.currency for limit in self.config.budget.limits]

    @property
    def memory(self) -> list[str]:
        """The bytes that the budget limits or the search minimises."""
        minimized = [currencies()[name] for name in self.config.identity.minimize]
        return [name for name in MEMORY if name in (*self.limited, *minimized)]


def page(found: Findings) -> str:
    config = found.config
    title = f"{found.name}: {config.space_name} within {config.budget} at {config.space.pixels}"
    sections = (
        f"<h1>{escape(title)}</h1>",
        verdict(found),
        section("Finals", finals_table(found.finals) + last_two(found.finals)) if found.finals else "",
        best(found),
        section("What to do next", next_steps(found)),
        section("How the search went", grid(course(found.trials), found.titles)),
        section(f"{figures.title_of(metric_of(found.trials))} and cost", grid(costs(found), found.titles)),
        section("Parameter importance", weights(found.mattered)),
        section("Channels over depth", schedules(found.trials)),
        section("Do brief scores predict full training?", full_training(found)) if found.retrained else "",
        section("Which classes are confused?", mistakes(found)) if found.confusions else "",
        section("Failures", failures([trial for trial in found.trials if trial.state == "failed"])),
        section("All trials", everything(found)),
        section("How to repeat it", f'<pre class="command">{escape(config.conduct.command)}</pre>{conditions(found)}'),
    )
    return document(found.name, sections)


def section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def verdict(found: Findings) -> str:
    circumstances = found.finals, found.state.alive, found.chance
    lines = [*found.state.sentences, *comparison.findings(found.trials, found.images, *circumstances)]
    return f'<p class="verdict">{"<br>".join(escape(line) for line in lines)}</p>'


def next_steps(found: Findings) -> str:
    """Commands to go on with."""
    run, command = found.folder, found.config.conduct.command
    next_steps = steps(run, command, found.state, found.trials, found.retrained, found.finals)
    rows = "".join(
        f'<dt>{escape(step.what)}</dt><dd><pre class="command">{escape(step.command)}</pre></dd>' for step in next_steps
    )
    return f'<div class="next"><dl>{rows}</dl></div>'


def best(found: Findings) -> str:
    """The best networks and, where costs are minimised, the Pareto front."""
    complete, front = best_first(found.trials, found.finals), comparison.front(found.trials)
    if not complete:
        return section("Best networks", "<p>No trial is complete yet.</p>")
    order = "The finals' networks first, then by the score of brief training." if found.finals else ""
    said = f'<p class="note">{escape(order)}</p>' if order else ""
    body = said + main_table(complete[:BEST], found) + grid(drawings(complete[:DRAWN]))
    unbeaten = section("Pareto front", main_table(front, found)) if front else ""
    return section("Best networks", body) + unbeaten


def main_table(trials: Sequence[TrialRecord], found: Findings) -> str:
    """Complete trials as a table without what nobody measured, and in words what its two latencies are."""
    rows = [row(trial, found.images, found.memory) for trial in trials]
    empty = {name for name in rows[0] if all(not cells[name] for cells in rows)} | {"outcome"}
    kept = [{name: cell for name, cell in cells.items() if name not in empty} for cells in rows]
    both = {"ms (predicted)", "ms (alone)"} - empty
    note = "ms: latency of one image, predicted, or measured alone (the end of the page says when)." if both else ""
    return table(kept) + (f'<p class="note">{note}</p>' if note else "")


def everything(found: Findings) -> str:
    """All trials as a table, and the networks that dots lead to."""
    trials, shown = found.trials, trial_details.trials_in_detail(found.trials)
    if not trials:
        return "<p>No trial has begun.</p>"
    others = {trial.number for trial in trials} - {trial.number for trial in shown}
    rows = [row(trial, found.images, found.memory) | timing(trial) for trial in trials]
    left_out = (
        f"<p>Of {len(trials)} networks these are the known ones, the Pareto front and the best; "
        "<code>python -m nas.export RUN --trial N --out DIR</code> takes any home.</p>"
        if others
        else ""
    )
    return (
        f"<details><summary>{len(trials)} trials, also in trials.csv and trials.parquet, there with their parameters "
        f"and all that was measured</summary>{table(rows, others)}</details>"
        f"<h3>Their networks, layer by layer</h3>{left_out}{trial_details.details(shown, found.images)}"
    )


def drawings(best: Sequence[TrialRecord]) -> Iterator[tuple[Figure, str]]:
    """The best networks: channels, resolution and multiply-adds over depth."""
    for trial in best:
        name = f"{trial.baseline}, " if trial.baseline else ""
        yield picture(trial.arch, f"trial {trial.number}", (4.4, 3.7)), f"{name}{trial.network}"


def few_controls(trials: Sequence[TrialRecord]) -> str:
    """A word where the band is of so few random networks that leaving it says little."""
    number = sum(trial.role == "control" and trial.state == "complete" for trial in trials)
    few = f" The band is of {count_of(number, 'random network')}: outside may be luck too, the text says how likely."
    return few if number < FEW_CONTROLS else ""


def course(trials: Sequence[TrialRecord]) -> Iterator[tuple[Figure, str]]:
    found = progress(trials)
    if found is not None:
        yield (
            figures.progress(found),
            "The best of the first n networks that the search proposed, beside the best of n random networks within "
            f"the same budget: while the line is inside the band, luck alone does as well.{few_controls(trials)}",
        )
    hint = "Point at a dot to see which trial it is, click to see its network."
    yield (
        figures.by_trial(trials),
        f"The last {metric_of(trials).validation} of every trial; pale ones were stopped early. {hint}",
    )
    yield (
        figures.learning_curves(trials),
        f"{figures.title_of(metric_of(trials))} on validation images after every epoch; pale lines were stopped early.",
    )


def costs(found: Findings) -> Iterator[tuple[Figure, str]]:
    trials, minimized = found.trials, found.config.identity.minimize
    metric = metric_of(trials).words
    for name in minimized:
        yield (
            figures.tradeoff(trials, minimized, name),
            f"Rings: the Pareto front. No complete trial is better in {metric} and all that is minimised.",
        )
    if minimized:
        yield figures.hypervolume(found.volumes), "What the Pareto front covers of all that is within the budget."
    rings = f"Rings: the Pareto front. No complete trial is better in {metric} at less cost."
    fitted = "" if minimized or len(found.limited) > 1 else found.limited[0]
    near = f"Networks are fitted to the budget, so they differ little in this cost. {rings}"
    for name, label, scale in (
        ("macs", "FLOPs (million multiply-adds)", 1e6),
        ("params", "parameters (million)", 1e6),
        *((name, MEMORY[name], 1e3) for name in found.memory if name in found.limited),
    ):
        yield figures.against(trials, partial(cost_in, name), label, scale), near if name == fitted else rings
    for name in dict.fromkeys(name for trial in trials for name, _ in trial.cost.own):
        yield figures.against(trials, partial(cost_in, name), f"{name} ({unit_of(name)})"), rings
    if any(trial.predicted_ms is not None for trial in trials):
        said = f"Milliseconds of one image{device(found.table)}, predicted from layer times; diamonds: of the best, "
        said += f"measured {after_trials(found.busy)}. {rings}"
        yield figures.against(trials, predicted_ms, "latency (predicted, ms)", measured=alone_ms), said
    elif any(trial.contended_ms for trial in trials):
        said = f"Milliseconds of one image, measured while other trials ran. {rings}"
        yield (
            figures.against(trials, contended_ms, "latency (measured beside other trials, ms)", measured=alone_ms),
            said,
        )


def cost_in(name: str, trial: TrialRecord) -> float | None:
    return trial.cost.of(name)


def predicted_ms(trial: TrialRecord) -> float | None:
    return trial.predicted_ms


def contended_ms(trial: TrialRecord) -> float | None:
    return trial.contended_ms


def alone_ms(trial: TrialRecord) -> float | None:
    return trial.alone_ms


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
        "The share of the variance of the score that a model no longer explains when a factor's values are shuffled "
        "over trials; lines hold 90 % of resamples. What reaches 0 cannot be told from noise."
    )
    drawn = grid([(figures.importance(mattered), meaning)])
    return f"{said}{drawn}<details><summary>Numbers</summary>{table(rows)}</details>"


def schedules(trials: Sequence[TrialRecord]) -> str:
    """ReXNet's figure, where there are networks enough."""
    found = channel_profile(trials)
    if not found.groups:
        return f"<p>{escape(found.sentence)}</p>"
    meaning = (
        f"{found.sentence} Bands are one standard deviation. After figure 2 of ReXNet (arXiv 2007.00992), where the "
        "best networks widen linearly. Where bands overlap, this run shows no difference."
    )
    return grid([(figures.channels(found), meaning)])


def finals_table(finals: Finals) -> str:
    """The trainings of the finals: a row per contender, a column per round."""
    rows = []
    for network in finals.standing:
        cells = {"trial": str(network.number), "role": network.name, "trial's score": f"{network.score:.4f}"}
        for played in (one for one in finals.rounds if finals.entrants(one.number)):
            one = finals.training(network, played)
            cells[f"round {played.number}: {played.epochs} epochs"] = "" if one is None else f"{one.score:.4f}"
        rows.append(cells)
    return table(rows) + (
        '<p class="note">Every training is from a seed of its own. The first rounds decide which two go on, a textbook '
        "network among them where there is one; the last rounds measure these two, each on validation images that had "
        "decided nothing before.</p>"
    )


def last_two(finals: Finals) -> str:
    """How the networks of the last rounds learnt."""
    lines = list(zip(finals.last, finals.curves(finals.last), strict=True))
    if len(lines) < 2 or len(lines[0][1]) < 2:
        return ""
    meaning = "Means of the last rounds' trainings. Lines that draw near may cross when both are trained for longer."
    return grid([(figures.finals_curves(lines), meaning)])


def full_training(found: Findings) -> str:
    """Brief scores beside those after full training, with how well the one ranks the other."""
    rows = found.retrained
    said = "".join(f"<p>{escape(line)}</p>" for line in sentences(rows))
    cells = (
        {
            "trial": str(row.trial),
            "role": row.role,
            "brief": f"{row.brief:.4f}",
            "epochs in full": str(row.epochs),
            "validation": f"{row.full:.4f}",
            "90 % interval": within(row, row.full, row.images),
            "test": "" if row.test is None else f"{row.test:.4f}",
            "90 % interval of test": "" if row.test is None else within(row, row.test, row.test_images),
        }
        for row in rows
    )
    meaning = (
        "Every point is a network with its trial's number: the nearer to a rising line, the better brief scores rank."
    )
    return said + table(cells) + grid([(figures.retrained_figure(rows), meaning)], found.titles)


def within(row: Retrained, score: float, images: int) -> str:
    """The 90 % interval of what a full training ends with."""
    found = row.metric.scores_within(score, images)
    return f"[{found[0]:.4f}, {found[1]:.4f}]" if found else ""


def mistakes(found: Findings) -> str:
    """Of every network that was trained in full, which classes it takes for which; the best is unfolded."""
    trained = [row for row in found.retrained if row.trial in found.confusions]
    return "".join(
        f"<details{'' if index else ' open'}><summary>Trial {link(row.trial)} after {row.epochs} epochs</summary>"
        f"{classes(found.confusions[row.trial])}</details>"
        for index, row in enumerate(trained)
    )


def classes(one: Confusion) -> str:
    drawn = f"<figure>{confusion_matrix.matrix(one)}<figcaption>{escape(confusion.meaning(one))}</figcaption></figure>"
    return f"<p>{escape(' '.join(confusion.sentences(one)))}</p>{drawn}{table(confusion.rows(one))}"


def failures(failed: Sequence[TrialRecord]) -> str:
    """Every reason with how often it was met, and in which trials."""
    if not failed:
        return "<p>None.</p>"
    reasons = Counter(trial.error for trial in failed)
    numbers = {r: ", ".join(str(t.number) for t in failed if t.error == r) for r in reasons}
    return table({"trials": numbers[r], "times": str(n), "reason": r} for r, n in reasons.most_common())


def conditions(found: Findings) -> str:
    """What was counted, trained and measured, and on what."""
    identity = found.config.identity
    if identity.evaluate:
        scored = f"The score is the {identity.metric.words}, {training_of(identity.evaluate)}. "
    else:
        scored = (
            f"The score is the {identity.metric.words} on the "
            f"{found.images or 'not yet known number of'} validation images, held out of the training images of "
            f"{identity.data.dataset}, after at most {identity.train.epochs} epochs; the test set was not read. "
        )
    count = (
        f"One FLOP is one multiply-add of a convolution or linear layer. {scored}Intervals are of 90 %. Milliseconds "
        f"are of one image through the deployment network: predicted from layer times{device(found.table)}, and of the "
        f"best measured {after_trials(found.busy)}; what was measured while other trials ran is in trials.csv."
    )
    settings = {"sampler": identity.sampler, "seed": identity.seed, "controls": identity.controls}
    settings |= {"baselines": identity.baselines, "recipe": f"({identity.train.words()})"}
    if identity.prescreen.draws > 1:
        settings["pre-screen"] = f"the best of {identity.prescreen.draws} proposals by {identity.prescreen.by}"
    if identity.prior:
        settings["prior"] = "what ships for the space"
    if identity.horizon:
        settings["horizon"] = "activations count beside scores"
    if identity.warm_start:
        settings["warm start"] = ", ".join(identity.warm_start)
    ran = [", ".join(f"{name} {value}" for name, value in one.items()) for one in found.environments]
    ran = ran or ["It was not kept what this run ran on."]
    return (
        f"<p>{escape(count)}</p><pre>{escape(', '.join(f'{name} {value}' for name, value in settings.items()))}</pre>"
        f"<p>Environment: {'<br>'.join(escape(one) for one in ran)}</p>"
    )


def training_of(evaluate: str) -> str:
    """Whose training gave the scores."""
    return evaluate if evaluate == CALLER else f"after a training of the searcher's own, {evaluate}"


def row(trial: TrialRecord, images: int, memory: Sequence[str] = ()) -> Row:
    """A trial's cells, by column; `memory` are the bytes that are shown."""
    latencies = {"ms (predicted)": trial.predicted_ms, "ms (alone)": trial.alone_ms}
    return {
        "trial": str(trial.number),
        "role": trial.name,
        "outcome": trial.state,
        trial.metric.words: "" if trial.score is None else f"{trial.score:.4f}",
        "90 % interval": trial_details.interval(trial, images),
        "epochs": str(trial.epochs),
        "MFLOPs": million(trial.cost.macs),
        "MParams": million(trial.cost.params),
        **{MEMORY[name]: kilo(trial.cost.of(name)) for name in memory},
        **{own_column(name, trial): amount(spent, name) for name, spent in trial.cost.own},
        **{name: "" if ms is None else f"{ms:.1f}" for name, ms in latencies.items()},
        "network": trial.network,
    }


def kilo(number: float | None) -> str:
    """In thousands, to one decimal; "" of what is not known."""
    return "" if number is None else f"{number / 1e3:.1f}"


def million(number: int) -> str:
    """In millions, to three digits or one decimal."""
    return f"{number / 1e6:.1f}" if number >= 1e8 else f"{number / 1e6:#.3g}"


def timing(trial: TrialRecord) -> Row:
    """How fast a trial was trained."""
    speed, seconds = trial.images_per_s, trial.seconds
    return {
        "images/s": "" if speed is None else f"{speed:.0f}",
        "seconds": "" if seconds is None else f"{seconds:.1f}",
    }
