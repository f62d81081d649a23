"""Which search a command means where a run exists: what it leaves out of the search is the run's, whatever the default.

Where and how fast trials run, and for how long, is what the command says: a run may be carried on elsewhere.
Defaults change, and so do the ready spaces; the same command still carries on an old run, as what that began. Only what
a command gives is compared with the run, as it is written.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.config import DataConfig, Execution, SearchConfig, as_written, differences
from nas.run import search_options
from searchspace.budget import Budget
from searchspace.errors import InputError
from searchspace.space.space import Space, ready

CHOICES = ("space", "fix", "without", "deploy")
IDENTITY = (
    *("space", "dataset", "images", "resolution", "num_classes", "epochs", "batch_size", "train_resolution"),
    *("flip", "skip_bad", "data_range", "sampler", "seed", "band", "fix", "without", "deploy"),
    *("no_baselines", "no_prior", "minimize"),
    *("warm_start", "prescreen", "prescreen_by", "metric", "evaluate"),
)
# How a run is carried out is a command's own but for these, by the field that keeps each.
CONDUCT = {
    "trials": "trials",
    "finalists": "finalists",
    "early_stopping": "early_stopping",
    "trial_timeout": "trial_timeout_s",
}
SHOWN = 3

Options = Mapping[str, Any]


def carry_on(args: argparse.Namespace, run: Path, old: SearchConfig) -> SearchConfig:
    """The run's own identity, carried out as the arguments say; `InputError` where they say another search."""
    search_options.check(args)
    budget = Budget.parse(args.budget)
    wanted = search_options.apply(args, old.identity)
    if budget == old.budget:  # written in another way
        wanted = replace(wanted, budget=old.identity.budget)
    if args.metric == str(old.identity.metric):  # a text, which says nothing of its interval
        wanted = replace(wanted, metric=old.identity.metric)
    # Which images are left out their fingerprint tells; test images are no part of the search.
    data = as_written(wanted.data, old.identity.data)
    wanted = replace(wanted, data=replace(data, skip_bad=old.identity.data.skip_bad))
    changed = [*space_changes(args, old), *differences(old.identity, wanted)]
    if changed:
        shown = "; ".join(changed[:SHOWN]) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
        hint = find_move(old.identity.data, wanted.data) or "give another --run"
        raise InputError(f"run {run} is another search ({shown}); {hint}")
    kept = {field: getattr(old.conduct, field) for name, field in CONDUCT.items() if getattr(args, name) is None}
    conduct = replace(search_options.conduct(args), **kept)
    if conduct.command:  # as it would begin the run
        said = [*unsaid(args, old), *unusual(kept)]
        conduct = replace(conduct, command=" ".join([conduct.command, *map(shlex.quote, said)]))
    return replace(old, conduct=conduct)


def find_move(old: DataConfig, new: DataConfig) -> str:
    """How a run whose folder of images was moved is carried on; "" where it is still there, or was none."""
    before, now = Path(old.base, old.dataset), Path(new.base, new.dataset)
    if old.dataset == new.dataset or before.exists() or not (old.base or before.is_absolute()) or not now.is_dir():
        return ""
    link = f"ln -s {shlex.quote(str(now.absolute()))} {shlex.quote(str(before))}"
    return f"{before} is not there: where it was moved, {link} carries on; else give another --run"


def unsaid(args: argparse.Namespace, old: SearchConfig) -> list[str]:
    """The options that a run was told and a command leaves out: they stay. A dataset is where it is from here."""
    words, options = [], dict(options_of(old) or {})
    if "dataset" in options:
        options["dataset"] = old.identity.data.location
    for name, value in options.items():
        if getattr(args, name) is None:
            values = value if isinstance(value, list) else [pixels(value) if isinstance(value, tuple) else value]
            words += [switch(name, one) if isinstance(one, bool) else f"{flag(name)}={one}" for one in values]
    return words


def unusual(kept: Mapping[str, Any]) -> list[str]:
    """The options that say what a run keeps of how it is carried out; none of what is usual."""
    usual, words = Execution(), []
    for name, field in CONDUCT.items():
        value = kept.get(field)
        if value is not None and value != getattr(usual, field):
            text = f"{value:.15g}s" if field == "trial_timeout_s" else value
            words.append(switch(name, value) if isinstance(value, bool) else f"{flag(name)}={text}")
    return words


def pixels(resolutions: Sequence[int]) -> str:
    """Resolutions as the option takes them: 96,128."""
    return ",".join(map(str, resolutions))


def options_of(old: SearchConfig) -> Options | None:
    """What the command of a run says that the run is; None where it cannot be read."""
    try:
        args = search_options.parser().parse_args(shlex.split(old.conduct.command)[3:])
        args = search_options.settle_budget(args)
    except (InputError, ValueError):
        return None
    return search_options.drop_unset({name: getattr(args, name) for name in IDENTITY})


def space_changes(args: argparse.Namespace, old: SearchConfig) -> list[str]:
    """What the given options of a space would change in that of a run, as they were given."""
    theirs, shown = old.space, []
    if args.resolution is not None and tuple(sorted(args.resolution)) != theirs.resolutions:
        shown.append(f"--resolution: {pixels(theirs.resolutions)} → {pixels(args.resolution)}")
    if args.num_classes is not None and args.num_classes != theirs.network.num_classes:
        shown.append(f"--num-classes: {theirs.network.num_classes} → {args.num_classes}")
    return shown + choice_changes(search_options.drop_unset({name: getattr(args, name) for name in CHOICES}), old)


def choice_changes(now: Options, old: SearchConfig) -> list[str]:
    """The same of what may be chosen. A file of somebody's own is compared by what it says, a ready space by its name:
    both sides then mean what they mean today."""
    options = options_of(old)
    before = {name: value for name, value in (options or {}).items() if name in CHOICES}
    changed = [name for name in now if now[name] != before.get(name)]
    own = "space" in now and now["space"] not in ready()
    if not changed and not own:
        return []
    new, theirs = space_of({**before, **now}, old), old.space if own or options is None else space_of(before, old)
    if new.data == theirs.data:
        return []
    written = [f"{flag(name)}: {words(before.get(name))} → {words(now[name])}" for name in changed]
    return written if options is not None and written else leaves(theirs, new, old)


def space_of(options: Options, old: SearchConfig) -> Space:
    """What options of a space mean today, at the resolution and for the classes of a run."""
    space, said = Space.load(options.get("space", search_options.SPACE)), old.space
    if "num_classes" in said.data:
        space = space.fix([f"num_classes={said.network.num_classes}"])
    if "resolution" in said.data:
        space = space.at_resolutions(said.resolutions)
    return search_options.narrow(space, *map(options.get, CHOICES[1:]))


def leaves(theirs: Space, new: Space, old: SearchConfig) -> list[str]:
    """What differs between two spaces; what follows for the known networks comes last."""
    changed = differences(*(replace(old.identity, space=space.data) for space in (theirs, new)))
    return sorted(changed, key=lambda text: text.startswith("space.known."))


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def switch(name: str, on: bool) -> str:
    return flag(name) if on else flag(f"no-{name}")


def words(value: str | Sequence[str] | None) -> str:
    """An option's value as it was written."""
    if not value:
        return "nothing"
    return value if isinstance(value, str) else ", ".join(value)
