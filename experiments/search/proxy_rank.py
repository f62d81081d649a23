"""Claim: a few epochs of brief training rank networks like long training does; how many, and how well?

    python -m experiments.search.proxy_rank --dataset path/to/cifar10  # hours; run again to carry on where it stopped
    python -m experiments.search.proxy_rank --smoke  # seconds: three networks, 200 digits

Random networks of `mobile` at one budget, as a search's controls are drawn, on a part of the training images: each is
trained for every brief number of epochs, with the recipe that a search uses and its learning rate going to zero at its
own end, and twice for long, from two seeds. Spearman's and Kendall's rank correlation of brief with long accuracies
(mean of the seeds), with 90 % bootstrap intervals over networks. Beside them the ceiling, which is one long training
against the other, and below it the first epochs of one long training against the end of the other, which is what early
stopping goes by; brief training of what a 224-px network is at 32 px with its strides as they are, which ends in a 1×1
map, and of images of half and of twice the size; brief training's losses instead of its accuracy (training losses are
what Ru et al. 2021 rank by); zero-cost scores, which take a few steps; and what costs nothing: parameters,
multiply-adds (of the network, and as trained), activations, speed.

What a way to rank is worth at equal compute: of as many random networks as it can train in the time of six long
trainings, how many standard deviations the long accuracy of its best is expected to be above the mean. That is the
correlation times the expected maximum of so many normal numbers; early stopping is not in it.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from statistics import NormalDist
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments import findings, trainings
from experiments.trainings import Job, Record
from nas.analysis.agreement import agreement, spearman
from nas.config import TrainConfig, recipe
from nas.data.datasets import Split
from nas.data.decoding import SMALLEST
from nas.training.zero_cost import PROXIES
from searchspace import Arch, Budget, Space, cost

SCORED_IMAGES = 64
LOSSES = {"loss": "validation loss", "train_loss": "training loss"}
MAP = 2  # pixels a side that the last map keeps, as in a search
UNRELAXED = 1
UNRELAXED_EPOCHS, OTHER_EPOCHS = 4, 2  # up to which that map, and other resolutions, are tried
ENDS = ("", " low", " high")
COMPUTE = 6  # long trainings, which every way to rank is given


def drawn(number: int, budget: Budget) -> list[Arch]:
    space = Space.load("mobile")
    return [space.sample(seed=index, budget=budget) for index in range(number)]


def jobs(
    archs: list[Arch], base: TrainConfig, brief: list[int], long: int, seeds: int, sides: list[int]
) -> dict[str, list[Job]]:
    """What is trained, by the name that the tables give it: the short ones first, one long training of all before the
    next, and last what is tried beside them, so that what is there can be read early."""

    def of(epochs: int, seed: int, smallest_map: int = MAP, resolution: int | None = None) -> list[Job]:
        train = replace(base, epochs=epochs, resolution=resolution)
        return [Job(str(index), arch, train, seed, smallest_map) for index, arch in enumerate(archs)]

    found = {brief_name(epochs): of(epochs, 0) for epochs in brief}
    found |= {long_name(long, seed): of(long, seed + 1) for seed in range(seeds)}
    found |= {f"{brief_name(n)}, 1×1 map": of(n, 0, UNRELAXED) for n in brief if n <= UNRELAXED_EPOCHS}
    for side in sides:
        found |= {f"{brief_name(n)}, {side} px": of(n, 0, MAP, side) for n in brief if n <= OTHER_EPOCHS}
    return found


def brief_name(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs > 1 else ''}"


def long_name(epochs: int, seed: int) -> str:
    return f"{epochs} epochs, long {seed}"


def table_of(archs: list[Arch], found: dict[str, list[Record]], split: Split) -> list[dict[str, Any]]:
    """A row a network: what it costs, its zero-cost scores, its accuracies."""
    images = torch.tensor(split.train_images[:SCORED_IMAGES])
    images = (images - images.float().mean((0, 2, 3), keepdim=True)) / images.float().std((0, 2, 3), keepdim=True)
    labels = torch.tensor(split.train_labels[:SCORED_IMAGES])
    rows = []
    for number, arch in enumerate(archs):
        spent = cost(arch)
        proxy = arch.adapt(num_classes=split.num_classes, resolution=split.resolution)
        row: dict[str, Any] = {"network": number, "digest": arch.digest, "macs": spent.macs, "params": spent.params}
        row |= {"activations": spent.activations, "proxy_macs": cost(proxy).macs}
        row |= {name: f"{score(proxy, images, labels, 0):.6g}" for name, score in PROXIES.items()}
        row |= {name: f"{records[number]['accuracy']:.4f}" for name, records in found.items()}
        row["images_per_s"] = max(r["images_per_s"] for r in (records[number] for records in found.values()))
        rows.append(row)
    return rows


def ranked(rows: list[dict[str, Any]], found: dict[str, list[Record]], long: int, seeds: int) -> list[dict[str, Any]]:
    """How each way to rank agrees with long training, what share of its time it takes and what it is worth."""
    names = [long_name(long, seed) for seed in range(seeds)]
    target = np.array([[float(row[name]) for name in names] for row in rows]).mean(1)

    def line(what: str, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], share: float) -> dict[str, Any]:
        """`nan` where a score is always the same."""
        found, unknown = agreement(x.tolist(), y.tolist(), fewest=2), (math.nan, math.nan, math.nan)
        rho = (found.spearman, *found.spearman_interval) if found else unknown
        tau = (found.kendall, *found.kendall_interval) if found else unknown
        values = {"spearman": rho, "kendall": tau}
        told = {f"{name}{end}": f"{v:.3f}" for name, vs in values.items() for end, v in zip(ENDS, vs, strict=True)}
        worth = f"{rho[0] * expected_maximum(COMPUTE / share):.2f}" if share else ""
        return {"what": what, "n": len(rows), **told, "share of long": f"{share:.3g}", "gain at equal compute": worth}

    def column(name: str) -> np.ndarray[Any, Any]:
        return np.array([float(row[name]) for row in rows])

    lines = [line(name, column(name), target, share_of_long(name, found, long)) for name in found if name not in names]
    for name in plain(found):
        for key, told in LOSSES.items():
            low = np.array([-record[key] for record in found[name]])
            lines.append(line(f"{name}, by {told}", low, target, share_of_long(name, found, long)))
    if seeds > 1:
        first, second = names[0], names[1]
        lines.append(line(f"ceiling: {long} epochs, one seed against another", column(first), column(second), 1.0))
        for epoch in sorted({n for records in found.values() if (n := records[0]["epochs"]) < long}):
            curve = np.array([record["curve"][epoch - 1] for record in found[first]])
            lines.append(line(f"epoch {epoch} of {long}, against another seed", curve, column(second), epoch / long))
    scores = (*PROXIES, "params", "macs", "proxy_macs", "activations", "images_per_s")
    return lines + [line(name, column(name), target, 0.0) for name in scores]


def plain(found: dict[str, list[Record]]) -> list[str]:
    """The names of brief trainings as a search trains."""
    return [name for name in found if "," not in name]


def share_of_long(name: str, found: dict[str, list[Record]], long: int) -> float:
    """Of the time of a long training: epochs, and for another map or resolution the time of an epoch beside the usual's
    (median over networks)."""
    usual, own = found[name.partition(",")[0]], found[name]
    slower = np.median([b["seconds"] / a["seconds"] for a, b in zip(usual, own, strict=True)])
    return float(slower * own[0]["epochs"] / long)


def expected_maximum(number: float) -> float:
    """Of so many standard normal numbers (Blom 1958)."""
    return NormalDist().inv_cdf((number - 0.375) / (number + 0.25))


def draw(lines: list[dict[str, Any]], found: dict[str, list[Record]]) -> Figure:
    """Left every way to rank, right how the correlation grows with the epochs."""
    figure = findings.figure(12, 1.5 + 0.2 * len(lines))
    ranks, growing = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, row in enumerate(lines):
        colour = findings.ACCENT if "epoch" in row["what"] else findings.QUIET
        low, high = float(row["spearman low"]), float(row["spearman high"])
        ranks.plot([low, high], [place, place], color=colour, linewidth=2)
        ranks.plot(float(row["spearman"]), place, "o", color=colour)
    ranks.set_yticks(range(len(lines)), [row["what"] for row in lines])
    ranks.invert_yaxis()
    ranks.axvline(0, color="black", linewidth=0.6)
    longs = [records for name, records in found.items() if ", long " in name]
    long = longs[0][0]["epochs"]
    ranks.set_xlabel(f"Spearman's rank correlation with {long} epochs (90 % interval)")
    brief = [(found[name][0]["epochs"], name) for name in plain(found)]
    told = {row["what"]: float(row["spearman"]) for row in lines}
    growing.plot(*zip(*((n, told[name]) for n, name in brief), strict=True), "o-", label="rate to zero by then")
    for one, other in zip(longs, longs[1:] + longs[:1], strict=True):
        ends = np.array([record["accuracy"] for record in other])
        at = [np.array([record["curve"][epoch] for record in one]) for epoch in range(long)]
        curve = [spearman(scores, ends) if np.ptp(scores) else math.nan for scores in at]
        label = f"epochs of {long}, seed {one[0]['seed']} against {other[0]['seed']}"
        if len(longs) > 1:
            growing.plot(range(1, long + 1), curve, color=findings.QUIET, linewidth=1, label=label)
    growing.set_xlabel("epochs")
    growing.set_ylabel(f"Spearman's rank correlation with {long} epochs")
    growing.set_ylim(top=1)
    growing.legend(fontsize=8)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "3 networks on 200 digits, 1 epoch against 2")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 4, 10], help="of brief training (1 2 4 10)")
    parser.add_argument("--long", type=int, default=20, help="epochs of long training (20)")
    parser.add_argument("--seeds", type=int, default=2, help="long trainings of each network (2)")
    parser.add_argument("--sides", type=int, nargs="+", help="other resolutions in pixels (half and twice the images')")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.epochs, args.long = "digits", 3, 200, [1], 2
    page = findings.Page(__doc__, __file__, args, arguments)
    archs = drawn(args.networks, Budget.parse(args.budget))
    split = trainings.images(args.dataset, args.images)
    sides = args.sides or (split.resolution // 2, 2 * split.resolution)
    sides = [side for side in sides if side >= SMALLEST and not args.smoke]
    planned = jobs(archs, recipe(args.dataset), args.epochs, args.long, args.seeds, sides)
    found = {}
    for name, some in planned.items():
        side = some[0].train.resolution
        seen = trainings.images(args.dataset, args.images, side) if side else split
        page.console.print(name)
        found[name] = trainings.carry_out(some, seen, page.device, args.out / "proxy_rank.jsonl", page.console)
    rows = table_of(archs, found, split)
    lines = ranked(rows, found, args.long, args.seeds)
    title = f"{len(archs)} networks of mobile at {args.budget}, {trainings.described(split)}"
    page.table("proxy_rank_correlations", title, lines)
    page.table("proxy_rank", "All networks", rows)
    page.figure("proxy_rank", draw(lines, found))
    page.trained(record for records in found.values() for record in records)
    page.write(n=f"{len(archs)} networks, {args.seeds} long trainings of {args.long} epochs each")


if __name__ == "__main__":
    findings.run(main)
