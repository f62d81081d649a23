"""Claim: twelve changes, one at a time, turn ResNet-50 into ConvNeXt-T, and cost and accuracy move as in the figure.

    python -m experiments.papers.roadmap --costs  # a second: no training
    python -m experiments.papers.roadmap --dataset path/to/cifar10  # 1.4 hours of one core; run again to carry on
    python -m experiments.papers.roadmap --smoke  # seconds: two narrow steps on 100 digits

Costs are of the thirteen networks at 224 px with 1,000 classes, and of the three other kernel sizes that the figure
(Liu et al. 2022, Figure 2) tried, beside its GFLOPs. Accuracy is of the same networks with all widths multiplied by
`--width`, trained briefly from several seeds on small images, beside the paper's top-1 of 300 epochs on ImageNet: each
step's accuracy, its difference from the step before, and how the two rank the steps. The recipe is a search's, for
images AdamW as in the paper. A step costs what it costs, as in the figure.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


from matplotlib.figure import Figure

from experiments import comparisons, findings, trainings
from nas.analysis.agreement import agreement
from nas.config import recipe
from searchspace import cost
from searchspace.format.network import Network
from searchspace.networks.roadmap import steps

# Figure 2: GFLOPs and ImageNet top-1 of every step. The other kernels stand beside the road.
FIGURE = {
    "resnet50": (4.1, 78.8),
    "stage ratio": (4.5, 79.4),
    "patchify stem": (4.4, 79.5),
    "depthwise": (2.4, 78.3),
    "width": (5.3, 80.5),
    "inverted bottleneck": (4.6, 80.6),
    "depthwise moved up": (4.1, 79.9),
    "kernel 5": (4.1, 80.4),
    "kernel 7": (4.2, 80.6),
    "kernel 9": (4.2, 80.6),
    "kernel 11": (4.3, 80.5),
    "GELU": (4.2, 80.6),
    "fewer activations": (4.2, 81.3),
    "fewer norms": (4.2, 81.4),
    "layer norm": (4.2, 81.5),
    "separate downsampling": (4.5, 82.0),
}
BESIDE = (5, 9, 11)
Steps = dict[str, Network]


def road(width: float = 1.0) -> Steps:
    return {name: replace(network, width_mult=width) for name, network in steps()}


def with_kernels(found: Steps) -> Steps:
    """The road with the kernels beside it, in the figure's order."""
    step = found["depthwise moved up"]
    kernels = {f"kernel {k}": replace(step, stages=tuple(replace(s, kernel=k) for s in step.stages)) for k in BESIDE}
    return {name: (found | kernels)[name] for name in FIGURE}


def costs() -> list[dict[str, Any]]:
    rows = []
    for name, network in with_kernels(road()).items():
        spent, (gflops, _) = cost(network.arch()), FIGURE[name]
        row = {"step": name, "G multiply-adds": f"{spent.macs / 1e9:.3f}", "figure": gflops}
        row |= {"difference": f"{spent.macs / 1e9 - gflops:+.3f}", "M parameters": f"{spent.params / 1e6:.2f}"}
        rows.append(
            row | {"activations, M": f"{spent.activations / 1e6:.2f}", "peak MB": f"{spent.peak_memory_mb:.1f}"}
        )
    return rows


def summary(found: dict[str, list[trainings.Record]], macs: dict[str, int]) -> list[dict[str, Any]]:
    """A row for each step, with its difference from the one before and the 90 % interval of that."""
    rows, before = [], None
    for name, records in found.items():
        scores = [record["accuracy"] for record in records]
        mean, sd = comparisons.spread(scores)
        row = {"step": name, "n": len(scores), "M multiply-adds": f"{macs[name] / 1e6:.2f}"}
        row |= {"accuracy": f"{mean:.4f}", "sd": f"{sd:.4f}", "change": "", "low": "", "high": ""}
        if before is not None:
            change = comparisons.apart(scores, before)
            row |= dict(zip(("change", "low", "high"), (f"{number:+.4f}" for number in change), strict=True))
        row |= {"paper's top-1": FIGURE[name][1], "images/s": f"{min(r.get('images_per_s', 0) for r in records):.0f}"}
        rows.append(row | {"diverged": sum("diverged" in record for record in records)})
        before = scores
    return rows


def ranking(rows: list[dict[str, Any]]) -> str:
    ours, papers = ([float(row[name]) for row in rows] for name in ("accuracy", "paper's top-1"))
    found = agreement(ours, papers)
    if found is None:
        return f"{len(rows)} steps: too few, or too equal, to say how they are ranked"
    low, high = found.spearman_interval
    return f"ranks of {len(rows)} steps, ours and the paper's: Spearman {found.spearman:.2f} [{low:.2f}, {high:.2f}]"


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two steps at a sixteenth of their width on 100 digits")
    parser.add_argument("--costs", action="store_true", help="only the costs, no training")
    parser.add_argument("--width", type=float, default=0.125, help="what all widths are multiplied by (0.125)")
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, default=6, help="of a training (6)")
    parser.add_argument("--seeds", type=int, default=3, help="of each network (3)")
    args = parser.parse_args(arguments)
    rows = costs()
    page = findings.Page(__doc__, __file__, args, arguments, "roadmap_costs")
    page.table("roadmap_costs", "At 224 px, 1,000 classes, beside the paper's Figure 2", rows)
    page.figure("roadmap_costs", draw_costs(rows))
    page.write(n=f"{len(rows)} networks, exact")
    if args.costs:
        return
    page = findings.Page(__doc__, __file__, args, arguments)
    networks = road(args.width)
    if args.smoke:
        args.dataset, args.images, args.epochs, args.seeds, args.width = "digits", 100, 1, 1, 1 / 16
        networks = {name: road(args.width)[name] for name in ("resnet50", "separate downsampling")}
    archs = {name: network.arch() for name, network in networks.items()}
    split = trainings.images(args.dataset, args.images)
    train = replace(recipe(args.dataset), epochs=args.epochs)
    jobs = trainings.repeated(archs, train, args.seeds)
    records = trainings.carry_out(jobs, split, page.device, args.out / "roadmap.jsonl", page.console)
    trained = {name: cost(arch.adapt(split.num_classes, split.resolution, 2)).macs for name, arch in archs.items()}
    rows = summary(trainings.grouped(records), trained)
    title = f"{args.epochs} epochs of {trainings.described(split)}, widths × {args.width:g}, {train.optimizer}"
    page.table("roadmap", title, rows)
    page.say(ranking(rows))
    page.figure("roadmap", draw(rows, f"{title}; {ranking(rows)}"))
    page.trained(records)
    page.write(n=f"{len(archs)} steps × {args.seeds} seeds")


def draw_costs(rows: list[dict[str, Any]]) -> Figure:
    """Bars are ours, rings the figure's."""
    figure = findings.figure(8, 1 + 0.28 * len(rows))
    axes = figure.subplots()
    axes.barh(range(len(rows)), [float(row["G multiply-adds"]) for row in rows], color=findings.ACCENT, label="ours")
    axes.plot([row["figure"] for row in rows], range(len(rows)), "o", color="black", fillstyle="none", label="paper")
    axes.set_yticks(range(len(rows)), [row["step"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("G multiply-adds at 224 px (the paper prints one decimal)")
    axes.legend(loc="lower right")
    return figure


def draw(rows: list[dict[str, Any]], title: str) -> Figure:
    figure = findings.figure(10, 6.5)
    ours, papers = figure.subplots(2, 1, sharex=True)
    places = range(len(rows))
    means, sds = ([100 * float(row[name]) for row in rows] for name in ("accuracy", "sd"))
    ours.errorbar(places, means, sds, fmt="o-", color=findings.ACCENT, capsize=3)
    ours.set_ylabel("accuracy, %, after brief\ntraining (bar: ± sd of seeds)")
    papers.plot(places, [row["paper's top-1"] for row in rows], "o-", color=findings.QUIET)
    papers.set_ylabel("the paper's top-1, %\n(ImageNet, 300 epochs)")
    papers.set_xticks(places, [row["step"] for row in rows], rotation=30, ha="right")
    for axes in (ours, papers):
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=9)
    return figure


if __name__ == "__main__":
    findings.run(main)
