"""The options of `python -m nas.search`, and the configuration that they say."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import replace
from pathlib import Path

from nas.config import SCORES, Conduct, DataConfig, Identity, Prescreen, SearchConfig, TrainConfig, recipe
from nas.objectives import CURRENCIES, check
from nas.samplers import SAMPLERS, Predictor
from searchspace import command
from searchspace.budget import Budget
from searchspace.errors import InputError
from searchspace.space import FIT_BAND, Space, ready

MAX_CONTROLS = 32
DESCRIPTION = "`python -m nas.search --budget 300MFLOPs`: from a budget to a network that builds."
EPILOG = """One FLOP is one multiply-add of a convolution or linear layer, at the deployment resolution and classes.
The same command on the same run folder carries on; --trials is a total.
Exit codes: 0 done or out of time, 1 failed, 2 wrong command, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."""


def parser() -> command.Parser:
    p = command.Parser(prog="nas.search", description=DESCRIPTION, epilog=EPILOG)
    p.set_defaults(command="")
    p.add_argument(
        "--budget",
        action="append",
        required=True,
        metavar="B",
        help="300MFLOPs, 5MParams, 12ms, 250-300MFLOPs; several",
    )
    p.add_argument("--space", default="mobile", help=f"{', '.join(ready())} or a YAML file (default: mobile)")
    p.add_argument("--dataset", default="digits", help="digits, a folder, or a Hugging Face name (default: digits)")
    p.add_argument("--images", type=int, help="use so many of its training images, of every class its share (all)")
    p.add_argument("--resolution", type=int, help="deployment resolution in pixels (default: the space's, 224)")
    p.add_argument("--num-classes", type=int, help="deployment classes (default: the space's, 1000)")
    p.add_argument(
        "--trials", type=int, default=Conduct().trials, help=f"total of the run (default: {Conduct().trials})"
    )
    p.add_argument(
        "--epochs", type=int, help="of a trial that is not stopped early; below 4 none is (default: digits 6, others 4)"
    )
    p.add_argument("--batch-size", type=int, help="training images a step (default: digits 32, others 64)")
    p.add_argument("--train-resolution", type=int, help="pixels trained at (default: the images' own, 16 to 64)")
    p.add_argument("--sampler", default="auto", help=f"{', '.join(SAMPLERS)} (default: auto, which is predictor)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--band", type=float, default=100 * FIT_BAND, help="use at least this percentage of the budget (97)")
    p.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE", help="fix a choice: stage3.block=mbconv")
    p.add_argument("--without", default="", metavar="WORDS", help="leave options out: se,silu")
    p.add_argument("--no-baselines", action="store_true", help="leave out the known networks that a search begins with")
    p.add_argument(
        "--minimize", action="append", default=[], metavar="COST", help=f"beside accuracy, {', '.join(CURRENCIES)}"
    )
    p.add_argument(
        "--warm-start", action="append", default=[], metavar="RUN", help="learn from an earlier run; several"
    )
    p.add_argument("--prescreen", type=int, default=1, metavar="N", help="train the best of N proposals (default: 1)")
    p.add_argument(
        "--prescreen-by",
        default=Prescreen().by,
        metavar="SCORE",
        help=f"best by {', '.join(SCORES)} (default: {Prescreen().by})",
    )
    p.add_argument("--run", type=Path, help="run folder (default: runs/SPACE-BUDGET-DATASET)")
    p.add_argument("--concurrent", type=int, help="trials at once (default: one a GPU, or one a CPU core)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--gpus-per-trial", type=float, default=1.0)
    p.add_argument(
        "--cuda-graphs", action="store_true", help="replay training steps as CUDA graphs (off: not yet measured)"
    )
    p.add_argument("--time-limit", metavar="T", help="90s, 30m, 2h: then stop; the same command carries on")
    p.add_argument("--trial-timeout", metavar="T", help="a trial that takes longer has failed")
    p.add_argument("--ray-address", help="join a running Ray cluster")
    p.add_argument(
        "--storage",
        default="",
        metavar="URL",
        help="keep the study in a server: postgresql+psycopg://USER@HOST/DATABASE",
    )
    p.add_argument("--latency-table", type=Path, metavar="FILE", help="layer times of another device, by nas.measure")
    p.add_argument("--dry-run", action="store_true", help="show what would run and how long it would take")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    return p


def configured(args: argparse.Namespace) -> SearchConfig:
    """The configuration that the arguments say; raises `InputError` where they are wrong."""
    for name in ("trials", "epochs", "batch_size", "train_resolution", "resolution", "num_classes", "concurrent"):
        number = getattr(args, name)
        if number is not None and number < 1:
            raise InputError(f"{name.replace('_', '-')}: at least 1, not {number}")
    if args.images is not None and args.images < 2:
        raise InputError(f"images: at least 2, not {args.images}")
    if not 0 < args.band <= 100:
        raise InputError(f"band: a percentage above 0 and at most 100, not {args.band:g}")
    if not args.gpus_per_trial > 0:
        raise InputError(f"gpus-per-trial: above 0, not {args.gpus_per_trial:g}")
    if args.sampler not in SAMPLERS:
        raise InputError(f"sampler {args.sampler!r}: {', '.join(SAMPLERS)} is accepted")
    if args.warm_start and SAMPLERS[args.sampler] is not Predictor:
        raise InputError(f"warm-start: teaches the sampler predictor (or auto), not {args.sampler}")
    try:
        prescreen = Prescreen(args.prescreen, args.prescreen_by)
    except ValueError as error:
        raise InputError(str(error)) from None
    if args.prescreen > 1 and args.minimize:
        raise InputError("prescreen: a score says nothing of accuracy at another cost; not with --minimize")
    if args.warm_start and args.minimize:
        raise InputError("minimize: a warm start teaches accuracy alone; give one of the two")
    budget = Budget.parse(args.budget)
    space = Space.load(args.space)
    deployment = {"resolution": args.resolution, "num_classes": args.num_classes}
    space = space.fix(f"{name}={number}" for name, number in deployment.items() if number is not None)
    space = space.fix(args.fix).without(word for word in args.without.split(",") if word)
    identity = Identity(
        space=space.data,
        budget=tuple(str(limit) for limit in budget.limits),
        data=DataConfig(args.dataset, images=args.images),
        train=trained(args),
        sampler=args.sampler,
        seed=args.seed,
        band=args.band / 100,
        minimize=check(args.minimize),
        warm_start=tuple(args.warm_start),
        prescreen=prescreen if prescreen.draws > 1 else Prescreen(),
        controls=min(MAX_CONTROLS, math.ceil(args.trials / 4)),
        baselines=0 if args.no_baselines else args.trials // 4,
    )
    conduct = Conduct(
        trials=args.trials,
        concurrent=args.concurrent,
        device=args.device,
        gpus_per_trial=args.gpus_per_trial,
        cuda_graphs=args.cuda_graphs,
        time_limit_s=duration("time-limit", args.time_limit),
        trial_timeout_s=duration("trial-timeout", args.trial_timeout),
        ray_address=args.ray_address,
        command=args.command,
    )
    return SearchConfig(identity, conduct, space.source)


def trained(args: argparse.Namespace) -> TrainConfig:
    given = {"epochs": args.epochs, "batch_size": args.batch_size, "resolution": args.train_resolution}
    return replace(recipe(args.dataset), **{name: number for name, number in given.items() if number is not None})


def default_name(args: argparse.Namespace) -> str:
    parts = [Path(args.space).stem, str(Budget.parse(args.budget)), Path(args.dataset).name]
    if args.seed:
        parts.append(f"seed{args.seed}")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")


def duration(name: str, text: str | None) -> float | None:
    """Seconds of 90s, 30m, 2h; None of nothing."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9.]+)([smh])", text.strip())
    try:
        seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InputError(f"{name} {text!r}: 90s, 30m or 2h is accepted")
    return seconds
