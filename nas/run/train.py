"""Full training as the command does it: one network, or a search's best and some of its random ones."""

from __future__ import annotations

import argparse
import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from nas.analysis import agreement, confusion
from nas.bundle import bundle
from nas.bundle.card import ModelCard
from nas.config import DataConfig, TrainConfig, base_of, full_recipe, is_same_folder
from nas.data.datasets import Labels, Split, check_channels
from nas.data.decoding import Images
from nas.data.labelled import count_of
from nas.data.repeats import count_shared
from nas.full_training import estimate, tensorboard, training_folder
from nas.full_training.training_folder import TrainingPlan
from nas.latency.timing import device_for, threads
from nas.metric import DEFAULT_METRIC, Metric
from nas.plugins import plugins_in_use
from nas.run.images import read_images, read_test_images
from nas.run.run import Run
from nas.run.search_options import image_config
from nas.run.subject import NAMELESS, Subject, metric_of, subject
from nas.training import augment, scoring
from nas.training.threads import counts, fewest, sentence, speeds, usual
from nas.training.trainer import DivergedError, Epoch
from nas.views.meter import waiting
from nas.views.training_progress import TrainingProgress
from nas.workers import data_parallel
from nas.workers.cluster import LostClusterError
from searchspace import command, signals
from searchspace.arch import Arch
from searchspace.budget import NAMES, amount
from searchspace.costs.network_cost import cost
from searchspace.document import check_own
from searchspace.errors import InputError

Tested = tuple[tuple[Images, Labels] | None, tuple[str, ...]]  # test images, and what is to be known of them
RECIPE = ("epochs", "batch_size", "learning_rate", "ema", "mixup", "cutmix", "randaugment", "resolution", "qat")


def run(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Train what the command asks for; returns the exit code."""
    if args.tensorboard:
        tensorboard.require()
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise InputError(f"seed: from 0 to {2**32 - 1}, not {args.seed}")
    args.device, console = device_for(args.device), command.console()
    if args.top is not None or args.control is not None:
        return train_many(args, arguments, console)
    begun = Path(args.arch)
    if args.out is None and training_folder.is_folder(begun):
        plan = change(args, training_folder.load_plan(begun))
        if not training_folder.is_finished(begun):
            check(args, plan.arch, plan.data, plan.train)
        return train_one(begun, plan, args, console, *images_of(plan, console, args.quiet))
    given = subject(args.arch)
    plan = make_plan(args, arguments, given, args.seed or 0)
    out = args.out or Path("runs") / default_name(plan)
    plan = training_folder.keep_preparation(out, plan)
    if not args.quiet and (rest := beside(given.data, plan.data)):
        console.print(rest)
    known = given if args.dataset is None else replace(given, classes=())
    return train_one(out, plan, args, console, *images_of(plan, console, args.quiet, [(known, plan)]))


def change(args: argparse.Namespace, plan: TrainingPlan) -> TrainingPlan:
    """A training's plan with what the arguments give; the rest stays as it began."""
    seed = plan.seed if args.seed is None else args.seed
    return replace(plan, data=image_config(args, plan.data), train=recipe(plan.train, recipe_options(args)), seed=seed)


def recipe_options(args: argparse.Namespace) -> dict[str, int | float]:
    """What the arguments give of a recipe."""
    given = {name: getattr(args, name) for name in RECIPE}
    return {name: number for name, number in given.items() if number is not None}


def make_plan(args: argparse.Namespace, arguments: Sequence[str], given: Subject, seed: int) -> TrainingPlan:
    data = data_of(args, given.data)
    train = recipe(full_recipe(data.dataset), recipe_options(args))
    check(args, given.arch, data, train)
    words = command.line("nas.train", arguments)
    return TrainingPlan(given.arch, data, train, seed, given.name, words, metric=given.metric, plugins=plugins_in_use())


def check(args: argparse.Namespace, arch: Arch, data: DataConfig, train: TrainConfig) -> None:
    """`InputError` where a network cannot be trained as the arguments ask, before an image is read."""
    data_parallel.check(args.workers, args.device, train.batch_size)
    check_channels(data, arch.in_channels)
    augment.check(train, arch.in_channels)
    most = os.cpu_count() or 1
    if args.threads is not None and not 1 <= args.threads <= most:
        raise InputError(f"threads: from 1 to {most}, one per CPU core, not {args.threads}")
    if args.threads is not None and (args.device != "cpu" or args.workers > 1):
        raise InputError("threads: of a training on one CPU; workers share its cores, and a GPU needs none")


def data_of(args: argparse.Namespace, known: DataConfig | None) -> DataConfig:
    """The images that are asked for, else those that go with the network, all of them; `InputError` where neither
    says which."""
    told = known.dataset if known and known.dataset not in NAMELESS else None
    name = told if args.dataset is None else args.dataset
    if name is None:
        raise InputError(
            f"dataset: nothing says what {args.arch} was searched or trained on; give --dataset digits, a folder or a "
            "Hugging Face name"
        )
    wanted = DataConfig(name, base=base_of(name))
    base = known if known and (known.dataset == name or is_same_folder(known, wanted)) else wanted
    return replace(image_config(args, base), images=args.images)


def beside(known: DataConfig | None, data: DataConfig) -> str:
    """Where a search used a part of the images and the training uses all: that it does."""
    if known is None or known.dataset != data.dataset or known.images is None or data.images is not None:
        return ""
    return f"all training images of {data.dataset} are used, not {known.images:,}; --images {known.images} uses those"


def default_name(plan: TrainingPlan) -> str:
    few = f"-{plan.data.images}-images" if plan.data.images else ""
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"train-{plan.name}-{Path(plan.data.dataset).name}{few}")


def train_many(args: argparse.Namespace, arguments: Sequence[str], console: Console) -> int:
    """Train the best and some random networks of a search, and compare with how brief training ranked them."""
    run, top, controls = Path(args.arch), args.top or 0, args.control or 0
    if min(top, controls) < 0 or top + controls == 0:
        raise InputError(f"top and control: at least 0 and not both 0, not {top} and {controls}")
    searched = Run.open(run)
    trials, config = searched.trials, searched.config
    base = args.out or run / agreement.FOLDER
    if args.out is None:
        check_own(base, *base.glob(f"{agreement.PREFIX}*"))
    training_folder.check_several(base)
    seed = config.identity.seed if args.seed is None else args.seed
    plans, pairs = {}, []
    for trial in agreement.networks_to_compare(trials, top, controls, config.identity.seed, searched.finals):
        name = f"trial {trial.number} of {searched.name}"
        given = Subject(name, trial.arch, config.identity.data, metric_of(run), config.budget)
        out = agreement.folder_of(base, trial)
        plan = replace(make_plan(args, arguments, given, seed), resolutions=config.space.extremes)
        plans[out] = training_folder.keep_preparation(out, plan)
        training_folder.check(out, plans[out])
        pairs.append((given, plans[out]))
    first = next(iter(plans.values()))
    if not args.quiet and (rest := beside(config.identity.data, first.data)):
        console.print(rest)
    codes, images = [], images_of(first, console, args.quiet, pairs)
    for out, plan in plans.items():
        codes.append(train_one(out, plan, args, console, *images))
        if codes[-1] >= signals.BY_SIGNAL:
            return codes[-1]
    if args.dry_run:
        return 0
    rows = agreement.load(base, trials)
    console.print(comparison_table(rows))
    for line in agreement.sentences(rows):
        console.print(line)
    return max(codes)


def comparison_table(rows: Sequence[agreement.Retrained]) -> Table:
    """Networks by their score after full training, beside that after brief training."""
    shown = Table(title="after full training", title_justify="left")
    for name in ("trial", "role", "brief", "epochs", "validation", "test"):
        shown.add_column(name, justify="left" if name == "role" else "right")
    for row in rows:
        test = "" if row.test is None else f"{row.test:.4f}"
        shown.add_row(str(row.trial), row.role, f"{row.brief:.4f}", str(row.epochs), f"{row.full:.4f}", test)
    return shown


def recipe(base: TrainConfig, given: dict[str, int | float]) -> TrainConfig:
    try:
        return replace(base, **given)  # type: ignore[arg-type]
    except ValueError as error:
        field, said = str(error).split(":", 1)
        raise InputError(f"{field.replace('_', '-')}:{said}") from None


def train_one(
    out: Path,
    plan: TrainingPlan,
    args: argparse.Namespace,
    console: Console,
    reading: Callable[[], Split],
    testing: Callable[[], Tested],
) -> int:
    """Train what is left, or with --dry-run say what that is; returns the exit code."""
    if args.dry_run:
        training_folder.check(out, plan)
        split = reading()
        with waiting(console, "timing a few steps", args.quiet):
            lines = list(estimate.sentences(out, plan, split, args.device, args.workers, args.threads))
        for said in lines:
            console.print(said)
        return 0
    with training_folder.open_folder(out, plan):
        try:
            if training_folder.is_finished(out):
                again = f"python -m nas.train {shlex.quote(args.arch)} --out DIR"
                again = again if Path(args.arch).is_dir() else "another --out"
                console.print(f"it was finished before, and these are its numbers; {again} trains anew", soft_wrap=True)
                facts, _ = training_folder.result(out)
            else:
                split = reading()
                facts = evaluate_training(out, plan, args, console, split, testing())  # read before hours are spent
        except KeyboardInterrupt as stop:
            done = len(training_folder.epochs_done(out))
            where = f"after epoch {done}" if done else "in the first epoch"
            print(f"nas.train: stopped {where} of {plan.train.epochs}; the same command carries on", file=sys.stderr)
            return signals.exit_code(stop)
        except (
            DivergedError,
            torch.OutOfMemoryError,
            MemoryError,
            data_parallel.LostError,
            LostClusterError,
            bundle.DifferentError,
        ) as error:
            reason = next(iter(str(error).splitlines()), "out of memory")
            if isinstance(error, DivergedError):
                reason += f" at a learning rate of up to {plan.train.learning_rate:g}: a lower --learning-rate may help"
            print(f"nas.train: {reason}; what was done before is kept in {out}", file=sys.stderr)
            return command.FAILED
    print_result(console, out, facts)
    return 0


def evaluate_training(
    out: Path,
    plan: TrainingPlan,
    args: argparse.Namespace,
    console: Console,
    split: Split,
    tested: Tested,
) -> ModelCard:
    """What came of a training once its last epochs are made."""
    number, why = threads_for(out, plan, args, split)
    if not args.quiet:
        console.print(f"training {estimate.describe(out, plan, split, args.device, args.workers)}")
        for said in filter(None, (why, why_unmeasured(plan, split))):
            console.print(said)
    done, train, score = len(training_folder.epochs_done(out)), len(split.train_labels), len(split.val_labels)
    pace = TrainingProgress(console, args.quiet, plan.train.epochs, done, train, score)
    with threads(number), tensorboard.open_writer(out, args.tensorboard, plan.metric) as note:

        def watch(epoch: Epoch) -> None:
            pace.ended(epoch.number)
            note(epoch)
            if not args.quiet:
                console.print(line(epoch, plan.train.epochs, plan.metric))

        with pace:
            if args.workers == 1:
                state = training_folder.resume(out, plan, split, args.device)
                state.each = pace
                training_folder.train_remaining(out, state, watch, plan.metric)
                for said in state.notes:
                    console.print(said)
            else:
                data_parallel.carry_out(out, plan, split, args.device, args.workers, watch, pace)
                state = training_folder.resume(out, plan, split, args.device)
        with pace:
            history = training_folder.epochs_done(out)
            facts = training_folder.outcome(plan, split, history, state, *tested, pace.testing)
        with waiting(console, "trying the network in a fresh interpreter", args.quiet):
            training_folder.finish(out, facts, bundle.deployed_weights(state.model, facts.arch))
    return facts


def threads_for(out: Path, plan: TrainingPlan, args: argparse.Namespace, split: Split) -> tuple[int, str]:
    """The CPU threads of a training, and a line that says why; those that it began with where it is carried on."""
    most, began = usual(), training_folder.threads_behind(out)
    if args.device != "cpu" or args.workers > 1:
        return most, ""
    if args.threads is not None:
        other = began is not None and began != args.threads
        return args.threads, f"it began with {began} threads: numbers may differ in their last digits" if other else ""
    if began is not None:
        return began, ""
    if most == 1 or "OMP_NUM_THREADS" in os.environ:
        return most, ""
    found = speeds(plan.adapt(split), split, plan.train, counts(most))
    again = "; how many it began with was not kept: numbers may differ in their last digits"
    return fewest(found), sentence(found, fewest(found)) + (again if training_folder.epochs_done(out) else "")


def images_of(
    plan: TrainingPlan, console: Console, quiet: bool, pairs: Sequence[tuple[Subject, TrainingPlan]] = ()
) -> tuple[Callable[[], Split], Callable[[], Tested]]:
    """What gives the images of a plan to train on, and to test on, each read when first asked for and then kept.

    All that is trained on them is asked then whether they suit it: `pairs` are networks with their plans.
    """
    recipe, largest = plan.train.resolution, plan.resolutions[1] if plan.resolutions else plan.arch.resolution
    channels = plan.arch.in_channels

    @functools.cache
    def split() -> Split:
        found = read_images(plan.data, plan.seed, recipe, console, quiet, largest, channels)
        for given, own in pairs:
            if given.classes and found.classes != given.classes:
                raise InputError(
                    f"dataset {plan.data.dataset}: has other classes than {given.name} was trained on: perhaps another "
                    "folder of that name; --dataset says which is meant"
                )
            if said := over_budget(given, own, found.num_classes):
                console.print(said)
        return found

    return split, functools.cache(lambda: load_test_images(split(), console, quiet))


def over_budget(given: Subject, plan: TrainingPlan, classes: int) -> str:
    """A word where a network is over its search's budget once it has the outputs that other images need; `InputError`
    where the search's own images have got more classes since."""
    if given.budget is None or classes <= plan.arch.num_classes:
        return ""
    counted = tuple(one for one in given.budget.limits if one.currency in NAMES and one.currency != "latency_ms")
    spent = cost(plan.arch.adapt(classes, smallest_map=1))
    broken = " and ".join(amount(one.of(spent), one.currency) for one in counted if one.of(spent) > one.high)
    if not broken:
        return ""
    said = f"{given.name}: for {classes} classes it takes {broken}, more than the {given.budget} of its search"
    if given.data is None or (given.data.dataset != plan.data.dataset and not is_same_folder(given.data, plan.data)):
        return said
    raise InputError(
        f"{said}, whose networks have {plan.arch.num_classes}: search again in another --run, or nas.export it and "
        "train that"
    )


def load_test_images(split: Split, console: Console, quiet: bool) -> Tested:
    """The test images with what is to be known of them, printed too; `InputError` where some cannot be read."""
    found, notes = read_test_images(split, console, quiet)
    if found is not None and (known := count_shared(found[0], split.train_images, split.val_images)):
        number = f"{count_of(known, 'test image')} of {len(found[0]):,} {'is' if known == 1 else 'are'}"
        notes = (*notes, f"{number} training images too: the test score is too high by that")
        console.print(notes[-1])
    return found, notes


def why_unmeasured(plan: TrainingPlan, split: Split) -> str:
    """Why a search's metric is not measured, where it cannot be of these images."""
    try:
        if plan.metric != DEFAULT_METRIC:
            scoring.check(plan.metric, split.val_labels, split.num_classes)
    except InputError as error:
        return f"{error}; {DEFAULT_METRIC.words} is measured"
    return ""


def line(epoch: Epoch, epochs: int, metric: Metric = DEFAULT_METRIC) -> str:
    other = "" if epoch.other is None else f" {metric.words} {epoch.other:.4f},"
    return (
        f"epoch {epoch.number} of {epochs}: train loss {epoch.train_loss:.4f}, "
        f"val. {DEFAULT_METRIC.words} {epoch.score:.4f},{other} {epoch.images_per_s:.0f} images/s"
    )


def print_result(console: Console, out: Path, facts: ModelCard) -> None:
    """What was measured, and where the network is."""
    trained = facts.trained
    assert trained is not None
    for name, metric, score, images in trained.scores:
        within = metric.scores_within(score, images)
        interval = f" [{within[0]:.4f}, {within[1]:.4f}]" if within else ""
        console.print(f"{name} {metric.words} {score:.4f}{interval} on {images:,} images")
    if facts.confusion and (said := confusion.compare_with_chance(facts.confusion)):
        console.print(said, markup=False)
    files = [name for name in (*bundle.FILES, training_folder.METRICS) if (out / name).exists()]
    console.print(f"trained network: {out} ({', '.join(files)})")
