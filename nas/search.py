"""`python -m nas.search --budget 300MFLOPs`: from a budget to a network that builds."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from nas import environment, evidence, folder, storage, tuner
from nas.cluster import Cluster
from nas.config import SCORES, Conduct, DataConfig, Identity, Prescreen, SearchConfig, TrainConfig, recipe
from nas.course import Course, FailuresError
from nas.data import load
from nas.display import Display, print_device, print_plan, print_preflight, print_summary, read
from nas.objectives import CURRENCIES, check, check_known
from nas.samplers import SAMPLERS, Predictor
from nas.storage import Place
from nas.study import StorageError, Study, known_within, record
from searchspace import command
from searchspace.budget import Budget
from searchspace.document import plain
from searchspace.errors import InputError
from searchspace.latency import LatencyTable
from searchspace.preflight import preflight
from searchspace.space import FIT_BAND, Space, ready

MAX_CONTROLS = 32
TIMED_BEST = 5
TIMED_ROUNDS = 9
EPILOG = """One FLOP is one multiply-add of a convolution or linear layer, at the deployment resolution and classes.
The same command on the same run folder carries on; --trials is a total."""


def parser() -> command.Parser:
    p = command.Parser(prog="nas.search", description=__doc__, epilog=EPILOG)
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
    p.add_argument("--epochs", type=int, help="of a trial that is not stopped early (default: digits 6, others 4)")
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


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    if args.storage:
        storage.server(args.storage)
        shown = storage.without_password(args.storage)
        arguments = [word.replace(args.storage, shown) for word in arguments]
    args.command = command.line("nas.search", arguments)
    config = configured(args)
    console = command.console()
    run = args.run or Path("runs") / default_name(args)
    existed = folder.check(run, config)
    old = SearchConfig.load(run) if existed else None
    place = folder.place(run, args.storage, old)
    if old:  # how many baselines and controls there are was settled when the run began
        begun = replace(config.identity, baselines=old.identity.baselines, controls=old.identity.controls)
        config = replace(config, identity=begun)
    if place.url:
        kept = replace(config.conduct, storage=storage.without_password(place.url), study=place.name)
        config = replace(config, conduct=kept)
    taught = (evidence.saved(run) if existed else None) or evidence.gather(config.identity.warm_start, config)
    space = timed(config, run, existed, args.latency_table, console, args.quiet)
    config = config if existed else with_known(config, space)
    check_known(space, config.identity.minimize)
    if not args.quiet:
        print_preflight(console, preflight(space, config.budget, config.identity.band), config)
        if space.latency is not None:
            print_device(console, space.latency)
        for source in taught.sources:
            console.print(f"warm start: {source}")
    if args.dry_run:
        split = load(config.identity.data, config.identity.seed, config.identity.train.resolution)
        print_plan(console, config, space, split, run)
        return 0
    begun_already = storage.holds(place)  # and a server can be reached: else the folder is not touched
    with folder.opened(run, config) as log, Cluster(config.conduct.ray_address, args.command) as cluster:
        if taught.sources:
            evidence.save(taught, run)
        if not begun_already:
            space = with_layer_times(space, config, run, console, args.quiet)
            cluster.begin()  # beside what is read and opened next
        study, why = None, ""
        try:
            study = open_study(run, config, space, taught, place)
            done, total = study.finished, config.conduct.trials
            verb = "carries on" if existed else "starts"
            if not args.quiet:
                console.print(f"run {run} {verb}: {done} of {total} trials done")
            if done < total:
                why = carry_out(study, config, console, log, args.quiet, run, cluster)
            if why != "stopped":
                time_best(study, config.conduct.device)
            folder.write_results(study, run)
            print_summary(console, study, run, config, why)
            found = bool(study.ranked)
        except FailuresError as error:
            assert study is not None
            folder.write_results(study, run)
            print_summary(console, study, run, config, "stopped")
            print(f"nas.search: {error}", file=sys.stderr)
            return command.FAILED
        except StorageError as error:
            print(f"nas.search: {place}: {error}; nothing is lost: the same command carries on", file=sys.stderr)
            return command.FAILED
        finally:
            if study is not None:
                study.close()
    return 0 if found or why else command.FAILED


def carry_out(
    study: Study, config: SearchConfig, console: Console, log: folder.Log, quiet: bool, run: Path, cluster: Cluster
) -> str:
    identity, conduct = config.identity, config.conduct
    split = read(identity.data, identity.seed, identity.train.resolution, console, quiet)
    environment.note(run)
    study.validation_images = len(split.val_labels)
    if identity.prescreen.draws > 1:
        from nas.prescreen import Screen

        study.proposals.screen = Screen(identity.prescreen, split, identity.seed)
    best = study.ranked[0].value or 0.0 if study.ranked else -1.0
    display = Display(
        console,
        log,
        conduct.trials,
        study.finished,
        best,
        quiet,
        ended=lambda: keep_results(study, run, log),
        timed=study.space.latency is not None,
        title=f"{config.budget} in {config.space_name} on {split.name}: {run}",
        counts=Counter(outcome.outcome for outcome in study.outcomes),
    )
    with display:
        course = Course(study, conduct.trials, identity.train.epochs, display, run.resolve() / folder.CHECKPOINTS)
        why = tuner.run(course, split, identity.train, conduct, log, identity.seed, cluster)
    cluster.end()  # before latencies are measured
    return why


def keep_results(study: Study, run: Path, log: folder.Log) -> None:
    """Bring the run's files up to date. They are made again with the next trial, so that nothing ends for them."""
    try:
        folder.write_results(study, run)
    except OSError as error:
        log.warning("results were not written: %s", error)


def timed(config: SearchConfig, run: Path, existed: bool, given: Path | None, console: Console, quiet: bool) -> Space:
    """The space with the latencies of a device, where its layer times are known, or the budget needs them: measured
    now where they are not. A run keeps the table that it began with, also when it is carried on elsewhere."""
    from nas import measure, timing

    space, own = config.space, run / folder.TABLE
    if own.is_file():
        table = LatencyTable.load(own)
        if given is not None and LatencyTable.load(given) != table:
            raise InputError(f"run {run} has another latency table, of {table}; give another --run")
        return space.timed(table)
    if given is not None:
        return space.timed(LatencyTable.load(given))
    limited = any(limit.currency == "latency_ms" for limit in config.budget.limits)
    needed = limited or "latency" in config.identity.minimize
    if not needed and (existed or not timing.is_here(config.conduct.device)):
        return space
    device = timing.device_for(config.conduct.device)
    if needed:
        return measured_here(space, device, console, quiet)
    known = measure.known(measure.default_path(device), space)
    return space if known is None else space.timed(known)


def with_layer_times(space: Space, config: SearchConfig, run: Path, console: Console, quiet: bool) -> Space:
    """The space with latencies also where no budget asks for them, so that every trial shows one beside its FLOPs.

    Layers are timed once per device. Kept in the run's folder; not where trials run on other machines' devices.
    """
    from nas import timing

    if space.latency is None and timing.is_here(config.conduct.device) and config.conduct.ray_address is None:
        space = measured_here(space, timing.device_for(config.conduct.device), console, quiet)
        if not quiet and space.latency is not None:
            print_device(console, space.latency)
    if space.latency is not None:
        space.latency.save(run / folder.TABLE)
    return space


def measured_here(space: Space, device: str, console: Console, quiet: bool) -> Space:
    """The space with the layer times of this machine's device, measured as far as they are not known."""
    from nas import measure

    return space.timed(measure.ensure(measure.default_path(device), space, device, 1, 1, console, quiet))


def time_best(study: Study, wanted: str) -> None:
    """Measure the best networks' latency, now that nothing else runs."""
    from nas import timing

    best = [record(trial) for trial in study.ranked[:TIMED_BEST]]
    known = study.latencies
    if all(trial.number in known for trial in best) or not timing.is_here(wanted):
        return
    archs, device = [trial.arch for trial in best], timing.device_for(wanted)
    with timing.threads(1):
        times = timing.network_ms([timing.ready(arch, device) for arch in archs], archs, device, rounds=TIMED_ROUNDS)
    study.latencies = {**known, **{trial.number: ms for trial, ms in zip(best, times, strict=True)}}


def open_study(
    run: Path,
    config: SearchConfig,
    space: Space | None = None,
    taught: evidence.Sources | None = None,
    place: Place | None = None,
) -> Study:
    i = config.identity
    return Study.open(
        run,
        space or config.space,
        config.budget,
        i.sampler,
        i.seed,
        i.band,
        i.controls,
        i.baselines,
        taught.evidence if taught else (),
        i.minimize,
        place,
        shared_identity(config, space or config.space) if place and place.url else {},
    )


def shared_identity(config: SearchConfig, space: Space) -> dict[str, Any]:
    """What else has to be equal for two drivers, each with a folder of its own, to work on one study."""
    i = config.identity
    said = {name: plain(getattr(i, name)) for name in ("data", "train", "sampler", "seed", "band", "warm_start")}
    if i.prescreen.draws > 1:
        said["prescreen"] = plain(i.prescreen)
    limited = any(limit.currency == "latency_ms" for limit in config.budget.limits) or "latency" in i.minimize
    if limited and space.latency is not None:
        said["latency_table"] = hashlib.sha256(json.dumps(plain(space.latency)).encode()).hexdigest()[:16]
    return said


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


def with_known(config: SearchConfig, space: Space) -> SearchConfig:
    """As many baselines as known networks fit, which of a latency only a space with layer times can say."""
    i = config.identity
    known = sum(1 for _ in known_within(space, config.budget, i.band)) if i.baselines else 0
    return replace(config, identity=replace(i, baselines=min(i.baselines, known)))


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


if __name__ == "__main__":
    command.run(main, "nas.search")
