"""What to do next with a run, as commands that can be given as they stand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.analysis import agreement
from nas.analysis.state import State
from nas.study.finals import Finals, best_first
from nas.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class Step:
    what: str
    command: str


def steps(
    run: Path,
    command: str,
    found: State,
    trials: Sequence[TrialRecord],
    trained: Sequence[agreement.Retrained],
    finals: Finals | None = None,
) -> Iterator[Step]:
    """The commands for a run whose search was begun with `command`; paths are as the run's was given."""
    again = search_command(command, run, found.wanted)
    complete = best_first(trials, finals)
    if found.unfinished and not found.alive and again:
        yield Step("Carry on with the search.", again)
    if complete and not trained:
        yield Step(
            "Train the best network in full: brief scores only rank networks, this is what you get.",
            command_line("nas.train", path(run), "--top", "1"),
        )
    if trained:
        yield Step(
            f"Take the trained network home (trial {trained[0].trial}).",
            command_line("nas.export", path(trained[0].folder), "--out", path(beside(run)), "--onnx"),
        )
    elif complete:
        yield Step(
            "Take the best network home untrained, as plain PyTorch.",
            command_line("nas.export", path(run), "--out", path(beside(run))),
        )
    if len(complete) > 1 and len(trained) < 2:
        yield Step(
            "See whether brief scores tell which networks are good.",
            command_line("nas.train", path(run), "--top", str(min(5, len(complete))), *_controls(trials, complete)),
        )
    if again and not found.unfinished:
        yield Step("Search on with twice the trials.", search_command(command, run, 2 * found.wanted))
    yield Step("Look at every trial in the Optuna dashboard.", command_line("nas.dashboard", path(run)))
    if found.unfinished:
        yield Step("Make this page anew.", command_line("nas.report", path(run)))


def _controls(trials: Sequence[TrialRecord], complete: Sequence[TrialRecord]) -> list[str]:
    """Random networks that are not among the best already, as many as `nas.train` accepts, at most 3."""
    best = {trial.number for trial in complete[:5]}
    ended = [t for t in trials if t.role == "control" and t.state in ("complete", "pruned") and t.curve]
    number = min(3, sum(trial.number not in best for trial in ended))
    return ["--control", str(number)] if number else []


def search_command(command: str, run: Path, trials: int) -> str:
    """The search's own command with this folder and so many trials; "" where it is not known."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    if words[:3] != ["python", "-m", "nas.search"]:
        return ""
    return shlex.join([*without(words, "--run", "--trials"), "--trials", str(trials), "--run", path(run)])


def without(words: Sequence[str], *options: str) -> list[str]:
    """A command line without some options and their values."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif not word.startswith(tuple(f"{option}=" for option in options)):
            kept.append(word)
    return kept


def command_line(module: str, *words: str) -> str:
    return shlex.join(["python", "-m", module, *words])


def path(given: Path) -> str:
    """A path that no command takes for an option."""
    return f"./{given}" if str(given).startswith("-") else str(given)


def beside(run: Path) -> Path:
    """Where a network of a run is taken to."""
    return Path("deploy") / run.resolve().name
