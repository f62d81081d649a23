"""`python -m nas.export RUN --out DIR`: take a network home. Writes DIR/arch.yaml and builds what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas import study
from nas.trial import Trial
from searchspace import command
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.errors import InputError


def parser() -> command.Parser:
    p = command.Parser(prog="nas.export", description=__doc__)
    p.add_argument("run", type=Path, help="run folder of a search, finished or not")
    p.add_argument("--out", type=Path, required=True, help="folder to write to")
    p.add_argument("--trial", type=int, help="which trial (default: the best)")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    trial = chosen(args.run, args.trial)
    path = args.out / "arch.yaml"
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        trial.arch.save(path, f"trial {trial.number} of {args.run.name}, digest {trial.digest}")
    except OSError as error:
        raise InputError(f"out {args.out}: cannot be written ({error.strerror})") from None
    params = built_params(path, trial)
    macs = amount(trial.cost.macs, "macs")
    console = command.console()
    console.print(f"trial {trial.number}: {macs}, {params:,} params at {trial.arch.resolution} px")
    console.print(f"wrote {path}; searchspace.build(Arch.load({str(path)!r})) builds it")
    return 0


def chosen(run: Path, number: int | None) -> Trial:
    """The trial of that number, or the best."""
    stored = study.load(run)
    if number is None:
        ranked = study.ranked(stored)
        if not ranked:
            raise InputError(f"{run}: no trial is complete yet; --trial N exports any")
        return study.record(ranked[0])
    trials = stored.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise InputError(f"trial {number}: 0 to {len(trials) - 1} are in {run}")
    return study.record(trials[number])


def built_params(path: Path, trial: Trial) -> int:
    """The parameters of the module that the written file builds; an error where they are not the trial's."""
    from searchspace.module import build

    written = Arch.load(path)
    params = sum(parameter.numel() for parameter in build(written).parameters())
    if written != trial.arch or params != trial.cost.params:
        raise RuntimeError(f"{path} builds {params} params, trial {trial.number} has {trial.cost.params}")
    return params


if __name__ == "__main__":
    command.run(main, "nas.export")
