"""Searching: from a budget to a run, begun in an empty folder or carried on where there is one."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from nas.analysis.time_left import TimeLeft
from nas.config import CALLER, OWN_DATA, SearchConfig
from nas.data.datasets import Split, check_channels, check_part, load_object
from nas.data.labelled import count_of
from nas.keywords import as_keywords
from nas.metric import DEFAULT_METRIC, Metric
from nas.run import environment, folder, latencies, resume, search_options
from nas.run.finals import FINALS, hold, standing
from nas.run.images import describe, read_images
from nas.run.run import Run
from nas.run.watchers import Watchers
from nas.run.watchers import check as check_watchers
from nas.study import lock, prior, storage, warm_start
from nas.study.design import Design, MakeSampler
from nas.study.drivers import MissingError, StorageError
from nas.study.finals import finalists
from nas.study.objectives import check_known
from nas.study.opening import open_study, textbook_networks, with_known
from nas.study.passwords import without_password
from nas.study.storage import StudyLocation
from nas.study.study import Study
from nas.views.meter import waiting
from nas.views.terminal import Display, print_device, print_preflight, print_summary
from nas.workers import gpu_sharing, tuner
from nas.workers.cluster import Cluster, LostClusterError, check_limits
from nas.workers.coordinator import TIME_LIMIT, Coordinator, FailuresError
from searchspace import command, signals
from searchspace.arch import Arch
from searchspace.budget import Budget
from searchspace.costs.latency import LatencyTable
from searchspace.errors import InputError
from searchspace.space.preflight import preflight
from searchspace.space.space import Space
from searchspace.space.unmet import advice

if TYPE_CHECKING:
    from nas.workers.evaluate import Evaluate

Options = Mapping[str, Any]
TRIALS_SHARE = 0.6  # of a time limit, where finals follow


@dataclass(frozen=True, slots=True)
class Given:
    """What only Python can give, beside the options of the command: objects and functions."""

    space: Space | None = None
    dataset: Any = None
    data: Any = None
    evaluate: Evaluate | None = None
    sampler: MakeSampler | None = None
    metric: Metric | None = None
    watchers: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a search ended: `why` is empty where all its trials are done, `signal` the number of what stopped it or 0,
    `found` whether a trial is complete, `used_up` whether the space has no other network within the budget."""

    why: str = ""
    signal: int = 0
    found: bool = False
    used_up: bool = False


@as_keywords("folder")
def search(
    budget: str | Budget | Sequence[str] | None = None,
    *,
    folder: str | Path | None = None,
    space: str | Path | Space | Mapping[str, Any] | None = None,
    dataset: Any = None,
    evaluate: Evaluate | str | None = None,
    data: Any = None,
    metric: str | Metric | None = None,
    sampler: str | MakeSampler | None = None,
    watchers: Sequence[Any] = (),
    **options: Any,
) -> Run:
    """Search for the best network within a budget, or carry on with the search in `folder`; returns its run.

    `budget`: a text ("300MFLOPs", "12ms", "64kB int8"), several, or a `Budget`; None with `target="stm32f746"`.
    `space`: a ready name, a file, its data, a `Space`.
    `dataset`: a name, a folder, `Split.of(images, labels)`, a `datasets.Dataset`, (images, labels), or a callable that
    makes one of these.

    `evaluate`: a training of your own, as a function or "module:function": a generator `(trial, context)` that yields a
    `Result`, or a score alone, after every epoch (see `nas.workers.evaluate.Context`). It runs on the workers, where
    `context.data` is `data`: anything that pickles, or a callable that makes it once per worker; else the dataset.

    `metric`: what is scored: a name of scikit-learn's, `NAME:minimize` of one's own training, or a `Metric`. `sampler`:
    a name, or a function like those in `nas.samplers`. `watchers`: objects with any of started(trial),
    epoch(trial, result), ended(trial, outcome, result), close().

    The other options are those of `python -m nas.search`, with underscores: trials=48, epochs=4, time_limit="2h",
    concurrent=2, quiet=True, …

    Raises `InputError` for what is wrong with any of these, `FailuresError` where most trials fail, `StorageError`
    where the study cannot be written, `LostClusterError` where Ray cannot be started or has ended, `KeyboardInterrupt`
    where a signal stopped it; what has ended is kept then.
    """
    if metric is not None and not isinstance(metric, (str, Metric)):
        raise InputError(f"metric: a name or a Metric is accepted, not {metric!r}")
    check_watchers(watchers)
    objects = Given(
        space=None if isinstance(space, (str, Path, type(None))) else Space.of(space),
        dataset=None if isinstance(dataset, (str, Path, type(None))) else dataset,
        data=data,
        evaluate=evaluate if callable(evaluate) else None,
        sampler=sampler if callable(sampler) else None,
        metric=metric if isinstance(metric, Metric) else None,
        watchers=watchers,
    )
    args = search_options.from_python(
        {
            "budget": budget,
            "run": folder,
            "space": space if isinstance(space, (str, Path)) else None,
            "dataset": dataset if isinstance(dataset, (str, Path)) else None,
            "evaluate": search_options.name_of("evaluate", evaluate),
            "sampler": search_options.name_of("sampler", sampler),
            "metric": None if metric is None else str(Metric.of(metric)),
            **options,
        }
    )
    begun = Search(args, objects)
    if begun.dry_run:
        raise InputError("dry_run: the command has it, python -m nas.search --dry-run")
    ended = begun.carry_out()
    if ended.signal:
        raise KeyboardInterrupt(f"stopped by signal {ended.signal}; the same call carries on")
    return Run.open(begun.folder)


class Search:
    """One search, from its options to its end."""

    def __init__(self, args: Any, given: Given = Given()) -> None:
        args = search_options.with_budget_of(args, Run.config_of(args.run) if args.run else None)
        args = search_options.settle_budget(args)
        self.args, self.given, self.quiet, self.dry_run = args, given, args.quiet, args.dry_run
        self.console: Console = command.console()
        self.folder: Path = args.run or Path("runs") / search_options.default_name(args)
        self.old = Run.config_of(self.folder)
        search_options.check(args)
        if args.track:
            from nas.run import trackers

            trackers.check(args.track)
        if self.old and self.old.identity.evaluate == CALLER:
            raise InputError(f"run {self.folder}: its trials are {CALLER}, by Study.open; give another --run")
        self.begun = time.monotonic()
        self.split: Split | None = None  # of a dataset that Python has
        self.images: Split | None = None  # once they are read
        if given.dataset is not None:
            self.split = self._object()
            args.dataset = self.split.name
        if given.metric is not None:
            args.metric = given.metric
        self.evaluate = given.evaluate or self._load_function("evaluate", args.evaluate)
        if self.evaluate is not None:
            search_options.check_evaluate(self.evaluate)
        self.sampler = given.sampler or self._load_function("sampler", args.sampler)
        config = self._new() if self.old is None else resume.carry_on(args, self.folder, self.old)
        latencies.check_device(config.conduct)
        self.existed = folder.can_resume(self.folder, config)
        if self.existed and not self.dry_run and not config.conduct.storage and not args.storage:
            lock.check(self.folder)
        self.place = folder.study_location(self.folder, args.storage, self.old)
        if self.place.url:
            address = without_password(self.place.url)
            config = replace(config, conduct=replace(config.conduct, storage=address, study=self.place.name))
        self.config = config
        self._check_training_options()

    def carry_out(self) -> Ended:
        """Run what is left of the trials, and show what came of it; with `dry_run` only say what that would be.

        Raises `InputError`, `FailuresError` and `StorageError`.
        """
        if not (self.existed or self.dry_run or self.config.conduct.ray_address):
            check_limits()  # at once; a run whose trials are all done needs no Ray
        if self.dry_run:
            self._print_plan(self._prepare()[1])
            return Ended(found=True)
        begun_already = storage.holds(self.place)  # whole, and a server can be reached: else the folder is not touched
        with Cluster(self.config.conduct.ray_address, self.args.command, self._shares_gpus) as cluster:
            taught, space = self._prepare(None if begun_already else cluster)
            with folder.lock_run(self.folder, self.config) as log, cluster:  # which ends before the run is let go
                if taught.sources:
                    warm_start.save(taught, self.folder)
                if not begun_already:
                    space = latencies.with_layer_times(space, self.config, self.folder, self.console, self.quiet)
                    cluster.begin()  # beside what is read and opened next
                with open_study(self.folder, self.config, space, taught, self.place, self._design()) as study:
                    return self._run(study, log, cluster)

    def _run(self, study: Study, log: folder.Log, cluster: Cluster) -> Ended:
        done, total = study.finished, self.config.conduct.trials
        if done > total:
            self._say(f"--trials {total} adds nothing: run {self.folder} has {done} trials already")
        else:
            self._say(f"run {self.folder} {'carries on' if self.existed else 'starts'}: {done} of {total} trials done")
        ended, finals = Ended(), bool(finalists(self.config))
        try:
            if done < total:
                ended = self._run_trials(study, log, cluster, TRIALS_SHARE if finals else 1.0)
            over = ended.used_up or ended.why in ("", TIME_LIMIT)
            if finals and study.ranked and not ended.signal and over:
                ended = self._hold_finals(study, log, cluster, ended)
        except FailuresError:
            self._show(study, Ended("stopped"))
            raise
        cluster.end()  # before latencies are measured
        if not ended.signal and ended.why != "stopped" and (untimed := latencies.time_best(study, self.config.conduct)):
            self._say(untimed)
        self._show(study, ended)
        return replace(ended, found=bool(study.ranked))

    def _hold_finals(self, study: Study, log: folder.Log, cluster: Cluster, before: Ended) -> Ended:
        """Until they are over, or what is left of the time is. They need trials that have all ended, elsewhere too."""
        if study.taken > study.finished:
            return replace(before, why=f"{FINALS}: trials run elsewhere")
        config = self.config
        if (limit := config.conduct.time_limit_s) is not None:
            left = limit - (time.monotonic() - self.begun)
            if left <= 0:
                return replace(before, why=f"{FINALS}: {TIME_LIMIT}")
            config = replace(config, conduct=replace(config.conduct, time_limit_s=left))
        held = study.finals
        over = held is not None and not standing(study, config, held.trainings).unfinished
        work = self._work(None if over else self._check_images(study), study.space.latency)  # what is over reads none
        why, signal = hold(study, work, config, self.folder, log, cluster, self.console, self.quiet)
        finals = f"{FINALS}: {why}" if why else ""
        return replace(before, why="; ".join(filter(None, (before.why, finals))), signal=signal)

    def _check_images(self, study: Study) -> Split | None:
        """The training images, which are those of the trials before."""
        if self.images is None:
            self.images = self._images()
            environment.note(self.folder)
            if self.images is not None:
                try:
                    number = len(self.images.val_labels)
                    mirrored = None if self.evaluate else self.images.flip
                    study.check_images(self.images.fingerprint, number, self._chance(self.images), mirrored)
                except InputError as error:
                    raise InputError(f"run {self.folder}: {error}") from None
        return self.images

    def _chance(self, split: Split) -> float | None:
        """What always answering the same would score; None of a training of the user's own, whose scores may be of
        other images."""
        if self.evaluate is not None or self.config.identity.metric == DEFAULT_METRIC:
            return None if self.evaluate else split.commonest
        from nas.training import scoring

        return scoring.chance(self.config.identity.metric, split.val_labels, split.num_classes)

    def _run_trials(self, study: Study, log: folder.Log, cluster: Cluster, share: float) -> Ended:
        """The trials that are left, in a share of the time that there is."""
        identity, conduct = self.config.identity, self.config.conduct
        if conduct.time_limit_s is not None:
            left = conduct.time_limit_s - (time.monotonic() - self.begun)  # images may have taken long to read
            conduct = replace(conduct, time_limit_s=max(0.0, share * left))
        split = self._check_images(study)
        if split is not None:
            most = "up to " if conduct.early_stopping else ""
            again = " again where the best networks are others then" if study.finals else ""
            self._say(
                f"a trial trains for {most}{count_of(identity.train.epochs, 'epoch')} of "
                f"{count_of(len(split.train_labels), 'image')} and is scored on {len(split.val_labels):,}"
                + (f"; finals follow{again}, whose time is not in what is left" if finalists(self.config) else "")
            )
        if identity.prescreen.draws > 1:
            from nas.training.prescreen import Screen

            assert split is not None
            study.proposals.screen = Screen(identity.prescreen, split, identity.seed, study.space.extremes)
        records = study.records
        display = Display(
            self.console,
            log,
            conduct.trials,
            study.finished,
            study.ranked[0].score if study.ranked else None,
            self.quiet,
            study.metric,
            timed=study.space.latency is not None,
            title=f"{self.config.budget} in {self.config.space_name} on {identity.data.dataset}: {self.folder}",
            counts=Counter(record.state for record in records),
            time_left=TimeLeft(
                conduct.trials,
                identity.train.epochs,
                [record.epochs for record in records],
                stops=conduct.early_stopping,
            ),
        )
        results = folder.Results(lambda: folder.write_results(study, self.folder), log)
        watchers = Watchers([display, results], [*self.given.watchers, *self._trackers()], log)
        try:
            with display:
                checkpoints = self.folder.resolve() / folder.CHECKPOINTS
                coordinator = Coordinator(
                    study, conduct.trials, identity.train.epochs, watchers, checkpoints, stops=conduct.early_stopping
                )
                why = tuner.run(coordinator, self._work(split, study.space.latency), conduct, log, cluster, self._say)
        finally:
            watchers.close()
        for line in watchers.sentences:
            self._say(line)
        return Ended(why, coordinator.stopped_by, used_up=coordinator.exhausted)

    def _work(self, split: Split | None, table: LatencyTable | None) -> tuner.Work:
        from nas.workers.evaluate import brief_training

        identity = self.config.identity
        data = split if self.given.data is None else self.given.data
        timed = self.config.budget.limits_latency or "latency" in identity.minimize
        by_torch = table is None or not table.onnxruntime
        evaluate = self.evaluate or brief_training
        return tuner.Work(evaluate, data, identity.train, identity.seed, identity.metric, timed, by_torch)

    def _prepare(self, cluster: Cluster | None = None) -> tuple[warm_start.Sources, Space]:
        """What earlier runs teach, and the space with its latencies, once all that can be checked before has been;
        the cluster is begun where the rest is counting."""
        config, args = self.config, self.args
        with waiting(self.console, f"counting the networks of {config.space_name} within {config.budget}", self.quiet):
            if self.split is None and not self.own_data:
                check_channels(config.identity.data, config.space.network.in_channels)
            taught = warm_start.load(self.folder) if self.existed else None
            space = latencies.with_latencies(
                config, self.folder, self.existed, args.latency_table, self.console, self.quiet
            )
            self.config = config = config if self.existed else with_known(config, space)
            check_known(space, config.identity.minimize)
            taught = taught or self._teach(space)
            reached = None if self.quiet and self.existed else self._reach(space)
            if cluster and not latencies.runs_to_time(space, config, self.existed):
                cluster.begin()
            if self.quiet:
                return taught, space
            with advice(space, config.budget):
                found = preflight(space, config.budget, config.identity.band, reached=reached)
        whose = search_options.classes_of(args, config) if self.old is None else ""
        print_preflight(self.console, found, config, whose, textbook_networks(space, config))
        if self.old and (words := resume.unsaid(args, self.old)):
            self._say(f"the run began with {' '.join(words)}, and keeps that")
        if space.latency is not None:
            print_device(self.console, space.latency)
        for source in taught.sources:
            self._say(
                f"prior: {source}; --no-prior leaves it out" if config.identity.prior else f"warm start: {source}"
            )
        if config.identity.horizon and not self.existed:
            self._say(
                "horizon: networks of more activations are expected to gain more by longer training; "
                "--no-prior leaves that out"
            )
        return taught, space

    def _reach(self, space: Space) -> tuple[Arch, Arch]:
        """The cheapest network and the dearest; `InputError` with a way out where none of them keeps the budget."""
        with advice(space, self.config.budget):
            return space.reach(self.config.budget, self.config.identity.band, random.Random(0))

    def check_budget(self) -> None:
        """`InputError` with a way out where no network of a new search keeps the budget: before images are read. Of
        milliseconds that is known later, once there are layer times."""
        if not self.existed and not self.config.budget.limits_latency:
            self._reach(self.config.space)

    def _teach(self, space: Space) -> warm_start.Sources:
        """What the search is to learn from at its start."""
        identity = self.config.identity
        if identity.warm_start:
            return taught_by(identity.warm_start, self.config)
        return prior.recall(space) if identity.prior and not self.existed else warm_start.Sources()

    def _print_plan(self, space: Space) -> None:
        from nas.run.estimate import print_plan

        started = time.monotonic()
        split = self._images()
        if split is None:
            self._say(f"{self.config.conduct.trials} trials by {self.config.identity.evaluate}; nothing was timed")
            return
        done = self.check_same_images(split)
        if done:
            self._say(f"run {self.folder}: {done} of {max(done, self.config.conduct.trials)} trials are done")
        layers = latencies.runs_to_time(space, self.config, self.existed)
        read_s = time.monotonic() - started
        print_plan(self.console, self.config, space, split, self.folder, read_s, done, layers)

    def check_same_images(self, split: Split) -> int:
        """How many trials of the run folder are done; `InputError` where they were scored on other images."""
        done = number_ended(self.folder) if self.existed and not self.place.url else 0
        if done:
            try:
                Study.read(self.folder).check_same_images(split.fingerprint, len(split.val_labels))
            except InputError as error:
                raise InputError(f"run {self.folder}: {error}") from None
        return done

    @property
    def own_data(self) -> bool:
        """Whether a training of the user's own has its own data, so that no dataset is read."""
        return self.config.identity.data.dataset == OWN_DATA

    @property
    def _pixels(self) -> int | None:
        """The most pixels that trials train at, before images are read; None of a training of the user's own."""
        if self.evaluate is not None:
            return None
        identity = self.config.identity
        return self.split.resolution if self.split else identity.train.resolution or identity.largest

    @property
    def _shares_gpus(self) -> bool:
        """Whether several trials will share a GPU of this machine, and may run side by side on it."""
        conduct = self.config.conduct
        if not conduct.mps or conduct.device == "cpu" or conduct.ray_address:
            return False
        return 0 < tuner.plan(gpu_sharing.here(), conduct, self._pixels, side_by_side=True).gpus < 1

    def _images(self) -> Split | None:
        """The training images, with as many channels as the networks take; None where a training has its own."""
        i, channels = self.config.identity, self.config.space.network.in_channels
        if self.own_data:
            return None
        metric = None if self.evaluate else i.metric
        if self.split is not None:
            for line in () if self.quiet else describe(self.split, metric):
                self._say(line)
            split = self.split
        else:
            pixels = i.train.resolution
            split = read_images(i.data, i.seed, pixels, self.console, self.quiet, i.largest, channels, metric)
        if i.metric != DEFAULT_METRIC and self.evaluate is None:
            from nas.training import scoring

            scoring.check(i.metric, split.val_labels, split.num_classes)
        return split

    def _show(self, study: Study, ended: Ended) -> None:
        study.check_place()
        folder.write_results(study, self.folder)
        print_summary(self.console, study, self.folder, self.config, ended.why, ended.used_up)

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line)

    def _new(self) -> SearchConfig:
        config = search_options.config_from_args(self.args, self.given.space, self.split)
        search_options.check_classes(config, self.split)
        if self.split is None and config.identity.data.dataset != OWN_DATA:
            check_part(config.identity.data, config.identity.seed)
        return config

    def _object(self) -> Split:
        """The dataset that Python gave, as a split."""
        args = self.args
        if self.old:
            space, data, seed = self.old.space, self.old.identity.data, self.old.identity.seed
            pixels = args.train_resolution or self.old.identity.train.resolution
        else:
            given = self.given.space or Space.of(args.space or search_options.SPACE)
            space = search_options.narrow(given, args.fix, args.without, args.deploy)
            data, seed, pixels = search_options.image_options_of(args), args.seed or 0, args.train_resolution
        asked = {name: getattr(args, name) for name in ("images", "train_resolution", "skip_bad", "data_range", "flip")}
        unused = [name for name, option in asked.items() if option is not None]
        return load_object(self.given.dataset, data, seed, pixels, space.network.in_channels, unused)

    def _load_function(self, what: str, text: str | None) -> Any:
        """What `module:function` names, of this command or of the run that is carried on."""
        text = text or (getattr(self.old.identity, what) if self.old else None)
        return search_options.function(what, text) if text and ":" in text else None

    def _check_training_options(self) -> None:
        """`InputError` where a metric, a pre-screen or data do not go with the training."""
        identity = self.config.identity
        if self.evaluate is None:
            if self.given.data is not None:
                raise InputError("data: goes with evaluate=, a training of your own; dataset= gives images to ours")
            if identity.metric != DEFAULT_METRIC:
                from nas.training import scoring

                scoring.check_name(identity.metric)
        elif identity.prescreen.draws > 1 and self.own_data:
            raise InputError("prescreen: scores networks on the dataset's images; give --dataset too")

    def _design(self) -> Callable[..., Design]:
        """What makes the study's design, with a sampler that is a function."""
        sampler = self.sampler
        return (lambda **design: Design(**{**design, "sampler": sampler})) if sampler else Design

    def _trackers(self) -> list[Any]:
        if not self.args.track:
            return []
        from nas.run.trackers import tracker

        return [tracker(name, self.folder, self.config) for name in self.args.track]


def number_ended(run: Path) -> int:
    """How many trials of a run are done."""
    if not storage.holds(StudyLocation(run)):
        return 0
    return sum(record.state != "running" for record in Run.open(run).trials)


def taught_by(runs: Iterable[str | Path], config: SearchConfig) -> warm_start.Sources:
    """What earlier runs teach a search; `InputError` for a folder that is no run, or teaches nothing."""
    found = []
    for path in runs:
        try:
            run = Run.open(path)
        except InputError as error:
            raise InputError(f"warm-start {error}") from None
        found.append((str(path), run.config, run.study))
    return warm_start.gather(found, config)


def carry_out_command(begun: Search) -> int:
    """Carry out a search for a command: what stops it is a line, and an exit code."""
    try:
        ended = begun.carry_out()
    except (FailuresError, LostClusterError, MissingError) as error:
        return command.fail("nas.search", str(error))
    except StorageError as error:
        return command.fail("nas.search", f"{begun.place}: {error}; nothing is lost: the same command carries on")
    if ended.signal:
        return signals.BY_SIGNAL + ended.signal
    if ended.found or ended.why:
        return 0
    return command.fail("nas.search", f"no trial is complete, so there is no network; see {begun.folder / folder.LOG}")
