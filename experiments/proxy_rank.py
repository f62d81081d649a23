"""Claim: a few epochs of brief training rank networks like long training does; how many, and how well?

    python experiments/proxy_rank.py --dataset path/to/cifar10     # hours; run again to carry on where it stopped
    python experiments/proxy_rank.py --smoke                       # seconds: three networks, 200 digits

Random networks of `mobile` at one budget, as a search's controls are drawn, on a part of the training images: each is
trained for every brief number of epochs, with the recipe that a search uses and its learning rate going to zero at its
own end, and twice for long, from two seeds. Spearman's and Kendall's rank correlation of brief with long accuracies
(mean of the seeds), with 90 % bootstrap intervals over networks. Beside them the ceiling, which is one long training
against the other; what costs a few steps: zero-cost scores; and what costs nothing: parameters, multiply-adds (of the
network, and as trained), activations, speed. Every finished training is a line in a log, an unfinished one a checkpoint
of its last epoch, both beside the table.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nas import checkpoint
from nas.config import DataConfig, recipe
from nas.data import Split, load
from nas.proxies import PROXIES
from nas.retraining import agreement
from nas.timing import device_for, device_name
from nas.trainer import Training
from searchspace import Arch, Budget, Space, build, cost

HERE = Path(__file__).resolve().parent
VALIDATION_IMAGES = 4_000
SCORED_IMAGES = 64


class Job(NamedTuple):
    """One training: the network's number, its epochs, its seed."""

    network: int
    epochs: int
    seed: int


def drawn(number: int, budget: Budget) -> list[Arch]:
    space = Space.load("mobile")
    return [space.sample(seed=index, budget=budget) for index in range(number)]


def reduced(dataset: str, images: int) -> Split:
    """So many images to train and at most VALIDATION_IMAGES to score, the same for all."""
    found, rng = load(DataConfig(dataset), seed=0), np.random.default_rng(0)
    train = np.sort(rng.permutation(len(found.train_labels))[:images])
    val = np.sort(rng.permutation(len(found.val_labels))[:VALIDATION_IMAGES])
    return replace(
        found,
        train_images=found.train_images[train],
        train_labels=found.train_labels[train],
        val_images=found.val_images[val],
        val_labels=found.val_labels[val],
    )


def jobs(networks: int, brief: list[int], long: int, seeds: int) -> Iterator[Job]:
    """The short ones first, and one long training of all before the next, so that what is there can be read early."""
    for epochs in brief:
        yield from (Job(network, epochs, 0) for network in range(networks))
    for seed in range(seeds):
        yield from (Job(network, long, seed) for network in range(networks))


def trained(job: Job, arch: Arch, split: Split, dataset: str, device: str, state: Path) -> Iterator[dict[str, float]]:
    """A training epoch by epoch, from its checkpoint where there is one."""
    seed = int(hashlib.sha256(f"{arch.digest} {job.seed}".encode()).hexdigest()[:8], 16)
    torch.manual_seed(seed)
    model = build(arch.adapt(num_classes=split.num_classes, resolution=split.resolution))
    training = Training(model, split, replace(recipe(dataset), epochs=job.epochs), seed, device)
    if state.exists():
        tensors, notes = checkpoint.read(state)
        if notes["job"] == f"{arch.digest} {job}":
            training.restore(tensors)
    for epoch in training:
        checkpoint.write(state, training.state(), {"job": f"{arch.digest} {job}"})
        yield {"accuracy": epoch.accuracy, "loss": epoch.loss, "images_per_s": epoch.images_per_s}


def carry_out(
    planned: list[Job], archs: list[Arch], split: Split, dataset: str, device: str, log: Path, console: Console
) -> list[dict[str, Any]]:
    """Every job's last epoch; those of an earlier start of this script from its log."""
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    records = [record for record in records if record["digest"] == archs[record["job"][0]].digest]
    done = {Job(*record["job"]) for record in records}
    columns = (TextColumn("epochs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=console, speed_estimate_period=3600) as bar:
        task = bar.add_task("epochs", total=sum(job.epochs for job in planned))
        for job in planned:
            if job in done:
                bar.advance(task, job.epochs)
                continue
            arch, epochs = archs[job.network], []
            state = log.with_suffix(".safetensors")
            for epoch in trained(job, arch, split, dataset, device, state):
                epochs.append(epoch)
                bar.advance(task)
            bar.update(task, completed=sum(j.epochs for j in planned[: planned.index(job) + 1]))
            records.append({"job": job, "digest": arch.digest, **epochs[-1]})
            with log.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
            state.unlink()
    wanted = set(planned)
    return [record for record in records if Job(*record["job"]) in wanted]


def table_of(
    archs: list[Arch], records: list[dict[str, Any]], brief: list[int], long: int, seeds: int, split: Split
) -> list[dict[str, Any]]:
    """A row a network: what it costs, its zero-cost scores, its accuracies."""
    found = {Job(*record["job"]): record for record in records}
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
        for epochs, seed in [*((e, 0) for e in brief), *((long, s) for s in range(seeds))]:
            record = found.get(Job(number, epochs, seed))
            row[f"accuracy@{epochs} seed {seed}"] = f"{record['accuracy']:.4f}" if record else ""
            if (epochs, seed) == (brief[0], 0):
                row["images_per_s"] = f"{record['images_per_s']:.0f}" if record else ""
        rows.append(row)
    return rows


def ranked(rows: list[dict[str, Any]], brief: list[int], long: int, seeds: int) -> list[dict[str, Any]]:
    """How each way to rank agrees with long training, over the networks that have been trained for long."""
    names = [f"accuracy@{long} seed {seed}" for seed in range(seeds)]
    complete = [name for name in names if all(row[name] for row in rows)]
    if not complete:
        return []
    target = np.array([[float(row[name]) for name in complete] for row in rows]).mean(1)

    def line(what: str, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], share: float) -> dict[str, Any]:
        """`nan` where a score is always the same."""
        found, unknown = agreement(x.tolist(), y.tolist(), fewest=2), (math.nan, math.nan, math.nan)
        rho = (found.spearman, *found.spearman_interval) if found else unknown
        tau = (found.kendall, *found.kendall_interval) if found else unknown
        values = {"spearman": rho, "kendall": tau}
        told = {f"{name}{end}": f"{v:.3f}" for name, vs in values.items() for end, v in zip(ENDS, vs, strict=True)}
        return {"what": what, "n": len(rows), **told, "share of long's images": f"{share:.3g}"}

    found = []
    for epochs in brief:
        name = f"accuracy@{epochs} seed 0"
        if all(row[name] for row in rows):
            what = f"{epochs} epoch{'s' if epochs > 1 else ''}"
            found.append(line(what, np.array([float(row[name]) for row in rows]), target, epochs / long))
    if len(complete) > 1:
        first, second = (np.array([float(row[name]) for row in rows]) for name in complete[:2])
        found.append(line(f"ceiling: {long} epochs, one seed against another", first, second, 1.0))
    for name in (*PROXIES, "params", "macs", "proxy_macs", "activations", "images_per_s"):
        found.append(line(name, np.array([float(row[name]) for row in rows]), target, 0.0))
    return found


ENDS = ("", " low", " high")


def draw(rows: list[dict[str, Any]], found: list[dict[str, Any]], brief: list[int], long: int, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    ranks, scores = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, row in enumerate(found):
        colour = "#1e8449" if "epoch" in row["what"] and "ceiling" not in row["what"] else "#7f8c8d"
        low, high = float(row["spearman low"]), float(row["spearman high"])
        ranks.plot([low, high], [place, place], color=colour, linewidth=2)
        ranks.plot(float(row["spearman"]), place, "o", color=colour)
    ranks.set_yticks(range(len(found)), [row["what"] for row in found])
    ranks.invert_yaxis()
    ranks.axvline(0, color="black", linewidth=0.6)
    ranks.set_xlabel(f"Spearman's rank correlation with {long} epochs (90 % interval)")
    for number, epochs in enumerate(brief):
        x = [float(row[f"accuracy@{epochs} seed 0"]) for row in rows]
        y = [float(row[f"accuracy@{long} seed 0"]) for row in rows]
        scores.plot(x, y, "o", markersize=4, color=f"C{number}", label=f"{epochs} epoch{'s' if epochs > 1 else ''}")
    scores.set_xlabel("validation accuracy after brief training")
    scores.set_ylabel(f"after {long} epochs")
    scores.legend()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="a folder of images or a hub name (default: digits)")
    parser.add_argument("--budget", default="30MFLOPs", help="what all networks cost (30MFLOPs, at 224 px)")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--images", type=int, default=10_000, help="training images (10,000)")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 4], help="of brief training (1 2 4)")
    parser.add_argument("--long", type=int, default=20, help="epochs of long training (20)")
    parser.add_argument("--seeds", type=int, default=2, help="long trainings of each network (2)")
    parser.add_argument("--smoke", action="store_true", help="3 networks on 200 digits, 1 epoch against 2")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where log, table and figure go")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.dataset, args.networks, args.images, args.epochs, args.long = "digits", 3, 200, [1], 2
    torch.set_num_threads(1)
    console, device = Console(width=140), device_for("auto")
    archs = drawn(args.networks, Budget.parse(args.budget))
    split = reduced(args.dataset, args.images)
    args.out.mkdir(parents=True, exist_ok=True)
    planned = list(jobs(len(archs), args.epochs, args.long, args.seeds))
    records = carry_out(planned, archs, split, args.dataset, device, args.out / "proxy_rank.jsonl", console)
    rows = table_of(archs, records, args.epochs, args.long, args.seeds, split)
    found = ranked(rows, args.epochs, args.long, args.seeds)
    for name, content in (("proxy_rank", rows), ("proxy_rank_correlations", found)):
        with (args.out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, content[0].keys())
            writer.writeheader()
            writer.writerows(content)
    title = f"{len(archs)} networks of mobile at {args.budget}, {len(split.train_labels):,} images of {args.dataset}"
    table = Table(title=f"{title}, {device_name(device)}")
    for name in found[0]:
        table.add_column(name)
    for row in found:
        table.add_row(*map(str, row.values()))
    console.print(table)
    draw(rows, found, args.epochs, args.long, args.out / "proxy_rank.png")


if __name__ == "__main__":
    main()
