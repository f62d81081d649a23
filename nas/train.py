"""`python -m nas.train ARCH --dataset NAME|PATH`: train one network in full; the same command carries on.

`python -m nas.train RUN --top 5 --control 3` trains a search's best and some of its random networks, and says how well
their brief scores told which are good.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nas import augment, bundle, events, parallel, results, retraining, study, training
from nas.card import Facts
from nas.cli import image_options
from nas.config import CONFIG, DataConfig, SearchConfig, TrainConfig, full_recipe
from nas.data import Labels, Split, check_channels, load_test
from nas.decoding import Images
from nas.display import read
from nas.meter import meter
from nas.timing import device_for
from nas.trainer import DivergedError, Epoch
from nas.training import Plan
from searchspace import command
from searchspace.__main__ import network
from searchspace.arch import Arch
from searchspace.budget import amount
from searchspace.costs import cost
from searchspace.errors import InputError
from searchspace.networks import names

EPILOG = """The network is trained with the dataset's classes, at the images' own resolution up to the network's, unless
--resolution says otherwise. Validation images are held out of the training images; test images are read once, at the
end. With several workers the recipe and the batch size stay: every worker takes its part of each batch."""

RECIPE = ("epochs", "batch_size", "learning_rate", "ema", "mixup", "cutmix", "randaugment", "resolution")


def parser() -> command.Parser:
    p = command.Parser(prog="nas.train", description=__doc__, epilog=EPILOG)
    p.add_argument("arch", help="an arch.yaml, the folder of an export or search, or a name of the zoo")
    p.add_argument("--dataset", help="digits, a folder, or a Hugging Face name (default: the search's, else digits)")
    p.add_argument("--top", type=int, metavar="N", help="of a search: train its N best networks, each in RUN/retrained")
    p.add_argument("--control", type=int, metavar="N", help="of a search: train also N of its random networks")
    p.add_argument("--epochs", type=int, help="default: digits 30, others 100")
    p.add_argument("--out", type=Path, help="folder (default: runs/train-ARCH-DATASET)")
    p.add_argument("--batch-size", type=int, help="training images a step (default: digits 32, others 64)")
    p.add_argument("--learning-rate", type=float, help="at its peak (default: digits 0.05, others 0.008)")
    p.add_argument("--ema", type=float, help="how much the averaged weights keep a step; 0 averages none (0.999)")
    p.add_argument(
        "--mixup", type=float, help="mix images, with shares of Beta(A, A); 0.2 for example (default: 0, off)"
    )
    p.add_argument("--cutmix", type=float, help="paste boxes of other images; 1.0 for example (default: 0, off)")
    p.add_argument("--randaugment", type=int, help="magnitude of kornia's RandAugment, 9 for example (default: 0, off)")
    p.add_argument("--resolution", type=int, help="pixels trained at")
    image_options(p)
    p.add_argument(
        "--tensorboard", action="store_true", help="also write OUT/tensorboard, an event file for TensorBoard"
    )
    p.add_argument("--seed", type=int, help="default: the search's with --top or --control, else 0")
    p.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="train on N GPUs (or parts of the CPU) through Ray Train (1)",
    )
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    if args.tensorboard:
        events.require()
    args.device, console = device_for(args.device), command.console()
    if args.top is not None or args.control is not None:
        return several(args, arguments, console)
    name, arch = architecture(args.arch)
    plan = planned(args, arguments, name, arch, args.dataset or "digits", args.seed or 0)
    out = args.out or Path("runs") / re.sub(r"[^A-Za-z0-9.]+", "-", f"train-{name}-{Path(plan.data.dataset).name}")
    plan = training.resumed(out, plan)
    with training.opened(out, plan):
        return carried_out(out, plan, args, console, *images_of(plan, console, args.quiet))


def planned(args: argparse.Namespace, arguments: Sequence[str], name: str, arch: Arch, dataset: str, seed: int) -> Plan:
    given = {name: getattr(args, name) for name in RECIPE}
    train = recipe(dataset, {n: number for n, number in given.items() if number is not None})
    parallel.check(args.workers, args.device, train.batch_size)
    data = images_asked(args, dataset)
    check_channels(data, arch.in_channels)
    augment.check(train, arch.in_channels)
    return Plan(arch, data, train, seed, name, command.line("nas.train", arguments))


def images_asked(args: argparse.Namespace, dataset: str) -> DataConfig:
    """A dataset, read as the command says, else as the search read it whose networks are trained."""
    run = Path(args.arch)
    begun = SearchConfig.load(run).identity.data if (run / CONFIG).is_file() else DataConfig()
    begun = begun if begun.dataset == dataset else DataConfig()
    flip = begun.flip if args.flip is None else args.flip
    data_range = begun.data_range if args.data_range is None else args.data_range
    try:
        return DataConfig(dataset, flip=flip, skip_bad=begun.skip_bad or args.skip_bad, data_range=data_range)
    except ValueError as error:
        raise InputError(str(error)) from None


def several(args: argparse.Namespace, arguments: Sequence[str], console: Console) -> int:
    """Train the best and some random networks of a search, and compare with how brief training ranked them."""
    run, top, controls = Path(args.arch), args.top or 0, args.control or 0
    if min(top, controls) < 0 or top + controls == 0:
        raise InputError(f"top and control: at least 0 and not both 0, not {top} and {controls}")
    trials, config = study.outcomes(study.load(run)), SearchConfig.load(run)
    dataset, base = args.dataset or config.identity.data.dataset, args.out or run / retraining.FOLDER
    seed = config.identity.seed if args.seed is None else args.seed
    plans = {}
    for trial in retraining.chosen(trials, top, controls, config.identity.seed):
        arch = Arch.from_dict(json.loads(trial.measured["arch"]), f"trial {trial.number}")
        name = f"trial {trial.number} of {run.resolve().name}"
        out = retraining.folder_of(base, trial)
        plans[out] = training.resumed(out, planned(args, arguments, name, arch, dataset, seed))
    codes, images = [], images_of(next(iter(plans.values())), console, args.quiet)
    for out, plan in plans.items():
        with training.opened(out, plan):
            codes.append(carried_out(out, plan, args, console, *images))
    rows = retraining.load(base, trials)
    console.print(compared(rows))
    for line in retraining.sentences(rows):
        console.print(line)
    return max(codes)


def compared(rows: Sequence[retraining.Retrained]) -> Table:
    """Networks by their accuracy after full training, beside that after brief training."""
    shown = Table(title="after full training", title_justify="left")
    for name in ("trial", "role", "brief", "epochs", "validation", "test"):
        shown.add_column(name, justify="left" if name == "role" else "right")
    for row in rows:
        test = "" if row.test is None else f"{row.test:.4f}"
        shown.add_row(str(row.trial), row.role, f"{row.brief:.4f}", str(row.epochs), f"{row.full:.4f}", test)
    return shown


def architecture(text: str) -> tuple[str, Arch]:
    """A name to call it by, and the network: of a folder the deployment network, of a search the best."""
    path = Path(text)
    if text in names() or not path.is_dir():
        folder = path.resolve().parent.name
        return folder if path.name in ("arch.yaml", "best.yaml") else path.stem, network(text)
    if training.is_folder(path):
        plan = training.load_plan(path)
        return plan.name, plan.arch
    for file in ("arch.yaml", "best.yaml"):
        if (path / file).is_file():
            return path.resolve().name, Arch.load(path / file)
    raise InputError(f"{path}: has neither an arch.yaml nor a best.yaml; an exported network or a zoo name is accepted")


def recipe(dataset: str, given: dict[str, int | float]) -> TrainConfig:
    try:
        return replace(full_recipe(dataset), **given)  # type: ignore[arg-type]
    except ValueError as error:
        field, said = str(error).split(":", 1)
        raise InputError(f"{field.replace('_', '-')}:{said}") from None


def carried_out(
    out: Path,
    plan: Plan,
    args: argparse.Namespace,
    console: Console,
    reading: Callable[[], Split],
    testing: Callable[[], tuple[Images, Labels] | None],
) -> int:
    if training.finished(out):
        facts, _ = training.result(out)
        told(console, out, facts)
        return 0
    split = reading()
    arch = plan.adapted(split)
    history = training.behind(out)
    alone = args.workers == 1
    where = args.device if alone else f"{args.workers} workers ({args.device})"
    if not args.quiet:
        relaxed = "" if arch.total_stride == plan.arch.total_stride else ", its first strides relaxed"
        console.print(
            f"training {plan.name} ({amount(cost(arch).macs, 'macs')}, {cost(arch).params:,} params{relaxed}) "
            f"on {where} in {out}: {len(history)} of {plan.train.epochs} epochs done"
        )
    try:
        bars = progress(console, plan.train.epochs, len(history), args.quiet)
        with bars as bar, events.written(out, args.tensorboard) as note:

            def watch(epoch: Epoch) -> None:
                bar.advance(bar.task_ids[0])
                note(epoch)
                if not args.quiet:
                    bar.console.print(line(epoch, plan.train.epochs))

            if alone:
                state = training.begun(out, plan, split, args.device)
                training.carry_out(out, state, watch)
            else:
                parallel.carry_out(out, plan, split, args.device, args.workers, watch)
                state = training.begun(out, plan, split, args.device)
        facts = training.outcome(plan, split, training.behind(out), state, testing())
        training.close(out, facts, state.model.state_dict())
    except (DivergedError, torch.OutOfMemoryError, MemoryError, parallel.LostError, bundle.DifferentError) as error:
        reason = next(iter(str(error).splitlines()), "out of memory")
        print(f"nas.train: {reason}; what was done before is kept in {out}", file=sys.stderr)
        return command.FAILED
    told(console, out, facts)
    return 0


def images_of(
    plan: Plan, console: Console, quiet: bool
) -> tuple[Callable[[], Split], Callable[[], tuple[Images, Labels] | None]]:
    """What gives the images of a plan to train on, and to test on, each read when first asked for and then kept."""
    recipe, largest = plan.train.resolution, plan.arch.resolution
    channels = plan.arch.in_channels
    split = functools.cache(lambda: read(plan.data, plan.seed, recipe, console, quiet, largest, channels))
    return split, functools.cache(lambda: tested(split(), console, quiet))


def tested(split: Split, console: Console, quiet: bool) -> tuple[Images, Labels] | None:
    """The test images, which nothing has read before; what is wrong with them must not cost the training."""
    try:
        with meter(console, "reading the test images", quiet) as told:
            return load_test(split, told)
    except InputError as error:
        print(f"nas.train: not tested: {error}", file=sys.stderr)
        return None


def progress(console: Console, epochs: int, done: int, quiet: bool) -> Progress:
    """A bar over the epochs on a terminal, nothing elsewhere."""
    columns = (TextColumn("epochs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    bar.add_task("epochs", total=epochs, completed=done)
    return bar


def line(epoch: Epoch, epochs: int) -> str:
    return (
        f"epoch {epoch.number} of {epochs}: train loss {epoch.train_loss:.4f}, val. accuracy {epoch.accuracy:.4f}, "
        f"{epoch.images_per_s:.0f} images/s"
    )


def told(console: Console, out: Path, facts: Facts) -> None:
    """The accuracies and where the network is."""
    trained = facts.trained
    assert trained is not None
    measured = [("validation", trained.accuracy, trained.images)]
    if trained.test_accuracy is not None:
        measured.append(("test", trained.test_accuracy, trained.test_images))
    for name, accuracy, images in measured:
        low, high = results.interval(accuracy, images)
        console.print(f"{name} accuracy {accuracy:.4f} [{low:.4f}, {high:.4f}] on {images:,} images")
    files = [name for name in (*bundle.FILES, training.METRICS) if (out / name).exists()]
    console.print(f"trained network: {out} ({', '.join(files)})")


if __name__ == "__main__":
    command.run(main, "nas.train")
