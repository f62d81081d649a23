"""Claim: a network's convolutions train faster on a CPU than PyTorch's own, and the results are equal.

    python -m experiments.speed.convolutions  # two minutes, on one thread of an otherwise idle machine
    python -m experiments.speed.convolutions --smoke  # seconds

Milliseconds of a forward and backward pass through one convolution, batches of 64, by PyTorch and by
`nas.training.cpu_convolutions`, in turn, round after round: depthwise ones of 3 to 7 columns, and 1×1 ones as networks
have them.
Then whole networks: forward, backward and SGD's step on random images at 32 px.
"""

from __future__ import annotations

import copy
import os
import time
from collections import defaultdict
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from experiments import findings
from nas.training.cpu_convolutions import use_fast_convolutions
from searchspace import Budget, Space, build, zoo

BATCH = 64
DEPTHWISE = (
    (96, 16, 3, 1),
    (576, 2, 3, 1),
    (960, 1, 3, 1),
    (96, 16, 5, 1),
    (96, 16, 5, 2),
    (144, 8, 5, 1),
    (240, 4, 5, 1),
    (96, 8, 7, 1),
    (384, 2, 7, 1),
)
POINTWISE = ((16, 96, 16), (96, 24, 8), (24, 144, 8), (192, 64, 4), (576, 160, 2), (320, 1280, 2))
NETWORKS = ("mobilenet_v2", "rexnet_100", "efficientnet_b0", "mobilenet_v3_large", "convnext_tiny")


def pictures(*shape: int) -> Tensor:
    return torch.randn(BATCH, *shape).contiguous(memory_format=torch.channels_last)


def cases(smoke: bool) -> dict[str, tuple[nn.Module, Tensor]]:
    """What is timed: a module and what it is given."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    for channels, side, kernel, stride in DEPTHWISE[: 2 if smoke else None]:
        name = f"depthwise {kernel}×{kernel}{', stride 2' if stride == 2 else ''}, {channels} channels, {side} px"
        conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        found[name] = conv, pictures(channels, side, side)
    for inside, outside, side in POINTWISE[: 1 if smoke else None]:
        found[f"1×1, {inside} to {outside} channels, {side} px"] = (
            nn.Conv2d(inside, outside, 1, bias=False),
            pictures(inside, side, side),
        )
    archs = {name: zoo(name, num_classes=10).adapt(10, 32) for name in NETWORKS[: 0 if smoke else None]}
    budget = Budget.parse("30MFLOPs")
    archs |= {
        f"mobile {seed}": Space.load("mobile").sample(seed, budget).adapt(10, 32) for seed in range(1 if smoke else 3)
    }
    return found | {name: (build(arch), pictures(3, 32, 32)) for name, arch in archs.items()}


def milliseconds(model: nn.Module, x: Tensor, seconds: float) -> float:
    """Of a step, the median of as many as there is time for."""
    optimizer, labels = torch.optim.SGD(model.parameters(), lr=1e-3), torch.arange(BATCH) % 10
    whole = not isinstance(model[0], nn.Conv2d)  # type: ignore[index]
    x = x.clone().requires_grad_(not whole)
    found: list[float] = []
    while sum(found) < seconds or len(found) < 3:
        start = time.perf_counter()
        out = model(x)
        optimizer.zero_grad()
        if whole:
            F.cross_entropy(out, labels).backward()
            optimizer.step()
        else:
            out.backward(out.detach())
        found.append(time.perf_counter() - start)
    return 1000 * median(found[1:])


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "three convolutions and a network, one round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(arguments)
    rounds, seconds = (1, 0.01) if args.smoke else (args.rounds, 0.5)
    torch.set_num_threads(1)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    pairs = {}
    for name, (module, x) in cases(args.smoke).items():
        theirs = nn.Sequential(module).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ours = copy.deepcopy(theirs)
        use_fast_convolutions(ours)
        pairs[name] = theirs, ours, x
    for name in track([name for _ in range(rounds) for name in pairs], "steps", transient=True):
        theirs, ours, x = pairs[name]
        times[name].append((milliseconds(theirs, x, seconds), milliseconds(ours, x, seconds)))
    rows: list[dict[str, Any]] = []
    for name, found in times.items():
        ratios = sorted(a / b for a, b in found)
        a, b = (median(each) for each in zip(*found, strict=True))
        rows.append({"what": name, "PyTorch ms": f"{a:.3g}", "ours ms": f"{b:.3g}", "times": f"{median(ratios):.2f}"})
        rows[-1] |= {"least": f"{ratios[0]:.2f}", "most": f"{ratios[-1]:.2f}"}
    page.table("convolutions", f"Forward and backward, {BATCH} images, {rounds} rounds in turn", rows)
    page.figure("convolutions", draw(rows))
    page.write(n=f"{len(rows)} convolutions and networks, {rounds} rounds in turn")


def draw(rows: list[dict[str, Any]]) -> Figure:
    figure = findings.figure(8, 0.9 + 0.26 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.barh(place, float(row["times"]), color=findings.ACCENT)
    axes.set_yticks(range(len(rows)), [row["what"] for row in rows])
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as fast as PyTorch's convolutions")
    return figure


if __name__ == "__main__":
    findings.run(main)
