"""`python -m nas.report RUN`: a run, running, finished or copied, as one page that needs no network, and as tables."""

from __future__ import annotations

from collections.abc import Sequence

from searchspace import command
from searchspace.registry.plugins import plugin_option


def parser() -> command.Parser:
    p = command.Parser(prog="nas.report", description=__doc__, example="python -m nas.report runs/a")
    p.add_argument("run", type=command.path, help="run folder of a search")
    p.add_argument("--out", type=command.path, help="folder to write to (default: RUN)")
    plugin_option(p)
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)

    from nas.analysis.tables import CSV, PARQUET
    from nas.run.run import Run

    run = Run.open(args.run)
    path = run.report(args.out)
    console = command.console()
    console.print(run.describe())
    console.print(f"wrote {path}, {path.with_name(CSV)} and {path.with_name(PARQUET)}")
    return 0


if __name__ == "__main__":
    command.run(main, "nas.report")
