"""The options of `python -m nas.search`, and the configuration that they say."""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import (
    CURRENCIES,
    FEWEST_TRIALS,
    FINALISTS,
    LARGEST,
    LEAST_PIXELS,
    OWN_DATA,
    SCORES,
    TRIALS_PER_FINALIST,
    DataConfig,
    Execution,
    Prescreen,
    SearchConfig,
    SearchSpec,
    base_of,
    recipe,
    trial_epochs,
)
from nas.metric import EXAMPLES, Metric
from nas.plugins import plugins_in_use
from nas.samplers import NAMES
from searchspace import command
from searchspace.budget import BYTES, DTYPES, Budget
from searchspace.errors import InputError
from searchspace.registry.plugins import load_all, plugin_option
from searchspace.space.deployment import deployments
from searchspace.space.space import ARENA_BAND, FIT_BAND, Space, band_of, ready
from searchspace.space.target import RULES as TARGET_RULES
from searchspace.space.target import SPACE as TARGET_SPACE
from searchspace.space.target import Target, boards

if TYPE_CHECKING:
    from nas.data.datasets import Split

PATHS = ("warm_start", "plugin")
LISTS = ("fix", "minimize", "warm_start", "track", "plugin")
SMALLEST = 16
# Far beyond what anybody needs, and small enough that nothing overflows.
MOST = {
    **dict.fromkeys(("trials", "epochs", "batch_size", "concurrent", "prescreen", "finalists"), 10**6),
    **{"train_resolution": 4096, "gpus_per_trial": 1000},
}
TAUGHT = ("auto", "predictor")  # the samplers that a warm start teaches
# The options whose value is no text, and no list of them.
KINDS: dict[str, type] = {
    **dict.fromkeys(("images", "num_classes", "trials", "epochs", "batch_size", "train_resolution", "seed"), int),
    **dict.fromkeys(("prescreen", "concurrent", "finalists"), int),
    **dict.fromkeys(("band", "data_range"), float),
    **dict.fromkeys(("flip", "skip_bad", "no_baselines", "no_prior"), bool),
    **dict.fromkeys(("early_stopping", "cuda_graphs", "mps", "dry_run", "quiet"), bool),
}
SWITCHES = ("skip_bad", "no_baselines", "no_prior")  # options without an opposite: False is what is usual
SPACE = "mobile"
CLUSTER = r"auto|local|(ray://)?(\[[0-9a-fA-F:.]+\]|[^\s:/]+):[0-9]{1,5}"  # an address that Ray can join
DEVICES = ("auto", "cpu", "cuda")
TRACKERS = ("mlflow", "tensorboard", "wandb")
EXAMPLE = "python -m nas.search --budget 300MFLOPs --dataset path/to/images"
DESCRIPTION = "`python -m nas.search --budget 300MFLOPs`: from a budget to a network that builds."
EPILOG = """One FLOP is one multiply-add of a convolution or linear layer, at the deployment resolution and classes.
The same command on the same run folder carries on; --trials is a total. A run keeps what it began with: an option of
what is searched, trained and scored, and how long, that is not given then is the run's, whatever its default. Where and
how fast it is carried out (--device, --concurrent, --gpus-per-trial, --no-mps, --no-cuda-graphs, --ray-address), and
--time-limit, are each command's own.
Exit codes: 0 done or out of time, 1 failed, 2 wrong command, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."""


def parser() -> command.Parser:
    """Options that make a search what it is (its `Identity`) are None where they are not given: a run may know them."""
    p = command.Parser(
        prog="nas.search",
        description=DESCRIPTION,
        epilog=EPILOG,
        example=EXAMPLE,
        elsewhere={"--full-epochs": "nas.deploy, which trains the best network in full,"},
    )
    p.set_defaults(command="")
    p.add_argument(
        "--budget",
        action="append",
        metavar="B",
        help="300MFLOPs, 5MParams, 12ms, 250-300MFLOPs, 64kB (memory), 256kBFlash (weights); several",
    )
    p.add_argument("--dtype", choices=tuple(DTYPES), help="the numbers that budgets in bytes are of (default: float32)")
    p.add_argument(
        "--target",
        metavar="BOARD",
        help=f"{', '.join(boards())} or a YAML file: int8, within its RAM and flash, in space {TARGET_SPACE}, "
        f"--deploy {TARGET_RULES}",
    )
    p.add_argument("--space", help=f"{', '.join(ready())} or a YAML file (default: {SPACE})")
    p.add_argument(
        "--dataset", type=os.path.expanduser, help="digits, a folder, or a Hugging Face name (default: digits)"
    )
    p.add_argument("--images", type=int, help="use so many of its training images, of every class its share (all)")
    image_options(p)
    plugin_option(p)
    p.add_argument(
        "--resolution",
        type=resolutions,
        metavar="PX[,PX…]",
        help="deployed at so many pixels (default: the space's, 224); several are searched",
    )
    p.add_argument("--num-classes", type=int, help="deployment classes (default: the dataset's)")
    p.add_argument(
        "--trials",
        type=int,
        help=f"total of the run (default: {Execution().trials}; of a run that exists its own)",
    )
    p.add_argument(
        "--epochs",
        type=int,
        help="of a trial that is not stopped early; below 4 none is (default: by the number of images, 4 to 20)",
    )
    p.add_argument(
        "--finalists",
        type=int,
        metavar="K",
        help="train the best K networks again, longer, beside the best textbook networks, and name the best of these "
        f"(default: one per {TRIALS_PER_FINALIST} trials, at most {FINALISTS}; of fewer than {FEWEST_TRIALS} none)",
    )
    p.add_argument(
        "--early-stopping",
        action=argparse.BooleanOptionalAction,
        help="after a third of its epochs a trial goes on only where it may be among the best third (on)",
    )
    p.add_argument("--batch-size", type=int, help="training images a step (default: digits 32, others 64)")
    p.add_argument("--train-resolution", type=int, help="pixels trained at (default: the images' own, 16 to 64)")
    p.add_argument("--sampler", help=f"{', '.join(NAMES)} or MODULE:FUNCTION (default: auto, which is predictor)")
    p.add_argument("--seed", type=int, help="of the split, the proposals and training (default: 0)")
    p.add_argument(
        "--band",
        type=float,
        help=f"use at least this percentage of the budget ({100 * FIT_BAND:g}; of an int8 arena {100 * ARENA_BAND:g})",
    )
    p.add_argument("--fix", action="append", metavar="NAME=VALUE", help="fix a choice: stage3.block=mbconv")
    p.add_argument("--without", metavar="WORDS", help="leave options out: se,silu")
    p.add_argument(
        "--deploy",
        metavar="RULES",
        help=f"only networks that keep to a compiler's rules: {', '.join(deployments())} or a YAML file",
    )
    p.add_argument(
        "--no-baselines",
        action="store_true",
        default=None,
        help="leave out the textbook networks that a search begins with",
    )
    p.add_argument(
        "--minimize", action="append", metavar="COST", help=f"beside the metric, {', '.join(CURRENCIES)} or your own"
    )
    p.add_argument(
        "--no-prior",
        action="store_true",
        default=None,
        help="begin without what earlier searches on other datasets have taught, which ships for space mobile",
    )
    p.add_argument("--warm-start", action="append", metavar="RUN", help="learn from an earlier run; several")
    p.add_argument("--prescreen", type=int, metavar="N", help="train the best of N proposals (default: 1)")
    p.add_argument(
        "--prescreen-by",
        metavar="SCORE",
        help=f"best by {', '.join(SCORES)} (default: {Prescreen().by})",
    )
    p.add_argument(
        "--metric", help=f"what is scored: {', '.join(EXAMPLES)} or another of scikit-learn's (default: {EXAMPLES[0]})"
    )
    p.add_argument(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        help="train by a function of your own: a generator (trial, context) that yields a score after every epoch",
    )
    p.add_argument("--track", action="append", choices=TRACKERS, help="also log every trial there; several")
    p.add_argument("--run", type=command.path, help="run folder (default: runs/SPACE-BUDGET-DATASET)")
    p.add_argument("--concurrent", type=int, help="trials at once (default: as many as fit, or one a CPU core)")
    p.add_argument("--device", choices=DEVICES, default="auto")
    p.add_argument(
        "--gpus-per-trial",
        type=gpus,
        metavar="SHARE",
        help="a part of a GPU, whole ones, or auto: 1/4 at up to 64 px (1/8 with MPS and 12 cores a GPU), 1/2 at up to "
        "128 px, else 1; 1 for --evaluate (auto)",
    )
    p.add_argument(
        "--cuda-graphs",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replay training steps as CUDA graphs on a GPU (on)",
    )
    p.add_argument(
        "--mps",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="trials that share a GPU run side by side, where nvidia-cuda-mps-control is installed (on)",
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
    p.add_argument(
        "--latency-table", type=command.path, metavar="FILE", help="layer times of another device, by nas.measure"
    )
    p.add_argument("--dry-run", action="store_true", help="show what would run and how long it would take")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    return p


def image_options(p: command.Parser) -> None:
    """How the images of a dataset are read, for a search and a training alike."""
    p.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="mirror training images at random (default: unless the classes' names speak of sides, digits or text)",
    )
    p.add_argument(
        "--skip-bad", action="store_true", default=None, help="leave out images that cannot be read, and say which"
    )
    p.add_argument(
        "--data-range",
        type=float,
        metavar="MAX",
        help="white in images of 16 or 32 bits and floats (default: 65535 of whole numbers, 1 of floats)",
    )


def config_from_args(args: argparse.Namespace, space: Space | None = None, split: Split | None = None) -> SearchConfig:
    """The configuration of a new search; raises `InputError` where the arguments are wrong.

    `space` and `split` take the place of what `--space` and `--dataset` name, where Python has them.
    """
    from nas.study.design import number_of_baselines, number_of_controls

    check(args)
    own = OWN_DATA if args.evaluate and split is None and args.dataset is None else None
    dataset, trials = own or args.dataset or DataConfig().dataset, args.trials or Execution().trials
    base = space or Space.load(args.space or SPACE)
    data = image_config(args, DataConfig(dataset, spare=split is None))
    classes, images = sizes_of(dataset, data, split)
    space = space_of(args, base, classes)
    identity = SearchSpec(
        space=space.data,
        largest=max(SMALLEST, min(LARGEST, space.resolutions[-1])),
        budget=(),
        band=band_of(Budget.parse(args.budget)),
        data=data,
        train=replace(recipe(dataset), epochs=trial_epochs(images)),
        controls=number_of_controls(trials),
        baselines=number_of_baselines(trials),
    )
    identity = apply(args, identity)
    taught = identity.sampler in TAUGHT and not (identity.minimize or identity.evaluate or args.no_prior)
    prior, horizon = taught and not identity.warm_start, taught and Budget.parse(args.budget).counts_macs
    return SearchConfig(replace(identity, prior=prior, horizon=horizon), conduct(args), base.source)


def with_budget_of(args: argparse.Namespace, old: SearchConfig | None) -> argparse.Namespace:
    """The options, with the budget of a run that exists where its command leaves it out."""
    if old is None or args.budget or args.target is not None:
        return args
    budget, command = list(old.identity.budget), args.command
    if command:
        command = shlex.join([*shlex.split(command), *(f"--budget={amount}" for amount in budget)])
    return argparse.Namespace(**{**vars(args), "budget": budget, "command": command})


def settle_budget(args: argparse.Namespace) -> argparse.Namespace:
    """The options with what `--target` and `--dtype` mean written into the budget and the space.

    A limit that is given takes the place of the board's. Networks for a board, and of the space for boards, keep to a
    microcontroller's rules, textbook networks too, unless other rules are given. `InputError` where nothing limits
    anything.
    """
    if args.target is None and not args.budget:
        raise InputError("--budget or --target is missing, as in: python -m nas.search --budget 300MFLOPs")
    settled = argparse.Namespace(**vars(args))
    if args.target is not None or args.space == TARGET_SPACE:
        settled.deploy = args.deploy or TARGET_RULES
    if args.target is None and args.dtype is None:
        return settled
    given = Budget.parse(args.budget).limits if args.budget else ()
    if args.target is not None:
        board = Target.load(args.target)
        if args.dtype not in (None, "int8"):
            raise InputError(f"dtype {args.dtype}: networks for {args.target} are int8")
        bytes_given = any(limit.currency in BYTES for limit in given)
        given = (Budget(given).of_dtype("int8") if bytes_given else Budget(given)).limits if given else ()
        limited = {limit.currency for limit in given}
        given = (*given, *(limit for limit in board.budget.limits if limit.currency not in limited))
        settled.space = args.space or TARGET_SPACE
    else:
        given = Budget(given).of_dtype(args.dtype).limits
    settled.budget = [str(limit) for limit in given]
    return settled


def from_python(given: Mapping[str, Any]) -> argparse.Namespace:
    """The options of the command from keywords; `InputError` for one that it has not. None is what is not given."""
    args = parser().parse_args(["--budget", "1MFLOPs"])
    known = {name for name in vars(args) if name != "command"}
    load_all(_words("plugin", given.get("plugin") or ()))  # before the budget, which may be in a cost of theirs
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise InputError(
                f"search has no option {name}=; " + (f"did you mean {near[0]}=?" if near else "see Run.search")
            )
        if value is False and name in SWITCHES:
            continue
        if value is not None or (name == "budget" and not given.get("target")):
            setattr(args, name, _as_written(name, value))
        elif name == "budget":
            args.budget = None
    args.command = " ".join(["python -m nas.search", *words_of(args)])
    return args


def _as_written(name: str, value: Any) -> Any:
    """A keyword's value as the command's parser gives it."""
    if name == "budget":
        return [str(limit) for limit in Budget.parse(value).limits]
    if name == "fix" and isinstance(value, Mapping):
        return [f"{key}={one}" for key, one in value.items()]
    if name in LISTS:
        return _words(name, value)
    if name == "without":
        return value if isinstance(value, str) else ",".join(_words(name, value))
    if name == "resolution":
        return _pixels(value)
    if name in ("time_limit", "trial_timeout") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value}s"
    if name == "gpus_per_trial" and not isinstance(value, bool) and isinstance(value, (int, float, str)):
        try:
            return gpus(str(value))
        except argparse.ArgumentTypeError as error:
            raise InputError(f"gpus_per_trial: {error}") from None
    if name in ("run", "latency_table", "space", "dataset"):
        if not isinstance(value, (str, Path)):
            raise InputError(f"{'folder' if name == 'run' else name}: a path or a text is accepted, not {value!r}")
        path = os.path.expanduser(str(value))
        return Path(path) if name in ("run", "latency_table") else path
    wanted = KINDS.get(name, str)
    if isinstance(value, bool) != (wanted is bool) or not isinstance(
        value, (wanted, int) if wanted is float else wanted
    ):
        what = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}[wanted]
        raise InputError(f"{name}: {what} is accepted, not {value!r}")
    return value


def _words(name: str, value: Any) -> list[str]:
    """One text, or several."""
    several = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(several, (list, tuple)) or not all(isinstance(one, (str, Path)) for one in several):
        raise InputError(f"{name}: a text or a list of texts is accepted, not {value!r}")
    return [os.path.expanduser(str(one)) if name in PATHS else str(one) for one in several]


def _pixels(value: Any) -> tuple[int, ...]:
    """One resolution, or several, as a whole number, a list or a text."""
    try:
        if isinstance(value, str):
            return resolutions(value)
        several = (value,) if isinstance(value, int) and not isinstance(value, bool) else tuple(value)
        return resolutions(",".join(map(str, several)))
    except (TypeError, argparse.ArgumentTypeError):
        raise InputError(f"resolution: pixels, or a list of several, are accepted, not {value!r}") from None


def words_of(args: argparse.Namespace) -> list[str]:
    """The words of a command that would give these options."""
    usual = vars(parser().parse_args(["--budget", "1MFLOPs"]))
    words = []
    for name, value in vars(args).items():
        if name in ("command", "quiet", "dry_run") or (value == usual[name] and name != "budget"):
            continue
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{name.replace('_', '-')}")
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        values = text if isinstance(text, list) else [text]
        words += [f"{flag}={one}" for one in values]
    return [shlex.quote(word) for word in without_password(words, args.storage)]


def without_password(words: Sequence[str], address: str) -> list[str]:
    """The words of a command without the password of a server's address; `InputError` where it is no address."""
    if not address:
        return list(words)
    from nas.study.passwords import words_without_password  # SQLAlchemy is slow to import

    return words_without_password(words, address)


def name_of(what: str, given: Any) -> str | None:
    """How a function is called where it is kept: `module:function`; a text stays."""
    if given is None or isinstance(given, str):
        return given
    if not callable(given):
        raise InputError(f"{what}: a function or module:function is accepted, not {given!r}")
    named = getattr(given, "__qualname__", type(given).__qualname__)
    return f"{getattr(given, '__module__', None) or type(given).__module__}:{named}"


def function(what: str, text: str) -> Any:
    """The function that `module:function` names."""
    module, _, name = text.partition(":")
    found: Any
    try:
        found = importlib.import_module(module)
    except Exception as error:
        said = next(iter(str(error).splitlines()), "no reason given")[:160]
        raise InputError(
            f"{what} {text}: {module or 'no module'} cannot be imported ({type(error).__name__}: {said})"
        ) from None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"{what} {text}: {module} has no such function; from Python, {what}= takes it itself")
    return found


def check_evaluate(given: Any) -> None:
    """`InputError` for a training that cannot be called with a trial and its context."""
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # of what is not written in Python
        return
    try:
        signature.bind("trial", "context")
    except TypeError as error:
        takes = f"{name_of('evaluate', given)}({', '.join(signature.parameters)})"
        raise InputError(f"evaluate: a function of (trial, context) is accepted, not {takes}: {error}") from None


def check(args: argparse.Namespace) -> None:
    """`InputError` where a number or a word is none that is accepted, or options do not go together."""
    for name in ("trials", "epochs", "batch_size", "train_resolution", "num_classes", "concurrent"):
        number, least = getattr(args, name), LEAST_PIXELS if name == "train_resolution" else 1
        if number is not None and number < least:
            raise InputError(f"{name.replace('_', '-')}: at least {least}, not {number}")
    for name, most in MOST.items():
        number = getattr(args, name)
        if number is not None and number > most:
            raise InputError(f"{name.replace('_', '-')}: at most {most:,}, not {number}")
    if args.finalists is not None and args.finalists < 0:
        raise InputError(f"finalists: at least 0, not {args.finalists}")
    if args.finalists and args.minimize:
        raise InputError("finalists: a front is not one network; not with --minimize")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise InputError(f"seed: from 0 to {2**32 - 1}, not {args.seed}")
    if args.images is not None and args.images < 2:
        raise InputError(f"images: at least 2, not {args.images}")
    if args.band is not None and not 0 < args.band <= 100:
        raise InputError(f"band: a percentage above 0 and at most 100, not {args.band:g}")
    share = args.gpus_per_trial
    if share is not None and (not share > 0 or (share > 1 and share != int(share))):
        raise InputError(f"gpus-per-trial: auto, a part above 0 or a whole number is accepted, not {share:g}")
    if args.sampler is not None and args.sampler not in NAMES and ":" not in args.sampler:
        raise InputError(f"sampler {args.sampler!r}: {', '.join(NAMES)} or module:function is accepted")
    for name in args.track or ():
        if name not in TRACKERS:
            raise InputError(f"track {name!r}: {', '.join(TRACKERS)} is accepted")
    if args.device not in DEVICES:
        raise InputError(f"device {args.device!r}: {', '.join(DEVICES)} is accepted")
    duration("time-limit", args.time_limit)
    duration("trial-timeout", args.trial_timeout)
    if args.ray_address is not None and not re.fullmatch(CLUSTER, args.ray_address):
        raise InputError(f"ray-address {args.ray_address!r}: HOST:PORT, ray://HOST:PORT or auto is accepted")
    if args.evaluate is not None and ":" not in args.evaluate:
        raise InputError(f"evaluate {args.evaluate!r}: module:function is accepted")


def apply(args: argparse.Namespace, base: SearchSpec) -> SearchSpec:
    """An identity with what the arguments give; what they do not give stays. The space is not among it."""
    prescreen = {"draws": args.prescreen, "by": args.prescreen_by}
    try:
        screened = replace(base.prescreen, **drop_unset(prescreen))
    except ValueError as error:
        raise InputError(str(error)) from None
    if args.prescreen_by is not None and args.prescreen is None and screened.draws == 1:
        raise InputError("prescreen-by: says how proposals are chosen of several; give --prescreen 8 too")
    from nas.study import objectives

    said = {
        "budget": None if args.budget is None else tuple(str(limit) for limit in Budget.parse(args.budget).limits),
        "sampler": args.sampler,
        "seed": args.seed,
        "band": None if args.band is None else args.band / 100,
        "minimize": None if args.minimize is None else objectives.check(args.minimize),
        "warm_start": None if args.warm_start is None else tuple(args.warm_start),
        "metric": None if args.metric is None else Metric.of(args.metric),
        "evaluate": args.evaluate,
        "prior": False if args.no_prior else None,
        "baselines": 0 if args.no_baselines else None,
    }
    training = {"epochs": args.epochs, "batch_size": args.batch_size, "resolution": args.train_resolution}
    identity = replace(
        base,
        data=image_config(args, base.data),
        train=replace(base.train, **drop_unset(training)),
        prescreen=screened if screened.draws > 1 else Prescreen(),
        **drop_unset(said),
    )
    check_together(identity)
    return identity


def image_options_of(args: argparse.Namespace) -> DataConfig:
    """How a dataset that Python gives is split and mirrored."""
    return image_config(args, DataConfig())


def image_config(args: argparse.Namespace, base: DataConfig) -> DataConfig:
    if args.dataset is not None and not args.dataset.strip():
        raise InputError("dataset: digits, a folder or a Hugging Face name is accepted, not an empty text")
    given = {name: getattr(args, name) for name in ("dataset", "images", "flip", "skip_bad", "data_range")}
    if args.dataset is not None:
        given["base"] = base_of(args.dataset)
    try:
        return replace(base, **drop_unset(given))
    except ValueError as error:
        raise InputError(str(error)) from None


def drop_unset(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def check_together(identity: SearchSpec) -> None:
    """`InputError` where parts of an identity do not go together."""
    if identity.warm_start and identity.sampler not in TAUGHT:
        raise InputError(f"warm-start: teaches the sampler predictor (or auto), not {identity.sampler}")
    if identity.prescreen.draws > 1 and identity.minimize:
        raise InputError("prescreen: a score says nothing of the metric at another cost; not with --minimize")
    if identity.warm_start and identity.minimize:
        raise InputError("minimize: a warm start teaches scores alone; give one of the two")


def conduct(args: argparse.Namespace) -> Execution:
    return Execution(
        trials=args.trials or Execution().trials,
        finalists=args.finalists,
        early_stopping=args.early_stopping is not False,
        concurrent=args.concurrent,
        device=args.device,
        gpus_per_trial=args.gpus_per_trial,
        cuda_graphs=args.cuda_graphs,
        mps=args.mps,
        time_limit_s=duration("time-limit", args.time_limit),
        trial_timeout_s=duration("trial-timeout", args.trial_timeout),
        ray_address=args.ray_address,
        plugins=plugins_in_use(),
        command=args.command,
    )


def space_of(args: argparse.Namespace, space: Space, found: int) -> Space:
    """The space as the arguments narrow it, for as many classes as they say, or the file of somebody's own, or were
    found in the dataset."""
    classes = args.num_classes
    if by_dataset(args, space) and found:
        classes = found
    if classes is not None:
        space = space.fix([f"num_classes={classes}"])
    if args.resolution is not None:
        space = space.at_resolutions(args.resolution)
    space = narrow(space, args.fix, args.without, args.deploy)
    if space.network.num_classes < 2:
        raise InputError(f"num-classes: at least 2, not {space.network.num_classes}")
    return space


def check_classes(config: SearchConfig, split: Split | None = None) -> None:
    """`InputError` where networks have fewer outputs than the dataset has classes: none could be deployed on it."""
    dataset, outputs = config.identity.data.dataset, config.space.network.num_classes
    if dataset == OWN_DATA or config.space.network.head.output != "logits":
        return
    classes = len(split.classes) if split else sizes_of(dataset, config.identity.data, None)[0]
    if outputs < classes:
        raise InputError(f"num-classes: at least {classes}, the classes of {dataset}, not {outputs}")


def sizes_of(dataset: str, data: DataConfig, split: Split | None) -> tuple[int, int]:
    """How many classes a dataset has and how many of its images train; 0 where a training has its own data."""
    if split:
        return len(split.classes), len(split.train_labels)
    if dataset == OWN_DATA:
        return 0, 0
    from nas.data.datasets import list_classes, number_of_training_images

    classes, there = list_classes(DataConfig(dataset))
    return len(classes), number_of_training_images(data, there)


def narrow(space: Space, fix: Sequence[str] | None, without: str | None, deploy: str | None = None) -> Space:
    """The space as these options narrow it; what is fixed has to keep to the rules of a deployment too."""
    words = [word for word in (without or "").split(",") if word.strip()]
    if deploy:  # which may leave out what they name too
        space.without(words)
        space = space.deploy(deploy)
        words = [word for word in words if space.offers(word)]
    return space.fix(fix or ()).without(words)


def by_dataset(args: argparse.Namespace, space: Space) -> bool:
    """Whether a new search's number of classes is its dataset's: neither an option nor somebody's own file says it."""
    return args.num_classes is None and ((args.space or SPACE) in ready() or "num_classes" not in space.data)


def classes_of(args: argparse.Namespace, config: SearchConfig) -> str:
    """Whose number of classes a new search takes, where no option says it."""
    if args.num_classes is not None or config.identity.data.dataset == OWN_DATA:
        return ""
    return "the dataset's" if by_dataset(args, Space.load(args.space or SPACE)) else f"{config.space_name}'s"


def resolutions(text: str) -> tuple[int, ...]:
    """Pixels of 224, or of 96,128,160,224."""
    numbers = text.split(",")
    if not all(number.isascii() and number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"224, or several as in 96,128,160,224, is accepted, not {text!r}")
    return tuple(map(int, numbers))


def default_name(args: argparse.Namespace) -> str:
    dataset = Path(args.dataset or DataConfig().dataset).name
    parts = [Path(args.space or SPACE).stem, str(Budget.parse(args.budget)), dataset]
    if args.seed:
        parts.append(f"seed{args.seed}")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")


def gpus(text: str) -> float | None:
    """A share of a GPU; None for auto."""
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"auto or a number is accepted, not {text!r}") from None


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
