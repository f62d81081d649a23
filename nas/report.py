"""`python -m nas.report RUN`: a run, running, finished or copied, as one page that needs no network, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas import environment, results, retraining, study
from nas.config import SearchConfig
from nas.folder import TABLE
from nas.importance import importances
from nas.page import Findings, page
from searchspace import command
from searchspace.errors import InputError
from searchspace.latency import LatencyTable


def parser() -> command.Parser:
    p = command.Parser(prog="nas.report", description=__doc__, example="python -m nas.report runs/a")
    p.add_argument("run", type=Path, help="run folder of a search")
    return p


def main(arguments: Sequence[str]) -> int:
    run: Path = parser().parse_args(arguments).run
    found = gathered(run)
    path = run / "report.html"
    try:
        path.write_text(page(found), encoding="utf-8")
        results.write_csv(found.trials, run)
        results.write_parquet(found.trials, run)
    except OSError as error:
        raise InputError(f"{run}: cannot be written ({error.strerror})") from None
    console = command.console()
    for line in [*results.findings(found.trials, found.images), *found.interruptions]:
        console.print(line)
    if found.images:
        console.print(found.mattered.sentence)
    for line in retraining.sentences(found.retrained) if found.retrained else ():
        console.print(line)
    console.print(f"wrote {path}, {run / 'trials.csv'} and {run / 'trials.parquet'}")
    return 0


def gathered(run: Path) -> Findings:
    """Everything that a run's folder says."""
    stored, config = study.load(run), SearchConfig.load(run)
    trials, minimized = study.outcomes(stored), config.identity.minimize
    return Findings(
        name=run.resolve().name,
        config=config,
        trials=trials,
        interruptions=study.interruption_sentences(study.interruptions(stored.get_trials(deepcopy=False))),
        images=int(stored.user_attrs.get("validation_images", 0)),
        mattered=importances(trials),
        volumes=study.hypervolumes(trials, minimized, config.budget) if minimized else (),
        table=LatencyTable.load(run / TABLE) if (run / TABLE).is_file() else None,
        environments=environment.load(run),
        retrained=retraining.load(run / retraining.FOLDER, trials),
    )


if __name__ == "__main__":
    command.run(main, "nas.report")
