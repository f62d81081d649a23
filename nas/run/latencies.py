"""The latencies that a run knows: the layer times of its device, and those of its best networks, measured."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from nas.config import Execution, SearchConfig
from nas.run.run import TABLE
from nas.study.finals import best_first
from nas.study.study import Study
from nas.views.meter import meter
from nas.views.terminal import print_device
from searchspace.costs.latency import LatencyTable
from searchspace.errors import InputError
from searchspace.space.space import Space

TIMED_BEST = 5
TIMED_ROUNDS = 9


def with_latencies(
    config: SearchConfig, run: Path, existed: bool, given: Path | None, console: Console, quiet: bool
) -> Space:
    """The space with the latencies of a device, where its layer times are known, or the budget needs them: measured
    now where they are not. A run keeps the table that it began with, also when it is carried on elsewhere."""
    from nas.latency import device_table, timing

    space, own = config.space, run / TABLE
    if own.is_file():
        table = LatencyTable.load(own)
        if given is not None and LatencyTable.load(given) != table:
            raise InputError(f"run {run} has another latency table, of {table}; give another --run")
        return space.with_latencies(table)
    if given is not None:
        table = LatencyTable.load(given)
        if space.title not in table.spaces and not quiet:
            known = ", ".join(table.spaces) or "a space that it does not name"
            console.print(f"latency table {given} is of {known}, not of {space.title}: predictions may be far off")
        return space.with_latencies(table)
    needed = config.budget.limits_latency or "latency" in config.identity.minimize
    if not needed and (existed or not timing.is_here(config.conduct.device)):
        return space
    device = timing.device_for(config.conduct.device)
    if needed:
        return measure_here(space, device, console, quiet)
    complete = device_table.find_complete(device_table.default_path(timing.conditions(device)), space)
    return space if complete is None else space.with_latencies(complete)


def check_device(conduct: Execution) -> None:
    """`InputError` where a search of this machine alone asks for a GPU and there is none."""
    if conduct.device == "cuda" and conduct.ray_address is None:
        from nas.latency import timing

        timing.device_for(conduct.device)


def with_layer_times(space: Space, config: SearchConfig, run: Path, console: Console, quiet: bool) -> Space:
    """The space with latencies also where no budget asks for them, so that every trial shows one beside its FLOPs.

    Layers are timed once per device. Kept in the run's folder; not where trials run on other machines' devices, nor on
    a GPU, whose trials are shorter than that takes.
    """
    from nas.latency import timing

    if space.latency is None and timing.is_here(config.conduct.device) and config.conduct.ray_address is None:
        device = timing.device_for(config.conduct.device)
        if device == "cpu":
            space = with_cached_layer_times(space, device, console, quiet)
        if not quiet and space.latency is not None:
            print_device(console, space.latency)
    if space.latency is not None:
        space.latency.save(run / TABLE)
    return space


def runs_to_time(space: Space, config: SearchConfig, existed: bool) -> int:
    """About how often networks are run to time the layers of a new run; 0 where their times are known, or not used."""
    from nas.latency import device_table, timing

    conduct = config.conduct
    if existed or space.latency is not None or conduct.ray_address or not timing.is_here(conduct.device):
        return 0
    if timing.device_for(conduct.device) == "cuda":
        return 0
    return 2 * device_table.NETWORKS * device_table.ROUNDS


def with_cached_layer_times(space: Space, device: str, console: Console, quiet: bool) -> Space:
    """The space with this device's layer times; where the cache cannot be used they are measured for this run alone,
    since no budget depends on them."""
    from nas.latency import device_table, timing

    try:
        return measure_here(space, device, console, quiet)
    except (InputError, OSError) as error:
        if not quiet:
            console.print(f"{error}; layers are timed for this run alone")
        with meter(console, "timing layers", quiet) as progress:
            table = device_table.ensure(None, space, timing.conditions(device), progress, progress.say)
        return space.with_latencies(table)


def measure_here(space: Space, device: str, console: Console, quiet: bool) -> Space:
    """The space with the layer times of this machine's device, measured as far as they are not known."""
    from nas.latency import device_table, timing

    here = timing.conditions(device)
    with meter(console, "timing layers", quiet) as progress:
        table = device_table.ensure(device_table.default_path(here), space, here, progress, progress.say)
    return space.with_latencies(table)


def time_best(study: Study, conduct: Execution) -> str:
    """Measure the best networks' latency, now that no trial runs; returns why they were not measured, or "". Whether
    somebody else's work was in the way stays with the study.

    Only on the device and under the conditions of the run's layer times, beside which they are shown.
    """
    from nas.latency import runtimes

    best = [study.trial(record.number) for record in best_first(study.records, study.finals)[:TIMED_BEST]]
    known = study.alone_ms
    if all(trial.number in known for trial in best):
        return ""
    here, why = where_to_time(study.space.latency, conduct)
    if here is None:
        return f"the best networks were not timed: {why}"
    times = runtimes.network_ms([trial.arch for trial in best], here, TIMED_ROUNDS)
    study.alone_ms = {**known, **{trial.number: ms for trial, ms in zip(best, times, strict=True)}}
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    # Trials of this run are among the load, which is a mean over the last minute.
    study.busy = f"a load of {load:.1f} on {cores} cores" if load > cores + 1 else ""
    return ""


def where_to_time(table: LatencyTable | None, conduct: Execution) -> tuple[LatencyTable | None, str]:
    """The conditions under which this machine can time as a table says, or on the device that trials ran on; else why
    there are none."""
    from nas.latency import onnx_networks, timing

    if table is None:
        if conduct.ray_address:
            return None, f"trials ran on a cluster's devices, this is {timing.device_name('cpu')}"
        device = conduct.device
        return (
            (timing.conditions(timing.device_for(device)), "") if timing.is_here(device) else (None, "no GPU is here")
        )
    size = table.batch_size, table.threads
    if table.onnxruntime:
        try:
            here = [onnx_networks.conditions("int8" if table.dtype == "int8" else "float32", *size)]
        except InputError as error:
            return None, str(error)
    else:
        devices = ("cuda", "cpu") if timing.is_here("cuda") else ("cpu",)
        here = [timing.conditions(device, *size) for device in devices]
    for conditions in here:
        if timing.alike(table, conditions):
            return conditions, ""
    return None, f"predictions are for {table}; this is {' and '.join(map(str, here))}"
