"""Claim: ReXNet with some of what `mobile` offers is better than ReXNet after long training, at equal cost.

    python -m experiments.search.changes --dataset path/to/cifar10  # 3.5 hours of one core; run again to carry on
    python -m experiments.search.changes --smoke                    # a minute: 16 networks, 100 digits

Fifteen changes, each to a value that `mobile` offers, in 32 combinations: a two-level design of resolution IV (a
Hadamard matrix of 16 rows, ReXNet the first, and its mirror image), so that every change is in half of the networks and
its effect is told by all of them, free of that of every other change. All are brought to one budget, which the width
pays for: an effect is what a change is worth beside what it costs. Networks that are too dear at the least width are
changed by `Space.fit`, as in a search; the table says in how many choices.

The effect of a change is the mean of the networks that have it minus that of the others, with a 90 % interval; and it
is looked at after every epoch, since what learns faster need not be better in the end. Of fewer networks than changes
no effect is told. Beside it how far early epochs, the prior that ships and properties of the networks agree with what
they came to (Spearman, 90 % bootstrap intervals over networks).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.stats import t

from experiments import findings, trainings
from experiments.search.headline import FAR_SEED
from experiments.search.longer import PRIOR, PROPERTIES, correlation
from experiments.search.prior import SPACE, TEXTBOOK, expected
from nas.config import full_recipe
from searchspace import Budget, InputError, Space, cost
from searchspace.space.choices import Scalar
from searchspace.space.space import Candidate

PHOTOS = "photos"  # any dataset but digits, which have a recipe of their own
LEVEL = 0.9
EARLY, MIDDLE, LATE = (2, 3), (4, 5), (6,)

Numbers = NDArray[np.float64]


def in_stages(stages: Iterable[int], name: str, value: Scalar) -> dict[str, Scalar]:
    return {f"stage{number}.{name}": value for number in stages}


CHANGES: dict[str, dict[str, Scalar]] = {
    "kernel 5, stages 4 to 6": in_stages(MIDDLE + LATE, "kernel", 5),
    "kernel 5, stages 1 to 3": in_stages((1, *EARLY), "kernel", 5),
    "squeeze 1/4, not 1/12": in_stages((3, *MIDDLE, *LATE), "se", 0.25),
    "squeeze in stages 1 and 2": in_stages((1, 2), "se", 0.25),
    "squeeze after the nonlinearity": in_stages(range(1, 7), "se_position", "after"),
    "ReLU6 after the expansion, not SiLU": in_stages(range(1, 7), "expand_act", "relu6"),
    "SiLU after the depthwise, not ReLU6": in_stages(range(1, 7), "spatial_act", "silu"),
    "expansion 3, stages 2 and 3": in_stages(EARLY, "expansion", 3.0),
    "expansion 4, stages 4 to 6": in_stages(MIDDLE + LATE, "expansion", 4.0),
    "last width 256, not 185": {"schedule.end": 256},
    "widths by stage": {"schedule.kind": "stagewise"},
    "stages 2 and 3 of one block, not two": in_stages(EARLY, "depth", 1),
    "stages 4 and 5 of two blocks, not three": in_stages(MIDDLE, "depth", 2),
    "stage 6 of three blocks, not five": in_stages(LATE, "depth", 3),
    "fused blocks, stages 2 and 3": in_stages(EARLY, "block", "fused_mbconv"),
}


def design() -> NDArray[np.bool_]:
    """Which network has which change: (networks, changes), 32 × 15; the first has none."""
    rows = hadamard(len(CHANGES) + 1)[:, 1:] < 0
    return np.vstack([rows, ~rows])


def networks(space: Space, budget: Budget, rows: NDArray[np.bool_]) -> dict[str, Candidate]:
    """The network of every row, by the row's name; a column that says how many choices had to be changed."""
    textbook = space.fit_known(TEXTBOOK, budget)
    if textbook is None:
        raise InputError(f"budget {budget}: {TEXTBOOK} cannot be scaled to it")
    found = {}
    for number, row in enumerate(rows):
        point = dict(textbook.point)
        for change, is_made in zip(CHANGES.values(), row, strict=True):
            point |= change if is_made else {}
        candidate = space.fit(point, budget) if row.any() else textbook
        if candidate is None:
            raise InputError(f"budget {budget}: the combination {name_of(number, row)} cannot be brought to it")
        found[name_of(number, row)] = candidate
    return found


def misfits(space: Space, candidate: Candidate, made: Mapping[str, bool]) -> int:
    """In how many choices a network is another than its row asks for, since it was too dear."""
    point = dict(space.known[TEXTBOOK])
    for change, values in CHANGES.items():
        point |= values if made[change] else {}
    return sum(candidate.point[choice] != value for choice, value in point.items())


def looks(epochs: int) -> list[int]:
    """After how many epochs the table looks: a sixth, a third, two thirds."""
    return [max(1, round(epochs * share)) for share in (1 / 6, 1 / 3, 2 / 3)]


def name_of(number: int, row: NDArray[np.bool_]) -> str:
    """As `3 -+-…`: which row of the design, and which changes."""
    return f"{number} {''.join('-+'[int(one)] for one in row)}" if row.any() else TEXTBOOK


def effects(rows: NDArray[np.bool_], scores: Numbers) -> list[tuple[float, float]]:
    """Of every change what it adds, and half of its 90 % interval, by least squares on all changes together."""
    terms = np.column_stack([np.ones(len(rows)), rows])
    found, *_ = np.linalg.lstsq(terms, scores, rcond=None)
    left = len(scores) - np.linalg.matrix_rank(terms)
    if left < 1:
        return [(float(one), float("nan")) for one in found[1:]]
    variance = ((scores - terms @ found) ** 2).sum() / left
    errors = np.sqrt(variance * np.diag(np.linalg.pinv(terms.T @ terms)))
    return list(zip(found[1:].tolist(), (errors[1:] * t.ppf((1 + LEVEL) / 2, left)).tolist(), strict=True))


def draw(found: Sequence[tuple[float, float]], over: Mapping[int, Sequence[float]]) -> Figure:
    """Effects at the end with their intervals, and how they came about over the epochs."""
    figure = findings.figure(12, 5.4)
    ends, course = figure.subplots(1, 2, width_ratios=(1.3, 1))
    order = np.argsort([one for one, _ in found])
    places = np.arange(len(order))
    ends.errorbar(
        [found[i][0] for i in order], places, xerr=[found[i][1] for i in order], fmt="o", color=findings.ACCENT
    )
    ends.axvline(0, color=findings.QUIET, linewidth=0.8)
    ends.set_yticks(places, [list(CHANGES)[i] for i in order], fontsize=8)
    ends.set_xlabel("effect on accuracy at the end, 90 %")
    colours = {order[0]: findings.WARM, order[-2]: "black", order[-1]: findings.ACCENT}
    for i in order:
        colour = colours.get(i)
        course.plot(
            list(over),
            [one[i] for one in over.values()],
            color=colour or findings.QUIET,
            linewidth=1.6 if colour else 0.7,
            label=list(CHANGES)[i] if colour else None,
        )
    course.axhline(0, color="black", linewidth=0.8)
    course.set_xlabel("epochs")
    course.set_ylabel("effect on accuracy")
    course.legend(fontsize=7)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "16 networks on 100 digits, 1 epoch")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=32, help="so many of the design, in its order (all 32)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--scored", type=int, default=10_000, help="validation images (10,000)")
    parser.add_argument("--epochs", type=int, default=24, help="of a training (24)")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.scored, args.epochs = "digits", 16, 100, 50, 1
    page = findings.Page(__doc__, __file__, args, arguments)
    rows = design()[: args.networks]
    budget = Budget.parse(args.budget)
    chosen = networks(Space.load(SPACE), budget, rows)
    name = f"changes-{args.dataset.rstrip('/').rsplit('/', 1)[-1]}"
    split = trainings.images(args.dataset, args.images, seed=FAR_SEED, scored=args.scored)
    train = replace(full_recipe(PHOTOS), epochs=args.epochs)
    jobs = trainings.repeated({one: candidate.arch for one, candidate in chosen.items()}, train, 1)
    records = trainings.carry_out(jobs, split, page.device, args.out / f"{name}.jsonl", page.console)
    page.trained(records)
    scores = np.array([record["accuracy"] for record in records])
    curves = np.array([record["curve"] for record in records])
    title = f"{args.epochs} epochs of {trainings.described(split)}, within {args.budget}"
    if len(rows) > len(CHANGES):
        tell_effects(page, name, title, rows, scores, curves)
    page.table(f"{name}-tells", f"What tells of the accuracy: {title}", agreements(chosen, budget, scores, curves))
    page.table(f"{name}-networks", f"All networks: {title}", described(chosen, rows, scores))
    page.write(n=f"{len(chosen)} networks of {len(design())}, one training each")


def tell_effects(
    page: findings.Page, name: str, title: str, rows: NDArray[np.bool_], scores: Numbers, curves: Numbers
) -> None:
    """The table and the figure of what every change adds."""
    found, epochs = effects(rows, scores), curves.shape[1]
    over = {epoch: [one for one, _ in effects(rows, curves[:, epoch - 1])] for epoch in range(1, epochs + 1)}
    table = [
        {"change": change, "effect": f"{one:+.4f}", "90 %": interval(one, half)}
        | {f"after {epoch} epochs": f"{over[epoch][place]:+.4f}" for epoch in looks(epochs)}
        for place, (change, (one, half)) in enumerate(zip(CHANGES, found, strict=True))
    ]
    page.table(name, f"What a change adds: {title}", sorted(table, key=lambda row: -float(row["effect"])))
    page.figure(name, draw(found, over))


def interval(effect: float, half: float) -> str:
    """An effect's interval; nothing of as many networks as there are effects, which leave none to tell their noise."""
    return "" if np.isnan(half) else f"[{effect - half:+.4f}, {effect + half:+.4f}]"


def agreements(
    chosen: Mapping[str, Candidate], budget: Budget, scores: Numbers, curves: Numbers
) -> list[dict[str, Any]]:
    """How early epochs, the prior and properties agree with the accuracies."""
    archs = [candidate.arch for candidate in chosen.values()]
    told = {f"after {epoch} of {curves.shape[1]} epochs": curves[:, epoch - 1] for epoch in looks(curves.shape[1])}
    told[PRIOR] = expected(Space.load(SPACE), budget, [candidate.point for candidate in chosen.values()])
    told |= {name: np.array([of(arch) for arch in archs]) for name, of in PROPERTIES.items()}
    return [{"what tells": name, "agreement": correlation(numbers, scores)} for name, numbers in told.items()]


def described(chosen: Mapping[str, Candidate], rows: NDArray[np.bool_], scores: Numbers) -> list[dict[str, Any]]:
    """A row of the table for every network."""
    space = Space.load(SPACE)
    return [
        {
            "network": name,
            "digest": candidate.arch.digest,
            "blocks": len(candidate.arch.blocks),
            "width multiplier": f"{candidate.width_mult:.3f}",
            "params": cost(candidate.arch).params,
            "choices changed to fit": misfits(space, candidate, dict(zip(CHANGES, row, strict=True))),
            "accuracy": f"{score:.4f}",
        }
        for (name, candidate), row, score in zip(chosen.items(), rows, scores, strict=True)
    ]


if __name__ == "__main__":
    findings.run(main)
