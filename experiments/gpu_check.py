"""Claim: what holds on a CPU holds on a GPU, and a trial trains there twice as fast as a plain bfloat16 loop.

    make gpu-check                                # eight minutes at most; --dataset is optional
    python experiments/gpu_check.py --smoke       # seconds, on whatever device there is

Needs PyTorch and this project's small requirements (NumPy, Pillow, pydantic, PyYAML, rich, safetensors, scikit-learn;
for images other than digits also `datasets`). What needs more is left out where it is missing, and the result says so:
speeds beside timm's networks need timm and torchvision, whole searches Ray, Optuna and fvcore. Parts, each a process
with a time limit of its own, so that one that fails or hangs leaves the others:

    networks    networks of every family and random ones of every space: logits and gradients in float32 against the
                CPU's, logits in bfloat16
    training    the same training on the CPU, on the GPU and there with steps replayed as CUDA graphs: losses by epoch
    memory      50 trials in one process, every other with CUDA graphs: what stays in the GPU's memory
    speed       experiments/throughput.py at 32 and 128 px
    packing     1, 2 and 4 trainings on one GPU at a time: images a second of all together
    search      a search at 300MFLOPs: use of the GPU, and where the time of its slots went

Everything found is in `gpu_check.json` as soon as its part ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nas.config import DataConfig, TrainConfig, recipe
from nas.data.datasets import load
from nas.latency.timing import device_for, device_name
from nas.training.trainer import Training, fit
from searchspace import Arch, Budget, Space, build, zoo
from searchspace.space.space import ready

HERE = Path(__file__).resolve().parent
KNOWN = (
    "resnet50", "resnext50_32x4d", "mobilenet_v1", "mobilenet_v2", "mnasnet1_0", "mobilenet_v3_large",
    "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny",
    "convnext_isotropic_small", "rexnet_plain", "rexnet_100", "rexnet_lite_100",
)  # fmt: skip
SIDE, BATCH = 64, 8
CLOSE, CLOSE_BFLOAT16 = 1e-3, 0.06  # greatest difference, as a part of the greatest number

Found = dict[str, Any]


def networks(args: argparse.Namespace) -> Found:
    """The greatest difference of each network from the CPU's float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    archs = {name: zoo(name, num_classes=10).adapt(10, SIDE) for name in KNOWN[: 2 if args.smoke else None]}
    for name in ready()[: 1 if args.smoke else None]:
        space = Space.load(name)
        for seed in range(1 if args.smoke else 3):
            archs[f"{name} {seed}"] = space.sample(seed, Budget.parse("300MFLOPs")).adapt(10, SIDE)
    found = {name: compared(arch, args.device) for name, arch in archs.items()}
    wrong = [name for name, one in found.items() if not one["same"]]
    return {"networks": found, "number": len(found), "wrong": wrong, "passed": not wrong}


def compared(arch: Arch, device: str) -> Found:
    torch.manual_seed(0)
    model = build(arch).eval()
    x, told = torch.randn(BATCH, 3, SIDE, SIDE), torch.arange(BATCH) % 10

    def gone_through(where: str, lower: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits, gradients of all weights in one row)"""
        model.to(where, memory_format=torch.channels_last).zero_grad()
        with torch.autocast(where, torch.bfloat16, enabled=lower):
            logits = model(x.to(where, memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(logits.float(), told.to(where))
        loss.backward()
        rows = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return logits.detach().float().cpu(), torch.cat(rows).float().cpu()

    (logits, gradients), (here, own) = gone_through("cpu", False), gone_through(device, False)
    lower, lower_gradients = gone_through(device, True)
    found = {"logits": apart(here, logits), "gradients": apart(own, gradients), "bfloat16": apart(lower, logits)}
    finite = bool(torch.isfinite(lower_gradients).all())
    same = max(found["logits"], found["gradients"]) < CLOSE and found["bfloat16"] < CLOSE_BFLOAT16
    return {**found, "finite": finite, "same": same and finite}


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


def training(args: argparse.Namespace) -> Found:
    """Losses by epoch of one training, by device; it is chaotic, so they are alike and not equal."""
    split = load(DataConfig("digits", images=400 if args.smoke else None), seed=0)
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs")).adapt(10, split.resolution)
    train = recipe("digits")
    ways = {"cpu": ("cpu", False), args.device: (args.device, False)}
    ways |= {"CUDA graphs": (args.device, True)} if args.device == "cuda" else {}
    losses = {}
    for way, (device, graphs) in ways.items():
        torch.manual_seed(0)
        losses[way] = [epoch.train_loss for epoch in fit(build(arch), split, train, 0, device, graphs)]
    eager = losses[args.device]
    passed = all(
        abs(found[0] - eager[0]) < 0.1 * eager[0] and abs(found[-1] - eager[-1]) < 0.25 * eager[-1]
        for found in losses.values()
    )
    return {"losses": losses, "passed": passed}


def memory(args: argparse.Namespace) -> Found:
    """Megabytes that stay after each of some trials in one process."""
    split = load(DataConfig("digits", images=400), seed=0)
    space, budget, seen = Space.load("mobile"), Budget.parse("300MFLOPs"), []
    for seed in range(3 if args.smoke else 50):
        model = build(space.sample(seed, budget).adapt(10, split.resolution))
        graphs = args.device == "cuda" and seed % 2 == 1
        for _ in fit(model, split, TrainConfig(epochs=1, batch_size=64), 0, args.device, graphs):
            pass
        del model
        if args.device == "cuda":
            torch.cuda.empty_cache()
            seen.append([torch.cuda.memory_allocated() / 1e6, torch.cuda.memory_reserved() / 1e6])
    growth = seen[-1][0] - seen[min(4, len(seen) - 1)][0] if seen else 0.0
    return {"megabytes allocated, reserved": seen, "growth after the fifth": growth, "passed": growth < 1.0}


def speed(args: argparse.Namespace) -> Found:
    if missing := left_out(args, "timm", "torchvision"):
        return missing
    told = {}
    for side, more in ((32, ["--random", "5"]), (128, ["--rounds", "1"])):
        command = [sys.executable, str(HERE / "throughput.py"), "--dataset", args.dataset, "--side", str(side)]
        command += ["--out", str(args.out), "--seconds", "3", "--rounds", "2", *more]
        told[f"{side} px"] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return told


def packing(args: argparse.Namespace) -> Found:
    """Images a second of so many trainings at a time on one device."""
    found = {}
    for number in (1, 2) if args.smoke else (1, 2, 4):
        command = [sys.executable, __file__, "--child", "--device", args.device, "--dataset", args.dataset]
        command += ["--smoke"] if args.smoke else []
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        each = [float(child.communicate()[0]) for child in children]
        found[str(number)] = {"each": each, "all": sum(each)}
    return found


def packed(args: argparse.Namespace) -> None:
    """One training beside others: prints images a second of what it trains for some seconds."""
    split = load(DataConfig(args.dataset), seed=0, resolution=32)
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs" if args.smoke else "300MFLOPs")).adapt(10, 32)
    epochs = iter(Training(build(arch), split, TrainConfig(epochs=10_000), 0, args.device))
    next(epochs)
    start, speeds = time.perf_counter(), []
    while not speeds or time.perf_counter() - start < (0 if args.smoke else 10):
        speeds.append(next(epochs).images_per_s)
    print(median(speeds))


def search(args: argparse.Namespace) -> Found:
    """A whole search by its command: the GPU's use while trials ran, and where the slots' time went."""
    if missing := left_out(args, "ray", "optuna", "fvcore"):
        return missing
    import efficiency

    with used(args.device) as seen:
        rows = efficiency.search(args.dataset, 20_000, 5, 12, torch.cuda.device_count() or os.cpu_count() or 1)
    busy = [one for one in seen if one > 0]
    return {"time": rows, "use of the GPU in %, median while busy": median(busy) if busy else None}


@contextmanager
def used(device: str) -> Iterator[list[float]]:
    """The GPU's use, in percent, every half second."""
    seen: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while device == "cuda" and not stop.wait(0.5):
            seen.append(float(torch.cuda.utilization()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def left_out(args: argparse.Namespace, *modules: str) -> Found:
    """Why a part is not measured; nothing where it can be."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    why = f"needs {' and '.join(missing)}" if missing else "not in smoke mode" if args.smoke else ""
    return {"left out": why} if why else {}


PARTS: dict[str, tuple[Callable[[argparse.Namespace], Found], int]] = {
    "networks": (networks, 100),
    "training": (training, 40),
    "memory": (memory, 60),
    "speed": (speed, 150),
    "packing": (packing, 60),
    "search": (search, 70),
}  # seconds: eight minutes in all


def carried_out(name: str, args: argparse.Namespace) -> Found:
    """A part in a process of its own, within its time."""
    command = [sys.executable, __file__, "--part", name, "--device", args.device, "--dataset", args.dataset]
    command += ["--out", str(args.out), *(["--smoke"] if args.smoke else [])]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PARTS[name][1] * args.patience)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"code {done.returncode}"]
            found: Found = {"error": last[0], "passed": False}
        else:
            found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        found = {"error": f"took longer than {PARTS[name][1] * args.patience:.0f} s", "passed": False}
    return {**found, "seconds": round(time.perf_counter() - start, 1)}


def machine(device: str) -> Found:
    told: Found = {"device": device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda}
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        told["driver, memory"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return told


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="a folder of images or a hub name (default: digits)")
    parser.add_argument("--smoke", action="store_true", help="a little of every part")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where gpu_check.json goes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds that a part may take (1)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.device = device_for(args.device)
    if args.child:
        packed(args)
        return 0
    if args.part:
        print(json.dumps(PARTS[args.part][0](args)))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    path, found = args.out / "gpu_check.json", {"machine": machine(args.device)}
    print(json.dumps(found["machine"]))
    for name in PARTS:
        one = found[name] = carried_out(name, args)
        path.write_text(json.dumps(found, indent=1) + "\n")
        verdict = {True: "passed", False: "FAILED"}.get(one.get("passed"), "measured")
        print(f"{name}: {one.get('error') or one.get('left out') or verdict} ({one['seconds']} s)", flush=True)
    print(f"wrote {path}")
    return 1 if any(one.get("passed") is False for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
