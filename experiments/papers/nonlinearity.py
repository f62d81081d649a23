"""Claim: in an inverted bottleneck the nonlinearity matters after the first 1×1, not after the depthwise convolution.

    python -m experiments.papers.nonlinearity --dataset path/to/cifar10  # 1.6 hours of one core; run again to carry on
    python -m experiments.papers.nonlinearity --smoke  # seconds: one epoch of 60 digits, one seed

ReXNet (Han et al. 2021, §3) puts SiLU after the first 1×1 and a plain ReLU6 after the depthwise convolution; its Table
A2 tries five kinds in the first place on ImageNet. A nonlinearity costs no multiply-add, so one network, ReXNet's
depths, strides and linear widths without squeeze and excitation, at one budget, serves for all:

* where: SiLU after the first 1×1, after the depthwise convolution, and after the addition of the shortcut, in all eight
  combinations. The effect of a place is the mean difference between with and without it, other places and the seed
  equal, with a 90 % bootstrap interval and the p of flipping the signs of these differences.
* which: each kind after the first 1×1, ReLU6 after the depthwise convolution, as in Table A2; and the two exchanged.

Blocks whose stride is 2 have no addition and get nothing after it, and the first block, which does not expand, has no
first 1×1. Stem and last convolution keep their SiLU everywhere, so that no network is linear.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any

from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.config import recipe
from searchspace import Arch, Budget, InputError, Space, cost

PLACES = {"expand_act": "1×1", "spatial_act": "depthwise", "add_act": "addition"}
# Table A2: the kind after the first 1×1, and ImageNet's top-1
KINDS = {"relu6": 77.3, "leaky_relu": 77.4, "softplus": 77.6, "elu": 77.6, "silu": 77.9}
NAMES = {"relu6": "ReLU6", "leaky_relu": "LeakyReLU", "softplus": "SoftPlus", "elu": "ELU", "silu": "SiLU"}
REXNET = "SiLU, then ReLU6"
NOWHERE = "nowhere"
Acts = dict[str, str]


def where() -> dict[str, Acts]:
    """SiLU in every combination of places."""
    found = {}
    for chosen in product((False, True), repeat=len(PLACES)):
        places = [place for place, taken in zip(PLACES, chosen, strict=True) if taken]
        name = "SiLU after " + ", ".join(PLACES[place] for place in places) if places else NOWHERE
        found[name] = {place: "silu" if place in places else "none" for place in PLACES}
    return found


def which() -> dict[str, Acts]:
    """Every kind after the first 1×1, ReLU6 after the depthwise convolution; last, ReXNet's two exchanged."""
    kinds = {f"{NAMES[kind]}, then ReLU6": (kind, "relu6") for kind in KINDS}
    kinds["ReLU6, then SiLU"] = ("relu6", "silu")
    return {name: dict(zip(PLACES, (*pair, "none"), strict=True)) for name, pair in kinds.items()}


def networks(budget: Budget) -> dict[str, Arch]:
    """One network with all nonlinearities; the same cost, so the same widths."""
    base = {name: part for name, part in Space.load("rexnet").data.items() if name != "known"}
    base |= {"scale_stem": "none", "scale_head": "none", "schedule": {"kind": "linear", "start": 16, "end": 184.75}}
    base |= {"stem": {**base["stem"], "width": 16}, "head": {**base["head"], "width": 320}}
    found = {}
    for name, acts in (where() | which()).items():
        stages = [{**stage, **acts, "se": 0} for stage in base["stages"]]
        candidate = Space({**base, "stages": stages}, name).fit({}, budget)
        if candidate is None:
            raise InputError(f"budget {budget}: no network of these stages uses 97 % of it")
        found[name] = candidate.arch
    return found


def effects(scores: dict[str, list[float]]) -> list[dict[str, Any]]:
    """What SiLU in a place adds, over all combinations of the other places and all seeds."""
    named = {tuple(acts.items()): name for name, acts in where().items()}
    rows = []
    for place, title in PLACES.items():
        without = [name for name, acts in where().items() if acts[place] == "none"]
        having = [named[tuple({**where()[name], place: "silu"}.items())] for name in without]
        pairs = [
            (b, a) for w, h in zip(without, having, strict=True) for a, b in zip(scores[w], scores[h], strict=True)
        ]
        with_it, without_it = zip(*pairs, strict=True)
        mean, low, high = comparisons.difference(with_it, without_it)
        p = comparisons.sign_flips(with_it, without_it)
        row = {"SiLU after": title, "pairs": len(pairs), "effect": f"{mean:+.4f}", "low": f"{low:+.4f}"}
        rows.append(row | {"high": f"{high:+.4f}", "p": f"{p:.3f}"})
    return rows


def theirs(name: str) -> str:
    """The paper's accuracy on ImageNet for the kinds that it tried."""
    paper = {f"{NAMES[kind]}, then ReLU6": f"{accuracy / 100:.3f}" for kind, accuracy in KINDS.items()}
    return paper.get(name, "")


def draw(scores: dict[str, list[float]], places: list[dict[str, Any]], note: str) -> Figure:
    figure = findings.figure(11.5, 5.2)
    figure.suptitle(f"Nonlinearities at equal cost ({note})", fontsize=10)
    dots, effect = figure.subplots(1, 2, width_ratios=(3, 2))
    comparisons.dots(dots, scores, REXNET)
    dots.axhline(len(where()) - 0.5, color="black", linewidth=0.6)
    dots.set_xlabel("validation accuracy: every seed, and the mean (above: where; below: which)")
    for place, row in enumerate(places):
        effect.plot([float(row["low"]), float(row["high"])], [place, place], color=findings.ACCENT, linewidth=2)
        effect.plot(float(row["effect"]), place, "o", color=findings.ACCENT)
    effect.set_yticks(range(len(places)), [f"after {row['SiLU after']}" for row in places])
    effect.set_ylim(len(places) - 0.5, -0.5)
    effect.axvline(0, color="black", linewidth=0.6)
    effect.locator_params(axis="x", nbins=5)
    effect.set_xlabel("accuracy that SiLU there adds (90 % interval)")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one epoch of 60 digits, one seed")
    parser.add_argument("--budget", default="30MFLOPs", help="what every network costs (30MFLOPs, at 224 px)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds = "digits", 60, 1, 1
    page = findings.Page(__doc__, __file__, args, arguments)
    archs = networks(Budget.parse(args.budget))
    split = trainings.images(args.dataset, args.images)
    jobs = trainings.repeated(archs, replace(recipe(args.dataset), epochs=args.epochs), args.seeds)
    records = trainings.carry_out(jobs, split, page.device, args.out / "nonlinearity.jsonl", page.console)
    scores = trainings.accuracies(records)
    rows = [{**row, "paper, ImageNet": theirs(row["network"])} for row in comparisons.versus(scores, REXNET)]
    places = effects(scores)
    (macs,) = {cost(arch).macs for arch in archs.values()}
    note = f"{macs / 1e6:.1f}M multiply-adds, {args.seeds} seeds, {args.epochs} epochs of {trainings.described(split)}"
    page.table("nonlinearity", note, rows)
    page.table("nonlinearity_effects", "By place", places)
    page.figure("nonlinearity", draw(scores, places, note))
    page.trained(records)
    page.write(n=f"{len(archs)} networks × {args.seeds} seeds")


if __name__ == "__main__":
    findings.run(main)
