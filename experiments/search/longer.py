"""Claim: what is better in a search's brief trainings is better in longer ones.

    python -m experiments.search.longer --dataset path/to/cifar10  # hours of one core; run again to carry on
    python -m experiments.search.longer --smoke                    # seconds: four networks, 200 digits

Random networks of `mobile` at one budget, as a search's controls are drawn, ReXNet, and networks that earlier searches
tried (those of the prior that ships) are trained for as long as a search's trials and three times as long, each with a
learning rate that goes to zero at its own end, from different seeds. How far the order agrees, and what is told by the
depth (blocks), the parameters and the activations of a network: Spearman's rank correlation with its brief score and
with its longer one, with 90 % bootstrap intervals over networks. Beside it the score of longer trainings after their
first epochs, which are as many as those of the brief ones, from the same seed as their end.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments import comparisons, findings, trainings
from experiments.search.headline import FAR_SEED
from nas.analysis.agreement import spearman
from nas.config import full_recipe, recipe
from nas.study import prior
from searchspace import Arch, Budget, Space, cost

SPACE, TEXTBOOK = "mobile", "rexnet_100"
FRESH = 10**6  # the seed of a split that no search has

Numbers = NDArray[np.float64]
Scores = Mapping[str, Numbers]  # of each kind of networks
PROPERTIES: dict[str, Callable[[Arch], float]] = {
    "blocks": lambda arch: len(arch.blocks),
    "parameters": lambda arch: cost(arch).params,
    "activations": lambda arch: cost(arch).activations,
}


def networks(space: Space, budget: Budget, random: int, known: int) -> dict[str, dict[str, Arch]]:
    """The networks of each kind by their names: random ones, textbook ones, those of the first source of the prior."""
    drawn = {f"random {n}": space.sample(FAR_SEED + n, budget) for n in range(random)}
    textbook = space.fit_known(TEXTBOOK, budget)
    points = prior.read(SPACE).sources[0].points[:known]
    tried = {f"tried {n}": found.arch for n, point in enumerate(points) if (found := space.fit(point, budget))}
    return {"random": drawn, "textbook": {TEXTBOOK: textbook.arch} if textbook else {}, "tried": tried}


def correlation(one: Numbers, other: Numbers) -> str:
    """Spearman's, with its 90 % bootstrap interval over networks."""
    rows = np.random.default_rng(0).integers(len(one), size=(comparisons.RESAMPLES // 5, len(one)))
    kept = [row for row in rows if np.ptp(one[row]) and np.ptp(other[row])]
    drawn = [spearman(one[row], other[row]) for row in kept] or [np.nan]
    low, high = np.quantile(drawn, (0.05, 0.95))
    return f"{spearman(one, other):+.2f} [{low:+.2f}, {high:+.2f}]"


def rows_of(kinds: Mapping[str, Sequence[Arch]], brief: Scores, early: Scores, late: Scores) -> list[dict[str, Any]]:
    """What tells how good the networks of a kind are after brief and after longer training."""
    rows = []
    for kind, archs in kinds.items():
        told = {"brief score": brief[kind], "longer training, after its first epochs": early[kind]}
        told |= {name: np.array([of(arch) for arch in archs]) for name, of in PROPERTIES.items()}
        for name, numbers in told.items():
            row = {"networks": kind, "n": len(archs), "what tells": name}
            row["with the brief score"] = "" if name == "brief score" else correlation(numbers, brief[kind])
            rows.append(row | {"with the longer one": correlation(numbers, late[kind])})
    return rows


def draw(archs: Sequence[Arch], brief: Numbers, late: Numbers, marked: int, epochs: tuple[int, int]) -> Figure:
    """Scores of all networks by their depth, after brief and after longer training; the textbook network is marked."""
    figure = findings.figure(10, 4.2)
    depths = np.array([len(arch.blocks) for arch in archs])
    for axes, scores, number in zip(figure.subplots(1, 2), (brief, late), epochs, strict=True):
        axes.plot(depths, scores, "o", color=findings.QUIET, alpha=0.7)
        slope, level = np.polyfit(depths, scores, 1)
        ends = np.array([depths.min(), depths.max()])
        axes.plot(ends, slope * ends + level, color=findings.ACCENT)
        if marked >= 0:
            axes.plot(depths[marked], scores[marked], "D", color=findings.WARM, label=TEXTBOOK)
            axes.legend()
        axes.set_xlabel("blocks")
        axes.set_ylabel(f"accuracy after {number} epoch{'s' * (number > 1)}")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "4 networks on 200 digits, 1 epoch against 2")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=20, help="random networks (20)")
    parser.add_argument("--known", type=int, default=0, help="networks of the prior (0)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--scored", type=int, default=10_000, help="validation images (10,000)")
    parser.add_argument("--epochs", type=int, nargs=2, default=(4, 12), help="of brief and of longer training (4 12)")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.scored, args.epochs = "digits", 3, 200, 100, (1, 2)
    page = findings.Page(__doc__, __file__, args, arguments)
    space, budget = Space.load(SPACE), Budget.parse(args.budget)
    kinds = networks(space, budget, args.networks, args.known)
    archs = {name: arch for kind in kinds.values() for name, arch in kind.items()}
    split, log = trainings.images(args.dataset, args.images, seed=FRESH, scored=args.scored), args.out / "longer.jsonl"
    short, long = args.epochs
    lengths = (replace(full_recipe(args.dataset), epochs=long), 0), (replace(recipe(args.dataset), epochs=short), 1)
    jobs = [trainings.Job(name, arch, train, seed) for train, seed in lengths for name, arch in archs.items()]
    records = trainings.carry_out(jobs, split, page.device, log, page.console)
    longer, brief = records[: len(archs)], records[len(archs) :]

    def by_kind(of: Callable[[trainings.Record], float], found: Sequence[trainings.Record]) -> dict[str, Numbers]:
        told = {record["name"]: of(record) for record in found}
        sets = {kind: np.array([told[name] for name in own]) for kind, own in kinds.items() if len(own) > 1}
        return sets | {"all": np.array([told[name] for name in archs])}

    groups = {kind: list(own.values()) for kind, own in kinds.items() if len(own) > 1} | {"all": list(archs.values())}
    scores = by_kind(lambda one: one["accuracy"], brief), by_kind(lambda one: one["accuracy"], longer)
    early = by_kind(lambda one: one["curve"][short - 1], longer)
    title = f"{short} against {long} epochs of {trainings.described(split)}, within {args.budget}"
    page.table("longer", title, rows_of(groups, scores[0], early, scores[1]))
    each = [
        {"network": name, "digest": arch.digest, **{kind: f"{of(arch):.0f}" for kind, of in PROPERTIES.items()}}
        | {f"{short} epochs": f"{one['accuracy']:.4f}", f"{long} epochs": f"{other['accuracy']:.4f}"}
        for (name, arch), one, other in zip(archs.items(), brief, longer, strict=True)
    ]
    page.table("longer_networks", "All networks", each)
    marked = list(archs).index(TEXTBOOK) if TEXTBOOK in archs else -1
    page.figure("longer", draw(list(archs.values()), scores[0]["all"], scores[1]["all"], marked, (short, long)))
    page.trained(records)
    page.write(n=f"{len(archs)} networks, one training of each length")


if __name__ == "__main__":
    findings.run(main)
