"""What a person sees of a search in a terminal: the pre-flight, a live table (elsewhere plain lines), the summary."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nas import results
from nas.config import DataConfig, SearchConfig
from nas.data import LARGEST, Split, load
from nas.early_stopping import FEWEST_EPOCHS, EarlyStopping
from nas.gpu import GpuUse
from nas.importance import importances
from nas.objectives import said
from nas.pace import Pace
from nas.study import Study
from nas.trial import Result, Trial
from searchspace import command
from searchspace.budget import amount
from searchspace.costs import cost, section_costs
from searchspace.latency import LatencyTable
from searchspace.preflight import Preflight
from searchspace.space import Space

SHOWN = 8
WIDTH = 80
SILENCE_S, LONGEST_SILENCE_S = 10.0, 60.0
PRUNED = "pruned: stopped early, its score was behind those of the best third"
STOPPING = "stopping: keeping epochs (up to 10 s); again to stop now"
OUTCOMES = ("complete", "pruned", "failed")
LINE = "{:>5} {:<8} {:>8} {:>7}{ms:>{gap}} {:>6} {:>9} {:>7} {:>9}"
HEADER = ("trial", "role", "FLOPs M", "Par. M", "epoch", "val. acc.", "img/s", "outcome")
MS_GAP = 9


class Display:
    """A watcher (see `course.Watcher`) that draws; at most 80 columns.

    Drawn over and over in a terminal; elsewhere, as in a file, a notebook or a terminal that cannot move its cursor, a
    line is printed for every trial that has ended, and one of how far the run is where there was none for a while.
    `counts` are the outcomes of the run so far; `pace` says how long the rest takes.
    """

    def __init__(
        self,
        console: Console,
        log: logging.Logger,
        total: int,
        finished: int,
        best: float,
        quiet: bool,
        ended: Callable[[], None],
        timed: bool = False,
        title: str = "",
        counts: Mapping[str, int] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.gap = MS_GAP if timed else 0
        self.header = LINE.format(*HEADER, ms="pred. ms" if timed else "", gap=self.gap)
        self.console, self.log, self.best, self.quiet = console, log, best, quiet
        self.after_end, self.title, self.gpus = ended, title, GpuUse()
        self.total, self.finished, self.ended_here = total, finished, 0
        self.pace, self.notice = pace or Pace(total, 1), ""
        self.begun = self.printed_at = time.monotonic()
        self.over = threading.Event()
        self.counts: Counter[str] = Counter(counts or {})
        self.rows: dict[int, str] = {}
        self.recent: deque[int] = deque(maxlen=SHOWN)
        self.speeds: dict[int, float] = {}
        self.bar = Progress(
            TextColumn("trials"),
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
        self.bar.update(self.task, completed=self.pace.share(), trials=f"{self.finished}/{self.total}")
        best = f"best {self.best:.4f}" if self.best >= 0 else "no trial complete yet"
        outcomes = ", ".join(f"{self.counts[outcome]} {outcome}" for outcome in OUTCOMES)
        images = sum(self.speeds.values())
        waits = "first epochs" if self.speeds else "starting workers"
        speed = f"{images:.0f} images/s" if images else "" if self.ended_here else waits
        pace = "   ".join(part for part in (speed, str(self.gpus), self.left()) if part)
        lines = [f"{best}   {outcomes}, {len(self.speeds)} running", self.notice or pace]
        shown = [line[:WIDTH] for line in ([self.title] if self.title else [])]
        rows = [Text(self.rows[number]) for number in self.recent]
        return Group(*shown, self.bar, *(Text(line) for line in lines), Text(self.header, style="bold"), *rows)

    def left(self) -> str:
        """How long the rest takes; empty before the first epoch."""
        seconds = self.pace.left()
        return "" if seconds is None else f"about {timedelta(seconds=round(seconds))} left"

    def standing(self) -> str:
        """How far the run is, in a line."""
        done = [f"{self.finished} of {self.total} trials", f"{self.pace.done} epochs done", self.left()]
        return ", ".join(part for part in done if part)

    def _tell(self) -> None:
        """Where nothing was printed for ten seconds, in a long run for a minute at most, say how far it is."""
        while not self.over.wait(1.0):
            now = time.monotonic()
            if now - self.printed_at >= min(LONGEST_SILENCE_S, max(SILENCE_S, (now - self.begun) / 20)):
                self._print(self.standing())

    def _print(self, line: str) -> None:
        self.printed_at = time.monotonic()
        self.console.print(line, highlight=False)

    def started(self, trial: Trial) -> None:
        self.speeds[trial.number] = 0.0
        self.pace.started(trial.number)
        self._row(trial, Result(), "running")
        self.log.info("trial %d started: %s %s", trial.number, trial.role, trial.digest)

    def epoch(self, trial: Trial, result: Result) -> None:
        self.speeds[trial.number] = result.images_per_s
        self.pace.epoch(trial.number, result.epoch, result.seconds)
        self._row(trial, result, "running")
        self.log.info(
            "trial %d epoch %d: accuracy %.4f loss %.4f train loss %.4f, %.0f images/s, %.1f s",
            trial.number,
            result.epoch,
            result.accuracy,
            result.loss,
            result.train_loss,
            result.images_per_s,
            result.seconds,
        )

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self.speeds.pop(trial.number, None)
        self.counts[outcome] += 1
        if outcome == "complete":
            self.best = max(self.best, result.accuracy)
        self._row(trial, result, outcome)
        if outcome != "interrupted":
            self.finished, self.ended_here = self.finished + 1, self.ended_here + 1
        self.pace.ended(trial.number, counts=outcome != "interrupted")
        self.log.info("trial %d %s %s", trial.number, outcome, result.error)
        if not self.live.is_started and not self.quiet:
            self._print(self.rows[trial.number])
        if outcome == "pruned" and self.counts["pruned"] == 1 and not self.quiet:
            self._print(PRUNED)
        self.after_end()

    def stopping(self) -> None:
        if self.live.is_started:
            self.notice = STOPPING  # drawn by another thread
        else:
            command.say(STOPPING)

    def _row(self, trial: Trial, result: Result, outcome: str) -> None:
        if trial.number not in self.rows:
            self.recent.append(trial.number)
        accuracy = f"{result.accuracy:.4f}" if result.epoch else ""
        speed = f"{result.images_per_s:.0f}" if result.epoch else ""
        macs, params = f"{trial.cost.macs / 1e6:.1f}", f"{trial.cost.params / 1e6:.2f}"
        ms = "" if not self.gap or trial.cost.latency_ms is None else f"{trial.cost.latency_ms:.1f}"
        cells = (trial.number, trial.role, macs, params, result.epoch or "", accuracy, speed, outcome)
        self.rows[trial.number] = LINE.format(*cells, ms=ms, gap=self.gap)


def print_preflight(console: Console, found: Preflight, config: SearchConfig) -> None:
    """What the budget leaves of the space."""
    space, budget = config.space, config.budget
    currency = budget.limits[0].currency
    network = space.network
    at = f"{network.resolution} px, {network.num_classes} classes"
    low, high = (amount(budget.limits[0].of(spent), currency) for _, spent in (found.smallest, found.largest))
    half = amount(found.quantile(0.5), currency)
    band = f"{100 * config.identity.band:g}-100 % of it" if space.fit_range else "85-100 % of it"
    lines = [
        f"budget {budget} at {at}; 1 FLOP = 1 multiply-add of a convolution or linear layer",
        f"space {space.source}: {found.points:.3g} points in {len(space.choices)} choices",
        f"networks cost {low} to {high}, {'at width 1 ' if space.fit_range else ''}half below {half}",
        f"{100 * found.fits:.0f} % of {found.tried} random points can be brought to {band}; only such are trained",
    ]
    for line in lines:
        console.print(line)


def print_device(console: Console, table: LatencyTable) -> None:
    """Which device predicted latencies are of."""
    times = sum(len(rows) for rows in table.times.values())
    console.print(f"latency predicted for {table}, from {times:,} layer times")


def read(
    data: DataConfig, seed: int, resolution: int | None, console: Console, quiet: bool, largest: int = LARGEST
) -> Split:
    """The training images, with a line that says what was read."""
    printed_at = time.monotonic()
    with console.status(f"reading {data.dataset}") as status:

        def told(what: str, done: int, total: int) -> None:
            nonlocal printed_at
            status.update(f"{what}: {done:,} of {total:,}")
            if not (quiet or console.is_terminal) and time.monotonic() - printed_at > SILENCE_S:
                console.print(f"{what}: {done:,} of {total:,}")
                printed_at = time.monotonic()

        split = load(data, seed, resolution, told, largest)
    if not quiet:
        images = f"{len(split.train_labels):,} images train, {len(split.val_labels):,} score"
        console.print(f"data {split.name}: {images}, {split.num_classes} classes, {split.resolution} px")
    return split


def print_plan(console: Console, config: SearchConfig, space: Space, split: Split, run: Path) -> None:
    """What a search would do, and how long that would take, from steps timed on this machine."""
    from nas.evaluate import seconds_per_epoch

    identity, conduct = config.identity, config.conduct
    arch = space.sample(identity.seed, config.budget, identity.band)
    proxy = arch.adapt(split.num_classes, split.resolution)
    seconds, device, slots = seconds_per_epoch(proxy, split, identity.train, conduct.device)
    slots = conduct.concurrent or slots
    last, deployed = (section_costs(a)[-2].output[1] for a in (proxy, arch))
    known = [f"{identity.baselines} known network{'s' * (identity.baselines > 1)}"] if identity.baselines else []
    known.append(f"{identity.controls} random controls")
    most = conduct.trials * identity.train.epochs * seconds / slots
    stops = EarlyStopping(identity.train.epochs).rung
    saving = "early stopping saves" if stops else f"trials of fewer than {FEWEST_EPOCHS} epochs are not stopped early"
    stride = f"total stride {proxy.total_stride}"
    if proxy.total_stride != arch.total_stride:
        stride += f", not {arch.total_stride} (early strides are relaxed)"
    console.print(
        f"trains at {split.resolution} px: {amount(cost(proxy).macs, 'macs')}, {stride}; "
        f"its last map is {last} px wide, not {deployed}, and of a kernel wider than a map it sees only a part"
    )
    console.print(
        f"plan: {conduct.trials} trials ({', '.join(known)}) of up to {identity.train.epochs} epochs, "
        f"{slots} at once on {device}, in {run}"
    )
    console.print(f"at most about {most / 60:.1f} min (one network was timed: {seconds:.1f} s an epoch); {saving}")


def print_summary(console: Console, study: Study, run: Path, config: SearchConfig, why: str) -> None:
    """The best networks beside the random control, and where they are."""
    trials = results.frame(study.outcomes)
    images = study.validation_images
    best = results.best(trials)
    if not best.empty and images:
        table = Table(title=f"best networks within {study.budget}", title_justify="left")
        timed = bool(best["predicted_ms"].notna().any())
        scored = ("accuracy", "interval") if timed else ("val. accuracy", "90 % interval")
        for name in ("trial", "role", *scored, "MFLOPs", "MParams", *(["pred."] if timed else []), "ms"):
            table.add_column(name, justify="left" if name == "role" else "right")
        for row in best.to_dict("records"):
            low, high = results.interval(row["accuracy"], images)
            accuracy, interval = f"{row['accuracy']:.4f}", f"{low:.3f}-{high:.3f}"
            macs, params = f"{row['macs'] / 1e6:.1f}", f"{row['params'] / 1e6:.2f}"
            shown = [row[name] for name in (["predicted_ms", "measured_ms"] if timed else ["measured_ms"])]
            ms = ["" if one is None or math.isnan(one) else f"{one:.1f}" for one in shown]
            table.add_row(str(row["trial"]), row["role"], accuracy, interval, macs, params, *ms)
        console.print(table)
        if best["measured_ms"].notna().any():
            console.print("ms: of one image, measured when nothing else ran" + ("; pred.: predicted" if timed else ""))
        for row in best.head(3).to_dict("records"):
            known = f"{row['baseline']}, " if row["baseline"] else ""
            console.print(f"trial {row['trial']}: {known}{row['network']}")
        for line in (results.beside_baselines(study.outcomes, images), results.meaning(study.outcomes)):
            if line:
                console.print(line)
        print_front(console, study)
        found = results.compare(study.outcomes, images)
        for line in results.sentences(found) if found else ():
            console.print(line)
        console.print(importances(study.outcomes).sentence)
    outcomes = Counter(trials["outcome"])
    failed = trials[trials["outcome"] == "failed"] if len(trials) else trials
    for reason, count in Counter(failed["error"]).most_common(3) if len(failed) else ():
        console.print(f"{count} failed: {reason}")
    done = study.finished
    total = max(done, config.conduct.trials)
    ends = ("complete", "pruned", "failed", "running")
    counted = [f"{outcomes[end]} {end}" for end in ends if outcomes[end]]
    waiting = len(study.waiting)
    counted += [f"{waiting} interrupted, which the same command takes up"] if waiting else []
    listed = f" ({', '.join(counted)})" if counted else ""
    console.print(f"{done} of {total} trials{listed}" + (f"; {why}" if why else ""))
    if study.ranked:
        console.print(f"best network: {run / 'best.yaml'}")
    if done < total:
        console.print("the same command carries on")
    else:
        console.print(f"done; --trials {2 * total} adds {2 * total - done}")


def print_front(console: Console, study: Study) -> None:
    """What no other network beats in accuracy and in all that is minimised; nothing where nothing is."""
    front = results.front(study.outcomes)
    if not front:
        return
    title = f"accuracy against {', '.join(study.minimize)}: what nothing else beats"
    table = Table(title=title, title_justify="left")
    for name in ("trial", "role", "val. accuracy", *study.minimize):
        table.add_column(name, justify="left" if name == "role" else "right")
    for trial in front:
        spent = (said(name, value) for name, value in trial.measured["minimize"].items())
        table.add_row(str(trial.number), trial.role, f"{trial.accuracy:.4f}", *spent)
    console.print(table)
