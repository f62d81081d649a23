"""Kill a search again and again, at moments that a seed draws: the same command ends with all that it should have."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import optuna
import pandas as pd
import pytest

from nas.study.finals import best_of, finals_of
from nas.study.records import rank, trial_records
from nas.study.storage import load, load_finals
from nas.trial import TrialRecord
from searchspace import Arch
from tests.nas.test_search import ENVIRONMENT
from tests.support import mariadb, postgres
from tests.support.postgres import PASSWORD

pytestmark = pytest.mark.slow
# A network of 2 million multiply-adds trains in about two seconds, of which one is its audit.
SMALL = ["--budget", "2MFLOPs", "--space", "rexnet", "--resolution", "32", "--num-classes", "10", "--epochs", "3"]
SMALL += ["--concurrent", "2", "--seed", "5", "--quiet"]
WORKING_S, START_S = 900, 15.0  # on a machine that others use too a trial may take a minute
FINALS = ["--finalists", "3"]
# A training of one's own, which looks for an earlier checkpoint of its own and says what it did not train again.
OWN = """
import time
from nas import Result

def train(trial, context):
    done = int(context.checkpoint.read_text()) if context.checkpoint and context.checkpoint.exists() else 0
    for epoch in range(1, context.epochs + 1):
        if epoch > done:
            time.sleep(0.3)
            if context.checkpoint:
                context.checkpoint.write_text(str(epoch))
        yield Result(score=epoch / 100 + int(trial.digest[:4], 16) / 2**17, images=64)
"""


class Storm(NamedTuple):
    """What is left after some rounds of kills, and how many trials and trainings of finals had ended before each."""

    trials: list[TrialRecord]
    ended: list[tuple[int, int]]


BUSY = "Ray cannot be started on this machine"  # in Ray's own 30 seconds, on a busy one


def begin(run: Path, total: int, more: list[str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "nas.search", *SMALL, "--trials", str(total), "--run", str(run), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=run.parent)


def finish(run: Path, total: int, more: list[str]) -> str:
    process = begin(run, total, more)
    out, err = process.communicate(timeout=WORKING_S)
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    return out


def storm(run: Path, rounds: int, total: int, more: list[str], during: dict[int, object]) -> Storm:
    """Rounds of SIGKILL, then to the end. A round whose search ended before its kill asks for two trials more."""
    draw = random.Random(rounds)
    ended: list[tuple[int, int]] = []
    for number in range(rounds):
        process = begin(run, total, more)
        wait(process, run, draw)
        killed = process.poll() is None
        if killed:
            os.kill(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if not killed and not (process.returncode == 1 and BUSY in err):
            assert process.returncode == 0, out + err
            total += 2
        assert "Traceback" not in out + err, out + err
        happens = during.get(number)
        if callable(happens):
            happens()
        print(f"round {number + 1}: {events(run)} events", flush=True)
        ended.append((0, 0))
        if (run / "config.yaml").exists():
            with read(run) as stored:
                ended[-1] = number_ended(stored), number_ended(load_finals(stored))
    finish(run, total, more)
    with read(run) as stored:
        if "--finalists" in more:
            check_finals(stored, run)
        return checked(stored, run, total, ended)


def number_ended(stored: optuna.Study | None) -> int:
    return sum(trial.state != "running" for trial in trial_records(stored)) if stored else 0


@contextmanager
def read(run: Path) -> Iterator[optuna.Study]:
    """A run's study, and no connection left open."""
    stored = load(run)
    try:
        yield stored
    finally:
        stored._storage.remove_session()
        stored._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def wait(process: subprocess.Popen[str], run: Path, draw: random.Random) -> None:
    """Until a random moment: of the start, or a little after one of the next starts, epochs and ends of trials."""
    if draw.random() < 1 / 3:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=draw.uniform(0.5, START_S))
        return
    seen = events(run) + draw.randint(1, 8)
    deadline = time.monotonic() + WORKING_S
    while events(run) < seen and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(draw.choice([0.0, draw.uniform(0, 2)]))


def events(run: Path) -> int:
    log = run / "log.txt"
    return log.read_text().count(" trial ") if log.exists() else 0


def checked(stored: optuna.Study, run: Path, total: int, ended: list[tuple[int, int]]) -> Storm:
    trials = trial_records(stored)
    assert len(trials) == total == len({trial.digest for trial in trials})
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert not [trial for trial in stored.trials if not trial.state.is_finished()]
    assert [t.error for t in trial_records(stored) if t.state == "failed"] == []
    for counts in zip(*ended, strict=True):
        assert list(counts) == sorted(counts), "no finished trial or training is lost"
    best = max(trial.score or 0 for trial in trials if trial.state == "complete")
    assert rank(trials)[0].score == best
    assert all(list(trial.curve) == list(range(1, len(trial.curve) + 1)) for trial in trials), "curves have no holes"
    assert not (run / "checkpoints").exists()
    interrupted = len(stored.trials) - len(trials)
    print(f"{len(ended)} kills, {interrupted} trials interrupted, {len(trials)} finished; ended before: {ended}")
    return Storm(trials, ended)


def check_finals(stored: optuna.Study, run: Path) -> None:
    """They are over, no training was made twice, and every file says the same of them."""
    finals, kept = finals_of(stored), load_finals(stored)
    assert finals
    assert kept
    assert finals.over
    assert all(trial.state.is_finished() for trial in kept.trials)
    assert {one.state for one in finals.trainings} == {"complete"}
    trained = [(one.digest, one.final.round) for one in finals.trainings if one.final]
    assert len(trained) == len(finals.trainings) == len(set(trained))
    assert all(one.final and list(one.curve) == list(range(1, one.final.epochs + 1)) for one in finals.trainings)
    rows = pd.read_csv(run / "finals.csv")
    assert sorted(zip(rows["digest"], rows["round"], strict=True)) == sorted(trained)
    assert best_of(trial_records(stored), finals) == finals.winner
    assert Arch.load(run / "best.yaml") == finals.winner.arch
    assert not (run / "finals-checkpoints").exists()
    print(f"finals: {len(trained)} trainings, {len(kept.trials) - len(trained)} interrupted")


@pytest.mark.parametrize("own", [[], ["--evaluate", "own:train"]], ids=["built-in training", "own training"])
def test_thirty_kills_lose_nothing(own: list[str], tmp_path: Path) -> None:
    begun = time.monotonic()
    (tmp_path / "own.py").write_text(OWN)
    storm(tmp_path / "run", 30, 10 if own else 24, [*FINALS, *own], {})  # few trials: more of the kills are in finals
    print(f"{time.monotonic() - begun:.0f} s")


@pytest.mark.parametrize("kind", [postgres, mariadb], ids=["PostgreSQL", "MariaDB"])
def test_ten_kills_on_a_server_that_is_started_anew(
    kind: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    begun = time.monotonic()
    with kind.server() as server:
        url = server.url_by_option_file(tmp_path / "options") if kind is mariadb else server.url
        run, more = tmp_path / "run", [*FINALS, "--storage", url]

        def restarted_while_it_runs() -> None:
            before, process = events(run), begin(run, 40, more)
            deadline = time.monotonic() + WORKING_S
            while events(run) == before and process.poll() is None:  # a server that is away at its start ends it
                assert time.monotonic() < deadline
                time.sleep(0.1)
            server.stop("immediate")
            time.sleep(3)
            server.start()
            time.sleep(4)
            assert process.poll() is None, process.communicate()
            process.kill()
            process.communicate()

        storm(run, 10, 16, more, {4: restarted_while_it_runs})
        assert not [path for path in run.iterdir() if PASSWORD.encode() in path.read_bytes()]
    print(f"{time.monotonic() - begun:.0f} s")
