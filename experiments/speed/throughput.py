"""Claim: a trial trains 2.2 times as fast as the loop that users write, and 4 times where all cores are in use.

    python -m experiments.speed.throughput --dataset path/to/cifar10  # some 10 minutes on 2 cores
    python -m experiments.speed.throughput --smoke  # a minute, one network, one round

Images a second of training (forward, backward, SGD step, augmentation) at 32 px (`--side`), batches of 128, 10 classes,
of three known networks and of `--random` ones of `mobile` at 300M, which timm does not have. Every row
is a process of its own, so that its threads are its own; rows take turns, round after round, and a ratio is taken
within a round. What users write: timm's network, a DataLoader with 2 workers, augmentation image by image on PIL.
Beside it timm's network in our loop, which shows that ours is the same network, and ours. On a CUDA machine the rows
are the user's loop in bfloat16, a plain bfloat16 loop over images that lie on the device, and ours.

timm and torchvision have to be installed (`make oracles`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from experiments import findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODULE = "experiments.speed.throughput"
NETWORKS = {"mobilenet_v2": "mobilenetv2_100", "rexnet_100": "rexnet_100", "efficientnet_b0": "efficientnet_b0"}
BATCH, STEPS, CLASSES = 128, 8, 10
WARM_UP_STEPS = 3
USERS, USERS_DEFAULT, THEIRS, OURS, OURS_ALL = (
    "user's loop, 1 thread",
    "user's loop, as many threads as cores",
    "timm's network in our loop, 1 thread",
    "ours, 1 thread",
    "ours, a process of 1 thread a core",
)
GPU_USERS, GPU_PLAIN = "user's loop, bfloat16", "plain bfloat16 loop, images on the device"
GPU_OURS, GPU_GRAPHS = "ours", "ours, steps replayed as CUDA graphs"
ROWS = {
    False: (USERS, USERS_DEFAULT, THEIRS, OURS, OURS_ALL),
    True: (GPU_USERS, GPU_PLAIN, THEIRS, GPU_OURS, GPU_GRAPHS),
}
OURS_ROWS = (OURS, OURS_ALL, GPU_OURS, GPU_GRAPHS)
REFERENCES = {
    False: {OURS: USERS, OURS_ALL: USERS_DEFAULT, THEIRS: OURS},
    True: {GPU_OURS: GPU_PLAIN, GPU_GRAPHS: GPU_PLAIN, GPU_USERS: GPU_GRAPHS, THEIRS: GPU_OURS},
}


def timm_network(name: str) -> Any:
    import timm

    return timm.create_model(NETWORKS[name], num_classes=CLASSES)


def our_network(name: str, side: int) -> Any:
    """A network of the zoo, or `mobile N`: the N-th random one of that space at 300M."""
    from searchspace import Budget, Space, build, zoo

    if name in NETWORKS:
        return build(zoo(name, num_classes=CLASSES, resolution=side))
    drawn = Space.load("mobile").sample(seed=int(name.split()[1]), budget=Budget.parse("300MFLOPs"))
    return build(drawn.adapt(CLASSES, side))


def allow_torchvision() -> None:
    """Beside a CPU torch, torchvision's wheel wants two operators declared; beside CUDA's it declares them itself, and
    a second time would end the process."""
    import torch

    if torch.version.cuda is not None:
        return
    with contextlib.suppress(RuntimeError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library


def keep_images(dataset: str, side: int, path: Path) -> None:
    """Decode some of a dataset once and keep STEPS batches of it for the rows' processes; digits are repeated."""
    import numpy as np

    from nas.config import DataConfig
    from nas.data.datasets import load

    found = load(DataConfig(dataset, images=2 * BATCH * STEPS), seed=0, resolution=side)
    chosen = np.resize(np.arange(len(found.train_labels)), BATCH * STEPS)
    np.savez(path, images=found.train_images[chosen], labels=found.train_labels[chosen])


def kept_images(path: str, number: int = BATCH * STEPS) -> Any:
    """So many images, repeated where fewer were kept."""
    import numpy as np

    from nas.data.datasets import Split

    with np.load(path) as kept:
        chosen = np.resize(np.arange(len(kept["labels"])), number)
        images, labels = kept["images"][chosen], kept["labels"][chosen]
    return Split("kept", images, labels, images[:64], labels[:64], tuple(map(str, range(CLASSES))), flip=True)


def users_loop(name: str, split: Any, device: str, workers: int = 2) -> Generator[int]:
    """What a tutorial has: yields the images of every step."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    prepare = transforms.Compose(
        [
            transforms.RandomCrop(split.resolution, padding=split.resolution // 8),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26)),
        ]
    )
    pixels = split.train_images.transpose(0, 2, 3, 1)

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return 16 * len(pixels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            at = index % len(pixels)
            return prepare(Image.fromarray(pixels[at])), int(split.train_labels[at])

    model = timm_network(name).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(Images(), batch_size=BATCH, shuffle=True, num_workers=workers, pin_memory=device == "cuda")
    while True:
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
                loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(y)


def plain_loop(name: str, split: Any, device: str) -> Generator[int]:
    """timm's network, eager, bfloat16, over images that lie on the device as numbers already."""
    import torch

    model = timm_network(name).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    x = torch.tensor(split.train_images, device=device).float().div(255)
    y = torch.tensor(split.train_labels, device=device)
    while True:
        for chosen in torch.randperm(len(y), device=device).split(BATCH):
            with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
                loss = torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(chosen)


def speed_of_steps(steps: Iterator[int], seconds: float, device: str, warm: float = 0.0) -> float:
    """Images a second of steps that come one by one, after some that warm up, for so many seconds at least."""
    import torch

    def settled() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    begun, warmed = time.perf_counter(), 0
    while warmed < WARM_UP_STEPS or time.perf_counter() - begun < warm:
        next(steps)
        warmed += 1
    start, done = settled(), 0
    while time.perf_counter() - start < seconds:
        done += next(steps)
    return done / (settled() - start)


def speed_of_ours(model: Any, split: Any, seconds: float, device: str, graphs: bool, batch: int = BATCH) -> float:
    """Images a second as `nas.training.trainer` itself reports them, without scoring; the first epoch warms up."""
    from nas.config import TrainConfig
    from nas.training.trainer import fit

    train = TrainConfig(epochs=10_000, optimizer="sgd", batch_size=batch, learning_rate=0.01, weight_decay=5e-4)
    epochs = fit(model, split, train, 0, device, graphs)
    next(epochs)
    speeds: list[float] = []
    start = time.perf_counter()
    while not speeds or time.perf_counter() - start < seconds:
        speeds.append(next(epochs).images_per_s)
    return len(speeds) / sum(1 / speed for speed in speeds)


def child(row: str, name: str, device: str, kept: str, seconds: float) -> None:
    """One row's process: gets ready, says so, waits for a line, measures, prints images a second."""
    import torch

    allow_torchvision()
    torch.manual_seed(0)
    if row != USERS_DEFAULT:
        torch.set_num_threads(1)
    split = kept_images(kept)
    if row in OURS_ROWS:
        model = our_network(name, split.resolution)
    elif row == THEIRS:
        model = timm_network(name)
    print("ready", flush=True)
    sys.stdin.readline()
    if row in (USERS, USERS_DEFAULT, GPU_USERS):
        speed = speed_of_steps(users_loop(name, split, device), seconds, device)
    elif row == GPU_PLAIN:
        speed = speed_of_steps(plain_loop(name, split, device), seconds, device)
    else:
        speed = speed_of_ours(model, split, seconds, device, graphs=row == GPU_GRAPHS)
    print(json.dumps(speed), flush=True)
    os._exit(0)  # DataLoader's workers end with it


def measured(row: str, name: str, device: str, kept: Path, seconds: float) -> float:
    """Images a second of one row: of all its processes together."""
    threads = str(os.cpu_count()) if row == USERS_DEFAULT else "1"
    number = os.cpu_count() or 1 if row == OURS_ALL else 1
    environment = findings.environment(OMP_NUM_THREADS=threads, OMP_WAIT_POLICY="PASSIVE")
    command = [sys.executable, "-m", MODULE, "--child", row, name, device, str(kept), "--seconds", str(seconds)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    children = [subprocess.Popen(command, **pipes) for _ in range(number)]
    for process in children:
        assert process.stdout
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{row}, {name}: could not be measured; is timm installed (make oracles)?")
    for process in children:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in children)


def ratio_text(ratios: list[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def draw(speeds: dict[tuple[str, str], list[float]], rows: tuple[str, ...]) -> Figure:
    names = list(dict.fromkeys(name for name, _ in speeds))
    figure = findings.figure(9, 1.2 + 0.32 * len(rows) * len(names))
    axes = figure.subplots()
    place = 0
    for name in names:
        for row in (row for row in rows if (name, row) in speeds):
            found = speeds[name, row]
            colour = "#1e8449" if row.startswith("ours") else "#7f8c8d" if "timm" in row else "#b03a2e"
            axes.barh(place, median(found), color=colour)
            axes.plot(found, [place] * len(found), ".", color="black", markersize=4)
            axes.annotate(f"{name}: {row}  ", (0, place), ha="right", va="center", fontsize=8)
            place += 1
        place += 1
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlabel("training images a second (bar: median; dots: rounds)")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "one network, one round, a second each")
    parser.add_argument("--side", type=int, default=32, help="pixels trained at (32)")
    parser.add_argument("--random", type=int, default=0, help="random networks of `mobile` beside the known (0)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="measured a row and round, after warming up")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        row, name, device, kept = args.child
        child(row, name, device, kept, args.seconds)
    from rich.progress import track

    name = "throughput" if args.side == 32 else f"throughput_{args.side}px"
    page = findings.Page(__doc__, __file__, args, arguments, name)
    names = list(NETWORKS)
    if args.smoke:
        names, args.rounds, args.seconds = names[:1], 1, 1.0
    rows = ROWS[page.device == "cuda"]
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    names += [f"mobile {number}" for number in range(args.random)]
    turns = [(n, row) for _ in range(args.rounds) for n in names for row in rows if n in NETWORKS or row in OURS_ROWS]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "images.npz"
        keep_images(args.dataset, args.side, kept)
        for network, row in track(turns, "training", transient=True, console=page.console):
            speeds[network, row].append(measured(row, network, page.device, kept, args.seconds))
    title = f"Training images a second, {args.side} px, batch {BATCH}"
    page.table(
        name, title, every(speeds, args.dataset, page.device), medians(speeds, REFERENCES[page.device == "cuda"])
    )
    page.figure(name, draw(speeds, rows))
    page.write(n=f"{args.rounds} rounds in turn, {args.seconds:g} s a row and round")


def every(speeds: dict[tuple[str, str], list[float]], dataset: str, device: str) -> list[dict[str, Any]]:
    """A row for each network, way and round."""
    from nas.latency.timing import device_name

    where = {"device": device_name(device), "dataset": Path(dataset).name}
    return [
        {"network": name, "row": row, **where, "round": number, "images_per_s": f"{speed:.1f}"}
        for (name, row), found in speeds.items()
        for number, speed in enumerate(found)
    ]


def medians(speeds: dict[tuple[str, str], list[float]], references: dict[str, str]) -> list[dict[str, Any]]:
    """Rounds together, and beside what they are compared with."""
    rows = []
    for (name, row), found in speeds.items():
        reference = references.get(row) if name in NETWORKS else None
        ratios = [a / b for a, b in zip(found, speeds[name, reference], strict=True)] if reference else []
        told = {"network": name, "row": row}
        told |= {"images/s, median (least-most)": f"{median(found):,.0f} ({min(found):,.0f}-{max(found):,.0f})"}
        rows.append(told | {"× of": ratio_text(ratios) if ratios else "", "that": reference or ""})
    return rows


if __name__ == "__main__":
    findings.run(main)
