"""What a report tells to do next: commands that the programs accept as they stand; and how far a run is."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas import dashboard, export, report, train
from nas.analysis.agreement import Retrained, networks_to_compare
from nas.analysis.state import State, state
from nas.run import search_options
from nas.trial import TrialRecord
from nas.views.next_steps import search_command, steps
from tests.nas.study.test_finals import held, trial
from tests.support.records import record

FINISHED, BEGUN = State(6, 6), "python -m nas.search --budget 100MFLOPs --trials 6 --dataset 'my photos'"
PARSERS: dict[str, Any] = {
    "nas.search": search_options.parser,
    "nas.train": train.parser,
    "nas.export": export.parser,
    "nas.dashboard": dashboard.parser,
    "nas.report": report.parser,
}


def outcome(number: int, role: str = "search", end: Any = "complete") -> TrialRecord:
    return record(number, end, role=role, loss=1.0)


TRIALS = [outcome(0, "baseline"), *(outcome(n, "control") for n in (1, 2)), outcome(3), outcome(4, end="pruned")]
TRAINED = [Retrained(3, "search", 0.5, 10, 0.9, 100, 0.8, 100, folder=Path("runs/a/retrained/trial-3"))]


@pytest.mark.parametrize("run", ["runs/a", 'my runs/it\'s $(rm) "a"', "-q", "--help", "ü/[b]"])
@pytest.mark.parametrize("found", [FINISHED, State(5, 6), State(5, 6, (5,)), State(0, 6, alive=True)])
@pytest.mark.parametrize("trained", [[], TRAINED])
def test_every_command_is_accepted_and_names_the_run(run: str, found: State, trained: list[Retrained]) -> None:
    there = [replace(row, folder=Path(run) / "retrained" / "trial-3") for row in trained]
    told = list(steps(Path(run), BEGUN, found, TRIALS, there))
    assert told
    for step in told:
        python, _, module, *words = shlex.split(step.command)
        assert python == "python"
        parsed = PARSERS[module]().parse_args(words)
        place = str(getattr(parsed, "run", None) or getattr(parsed, "arch", None))
        assert Path(place) in (Path(run), Path(run) / "retrained" / "trial-3")


def test_what_is_told_follows_what_is_done() -> None:
    def commands(found: State, trials: list[TrialRecord], trained: list[Retrained]) -> list[str]:
        return [step.command for step in steps(Path("runs/a"), BEGUN, found, trials, trained)]

    assert "python -m nas.train runs/a --top 1" in commands(FINISHED, TRIALS, [])
    assert "python -m nas.train runs/a --top 4" in commands(FINISHED, TRIALS, [])
    assert "python -m nas.export runs/a/retrained/trial-3 --out deploy/a --onnx" in commands(FINISHED, TRIALS, TRAINED)
    again = "python -m nas.search --budget 100MFLOPs --dataset 'my photos' --trials {} --run runs/a"
    assert again.format(12) in commands(FINISHED, TRIALS, [])
    assert commands(State(5, 6), TRIALS, [])[0] == again.format(6)
    assert not any("nas.search" in one for one in commands(State(5, 6, alive=True), TRIALS, []))
    assert commands(FINISHED, [], []) == [again.format(12), "python -m nas.dashboard runs/a"]
    ones = [outcome(n, "control", "pruned") for n in range(9)] + [outcome(9), outcome(10)]
    assert "python -m nas.train runs/a --top 2 --control 3" in commands(FINISHED, ones, [])


def test_networks_that_the_finals_put_first_are_not_trained_twice() -> None:
    """A random network among them is one less to compare with."""
    textbook = [trial(0, 0.6, "baseline"), trial(1, 0.58, "baseline")]
    random = [trial(number, 0.4 + number / 100, "control") for number in (2, 3, 4)]
    trials = [*textbook, *random, *(trial(number, 0.6 + number / 100) for number in range(5, 12))]
    finals = held(trials, lambda network, _: network.score or 0.0, finalists=1)
    commands = [step.command for step in steps(Path("runs/a"), BEGUN, FINISHED, trials, [], finals)]
    assert "python -m nas.train runs/a --top 5 --control 2" in commands
    assert len(networks_to_compare(trials, 5, 2, 0, finals)) == 7


def test_a_search_that_is_not_known_is_not_told() -> None:
    for command in ("", "python search.py", "python -m nas.search 'unclosed"):
        assert search_command(command, Path("runs/a"), 12) == ""
    told = search_command("python -m nas.search --run=old --trials=3 --budget 1G", Path("new"), 9)
    assert told == "python -m nas.search --budget 1G --trials 9 --run new"


def test_how_far_a_run_is() -> None:
    running = [outcome(0), outcome(1, end="running"), outcome(2, end="running")]
    assert state(running, 9, [], True).sentences == ["The search is running: 1 of 9 trials ended, 2 are being trained."]
    stopped = state(running, 9, ["1 interrupted trial (3) was asked again as 4."], False).sentences
    assert stopped[0].startswith("The search has stopped: 1 of 9 trials ended; trials 1 and 2 began and did not end")
    assert stopped[1:] == ["1 interrupted trial (3) was asked again as 4."]
    assert state(running[:1], 1, [], False).sentences == ["The search is finished: 1 of 1 trials ended."]
    assert state([], 4, [], False).sentences[0].startswith("The search has stopped: 0 of 4 trials ended.")
    assert "not finished" in state(running, 9, [], None).sentences[0]
    over, trained = [outcome(0)], [outcome(5), outcome(6), outcome(7, end="running")]
    said = "1 of 1 trials ended; its finals are not over, 2 trainings ended"
    assert state(over, 1, [], True, trained, due=True).sentences == [
        f"The search is running: {said}, 1 is being trained."
    ]
    assert state(over, 1, [], True).sentences == ["The search is running: 1 of 1 trials ended."]
    cut = state(over, 1, [], False, trained, due=True)
    assert cut.unfinished
    assert cut.sentences[0] == f"The search has stopped: {said}. The same command carries on."
    many = state([outcome(number, end="running") for number in range(30)], 99, [], False).sentences[0]
    assert "trials 0, 1, 2, 3, 4, 5, 6, 7, 8 and 21 more began and did not end" in many
