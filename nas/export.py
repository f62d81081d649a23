"""`python -m nas.export RUN --out DIR`: take a network home, as files that need nothing of this project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from nas import bundle, results, study, training
from nas.card import Facts, escaped
from nas.config import SearchConfig
from nas.trial import Outcome, Trial
from searchspace import command
from searchspace.budget import amount
from searchspace.costs import cost
from searchspace.errors import InputError


def parser() -> command.Parser:
    p = command.Parser(prog="nas.export", description=__doc__)
    p.add_argument("run", type=Path, help="run folder of a search, finished or not, or a folder of nas.train")
    p.add_argument("--out", type=Path, required=True, help="folder to write to")
    p.add_argument("--trial", type=int, help="which trial of a search (default: the best)")
    p.add_argument("--onnx", action="store_true", help="also model.onnx, tried with onnxruntime")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    if args.onnx:
        bundle.require_onnx()
    if training.is_folder(args.out) and args.out.resolve() != args.run.resolve():
        raise InputError(f"out {args.out}: holds a training, whose files would be lost; give another folder")
    again = command.line("nas.export", arguments)
    weights: dict[str, torch.Tensor] | None = None
    if training.is_folder(args.run):
        if args.trial is not None:
            raise InputError(f"trial {args.trial}: {args.run} is a training, not a search")
        facts, weights = training.result(args.run)
    else:
        facts = of_search(args.run, args.trial, again)
    return written(args.out, facts, weights, args.onnx, "nas.export")


def written(out: Path, facts: Facts, weights: dict[str, torch.Tensor] | None, onnx: bool, name: str) -> int:
    """Write the folder and say so; returns the exit code."""
    try:
        made = bundle.write(out, facts, weights, onnx)
    except bundle.DifferentError as error:
        print(f"{name}: nothing was written to {out}: {error}", file=sys.stderr)
        return command.FAILED
    spent, arch, console = cost(facts.arch), facts.arch, command.console()
    console.print(
        f"{facts.title}: {amount(spent.macs, 'macs')}, {spent.params:,} params at {arch.resolution} px, "
        f"{arch.num_classes} classes"
    )
    console.print(f"wrote {out}: {', '.join(made.files)}")
    apart = ", ".join(f"{file} by {difference:.2g}" for file, difference in made.differences.items())
    console.print(f"tried in a fresh interpreter without this project; off from the network's largest logit: {apart}")
    if weights is None:
        console.print(f"its weights are not trained; python -m nas.train {out} --dataset … trains them")
    return 0


def of_search(run: Path, number: int | None, again: str) -> Facts:
    """A search's trial of that number, or its best."""
    stored = study.load(run)
    found = chosen(run, number)
    config = SearchConfig.load(run)
    trial, outcome = found
    return Facts(
        title=f"trial {trial.number} of {run.resolve().name}",
        arch=trial.arch,
        deployed=trial.arch,
        budget=f"{config.budget}",
        scored=scored(outcome, config, int(stored.user_attrs.get("validation_images", 0))),
        commands=(config.conduct.command, again),
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
    measured = outcome.measured.get("latency_ms")
    lines = [
        f"In the search: validation accuracy {outcome.accuracy:.4f} [{low:.4f}, {high:.4f}] (90 % interval) after "
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of brief training on {escaped(identity.data.dataset)} "
        f"({outcome.outcome}). It is of {images:,} images, {100 * identity.data.validation:g} % of the training images "
        f"held out by class and seed {identity.seed}; the test images were not read.",
        "To be ranked, it was trained with the dataset's classes at a small resolution, where its first strides may be "
        "relaxed. Those weights were not kept: they are of that network and not of this one.",
    ]
    if measured:
        lines.append(f"One image took {measured:.1f} ms on the search's device while other trials ran.")
    return tuple(lines)


if __name__ == "__main__":
    command.run(main, "nas.export")
