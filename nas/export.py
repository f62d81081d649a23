"""`python -m nas.export RUN --out DIR`: take a network home, as files that need nothing of this project.

RUN is a search, a training, an export, a file of a network, or a name of the zoo.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from nas.analysis import results
from nas.bundle import bundle
from nas.bundle.card import ModelCard, elsewhere, escaped
from nas.config import CONFIG, SearchConfig
from nas.full_training import training_folder
from nas.run.folder import TABLE
from nas.study import study
from nas.trial import Outcome, Trial
from searchspace import command
from searchspace.__main__ import network
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.costs.costs import cost
from searchspace.costs.latency import LatencyTable
from searchspace.errors import InputError
from searchspace.pytorch.source import outputs

Weights = dict[str, Tensor]


def parser() -> command.Parser:
    p = command.Parser(prog="nas.export", description=__doc__, example="python -m nas.export runs/a --out best")
    p.add_argument(
        "run",
        metavar="RUN",
        help="folder of a search, finished or not, of nas.train or of an export; a network's file; a name of the zoo",
    )
    p.add_argument("--out", type=Path, required=True, help="folder to write to")
    p.add_argument("--trial", type=int, help="which trial of a search (default: the best)")
    p.add_argument("--onnx", action="store_true", help="also model.onnx, tried with onnxruntime")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    if args.onnx:
        bundle.require_onnx()
    if training_folder.is_folder(args.out) and args.out.resolve() != Path(args.run).resolve():
        raise InputError(f"out {args.out}: holds a training, whose files would be lost; give another folder")
    bundle.check_new(args.out)
    facts, weights = found(args.run, args.trial)
    if weights is None and (args.out / bundle.WEIGHTS).exists():
        raise InputError(f"out {args.out}: holds trained weights, which this export has not; give another folder")
    facts = replace(facts, commands=(*facts.commands, command.line("nas.export", arguments)))
    return written(args.out, facts, weights, args.onnx, "nas.export")


def found(given: str, trial: int | None) -> tuple[ModelCard, Weights | None]:
    """What is to be exported, with its weights where they are trained."""
    path = Path(given)
    if is_search(path):
        return of_search(path, trial), None
    if trial is not None:
        what = "a training, not a search" if training_folder.is_folder(path) else "no search"
        raise InputError(f"trial {trial}: {given} is {what}")
    if training_folder.is_folder(path):
        return training_folder.result(path)
    if path.is_dir():
        return of_export(path)
    arch = network(given)
    name = (
        path.resolve().parent.name if path.name in ("arch.yaml", "best.yaml") else path.stem if path.suffix else given
    )
    return ModelCard(name, arch, arch), None


def is_search(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or (folder / study.FILE).is_file()


def of_export(folder: Path) -> tuple[ModelCard, Weights | None]:
    """The network of an exported folder, with its weights where it has them."""
    if not (folder / "arch.yaml").is_file():
        raise InputError(f"{folder}: no run folder (study.db), training (training.yaml) or export (arch.yaml)")
    arch = Arch.load(folder / "arch.yaml")
    facts = ModelCard(folder.resolve().name, arch, arch)
    if not (folder / bundle.WEIGHTS).is_file():
        return facts, None
    trained, weights = training_folder.weights_in(folder)
    return replace(facts, trained=trained, commands=(trained.command,) if trained.command else ()), weights


def written(out: Path, facts: ModelCard, weights: Weights | None, onnx: bool, name: str) -> int:
    """Write the folder and say so; returns the exit code."""
    console = command.console()
    console.print("writing the network and trying it in a fresh interpreter")
    try:
        made = bundle.write(out, facts.portable(), weights, onnx)
    except bundle.DifferentError as error:
        print(f"{name}: nothing was written to {out}: {error}", file=sys.stderr)
        return command.FAILED
    spent, arch = cost(facts.arch), facts.arch
    ends = f"{arch.num_classes} classes" if arch.head.output == "logits" else outputs(arch)
    console.print(
        f"{facts.title}: {amount(spent.macs, 'macs')}, {spent.params:,} params at {arch.resolution} px, {ends}"
    )
    console.print(f"wrote {out}: {', '.join(made.files)}")
    apart = ", ".join(f"{file} by {difference:.2g}" for file, difference in made.differences.items())
    number = "logit" if arch.head.output == "logits" else "output"
    console.print(
        f"tried in a fresh interpreter without this project; off from the network's largest {number}: {apart}"
    )
    if weights is None:
        console.print(f"its weights are not trained; python -m nas.train {out} --dataset … trains them")
    return 0


def of_search(run: Path, number: int | None) -> ModelCard:
    """A search's trial of that number, or its best."""
    stored = study.load(run)
    found = chosen(run, number)
    config = SearchConfig.load(run)
    trial, outcome = found
    return ModelCard(
        title=f"trial {trial.number} of {run.resolve().name}",
        arch=trial.arch,
        deployed=trial.arch,
        budget=f"{config.budget}",
        scored=scored(outcome, config, int(stored.user_attrs.get("validation_images", 0))),
        timed=timed(outcome, run),
        commands=(config.conduct.command,),
        data=config.identity.data,
    )


def chosen(run: Path, number: int | None) -> tuple[Trial, Outcome]:
    """The trial of that number, or the best, and how it ended."""
    stored = study.load(run)
    if number is None:
        ranked = study.ranked(stored)
        if not ranked:
            raise InputError(f"{run}: no trial is complete yet; --trial N exports any")
        trial = ranked[0]
    else:
        trials = stored.get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            accepted = f"0 to {len(trials) - 1} are in {run}" if trials else f"{run} has none yet"
            raise InputError(f"trial {number}: {accepted}")
        trial = trials[number]
    return study.record(trial), study.outcome(trial, study.latencies(stored))


def scored(outcome: Outcome, config: SearchConfig, images: int) -> tuple[str, ...]:
    """How a trial did in the search, and what that is worth."""
    identity = config.identity
    if outcome.accuracy is None or not images:
        return (f"The search has no accuracy of it: the trial is {outcome.outcome}.",)
    low, high = results.interval(outcome.accuracy, images)
    epochs = max(outcome.curve, default=0)
    dataset = escaped(elsewhere(identity.data.dataset))
    lines = [
        f"In the search: validation accuracy {outcome.accuracy:.4f} [{low:.4f}, {high:.4f}] (90 % interval) after "
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of brief training on {dataset} "
        f"({outcome.outcome}). It is of {images:,} images, {100 * identity.data.validation:g} % of the training images "
        f"held out by class and seed {identity.seed}; the test images were not read.",
        "To be ranked, it was trained with the dataset's classes at a small resolution, where its first strides may be "
        "relaxed. Those weights were not kept: they are of that network and not of this one.",
    ]
    return tuple(lines)


def timed(outcome: Outcome, run: Path) -> tuple[str, ...]:
    """What one image takes on the search's device: predicted, and measured where it was."""
    ms, lines = outcome.measured, []
    if ms.get("predicted_ms"):
        table = run / TABLE
        device = f" on {escaped(str(LatencyTable.load(table)))}" if table.is_file() else ""
        lines.append(f"The search predicted {ms['predicted_ms']:.1f} ms for one image{device}.")
    if ms.get("measured_ms"):
        lines.append(f"It measured {ms['measured_ms']:.1f} ms at its end, when nothing else ran.")
    elif ms.get("latency_ms"):
        lines.append(f"It measured {ms['latency_ms']:.1f} ms on a worker, while other trials ran.")
    return tuple(lines)


if __name__ == "__main__":
    command.run(main, "nas.export")
