"""`python -m nas.report RUN`: a run, running, finished or copied, as one page that needs no network, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.analysis import agreement, confusion, results
from nas.analysis.importance import importances
from nas.analysis.state import state
from nas.config import SearchConfig
from nas.run import environment, folder
from nas.study import study
from nas.views.page import Findings, page
from searchspace import command
from searchspace.costs.latency import LatencyTable
from searchspace.document import write_text
from searchspace.errors import InputError


def parser() -> command.Parser:
    p = command.Parser(prog="nas.report", description=__doc__, example="python -m nas.report runs/a")
    p.add_argument("run", type=Path, help="run folder of a search")
    return p


def main(arguments: Sequence[str]) -> int:
    run: Path = parser().parse_args(arguments).run
    found = gathered(run)
    path = run / "report.html"
    try:
        write_text(path, page(found))
        results.write_csv(found.trials, run)
        results.write_parquet(found.trials, run)
    except OSError as error:
        raise InputError(f"{run}: cannot be written ({error.strerror})") from None
    console = command.console()
    unusual = found.state.unfinished or found.state.interruptions
    for line in (*(found.state.sentences if unusual else ()), *results.findings(found.trials, found.images)):
        console.print(line)
    if found.images:
        console.print(found.mattered.line)
    for line in agreement.sentences(found.retrained) if found.retrained else ():
        console.print(line)
    console.print(f"wrote {path}, {run / 'trials.csv'} and {run / 'trials.parquet'}")
    return 0


def gathered(run: Path) -> Findings:
    """Everything that a run's folder says."""
    stored, config = study.load(run), SearchConfig.load(run)
    trials, minimized = study.outcomes(stored), config.identity.minimize
    interruptions = study.interruption_sentences(study.interruptions(stored.get_trials(deepcopy=False)))
    base = run / agreement.FOLDER
    retrained = agreement.load(base, trials)
    kept = {row.trial: confusion.load(base / f"{agreement.PREFIX}{row.trial}") for row in retrained}
    return Findings(
        name=run.resolve().name,
        config=config,
        trials=trials,
        images=int(stored.user_attrs.get("validation_images", 0)),
        mattered=importances(trials),
        state=state(trials, config.conduct.trials, interruptions, folder.alive(run, config)),
        folder=run,
        volumes=study.hypervolumes(trials, minimized, config.budget) if minimized else (),
        table=LatencyTable.load(run / folder.TABLE) if (run / folder.TABLE).is_file() else None,
        environments=environment.load(run),
        retrained=retrained,
        confusions={number: one for number, one in kept.items() if one is not None},
    )


if __name__ == "__main__":
    command.run(main, "nas.report")
