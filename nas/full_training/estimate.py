"""What a full training is, said before it begins: the network, where, and how long by a few timed steps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from nas.data.datasets import Split
from nas.full_training import training_folder
from nas.full_training.training_folder import TrainingPlan
from nas.training.threads import counts, fewest, sentence, speeds, usual
from nas.training.trainer import SCORING_COST
from searchspace.budget import amount
from searchspace.costs.network_cost import cost

LONGEST_S = 1e13  # of which a timedelta is made


def describe(out: Path, plan: TrainingPlan, split: Split, device: str, workers: int) -> str:
    """The network, where it is trained and how far it is."""
    arch = plan.adapt(split)
    relaxed = "" if arch.total_stride == plan.arch.total_stride else ", its first strides relaxed"
    where = device if workers == 1 else f"{workers} workers ({device})"
    behind = plan.train.epochs if training_folder.is_finished(out) else len(training_folder.epochs_done(out))
    done = f"{behind} of {plan.train.epochs} epochs done"
    spent = f"{amount(cost(arch).macs, 'macs')}, {cost(arch).params:,} params{relaxed}"
    return f"{plan.name} ({spent}) on {where} in {out}: {done}"


def sentences(
    out: Path, plan: TrainingPlan, split: Split, device: str, workers: int, wanted: int | None
) -> Iterator[str]:
    """What would be trained, and how long the epochs that are left would take; `wanted` CPU threads are asked for."""
    yield f"would train {describe(out, plan, split, device, workers)}"
    if training_folder.is_finished(out):
        yield "it is finished: nothing is left to do"
        return
    numbers = [wanted or training_folder.threads_behind(out) or 0]
    if device != "cpu" or workers > 1:
        numbers = [1]
    elif numbers == [0]:
        numbers = counts(usual())
    found = speeds(plan.adapt(split), split, plan.train, numbers, device)
    number = fewest(found)
    each = f" for each of {workers} workers" if workers > 1 else ""
    yield (sentence(found, number) if device == "cpu" else f"{found[number]:.0f} images/s") + each
    seconds = (len(split.train_labels) + SCORING_COST * len(split.val_labels)) / found[number] / workers
    left = plan.train.epochs - len(training_folder.epochs_done(out))
    total = timedelta(seconds=round(min(left * seconds, LONGEST_S)))
    tested = "then test images, where there are any, are read and scored"
    yield f"about {seconds:.1f} s per epoch, {total} for {left} epochs; {tested}"
