"""A run's report: one page that needs no network, and its tables."""

from __future__ import annotations

from pathlib import Path

from nas.analysis import agreement, comparison, tables
from nas.analysis.importance import importances
from nas.run.run import Run
from nas.study.records import hypervolumes
from nas.views.page import Findings, page
from searchspace.document import write_text, writing
from searchspace.errors import InputError

PAGE = "report.html"


def findings(run: Run) -> Findings:
    """Everything that a run's page is made of."""
    config, trials = run.config, run.trials
    minimized = config.identity.minimize
    return Findings(
        name=run.name,
        config=config,
        trials=trials,
        images=run.images,
        chance=run.chance,
        mattered=importances(trials),
        state=run.state,
        folder=run.folder,
        volumes=hypervolumes(trials, minimized, config.budget) if minimized else (),
        table=run.latency_table,
        busy=run.busy,
        environments=run.environments,
        retrained=run.retrained,
        confusions=run.confusions,
        finals=run.finals,
    )


def write(run: Run, out: Path) -> Path:
    """report.html, trials.csv and trials.parquet; raises as `writing` where they cannot be written."""
    if out == run.folder and not out.is_dir():
        raise InputError(f"{out}: is no folder any more; the report can be written to another one")
    found = findings(run)
    with writing(str(out), "; --out DIR writes elsewhere" if out == run.folder else ""):
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / PAGE, page(found))
        tables.write_csv(found.trials, out)
        tables.write_parquet(found.trials, out)
    return out / PAGE


def sentences(run: Run) -> list[str]:
    """What a run shows."""
    state, trials, retrained = run.state, run.trials, run.retrained
    lines = list(state.sentences) if state.unfinished or state.interruptions else []
    lines += comparison.findings(trials, run.images, run.finals, state.alive, run.chance)
    if trials and any(trial.curve for trial in trials):
        lines.append(importances(trials).line)
    return lines + (agreement.sentences(retrained) if retrained else [])
