"""Claim: a network's exact cost takes this project 2,000 times less than building it and counting with fvcore does.

    python -m experiments.speed.cost_speed  # a few minutes; peers that are not installed are left out
    python -m experiments.speed.cost_speed --smoke  # seconds, two networks

Random networks of `mobile`, fitted to 300 million multiply-adds, at 224 px. For every network, one after the other in
the same process, every tool builds it and counts it; ours gets the `Arch`. Ours is also timed over many new networks
with nothing remembered at the start, from a point of the space (no `Arch` made), for a whole fitted proposal, and
against arithmetic written by hand for ReXNets: a loop over integers, which knows one block and nothing else.
The peers: pip install --no-deps calflops ptflops thop torchprofile torchinfo (calflops also wants transformers).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from matplotlib.figure import Figure
from rich.progress import track
from torch import nn

from experiments import findings
from searchspace import Arch, Budget, Space, build, cost
from searchspace.arch import lower, sections
from searchspace.costs import network_cost
from searchspace.space.preflight import preflight

BUDGET = Budget.parse("300MFLOPs")
POINTS = 100_000
Counter = Callable[[nn.Module, int], float]


class Row(NamedTuple):
    what: str
    microseconds: float
    low: float
    high: float
    n: int
    counts: str


def fvcore(model: nn.Module, side: int) -> float:
    found = importlib.import_module("fvcore.nn").FlopCountAnalysis(model, torch.zeros(1, 3, side, side))
    counted = found.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    return float(counted["conv"] + counted["linear"])


def torch_on_meta(model: nn.Module, side: int) -> float:
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with counter:
        model.to("meta")(torch.zeros(1, 3, side, side, device="meta"))
    return float(counter.get_total_flops() / 2)


def calflops(model: nn.Module, side: int) -> float:
    count = importlib.import_module("calflops").calculate_flops
    return float(count(model=model, input_shape=(1, 3, side, side), print_results=False, output_as_string=False)[1])


def ptflops(model: nn.Module, side: int) -> float:
    count = importlib.import_module("ptflops").get_model_complexity_info
    return float(count(model, (3, side, side), as_strings=False, print_per_layer_stat=False, verbose=False)[0])


def thop(model: nn.Module, side: int) -> float:
    found = importlib.import_module("thop").profile(model, inputs=(torch.zeros(1, 3, side, side),), verbose=False)
    return float(found[0])


def torchprofile(model: nn.Module, side: int) -> float:
    return float(importlib.import_module("torchprofile").profile_macs(model, torch.zeros(1, 3, side, side)))


def torchinfo(model: nn.Module, side: int) -> float:
    found = importlib.import_module("torchinfo").summary(model, input_size=(1, 3, side, side), verbose=0)
    return float(found.total_mult_adds)


PEERS: dict[str, Counter] = {
    "fvcore": fvcore,
    "torch's counter, meta": torch_on_meta,
    "calflops": calflops,
    "ptflops": ptflops,
    "thop": thop,
    "torchprofile": torchprofile,
    "torchinfo": torchinfo,
}


def installed() -> dict[str, Counter]:
    """The peers that import here and count a small network."""
    with contextlib.suppress(RuntimeError):  # beside a CPU torch, torchvision's wheel wants these two declared
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library
    kept = {}
    for name, count in PEERS.items():
        try:
            with quiet():
                count(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), 8)
            kept[name] = count
        except Exception as error:
            print(f"{name} is left out: {type(error).__name__}: {str(error).splitlines()[0][:90]}", file=sys.stderr)
    return kept


@contextlib.contextmanager
def quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def walked(arch: Arch) -> int:
    """The multiply-adds by a walk over a tree of layers that is there already."""
    shape = (arch.in_channels, arch.resolution, arch.resolution)
    macs = 0
    for section in sections(arch):
        part = network_cost.count_layers(section, shape)
        macs, shape = macs + part.macs, part.output
    return macs


def by_hand(arch: Arch) -> int:
    """Multiply-adds of a ReXNet, written out: the floor for anything that works block by block in Python."""
    side = -(-arch.resolution // arch.stem.stride)
    macs = 27 * arch.stem.width * side * side
    for b in arch.blocks:
        if b.hidden != b.in_channels:
            macs += b.in_channels * b.hidden * side * side
        side = -(-side // b.stride)
        macs += (9 * b.hidden + b.hidden * b.out_channels) * side * side
        if b.se:
            macs += 2 * b.hidden * b.se.channels
    return macs + arch.blocks[-1].out_channels * arch.head.width * side * side + arch.head.width * arch.num_classes


def row(what: str, seconds: Iterable[float], counts: str, n: int = 0) -> Row:
    found = sorted(1e6 * second for second in seconds)
    return Row(what, median(found), found[len(found) // 10], found[len(found) * 9 // 10], n or len(found), counts)


def against_peers(networks: list[Arch], repeats: int) -> list[Row]:
    """Every tool on every network, in turn."""
    peers = installed()
    seconds: dict[str, list[float]] = {name: [] for name in ("build alone", *peers, "a walk over layers", "ours")}
    off: dict[str, list[float]] = {name: [] for name in peers}
    for arch in track(networks, "build and count", transient=True):
        ours = cost(arch).macs
        seconds["build alone"].append(timed(lambda a=arch: build(a).eval())[0])  # type: ignore[misc]
        for name, count in peers.items():
            gc.collect()
            with quiet(), torch.inference_mode(False), torch.no_grad():
                try:
                    spent, found = timed(lambda a=arch, c=count: c(build(a).eval(), a.resolution))  # type: ignore[misc]
                except Exception:
                    off[name].append(float("nan"))
                    continue
            seconds[name].append(spent)
            off[name].append(found / ours - 1)
        lower(arch)
        seconds["a walk over layers"].append(timed(lambda a=arch: walked(a))[0])  # type: ignore[misc]
        spent, _ = timed(lambda a=arch: [cost(a) for _ in range(repeats)])  # type: ignore[misc]
        seconds["ours"].append(spent / repeats)
    rows = [row("build alone", seconds["build alone"], "")]
    for name in peers:
        worst = max(off[name], key=lambda share: float("inf") if share != share else abs(share))
        counts = "fails on some" if worst != worst else "exact" if worst == 0 else f"up to {100 * worst:+.2g} %"
        rows.append(row(f"build + {name}", seconds[name], counts))
    walk, own = seconds["a walk over layers"], seconds["ours"]
    return [
        *rows,
        row("a walk over layers (no build)", walk, "exact"),
        row("cost(arch), seen before", own, "exact"),
    ]


def ours_alone(number: int) -> list[Row]:
    """Ours over new networks, from nothing remembered (the first fifth of them, then all); in ten parts, for the
    spread."""
    mobile, rexnet, rng = Space.load("mobile"), Space.load("rexnet"), random.Random(1)
    points = [mobile.random_point(rng) for _ in range(number)]
    fitted, proposals = [], []
    for part in parts(points):
        spent, found = timed(lambda p=part: [mobile.fit(point, BUDGET) for point in p])  # type: ignore[misc]
        fitted.append(spent / len(part))
        proposals += [candidate.arch for candidate in found if candidate]
    cold = []
    for some in (proposals[: len(proposals) // 5], proposals):
        network_cost._COUNTS.clear()
        spent, _ = timed(lambda p=some: [cost(arch) for arch in p])  # type: ignore[misc]
        cold.append(row("cost(arch), new, nothing remembered at first", [spent / len(some)], "exact", len(some)))
    again = [timed(lambda p=part: [cost(a) for a in p])[0] / len(part) for part in parts(proposals)]  # type: ignore[misc]
    placed = [timed(lambda p=part: [mobile.cost(x) for x in p])[0] / len(part) for part in parts(points)]  # type: ignore[misc]
    rexnets = [rexnet.arch(rexnet.random_point(rng), rng.uniform(0.5, 2)) for _ in range(number)]
    assert all(by_hand(arch) == cost(arch).macs for arch in rexnets)
    hand = [timed(lambda p=part: [by_hand(a) for a in p])[0] / len(part) for part in parts(rexnets)]  # type: ignore[misc]
    own = [timed(lambda p=part: [cost(a) for a in p])[0] / len(part) for part in parts(rexnets)]  # type: ignore[misc]
    return [
        *cold,
        row("cost(arch), new", again, "exact", len(proposals)),
        row("space.cost(point)", placed, "exact", number),
        row("space.fit(point), whole proposal", fitted, "97-100 % of the budget", number),
        row("ReXNets: cost(arch)", own, "exact", number),
        row("ReXNets: multiply-adds by hand", hand, "exact, one block only", number),
    ]


def parts(items: list[Any]) -> list[list[Any]]:
    size = max(1, len(items) // 10)
    return [items[start : start + size] for start in range(0, len(items), size)]


def draw(rows: list[Row]) -> Figure:
    figure = findings.figure(9, 5.5)
    axes = figure.subplots()
    colours = [
        "#b03a2e" if "build" in r.what else "#1e8449" if r.counts.startswith(("exact", "97")) else "#7f8c8d"
        for r in rows
    ]
    axes.barh([r.what for r in rows], [r.microseconds for r in rows], color=colours)
    axes.set_xscale("log")
    axes.set_xlabel("microseconds a network (median)")
    axes.invert_yaxis()
    for place, r in enumerate(rows):
        axes.annotate(f" {r.microseconds:,.3g}", (r.microseconds, place), va="center", fontsize=8)
    axes.margins(x=0.12)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "two networks, 1,000 points", dataset=False)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    networks = [Space.load("mobile").sample(seed, BUDGET) for seed in range(2 if args.smoke else 20)]
    number = 40 if args.smoke else 10_000
    rows = against_peers(networks, 10) + ours_alone(number)
    sample = 1000 if args.smoke else POINTS
    spent, _ = timed(lambda: preflight(Space.load("mobile"), BUDGET, sample=sample))
    command = f"-m searchspace describe mobile --budget {BUDGET} --points {sample}".split()
    described, _ = timed(lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True))
    whole = {f"pre-flight over {sample} points": spent, f"searchspace describe over {sample} points": described}
    written = [row._asdict() for row in rows]
    for what, seconds in whole.items():
        written.append({"what": what, "microseconds": 1e6 * seconds, "low": "", "high": "", "n": 1, "counts": ""})
    page.table("cost_speed", f"A network of mobile at {BUDGET}, one thread", written, shown(rows))
    page.say(f"pre-flight of mobile over {sample:,} random points: {spent:.1f} s in one process")
    cores = os.cpu_count()
    page.say(f"the command that does so and prints it, start to end, on {cores} cores: {described:.1f} s")
    page.figure("cost_speed", draw(rows))
    page.write(n=f"{len(networks)} networks for the peers, in turn in one process; {number:,} for ours")


def shown(rows: list[Row]) -> list[dict[str, Any]]:
    """What is read, beside fvcore."""
    reference = next((row.microseconds for row in rows if row.what == "build + fvcore"), float("nan"))
    return [
        {
            "what": row.what,
            "µs, median": f"{row.microseconds:,.3g}",
            "10 % - 90 %": f"{row.low:,.3g} - {row.high:,.3g}",
            "n": row.n,
            "× of build + fvcore": f"{reference / row.microseconds:,.3g}",
            "count": row.counts,
        }
        for row in rows
    ]


if __name__ == "__main__":
    findings.run(main)
