"""A whole search with finals, by a training that takes no time: the lucky in brief, the better when trained long."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from nas import Context, Result, Run, Trial
from nas.config import Execution
from nas.run.finals import patient
from nas.run.search import Given, Search
from nas.run.search_options import config_from_args, from_python
from searchspace import Arch, Space
from tests.searchspace.space.test_space import SMALL

TINY = {
    "budget": "2MFLOPs",
    "space": "mobile_small",
    "resolution": 32,
    "num_classes": 3,
    "concurrent": 2,
    "quiet": True,
}
TRIALS, EPOCHS = 14, 2


def noise(trial: Trial, context: Context) -> float:
    return int(hashlib.sha256(f"{trial.digest} {context.seed}".encode()).hexdigest()[:4], 16) / 16**4


def lucky(trial: Trial, context: Context) -> Iterator[Result]:
    """More parameters are better, which long training shows and brief training hardly."""
    good = min(trial.cost.params / 1e6, 0.5)
    for epoch in range(context.epochs):
        luck = 0.4 * noise(trial, context) if context.epochs == EPOCHS else 0.0
        yield Result(score=good + luck, images=64, correct="64:" + "f0" * 8 if epoch + 1 == context.epochs else "")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finals") / "run"
    return Run.search(**TINY, evaluate=lucky, folder=folder, trials=TRIALS, epochs=EPOCHS, finalists=4)


def test_the_winner_of_the_finals_is_named_everywhere(run: Run) -> None:
    finals = run.finals
    assert finals
    assert run.best == finals.winner
    assert Arch.load(run.folder / "best.yaml") == finals.winner.arch
    assert "the winner of the finals" in (run.folder / "best.yaml").read_text()
    contenders = [trial.cost.params for trial in finals.contenders]
    assert finals.winner.cost.params == max(contenders)
    said = run.describe()
    assert "Finals: " in said
    assert "fresh seeds" in said
    page = run.report().read_text()
    assert "<h2>Finals</h2>" in page
    assert "had decided nothing before" in page
    card = (run.export("best") / "card.md").read_text()
    assert "Finals: " in card
    assert "Finals" not in (run.export(run.ranked[-1].number, out=run.folder / "other") / "card.md").read_text()


def test_their_trainings_are_no_trials_and_in_a_table_of_their_own(run: Run) -> None:
    finals = run.finals
    assert finals
    assert len(run.trials) == TRIALS
    rows = pd.read_csv(run.folder / "finals.csv")
    assert len(rows) == len(finals.trainings) == finals.number_of_trainings
    assert set(rows["trial"]) == {trial.number for trial in finals.contenders}
    assert set(rows["outcome"]) == {"complete"}
    assert rows.groupby("round")["epochs"].max().to_dict() == {1: 3, 2: 5, 3: 5, 4: 5}
    assert not (run.folder / "finals-checkpoints").exists()


def test_finals_that_are_not_over_are_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run.state.unfinished
    assert run.finals
    number = len(run.finals.trainings)
    monkeypatch.setattr(Run, "finals", None)
    said = f"has stopped: 14 of 14 trials ended; its finals are not over, {number} trainings ended. The same command"
    assert said in run.describe()


def test_textbook_networks_that_are_no_points_of_the_space_are_trials(run: Run) -> None:
    baselines = [trial for trial in run.trials if trial.role == "baseline"]
    assert [trial.baseline for trial in baselines] == ["mobilenet_v3_small", "rexnet_090"]
    assert [bool(trial.point) for trial in baselines] == [True, False]
    assert all(trial.cost.macs <= 2_000_000 for trial in baselines)


def test_a_run_whose_finals_are_over_reads_no_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be gone by then."""
    monkeypatch.setattr(Search, "_images", lambda search: pytest.fail("images were read"))
    again = Run.search(**TINY, evaluate=lucky, folder=run.folder, trials=TRIALS, finalists=4)
    assert again.finals == run.finals
    assert again.best == run.best


@pytest.mark.slow
def test_the_same_command_finds_them_over_and_more_trials_hold_them_again(run: Run) -> None:
    before = run.finals
    again = Run.search(**TINY, evaluate=lucky, folder=run.folder, trials=TRIALS, finalists=4)
    assert again.finals == before
    more = Run.search(**TINY, evaluate=lucky, folder=run.folder, trials=TRIALS + 4, finalists=4)
    assert more.finals
    assert before
    trained = {(one.digest, one.final) for one in before.trainings}
    assert trained <= {(one.digest, one.final) for one in more.finals.trainings}  # none is lost, none made twice
    assert more.best == more.finals.winner


@pytest.mark.slow
def test_a_space_that_is_used_up_has_finals_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ended without, and said for ever that the same command carries on."""
    few = {"space": Space(SMALL, "few").fix(["stage2.expansion=4", "stage2.kernel=3"]), "budget": "1-2MFLOPs"}
    options = {**TINY, **few, "resolution": None, "num_classes": None, "quiet": False}
    options |= {"folder": tmp_path / "run", "trials": 200, "epochs": EPOCHS, "finalists": 2, "sampler": "random"}
    run = Run.search(**options, evaluate=lucky)
    assert len(run.trials) < 200
    assert run.finals
    assert run.best.number == run.finals.winner.number
    said = " ".join(capsys.readouterr().out.split())
    assert "done: the space has no other network within the budget" in said
    assert "the same command carries on" not in said


def test_a_training_of_finals_may_take_as_much_longer_as_it_has_more_epochs(tmp_path: Path) -> None:
    config = config_from_args(from_python({**TINY, "run": tmp_path / "run", "trials": 4, "trial_timeout": 60}))
    assert config.conduct.trial_timeout_s == 60
    assert patient(config).trial_timeout_s == 150
    assert patient(replace(config, conduct=Execution())) == Execution()


def test_what_comes_before_the_trials_is_of_the_time_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading took an hour, and a search of two ended after three: its cluster had ended it before."""
    limits = []

    def run(coordinator: object, work: object, conduct: Execution, *others: object) -> str:
        limits.append(conduct.time_limit_s)
        return "time limit"

    monkeypatch.setattr("nas.workers.tuner.run", run)
    monkeypatch.setattr("nas.workers.cluster.Cluster.begin", lambda cluster: None)
    options = {**TINY, "num_classes": None, "run": tmp_path / "run", "trials": 4, "epochs": 2, "finalists": 0}
    begun = Search(from_python({**options, "time_limit": 7200}), Given(evaluate=lucky))
    begun.begun -= 3600
    begun.carry_out()
    assert 3500 < limits[0] < 3600


def test_stopped_and_killed_they_go_on_and_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["--budget", "8MFLOPs", "--resolution", "32", "--trials", "6", "--epochs", "1", "--finalists", "3"]
    command = [sys.executable, "-u", "-m", "nas.search", *words, "--run", str(folder)]

    def begun() -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout
        in_finals = False
        for line in process.stdout:  # until one training has ended; how many have is not said in time where it is fast
            in_finals = in_finals or line.startswith("finals:")
            if in_finals and line.rstrip().endswith("complete"):
                break
        return process

    for sent, code in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        process = begun()
        process.send_signal(sent)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        assert ("the same command carries on" in said) == (sent == signal.SIGTERM)
        assert "done; --trials" not in said
        assert Run.open(folder).finals is None
        assert "complete" in set(pd.read_csv(folder / "finals.csv")["outcome"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert "Finals: " in done.stdout
    found = Run.open(folder)
    assert found.finals
    rows = pd.read_csv(folder / "finals.csv")
    complete = rows[rows["outcome"] == "complete"]
    assert len(complete) == len(complete[["digest", "round"]].drop_duplicates()) == found.finals.number_of_trainings
    assert len(found.trials) == 6
    words[words.index("--trials") + 1] = "7"
    more = [sys.executable, "-u", "-m", "nas.search", *words, "--run", str(folder)]
    said = subprocess.run(more, capture_output=True, text=True, timeout=600, check=True).stdout
    assert "finals follow again where the best networks are others then" in said
