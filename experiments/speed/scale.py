"""Claim: the driver's work for a trial hardly grows with the run: at 10,000 trials at most twice that at 1,000.

    python -m experiments.speed.scale  # half an hour
    python -m experiments.speed.scale --smoke  # seconds, at most 60 trials

Instant trials, as a search records them: the default space, budget and sampler, SQLite in write-ahead mode, 6 epochs
a trial. Between the sizes where it is measured, the study is filled with random trials in one write each, a third
of them stopped early. Then 20 trials are asked, reported and told as the driver does it: the medians and the memory are
in the table. Clock time and the process's own are both given: a shared machine makes the first larger.
"""

from __future__ import annotations

import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
import sqlalchemy
from matplotlib.figure import Figure
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from rich.progress import Progress

from experiments import findings
from nas.study.proposals import Proposal
from nas.study.study import Study
from nas.trial import Result, Trial
from searchspace import Budget, Space

BUDGET, EPOCHS, MEASURED, CHUNK = "300MFLOPs", 6, 20, 500
SIZES = (100, 300, 1000, 3000, 10_000)
GPUS, TRIAL_S = 1000, (60, 300, 1200)
T = TypeVar("T")


class Row(NamedTuple):
    """Milliseconds of one trial (medians of 20), and megabytes of the driver."""

    trials: int
    ask_ms: float
    report_ms: float
    tell_ms: float
    driver_ms: float
    driver_cpu_ms: float
    slowest_ms: float
    memory_mb: float
    database_mb: float


def accuracy(draw: random.Random, epoch: int) -> float:
    return 0.9 - 0.5 / epoch + draw.gauss(0, 0.05)


def fill(study: Study, count: int, draw: random.Random) -> None:
    """Random trials that have ended, some hundreds a write."""
    with study.optuna._storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        first = connection.execute(sqlalchemy.select(sqlalchemy.func.max(models.TrialModel.trial_id))).scalar() or 0
    made: list[FrozenTrial] = []
    while first + len(made) < count:
        point = study.space.random_point(draw)
        candidate = study.space.fit(point, study.budget, study.design.band, draw.getrandbits(32))
        if candidate is not None:
            made.append(ended(study.template(Proposal(candidate, "search")), draw))
        if len(made) == CHUNK or first + len(made) == count:
            write(study, made, first)
            first, made = first + len(made), []


def ended(trial: FrozenTrial, draw: random.Random) -> FrozenTrial:
    last = 2 if draw.random() < 1 / 3 else EPOCHS
    trial.state = TrialState.COMPLETE if last == EPOCHS else TrialState.PRUNED
    trial.intermediate_values = {epoch: accuracy(draw, epoch) for epoch in range(1, last + 1)}
    trial.value = trial.intermediate_values[last]
    return trial


def write(study: Study, trials: list[FrozenTrial], first: int) -> None:
    """Rows of Optuna's tables; the study is the only one, so that a trial's id is its number and one."""
    numbered = [(first + offset + 1, trial) for offset, trial in enumerate(trials)]
    now = datetime.now()
    rows = {
        models.TrialModel: [
            {
                "trial_id": i,
                "number": i - 1,
                "study_id": study.optuna._study_id,
                "state": t.state,
                "datetime_start": now,
            }
            | {"datetime_complete": now}
            for i, t in numbered
        ],
        models.TrialParamModel: [
            {"trial_id": i, "param_name": n, "distribution_json": distribution_to_json(t.distributions[n])}
            | {"param_value": t.distributions[n].to_internal_repr(v)}
            for i, t in numbered
            for n, v in t.params.items()
        ],
        models.TrialUserAttributeModel: [
            {"trial_id": i, "key": n, "value_json": json.dumps(v)} for i, t in numbered for n, v in t.user_attrs.items()
        ],
        models.TrialIntermediateValueModel: [
            {"trial_id": i, "step": step, "intermediate_value": v, "intermediate_value_type": "FINITE"}
            for i, t in numbered
            for step, v in t.intermediate_values.items()
        ],
        models.TrialValueModel: [
            {"trial_id": i, "objective": 0, "value": t.value, "value_type": "FINITE"} for i, t in numbered
        ],
    }
    with study.optuna._storage._backend.engine.begin() as connection:  # type: ignore[attr-defined]
        for model, told in rows.items():
            connection.execute(sqlalchemy.insert(model), told)


def clocked(call: Callable[[], T]) -> tuple[T, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    told = call()
    return told, 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def measured(study: Study, count: int, draw: random.Random, folder: Path) -> Row:
    """What one more trial costs the driver: it looks whether there is room, asks, reports every epoch, tells."""
    rows = []
    for _ in range(MEASURED):

        def ask() -> Trial:
            study.full(10**9)
            return study.ask(10**9)

        trial, ask_ms, ask_cpu = clocked(ask)

        def report(trial: Trial = trial) -> None:
            for epoch in range(1, EPOCHS + 1):
                study.report(trial, Result(epoch=epoch, score=accuracy(draw, epoch), loss=1.0))

        _, report_ms, report_cpu = clocked(report)

        def tell(trial: Trial = trial) -> None:
            study.tell(trial, accuracy(draw, EPOCHS))

        _, tell_ms, tell_cpu = clocked(tell)
        rows.append((ask_ms, report_ms, tell_ms, ask_cpu + report_cpu + tell_cpu))
    ask_ms, report_ms, tell_ms, cpu = (median(column) for column in zip(*rows, strict=True))
    whole = [sum(row[:3]) for row in rows]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    database = sum(path.stat().st_size for path in folder.glob("study.db*")) / 1e6
    return Row(count, ask_ms, report_ms, tell_ms, median(whole), cpu, max(whole), memory, database)


def draw(rows: list[Row]) -> Figure:
    figure = findings.figure(9, 3.6)
    times, memory = figure.subplots(1, 2)
    sizes = [row.trials for row in rows]
    for name in ("ask_ms", "report_ms", "tell_ms", "driver_ms"):
        times.plot(sizes, [getattr(row, name) for row in rows], "o-", label=name.removesuffix("_ms"))
    times.set(xscale="log", yscale="log", xlabel="trials in the study", ylabel="ms a trial, median")
    times.legend()
    memory.plot(sizes, [row.memory_mb for row in rows], "o-", label="driver, resident at most")
    memory.plot(sizes, [row.database_mb for row in rows], "o-", label="study.db")
    memory.set(xscale="log", xlabel="trials in the study", ylabel="MB")
    memory.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "at most 60 trials", dataset=False)
    args = parser.parse_args(arguments)
    page, rows, luck = findings.Page(__doc__, __file__, args, arguments, device="cpu"), [], random.Random(0)
    sizes = (20, 40) if args.smoke else SIZES
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="nas-scale-") as name,
        Progress(console=page.console, transient=True) as progress,
    ):
        folder = Path(name)
        study = Study.open(folder, Space.load("mobile"), Budget.parse(BUDGET), controls=0, epochs=EPOCHS)
        task = progress.add_task("recording", total=sizes[-1])
        for size in sizes:
            fill(study, size, luck)
            rows.append(measured(study, size, luck, folder))
            progress.update(task, completed=size)
        read, read_ms, _ = clocked(lambda: len(Study.read(folder).trials))
    numbers = [{name: round(number, 2) for name, number in row._asdict().items()} for row in rows]
    title = f"mobile within {BUDGET}, {EPOCHS} epochs a trial: medians of {MEASURED} trials"
    page.table("scale", title, numbers, [short(row) for row in rows])
    for line in said(rows, rows[-2 if args.smoke else -3]):
        page.say(line)
    page.say(f"reading {read:,} trials, as a run that is carried on does: {read_ms / 1e3:.1f} s")
    page.figure("scale", draw(rows))
    page.write(n=f"{MEASURED} trials at each of {len(sizes)} sizes")


def short(row: Row) -> dict[str, str]:
    """What is read of a row."""
    numbers = {name.replace("_", " "): number for name, number in row._asdict().items()}
    return {name: f"{number:,.0f}" if number >= 10 else f"{number:.1f}" for name, number in numbers.items()}


def said(rows: list[Row], before: Row) -> Iterator[str]:
    """What has grown, and how many GPUs the driver keeps at work."""
    last = rows[-1]
    asked = [row.ask_ms + row.tell_ms for row in (before, last)]
    times = f"{asked[1] / asked[0]:.1f} times that at {before.trials:,}"
    yield f"ask + tell: {asked[1]:.0f} ms at {last.trials:,} trials, {times}"
    for seconds in TRIAL_S:
        busy = GPUS / seconds * last.driver_cpu_ms / 1e3
        yield f"{GPUS:,} GPUs, trials of {seconds} s: {GPUS / seconds:.1f} a second take {busy:.0%} of the driver"


if __name__ == "__main__":
    findings.run(main)
