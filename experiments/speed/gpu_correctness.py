"""The parts of gpu_check.py that say whether a GPU does what a CPU does, and whether it keeps what it should not."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from experiments.speed.gpu_rows import Note
from experiments.speed.gpu_steps import mobile, noise, settled, watch
from nas.config import DataConfig, TrainConfig, recipe
from nas.data.datasets import Split, load
from nas.latency.timing import device_name
from nas.training import gpu_layers
from nas.training.trainer import Training, fit
from nas.trial import Result, Trial
from searchspace import Arch, Budget, Space, build, cost, zoo
from searchspace.space.space import ready

KNOWN = (
    "resnet50", "resnext50_32x4d", "mobilenet_v1", "mobilenet_v2", "mnasnet1_0", "mobilenet_v3_large",
    "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny",
    "convnext_isotropic_small", "rexnet_plain", "rexnet_100", "rexnet_lite_100",
)  # fmt: skip
SIDE, BATCH = 64, 8
CLOSE, CLOSE_BFLOAT16 = 1e-3, 0.06  # greatest difference, as a part of the greatest number
CLOSE_STEPS, CLOSE_EPOCHS, CLOSE_WAY = 0.02, 0.1, 0.1  # eager and graphs: losses, and how far weights go
CLOSE_ROUNDED, ALIKE, ALIKE_AT_END = 5e-3, 0.1, 0.25  # losses of other roundings: of step 1, epoch 1, the last epoch
FIRST_STEPS, WAY_STEPS = 20, 10
WARM_TRIALS = 8
MOST_ALLOCATED_MB, MOST_RESERVED_MB = 1.0, 64.0
PACKAGES = ("torchvision", "timm", "ray", "optuna", "fvcore", "datasets", "pydantic", "numpy", "kornia")

Found = dict[str, Any]


def machine(args: argparse.Namespace, note: Note) -> None:
    """What the numbers were measured on, and how fast it copies and multiplies."""
    note({"device": device_name(args.device), "torch": torch.__version__, "cuda": torch.version.cuda})
    note({"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    shared = shutil.disk_usage("/dev/shm").total / 1e9 if Path("/dev/shm").is_dir() else None
    note({"memory GB": round(memory, 1), "/dev/shm GB": shared and round(shared, 2)})
    here = {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    note({"packages": here, "missing": [name for name in PACKAGES if name not in here]})
    note({name: shutil.which(name) is not None for name in ("nvidia-smi", "nvidia-cuda-mps-control")})
    if args.device == "cuda":
        found = torch.cuda.get_device_properties(0)
        smi = ["nvidia-smi", "--query-gpu=driver_version,compute_mode,mig.mode.current", "--format=csv,noheader"]
        said = subprocess.run(smi, capture_output=True, text=True, timeout=20).stdout if shutil.which(smi[0]) else ""
        note({"GPU memory GB": round(found.total_memory / 1e9, 1), "multiprocessors": found.multi_processor_count})
        note({"driver, compute mode, MIG": said.strip(), "cudnn": torch.backends.cudnn.version()})
    note({"copy GB/s, read and written": copied(args), "bfloat16 TFLOP/s": multiplied(args)})


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def copied(args: argparse.Namespace) -> float:
    size = 8_000_000_000 if args.device == "cuda" else 50_000_000
    source = torch.zeros(size, dtype=torch.uint8, device=args.device)
    there = torch.empty_like(source)
    there.copy_(source)
    start = settled(args.device)
    for _ in range(3):
        there.copy_(source)
    return round(3 * 2 * size / (settled(args.device) - start) / 1e9, 1)


def multiplied(args: argparse.Namespace) -> float:
    side, times = (8192, 10) if args.device == "cuda" else (256, 1)
    a, b = (torch.randn(side, side, device=args.device, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(a, b)
    start = settled(args.device)
    for _ in range(times):
        torch.mm(a, b)
    return round(times * 2 * side**3 / (settled(args.device) - start) / 1e12, 3)


def networks(args: argparse.Namespace, note: Note) -> None:
    """The greatest difference of each network from the CPU's float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    few_threads()
    archs = {name: zoo(name, num_classes=10).adapt(10, SIDE) for name in KNOWN[3 : 4 if args.smoke else None]}
    archs |= {} if args.smoke else {name: zoo(name, num_classes=10).adapt(10, SIDE) for name in KNOWN[:3]}
    for name in ["mobile"] if args.smoke else ready():
        space = Space.load(name)
        for seed in range(1 if args.smoke else 3):
            archs[f"{name} {seed}"] = space.sample(seed, Budget.parse("300MFLOPs")).adapt(10, SIDE)
    for number, (name, arch) in enumerate(archs.items()):
        if time.perf_counter() > args.ends:
            note({"left out": f"{len(archs) - number} of {len(archs)} networks: no time left"})
            return
        note({"network": name, **compared(arch, args.device)})


def few_threads() -> None:
    """Other parts are at work too, and threads that wait for a core slow all others down."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 4))


def compared(arch: Arch, device: str) -> Found:
    torch.manual_seed(0)
    model = build(arch).eval()
    x, told = torch.randn(BATCH, 3, SIDE, SIDE), torch.arange(BATCH) % 10

    def gone_through(where: str, lower: bool) -> tuple[Tensor, Tensor]:
        """(logits, gradients of all weights in one row)"""
        model.to(where, memory_format=torch.channels_last).zero_grad()  # type: ignore[call-overload]
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
    return {**{name: float(f"{value:.2e}") for name, value in found.items()}, "passed": same and finite}


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


def training(args: argparse.Namespace, note: Note) -> None:
    """Losses of one training by device, as CUDA graphs with the same layers, and as a trial has them, with this
    project's kernels. On two devices and with other kernels, whose roundings are others, they are alike and not equal:
    a training magnifies what is apart at its first step."""
    few_threads()
    split = load(DataConfig("digits", images=300 if args.smoke else None), seed=0)
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs")).adapt(10, split.resolution)
    plain = replace(recipe("digits"), epochs=1) if args.smoke else recipe("digits")
    rich = TrainConfig(epochs=1 if args.smoke else 3, batch_size=32, ema=0.99, mixup=0.2, label_smoothing=0.1)
    dropped = replace(
        arch,
        head=replace(arch.head, dropout=0.2),
        blocks=tuple(replace(block, drop_path=0.1) for block in arch.blocks),
    )
    graphs = args.device == "cuda"
    for title, network, train in (("SGD", arch, plain), ("AdamW, EMA, mixup, dropout, drop path", dropped, rich)):
        eager = followed(network, split, train, args.device)
        note({"training": title, "way": args.device, **shown(eager)})
        if graphs:
            with patch.object(gpu_layers, "why_not", lambda device: "not wanted"):
                replayed = followed(network, split, train, args.device, graphs=True)
            note({"training": title, "way": "CUDA graphs", **shown(replayed), **as_eager(replayed, eager)})
            own = followed(network, split, train, args.device, graphs=True)
            note({"training": title, "way": "CUDA graphs, own kernels", **shown(own), **alike(own, eager)})
        if network is arch and args.device != "cpu":
            cpu = followed(network, split, train, "cpu")
            note({"training": title, "way": "cpu", **shown(cpu), **alike(cpu, eager)})
    note({"passed": True} if graphs else {"passed": True, "left out": "CUDA graphs: no GPU"})


def followed(arch: Arch, split: Split, train: TrainConfig, device: str, graphs: bool = False) -> Found:
    """Losses of the first steps and of all epochs, and where the weights are before and after some steps."""
    torch.manual_seed(0)
    run = Training(build(arch), split, train, 0, device, graphs=graphs)
    found: Found = {"steps": [], "start": weights(run.model)}

    def each(number: int, loss: Tensor) -> None:
        if number <= FIRST_STEPS:
            found["steps"].append(loss.detach().clone())
        if number == WAY_STEPS:
            found["end"] = weights(run.model)

    why_not = watch(run, each)
    found["epochs"] = [epoch.train_loss for epoch in run]
    found["steps"] = [float(loss) for loss in found["steps"]]
    found["why no graphs"] = why_not()
    return found


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().float().flatten() for p in model.parameters()])


def shown(found: Found) -> Found:
    return {
        "losses of steps": [round(loss, 4) for loss in found["steps"]],
        "losses of epochs": [round(loss, 4) for loss in found["epochs"]],
    }


def alike(one: Found, eager: Found) -> Found:
    """How far apart trainings of other roundings are."""
    step = abs(one["steps"][0] / eager["steps"][0] - 1)
    epochs = [abs(a / b - 1) for a, b in zip(one["epochs"], eager["epochs"], strict=True)]
    found = {"first step apart": step, "epoch 1 apart": epochs[0], "last epoch apart": epochs[-1]}
    close = step < CLOSE_ROUNDED and epochs[0] < ALIKE and epochs[-1] < ALIKE_AT_END
    why = one["why no graphs"]
    return {**{name: round(value, 5) for name, value in found.items()}, "passed": close and not why}


def as_eager(graphs: Found, eager: Found) -> Found:
    """How far apart two ways to carry out the same steps are. A rate that a graph had kept would show in the way that
    weights have gone: it rises at every one of these steps."""
    steps = median(abs(a / b - 1) for a, b in zip(graphs["steps"], eager["steps"], strict=True))
    epochs = max(abs(a / b - 1) for a, b in zip(graphs["epochs"], eager["epochs"], strict=True))
    way = float((graphs["end"] - graphs["start"]).norm() / (eager["end"] - eager["start"]).norm())
    ends = float((graphs["end"] - eager["end"]).norm() / (eager["end"] - eager["start"]).norm())
    close = steps < CLOSE_STEPS and epochs < CLOSE_EPOCHS and abs(way - 1) < CLOSE_WAY
    found = {"steps apart": steps, "epochs apart": epochs, "way of weights": way, "weights apart": ends}
    why = graphs["why no graphs"]
    told = {name: round(value, 5) for name, value in found.items()}
    return {**told, "why no graphs": why, "passed": close and not why}


def oom(args: argparse.Namespace, note: Note) -> None:
    """What a trial does wrong is its outcome, and the next one in the process trains."""
    from nas.workers import evaluate

    if importlib.util.find_spec("fvcore") is None:
        note({"left out": "the audit of trials: needs fvcore"})
        evaluate.audit = lambda *of: None
    cuda, split = args.device == "cuda", load(DataConfig("digits", images=200 if args.smoke else 600), seed=0)
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs" if args.smoke else "300MFLOPs"))
    train = TrainConfig(epochs=1 if args.smoke else 2, batch_size=32)
    if cuda:
        last = trial(zoo("resnet50"), noise(1024, SIDE), replace(train, batch_size=512), args.device, share=0.01)
        note({"trial": "in a hundredth of the memory", **ended(last), "passed": "out of memory" in last.error})
    else:
        note({"left out": "out of memory: no GPU"})
    last = trial(arch, split, train, args.device)
    note({"trial": "the next one", **ended(last), "passed": well(last) and not without_graphs(last)})

    def waiting(what: Arch, *rest: Any, **more: Any) -> nn.Module:
        """A network that waits for the GPU, where it is the trained one."""
        model = build(what, *rest, **more)
        if what.resolution == split.resolution:
            model.register_forward_pre_hook(wait)
        return model

    with patch.object(evaluate, "build", waiting):
        last = trial(arch, split, train, args.device)
    said = well(last) and (bool(without_graphs(last)) or not cuda)
    note({"trial": "with .item() in forward", **ended(last), "passed": said})
    last = trial(arch, split, train, args.device)
    note({"trial": "the one after", **ended(last), "passed": well(last) and not without_graphs(last)})


def wait(module: nn.Module, inputs: tuple[Tensor]) -> None:
    inputs[0].sum().item()


def trial(arch: Arch, split: Split, train: TrainConfig, device: str, share: float = 1.0) -> Result:
    """The last result of a trial as a worker carries it out."""
    from nas.workers.evaluate import Context, brief_training, guard

    context = Context(split, device, 0, train.epochs, train=train, gpu_share=share, graphs=device == "cuda")
    try:
        *_, last = guard(Trial(0, arch, cost(arch), "search"), context, brief_training)
    except Exception as error:  # a worker would be replaced
        return Result(error=f"the process is lost: {type(error).__name__}: {error}"[:300])
    return last


def well(result: Result) -> bool:
    return not result.error and result.last


def without_graphs(result: Result) -> str:
    """Why a trial was trained without CUDA graphs."""
    return str(getattr(result, "note", ""))


def ended(result: Result) -> Found:
    found = {"error": result.error, "note": without_graphs(result)}
    return {**found, "epochs": result.epoch, "seconds of it": round(result.seconds, 2)}


def memory(args: argparse.Namespace, note: Note) -> None:
    """Megabytes that stay after each of some trials in one process, every other as CUDA graphs."""
    torch.set_num_threads(1)
    split = load(DataConfig("digits", images=200 if args.smoke else 600), seed=0)
    number, seen = 2 if args.smoke else args.trials, list[Found]()
    for seed in range(number):
        if time.perf_counter() > args.ends:
            note({"left out": f"{number - seed} of {number} trials: no time left"})
            break
        graphs = args.device == "cuda" and seed % 2 == 1
        train = TrainConfig(epochs=1, batch_size=64)
        for _ in fit(mobile(seed, split.resolution), split, train, 0, args.device, graphs=graphs):
            pass
        seen.append(kept(args.device))
        note({"trial": seed + 1, "graphs": graphs, **seen[-1]})
    if args.device != "cuda" or len(seen) <= WARM_TRIALS:
        note({"left out": "growth: no GPU" if args.device != "cuda" else "growth: too few trials"})
        return
    grown = {name: round(seen[-1][name] - seen[WARM_TRIALS - 1][name], 2) for name in seen[-1]}
    passed = grown["allocated MB"] < MOST_ALLOCATED_MB and grown["reserved MB"] < MOST_RESERVED_MB
    note({"trials": len(seen), "growth since": WARM_TRIALS, **grown, "passed": passed})


def kept(device: str) -> Found:
    """What this process holds when nothing is needed of it. `used` is of all processes on the GPU."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {"host MB": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)}
    if device == "cuda":
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        found |= {
            "allocated MB": torch.cuda.memory_allocated() / 1e6,
            "reserved MB": torch.cuda.memory_reserved() / 1e6,
        }
        found |= {"used MB": (total - free) / 1e6}
    return found
