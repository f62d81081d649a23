"""Claim: what is better in a search's brief trainings is better in trainings of three times as many epochs.

    python -m experiments.search.longer --dataset path/to/cifar10  # 2.5 hours of one core; run again to carry on
    python -m experiments.search.longer --smoke                    # seconds: four networks, 200 digits

Random networks of `mobile` at one budget, as a search's controls are drawn, and ReXNet, are trained as a search's
trials are and three times as long (`--times`), from different seeds, each with a learning rate that goes to zero at
its own end. In trials residual branches add nothing at first; beside them are trials whose branches start as all
else, as those of the longer trainings do, so that these are not of the kind that they judge (`--as-now`: none such,
and longer trainings as `nas.train` makes them). How far the order agrees, and what earlier searches on other datasets
let a search expect, depth (blocks), parameters and activations tell of it: Spearman's rank correlation, with 90 %
bootstrap intervals over networks; and what activations are worth in longer training, given the trial's score (least
squares, ± standard error). Beside it the longer trainings' own first epochs, whose seed and so whose luck is that of
their end.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments import comparisons, findings, trainings, unseen
from experiments.comparisons import LEVEL, RESAMPLES
from experiments.search.headline import FAR_SEED
from experiments.search.prior import FRESH, SPACE, TEXTBOOK, expected
from nas.analysis.agreement import agreement, spearman
from nas.config import TrainConfig, full_recipe, recipe
from searchspace import Arch, Budget, Space, cost
from searchspace.space.space import Candidate

PHOTOS = "photos"  # any dataset but digits, which have a recipe of their own
TIMES = 3  # as many epochs, unless an option says it
TRIAL, LONGER = "as a search's trials", "longer training"
BEFORE = "a trial whose branches start as all else"
EARLY, PRIOR = "longer training, its own first epochs", "what the prior expects"
BOTH = "the trial and the prior, in equal parts"

Numbers = NDArray[np.float64]
PROPERTIES: dict[str, Callable[[Arch], float]] = {
    "blocks": lambda arch: len(arch.blocks),
    "parameters": lambda arch: cost(arch).params,
    "activations": lambda arch: cost(arch).activations,
}


def ways(epochs: int, times: int = TIMES, as_now: bool = False) -> dict[str, tuple[TrainConfig, int]]:
    """How networks are trained, and from which seed; by the recipes of photos, whatever the dataset."""
    trial, full = replace(recipe(PHOTOS), epochs=epochs), replace(full_recipe(PHOTOS), epochs=times * epochs)
    if as_now:
        return {TRIAL: (trial, 1), LONGER: (full, 0)}
    return {
        TRIAL: (trial, 1),
        BEFORE: (replace(trial, zero_residuals=False), 1),
        LONGER: (replace(full, zero_residuals=False), 0),
    }


def networks(space: Space, budget: Budget, number: int) -> dict[str, Candidate]:
    """Random networks and the textbook one, by their names."""
    textbook = space.fit_known(TEXTBOOK, budget)
    drawn = {f"random {n}": space.sample_point(Random(FAR_SEED + n), budget) for n in range(number)}
    return drawn | ({TEXTBOOK: textbook} if textbook else {})


def correlation(one: Numbers, other: Numbers) -> str:
    """Spearman's, with its 90 % bootstrap interval over networks; nothing where one is always the same."""
    found = agreement(one.tolist(), other.tolist())
    if found is None:
        return ""
    low, high = found.spearman_interval
    return f"{found.spearman:+.2f} [{low:+.2f}, {high:+.2f}]"


def advantage(one: Numbers, other: Numbers, judge: Numbers) -> tuple[float, float, float]:
    """By how much more one agrees with the judge than the other does, with its 90 % bootstrap interval."""

    def apart(rows: NDArray[np.int64]) -> float:
        return spearman(one[rows], judge[rows]) - spearman(other[rows], judge[rows])

    drawn = np.random.default_rng(0).integers(len(judge), size=(RESAMPLES, len(judge)))
    with np.errstate(invalid="ignore"):  # a draw of nothing but equal scores has no order
        low, high = np.nanquantile([apart(rows) for rows in drawn], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return apart(np.arange(len(judge))), float(low), float(high)


def worth_of(amounts: Numbers, brief: Numbers, longer: Numbers) -> tuple[float, float]:
    """What e times as much of something is worth in longer training, given the brief score, with its standard error: by
    least squares; not a number of three networks or fewer."""
    terms = np.column_stack([np.ones(len(brief)), brief, np.log(amounts)])
    left = len(longer) - terms.shape[1]
    if left < 1:
        return float("nan"), float("nan")
    found, *_ = np.linalg.lstsq(terms, longer, rcond=None)
    variance = ((longer - terms @ found) ** 2).sum() / left
    return float(found[2]), float(np.sqrt(variance * np.linalg.pinv(terms.T @ terms)[2, 2]))


def standardised(numbers: Numbers) -> Numbers:
    found: Numbers = (numbers - numbers.mean()) / (numbers.std() or 1.0)
    return found


def rows_of(archs: Sequence[Arch], scores: Mapping[str, Numbers]) -> list[dict[str, Any]]:
    """How scores and properties of networks agree with either way of training, each a column."""
    told = {**scores, **{name: np.array([of(arch) for arch in archs]) for name, of in PROPERTIES.items()}}
    return [
        {"what tells": name, "n": len(archs)}
        | {way: correlation(numbers, scores[way]) if may_tell(name, way) else "" for way in (TRIAL, LONGER)}
        for name, numbers in told.items()
        if name != LONGER
    ]


def may_tell(name: str, way: str) -> bool:
    """Whether a score is not itself a part of what it is compared with."""
    return name != way and (name, way) != (BOTH, TRIAL)


def draw(archs: Sequence[Arch], scores: Mapping[str, Numbers], marked: int) -> Figure:
    """Longer trainings beside brief ones, and either by depth; the textbook network is marked."""
    figure = findings.figure(11, 4.4)
    depths = np.array([len(arch.blocks) for arch in archs])
    both, deep = figure.subplots(1, 2)
    dots = both.scatter(scores[TRIAL], scores[LONGER], c=depths, cmap="viridis")
    figure.colorbar(dots, ax=both, label="blocks")
    both.set_xlabel(f"accuracy, {TRIAL}")
    both.set_ylabel(f"accuracy, {LONGER}")
    for way, colour in ((BEFORE, findings.WARM), (TRIAL, findings.QUIET), (LONGER, findings.ACCENT)):
        if way not in scores:
            continue
        deep.plot(depths, scores[way], "o", color=colour, label=f"{way}: {spearman(depths, scores[way]):+.2f}")
        slope, level = np.polyfit(depths, scores[way], 1)
        ends = np.array([depths.min(), depths.max()])
        deep.plot(ends, slope * ends + level, color=colour)
    if marked >= 0:
        both.annotate(TEXTBOOK, (scores[TRIAL][marked], scores[LONGER][marked]), fontsize=8)
        deep.annotate(TEXTBOOK, (depths[marked], scores[LONGER][marked]), fontsize=8)
    deep.set_xlabel("blocks")
    deep.set_ylabel("accuracy")
    deep.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "4 networks on 200 digits, 1 epoch against 3")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=20, help="random networks (20)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--scored", type=int, default=10_000, help="validation images (10,000)")
    parser.add_argument("--epochs", type=int, default=4, help="of brief training (4)")
    parser.add_argument("--times", type=int, default=TIMES, help=f"as many epochs are a longer training ({TIMES})")
    parser.add_argument("--as-now", action="store_true", help="no training's branches start as all else")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.scored, args.epochs = "digits", 3, 200, 100, 1
    name = f"longer-{Path(args.dataset).name}" if args.as_now else "longer"
    page = findings.Page(__doc__, __file__, args, arguments, name)
    unseen.leave_out(args.dataset)
    budget = Budget.parse(args.budget)
    space = Space.load(SPACE)
    chosen = networks(space, budget, args.networks)
    archs = {name: candidate.arch for name, candidate in chosen.items()}
    split, log = trainings.images(args.dataset, args.images, seed=FRESH, scored=args.scored), args.out / f"{name}.jsonl"
    found = {}
    for way, (train, seed) in ways(args.epochs, args.times, args.as_now).items():
        jobs = [trainings.Job(name, arch, train, seed) for name, arch in archs.items()]
        page.console.print(way)
        found[way] = trainings.carry_out(jobs, split, page.device, log, page.console)
        page.trained(found[way])
    scores = {way: np.array([record["accuracy"] for record in records]) for way, records in found.items()}
    scores[EARLY] = np.array([record["curve"][args.epochs - 1] for record in found[LONGER]])
    scores[PRIOR] = expected(space, budget, [candidate.point for candidate in chosen.values()])
    scores[BOTH] = standardised(scores[TRIAL]) + standardised(scores[PRIOR])
    title = (
        f"{args.epochs} against {args.times * args.epochs} epochs of {trainings.described(split)}, within {args.budget}"
    )
    page.table(name, title, rows_of(list(archs.values()), scores))
    amounts = np.array([cost(arch).activations for arch in archs.values()])
    worth, error = worth_of(amounts, scores[TRIAL], scores[LONGER])
    page.say(f"given the trial's score, e times as many activations are worth {worth:+.4f} ± {error:.4f} at the end")
    if BEFORE in scores:
        change, low, high = advantage(scores[TRIAL], scores[BEFORE], scores[LONGER])
        page.say(f"{TRIAL}, minus {BEFORE}: {change:+.2f} [{low:+.2f}, {high:+.2f}] in agreement with longer trainings")
        gain, low, high = comparisons.difference(scores[TRIAL].tolist(), scores[BEFORE].tolist())
        page.say(f"in accuracy: {gain:+.4f} [{low:+.4f}, {high:+.4f}]")
    each = [
        {"network": name, "digest": arch.digest, **{kind: f"{of(arch):.0f}" for kind, of in PROPERTIES.items()}}
        | {way: f"{scores[way][row]:.4f}" for way in found}
        for row, (name, arch) in enumerate(archs.items())
    ]
    page.table(f"{name}_networks", "All networks", each)
    names = list(archs)
    page.figure(name, draw(list(archs.values()), scores, names.index(TEXTBOOK) if TEXTBOOK in names else -1))
    page.write(n=f"{len(archs)} networks, one training of each kind")


if __name__ == "__main__":
    findings.run(main)
