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
from typing import NamedTuple

import optuna
import pytest

from nas.study.records import rank, trial_records
from nas.study.storage import load
from nas.trial import TrialRecord
from tests.nas.test_search import ENVIRONMENT
from tests.support.postgres import PASSWORD, server

pytestmark = pytest.mark.slow
# A network of 2 million multiply-adds trains in about two seconds, of which one is its audit.
SMALL = ["--budget", "2MFLOPs", "--space", "rexnet", "--resolution", "32", "--num-classes", "10", "--epochs", "3"]
SMALL += ["--concurrent", "2", "--seed", "5", "--quiet"]
WORKING_S, START_S = 300, 15.0


class Storm(NamedTuple):
    """What is left after some rounds of kills, and how many trials had ended before each."""

    trials: list[TrialRecord]
    ended: list[int]


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
    ended: list[int] = []
    for number in range(rounds):
        process = begin(run, total, more)
        wait(process, run, draw)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        else:
            assert process.returncode == 0, process.communicate()
            total += 2
        out, err = process.communicate()
        assert "Traceback" not in out + err, out + err
        happens = during.get(number)
        if callable(happens):
            happens()
        print(f"round {number + 1}: {events(run)} events", flush=True)
        ended.append(0)
        if (run / "config.yaml").exists():
            with read(run) as stored:
                ended[-1] = sum(trial.state != "running" for trial in trial_records(stored))
    finish(run, total, more)
    with read(run) as stored:
        return checked(stored, run, total, ended)


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


def checked(stored: optuna.Study, run: Path, total: int, ended: list[int]) -> Storm:
    trials = trial_records(stored)
    assert len(trials) == total == len({trial.digest for trial in trials})
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert not [trial for trial in stored.trials if not trial.state.is_finished()]
    assert [t.error for t in trial_records(stored) if t.state == "failed"] == []
    assert ended == sorted(ended), "no finished trial is lost"
    best = max(trial.score or 0 for trial in trials if trial.state == "complete")
    assert rank(trials)[0].score == best
    assert all(list(trial.curve) == list(range(1, len(trial.curve) + 1)) for trial in trials), "curves have no holes"
    assert not (run / "checkpoints").exists()
    interrupted = len(stored.trials) - len(trials)
    print(f"{len(ended)} kills, {interrupted} trials interrupted, {len(trials)} finished; ended before: {ended}")
    return Storm(trials, ended)


def test_thirty_kills_lose_nothing(tmp_path: Path) -> None:
    begun = time.monotonic()
    storm(tmp_path / "run", 30, 24, [], {})
    print(f"{time.monotonic() - begun:.0f} s")


def test_ten_kills_on_a_server_that_is_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    begun = time.monotonic()
    with server() as postgres:
        run, more = tmp_path / "run", ["--storage", postgres.url]

        def restarted_while_it_runs() -> None:
            process = begin(run, 40, more)
            time.sleep(10)
            postgres.stop("immediate")
            time.sleep(3)
            postgres.start()
            time.sleep(4)
            assert process.poll() is None, process.communicate()
            process.kill()
            process.communicate()

        storm(run, 10, 16, more, {4: restarted_while_it_runs})
        assert not [path for path in run.iterdir() if PASSWORD.encode() in path.read_bytes()]
    print(f"{time.monotonic() - begun:.0f} s")
