"""`python -m nas.search --budget 300MFLOPs`: from a budget to a network that builds."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from nas.analysis.time_left import TimeLeft
from nas.config import SearchConfig
from nas.data.datasets import Split, check_channels
from nas.run import environment, folder, latencies, resume, search_options
from nas.run.images import read_images
from nas.study import storage, warm_start
from nas.study.objectives import check_known
from nas.study.storage import StudyLocation
from nas.study.study import StorageError, Study, known_within, outcomes
from nas.views.terminal import Display, print_device, print_preflight, print_summary
from nas.workers import tuner
from nas.workers.cluster import Cluster
from nas.workers.coordinator import Coordinator, FailuresError
from searchspace import command
from searchspace.document import plain
from searchspace.errors import InputError
from searchspace.space.preflight import preflight
from searchspace.space.space import Space


def main(arguments: Sequence[str]) -> int:
    args = search_options.parser().parse_args(arguments)
    if args.storage:
        storage.server(args.storage)
        shown = storage.without_password(args.storage)
        arguments = [word.replace(args.storage, shown) for word in arguments]
    args.command = command.line("nas.search", arguments)
    console = command.console()
    run = args.run or Path("runs") / search_options.default_name(args)
    old = resume.find(run)
    config = search_options.config_from_args(args) if old is None else resume.carry_on(args, run, old)
    latencies.check_device(config.conduct)
    existed = folder.can_resume(run, config)
    place = folder.study_location(run, args.storage, old)
    if place.url:
        kept = replace(config.conduct, storage=storage.without_password(place.url), study=place.name)
        config = replace(config, conduct=kept)
    if not args.quiet:  # which takes some seconds
        console.print(f"counting the networks of {config.space_name} within {config.budget}")
    check_channels(config.identity.data, config.space.network.in_channels)
    taught = (warm_start.saved(run) if existed else None) or warm_start.gather(config.identity.warm_start, config)
    space = latencies.timed(config, run, existed, args.latency_table, console, args.quiet)
    config = config if existed else with_known(config, space)
    check_known(space, config.identity.minimize)
    if not args.quiet:
        whose = search_options.classes_of(args, config) if old is None else ""
        print_preflight(console, preflight(space, config.budget, config.identity.band), config, whose)
        if old and (words := resume.unsaid(args, old)):
            console.print(f"the run began with {' '.join(words)}, and keeps that")
        if space.latency is not None:
            print_device(console, space.latency)
        for source in taught.sources:
            console.print(f"warm start: {source}")
    if args.dry_run:
        from nas.run.estimate import print_plan

        started = time.monotonic()
        split = images(config, console, args.quiet)
        done = finished(run) if existed and not place.url else 0
        layers = latencies.runs_to_time(space, config, existed)
        print_plan(console, config, space, split, run, time.monotonic() - started, done, layers)
        return 0
    begun_already = storage.holds(place)  # whole, and a server can be reached: else the folder is not touched
    with folder.lock_run(run, config) as log, Cluster(config.conduct.ray_address, args.command) as cluster:
        if taught.sources:
            warm_start.save(taught, run)
        if not begun_already:
            space = latencies.with_layer_times(space, config, run, console, args.quiet)
            cluster.begin()  # beside what is read and opened next
        study, why, stopped_by = None, "", 0
        try:
            study = open_study(run, config, space, taught, place)
            done, total = study.finished, config.conduct.trials
            verb = "carries on" if existed else "starts"
            if not args.quiet:
                console.print(f"run {run} {verb}: {done} of {total} trials done")
            if done < total:
                why, stopped_by = run_trials(study, config, console, log, args.quiet, run, cluster)
            if why != "stopped":
                untimed = latencies.time_best(study, config.conduct)
                if untimed and not args.quiet:
                    console.print(untimed)
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
    if stopped_by:
        return command.BY_SIGNAL + stopped_by
    return 0 if found or why else command.FAILED


def run_trials(
    study: Study, config: SearchConfig, console: Console, log: folder.Log, quiet: bool, run: Path, cluster: Cluster
) -> tuple[str, int]:
    """Run what is left of a run's trials: why that ended, "" where all are done, and the signal that ended it or 0."""
    identity, conduct = config.identity, config.conduct
    split = images(config, console, quiet)
    environment.note(run)
    try:
        study.check_images(split.fingerprint, len(split.val_labels))
    except InputError as error:
        raise InputError(f"run {run}: {error}") from None
    if identity.prescreen.draws > 1:
        from nas.training.prescreen import Screen

        study.proposals.screen = Screen(identity.prescreen, split, identity.seed, study.space.extremes)
    best = study.ranked[0].value or 0.0 if study.ranked else -1.0
    outcomes = study.outcomes
    display = Display(
        console,
        log,
        conduct.trials,
        study.finished,
        best,
        quiet,
        ended=folder.Results(study, run, log).update,
        timed=study.space.latency is not None,
        title=f"{config.budget} in {config.space_name} on {split.name}: {run}",
        counts=Counter(outcome.outcome for outcome in outcomes),
        time_left=TimeLeft(conduct.trials, identity.train.epochs, [max(o.curve, default=0) for o in outcomes]),
    )
    with display:
        course = Coordinator(study, conduct.trials, identity.train.epochs, display, run.resolve() / folder.CHECKPOINTS)
        why = tuner.run(course, split, identity.train, conduct, log, identity.seed, cluster)
    cluster.end()  # before latencies are measured
    return why, course.stopped_by


def images(config: SearchConfig, console: Console, quiet: bool) -> Split:
    """The training images, with as many channels as the space's networks take."""
    i, channels = config.identity, config.space.network.in_channels
    return read_images(i.data, i.seed, i.train.resolution, console, quiet, channels=channels)


def finished(run: Path) -> int:
    """How many trials of a run are done."""
    ends = (outcome.outcome for outcome in outcomes(storage.load(run))) if storage.holds(StudyLocation(run)) else ()
    return sum(end != "running" for end in ends)


def open_study(
    run: Path,
    config: SearchConfig,
    space: Space | None = None,
    taught: warm_start.Sources | None = None,
    place: StudyLocation | None = None,
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


def with_known(config: SearchConfig, space: Space) -> SearchConfig:
    """As many baselines as known networks fit, which of a latency only a space with layer times can say."""
    i = config.identity
    known = sum(1 for _ in known_within(space, config.budget, i.band)) if i.baselines else 0
    return replace(config, identity=replace(i, baselines=min(i.baselines, known)))


if __name__ == "__main__":
    command.run(main, "nas.search")
