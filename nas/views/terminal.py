"""What a person sees of a search in a terminal: the pre-flight, a live table (elsewhere plain lines), the summary."""

from __future__ import annotations

import logging
import textwrap
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nas.analysis import comparison
from nas.analysis.importance import importances
from nas.analysis.time_left import TimeLeft
from nas.config import SearchConfig
from nas.metric import DEFAULT_METRIC, Metric
from nas.study.finals import best_first
from nas.study.objectives import format_cost
from nas.study.proposals import Proposal
from nas.study.records import interruption_sentences
from nas.study.study import Study
from nas.trial import Result, Trial, TrialRecord, after_trials
from nas.views.advice import suggest_for_small
from nas.views.gpu_use import GpuUse
from searchspace import signals
from searchspace.budget import BYTES, OWN_COSTS, amount, unit_of
from searchspace.costs.latency import LatencyTable
from searchspace.space.preflight import Preflight

SHOWN, BEST = 8, 5
WIDTH = 80
SEVERAL = 2  # costs beside which multiply-adds have no room
SILENCE_S, LONGEST_SILENCE_S, FIRST_HOUR_S = 8.0, 60.0, 3600.0
PRUNED = "pruned: stopped early, its score was behind those of the best third"
STOPPING = "stopping: keeping epochs (up to 10 s); again to stop now"
OUTCOMES = ("complete", "pruned", "failed")
LINE = "{:>5} {:<8} {:>8} {:>7}{ms:>{gap}} {:>6} {:>9} {:>7} {:>9}"
HEADER = ("trial", "role", "FLOPs M", "Par. M", "epoch", "score", "img/s", "outcome")
MS_GAP = 9


class Display:
    """A watcher (see `coordinator.Watcher`) that draws; at most 80 columns.

    Drawn over and over in a terminal; elsewhere, as in a file, a notebook or a terminal that cannot move its cursor, a
    line is printed for every trial that has ended, and one of how far the run is where there was none for a while.
    `counts` are the outcomes of the run so far; `time_left` says how long the rest takes.
    """

    def __init__(
        self,
        console: Console,
        log: logging.Logger,
        total: int,
        finished: int,
        best: float | None,
        quiet: bool,
        metric: Metric = DEFAULT_METRIC,
        timed: bool = False,
        title: str = "",
        counts: Mapping[str, int] | None = None,
        time_left: TimeLeft | None = None,
        what: str = "trials",
    ) -> None:
        self.what = what
        self.gap = MS_GAP if timed else 0
        self.header = LINE.format(*HEADER[:5], metric.short, *HEADER[6:], ms="pred. ms" if timed else "", gap=self.gap)
        self.console, self.log, self.best, self.quiet = console, log, best, quiet
        self.metric, self.title, self.gpus = metric, title, GpuUse()
        self.total, self.finished, self.ended_here = total, finished, 0
        self.time_left, self.notice = time_left or TimeLeft(total, 1), ""
        self.begun = self.printed_at = time.monotonic()
        self.over = threading.Event()
        self.counts: Counter[str] = Counter(counts or {})
        self.rows: dict[int, str] = {}
        self.recent: deque[int] = deque(maxlen=SHOWN)
        self.speeds: dict[int, float] = {}
        self.bar = Progress(
            TextColumn(what),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[trials]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.task = self.bar.add_task("trials", total=1, trials=f"{finished}/{total}")
        self.live = Live(get_renderable=self.draw, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.is_dumb_terminal and not self.quiet:
            self.live.start()
        elif not self.quiet:
            self._print("starting workers")
            self._print(self.header)
            threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if self.live.is_started:
            self.live.stop()

    def draw(self) -> Group:
        """What the run is, how far it is, what came of it, how fast it goes, and the latest trials."""
        self.bar.update(self.task, completed=self.time_left.share(), trials=f"{self.finished}/{self.total}")
        best = "no trial complete yet" if self.best is None else f"best {self.best:.4f}"
        outcomes = ", ".join(f"{self.counts[outcome]} {outcome}" for outcome in OUTCOMES)
        images = sum(self.speeds.values())
        waits = "first epochs" if self.speeds else "starting workers"
        speed = f"{images:.0f} images/s" if images else "" if self.ended_here else waits
        pace = "   ".join(part for part in (speed, str(self.gpus), self.time_left_text()) if part)
        lines = [f"{best}   {outcomes}, {len(self.speeds)} running", self.notice or pace]
        shown = textwrap.wrap(self.title, WIDTH, break_on_hyphens=False)  # a path stays whole where it can
        rows = [Text(self.rows[number]) for number in self.recent]
        return Group(*shown, self.bar, *(Text(line) for line in lines), Text(self.header, style="bold"), *rows)

    def time_left_text(self) -> str:
        """How long the rest takes; empty before the first epoch."""
        seconds = self.time_left.seconds_left()
        return "" if seconds is None else f"about {timedelta(seconds=round(min(seconds, 1e13)))} left"

    def standing(self) -> str:
        """How far the run is, in a line."""
        running = f"{len(self.speeds)} running" if self.speeds else ""
        done = [
            f"{self.finished} of {self.total} {self.what}",
            f"{self.time_left.done} epoch{'s' * (self.time_left.done != 1)} done",
            running,
            self.time_left_text(),
        ]
        return ", ".join(part for part in done if part)

    def _tell(self) -> None:
        """Where nothing was printed for some seconds, after an hour for a minute, say how far it is."""
        while not self.over.wait(1.0):
            now = time.monotonic()
            silence = SILENCE_S if now - self.begun < FIRST_HOUR_S else LONGEST_SILENCE_S
            if now - self.printed_at >= silence:
                self._print(self.standing())

    def _print(self, line: str) -> None:
        self.printed_at = time.monotonic()
        self.console.print(line, highlight=False)

    def started(self, trial: Trial) -> None:
        self.speeds[trial.number] = 0.0
        self.time_left.started(trial.number)
        self._row(trial, Result(), "running")
        self.log.info("%s started: %s %s", name_of(trial), trial.role, trial.digest)

    def epoch(self, trial: Trial, result: Result) -> None:
        self.speeds[trial.number] = result.images_per_s or 0.0
        self.time_left.epoch(trial.number, result.epoch, result.seconds)
        self._row(trial, result, "running")
        self.log.info(
            "%s epoch %d: %s %.4f%s, %.1f s",
            name_of(trial),
            result.epoch,
            self.metric.words,
            result.score,
            rest_of(result),
            result.seconds,
        )

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self.speeds.pop(trial.number, None)
        self.counts[outcome] += 1
        if outcome == "complete":
            before = [] if self.best is None else [self.best]
            self.best = max([*before, result.score], key=self.metric.gain)
        self._row(trial, result, outcome)
        if outcome != "interrupted":
            self.finished, self.ended_here = self.finished + 1, self.ended_here + 1
        self.time_left.ended(trial.number, counts=outcome != "interrupted")
        self.log.info("%s %s %s", name_of(trial), outcome, result.error)
        if not self.live.is_started and not self.quiet:
            self._print(self.rows[trial.number])
        if outcome == "pruned" and self.counts["pruned"] == 1 and not self.quiet:
            self._print(PRUNED)

    def stopping(self) -> None:
        if self.live.is_started:
            self.notice = STOPPING  # drawn by another thread
        else:
            signals.say(STOPPING)

    def _row(self, trial: Trial, result: Result, outcome: str) -> None:
        if trial.number not in self.rows:
            self.recent.append(trial.number)
        score = f"{result.score:.4f}" if result.epoch else ""
        speed = "" if result.images_per_s is None else f"{result.images_per_s:.0f}"
        macs, params = f"{trial.cost.macs / 1e6:.1f}", f"{trial.cost.params / 1e6:.2f}"
        ms = "" if not self.gap or trial.cost.latency_ms is None else milliseconds(trial.cost.latency_ms)
        number = trial.final.of if trial.final else trial.number
        cells = (number, trial.role, macs, params, result.epoch or "", score, speed, outcome)
        self.rows[trial.number] = LINE.format(*cells, ms=ms, gap=self.gap)


def rest_of(result: Result) -> str:
    """What an epoch measured beside the score, as far as the training said it."""
    numbers = ((" loss {:.4f}", result.loss), (" train loss {:.4f}", result.train_loss))
    rest = (*numbers, (", {:.0f} images/s", result.images_per_s))
    return "".join(words.format(number) for words, number in rest if number is not None)


def name_of(trial: Trial) -> str:
    """A trial as the log calls it."""
    return f"finals, round {trial.final.round}: trial {trial.final.of}" if trial.final else f"trial {trial.number}"


def print_preflight(
    console: Console,
    found: Preflight,
    config: SearchConfig,
    classes_of: str = "",
    textbook: Sequence[Proposal] = (),
) -> None:
    """What the budget leaves of the space. `classes_of` says whose number of classes it is; `textbook` networks are
    what the search begins with."""
    space, budget, minimize = config.space, config.budget, config.identity.minimize
    limit = budget.limits[0]
    whose = f" ({classes_of})" if classes_of else ""
    low, high = (budget.amounts(spent) for _, spent in (found.smallest, found.largest))
    half = budget.amounts(found.quantiles(0.5)).replace(" and ", ", half more than ")
    scaled = "before widths are scaled to the budget, " if space.fit_range else ""
    band = f"{100 * config.identity.band:g}-100 % of the budget" if space.fit_range else "85-100 % of the budget"
    lines = [
        f"budget {budget} for the network as deployed: {space.pixels}, {space.network.num_classes} classes{whose}; "
        "1 FLOP = 1 multiply-add of a convolution or linear layer",
        f"space {space.source}: {found.points:.3g} points in {len(space.choices)} choices",
        *([f"deploy {space.deployment}"] if space.deployment else []),
        f"its networks cost {low} to {high}; {scaled}half of them cost more than {half}",
        f"of {found.tried} random networks {100 * found.fits:.0f} % can be brought to {band}; "
        + ("with costs minimised such and cheaper ones are trained" if minimize else "only such are trained"),
    ]
    if space.fit_range:
        typical = f"typical width multiplier {found.width_mult:.2g} (first stage {found.first_width} channels)"
        changed = f"in {100 * found.changed:.0f} % blocks, expansions or depths were changed too"
        lines.append(typical + (f"; {changed}" if found.changed else ""))
    lines += suggest_for_small(found, space, limit)
    lines += [
        f"known network {name} is left out as a point of the space: {why}" for name, why in found.left_out.items()
    ]
    if textbook:
        named = ", ".join(f"{one.baseline} ×{one.candidate.width_mult:.2g}" for one in textbook)
        are = "is a textbook network" if len(textbook) == 1 else "are textbook networks"
        lines.append(f"{len(textbook)} of the trials {are}, scaled in width to the budget: {named}")
    for line in lines:
        console.print(line)


def latency_notes(table: LatencyTable | None, predicted: bool, busy: str) -> list[str]:
    """What the milliseconds of a summary are of."""
    images = "one image" if table is None or table.batch_size == 1 else f"a batch of {table.batch_size}"
    lines = [f"ms: of {images}, measured {after_trials(busy)}" + ("; pred.: predicted" if predicted else "")]
    return lines if table is None else [*lines, f"{'both are' if predicted else 'it is'} of {table}"]


def milliseconds(ms: float) -> str:
    """With one decimal, and below 1 with two significant digits."""
    return f"{ms:.1f}" if ms >= 1 else f"{ms:.2g}"


def print_device(console: Console, table: LatencyTable) -> None:
    """Which device predicted latencies are of."""
    times = sum(len(rows) for rows in table.times.values())
    busy = table.busiest
    when = f", timed at a load of up to {busy.load:.1f} on {busy.cores} cores" if busy else ""
    console.print(f"latency predicted for {table}, from {times:,} layer times{when}")


def print_summary(
    console: Console, study: Study, run: Path, config: SearchConfig, why: str, used_up: bool = False
) -> None:
    """The best networks beside the random control, and where they are."""
    trials, images = study.records, study.validation_images
    best = best_first(trials, study.finals)[:BEST]
    if best:
        console.print(best_table(best, study, images))
        timed = any(trial.predicted_ms is not None for trial in best)
        if any(trial.alone_ms is not None for trial in best):
            for line in latency_notes(study.space.latency, timed, study.busy):
                console.print(line)
            if timed and any(trial.predicted_ms is None for trial in best):
                console.print("pred. is blank where the layer times know not all layers of a network")
        if over := comparison.over_sentence(trials, study.budget):
            console.print(over)
        if under := comparison.under_sentence(trials, study.budget):
            console.print(under)
        for trial in best[:3]:
            known = f"{trial.baseline}, " if trial.baseline else ""
            pixels = f"{trial.arch.resolution} px, " if study.space.extremes else ""
            console.print(f"trial {trial.number}: {known}{pixels}{trial.network}")
        for line in comparison.conclusion(trials, images, study.finals, study.chance):
            console.print(line)
        print_front(console, study)
        found = comparison.compare(trials, images) if images or not study.metric.is_share else None
        for line in comparison.sentences(found) if found else ():
            console.print(line)
        console.print(importances(trials).line)
    outcomes: Counter[str] = Counter(trial.state for trial in trials)
    for reason, count in Counter(trial.error for trial in trials if trial.state == "failed").most_common(3):
        console.print(f"{count} failed: {reason}")
    for line in interruption_sentences(study.interrupted):
        console.print(line)
    done = study.finished
    total = max(done, config.conduct.trials)
    ends = ("complete", "pruned", "failed", "running")
    counted = [f"{outcomes[end]} {end}" for end in ends if outcomes[end]]
    waiting = len(study.waiting)
    again = "which the same command takes up" if done < total else "whose networks a larger --trials takes up"
    counted += [f"{waiting} interrupted, {again}"] if waiting else []
    listed = f" ({', '.join(counted)})" if counted else ""
    console.print(f"{done} of {total} trials{listed}" + (f"; {why}" if why else ""))
    if best:
        console.print(f"best network: {run / 'best.yaml'} (trial {study.best.number})")
    if "finals: " in why or (done < total and not used_up):
        console.print("the same command carries on")
    elif done < total:
        console.print("done: the space has no other network within the budget")
    else:
        console.print(f"done; --trials {2 * total} adds {2 * total - done}")


def best_table(best: Sequence[TrialRecord], study: Study, images: int) -> Table:
    """The best trials with what they cost and, where it was measured, what one image takes."""
    timed = any(trial.predicted_ms is not None for trial in best)
    intervals = [trial.interval(images) for trial in best]
    title = [f"best networks within {study.budget}"]
    title += ["those of the finals first"] if study.finals else []
    title += ["intervals of 90 %"] if timed and any(intervals) else []
    table = Table(title=", ".join(title), title_justify="left")
    metric = study.metric
    scored = [metric.words, "interval"] if timed else [metric.short.replace("acc.", metric.words), "90 % interval"]
    if not any(intervals):
        scored.pop()
    own = [limit.currency for limit in study.budget.limits if limit.currency in (*OWN_COSTS, *BYTES)]
    second = [unit_of(name).removesuffix(" int8") for name in own] or ["MParams"]  # 80 columns have no room for more
    first = ["MFLOPs"] if len(own) < SEVERAL else []
    for name in ("trial", "role", *scored, *first, *second, *(["pred."] if timed else []), "ms"):
        table.add_column(name, justify="left" if name == "role" else "right")
    over = comparison.over_when_measured(study.records, study.budget)
    for trial, within in zip(best, intervals, strict=True):
        shown = [trial.predicted_ms, trial.alone_ms] if timed else [trial.alone_ms]
        ms = ["" if one is None else milliseconds(one) for one in shown]
        ms[-1] += "*" if trial.number in over else ""
        score = [f"{trial.score:.4f}", f"{within[0]:.3f}-{within[1]:.3f}" if within else ""][: len(scored)]
        spent = [amount(trial.cost.of(name) or 0.0, name, digits=3).removesuffix(unit_of(name)) for name in own]
        macs, params = f"{trial.cost.macs / 1e6:.1f}", f"{trial.cost.params / 1e6:.2f}"
        table.add_row(str(trial.number), trial.role, *score, *[macs][: len(first)], *(spent or [params]), *ms)
    return table


def print_front(console: Console, study: Study) -> None:
    """What no other network beats in score and in all that is minimised; nothing where nothing is."""
    front = comparison.front(study.records)
    if not front:
        return
    title = f"{study.metric.words} against {', '.join(study.minimize)}: what nothing else beats"
    table = Table(title=title, title_justify="left")
    for name in ("trial", "role", f"val. {study.metric.words}", *study.minimize):
        table.add_column(name, justify="left" if name == "role" else "right")
    for trial in front:
        spent = (format_cost(name, value) for name, value in trial.minimized.items())
        table.add_row(str(trial.number), trial.role, f"{trial.score:.4f}", *spent)
    console.print(table)
