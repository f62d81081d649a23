"""A driver that ends before a single SQL statement or commit, of its trials or of its finals: nothing is lost.

Trials are instant, so that many moments are tried; `test_chaos.py` kills whole searches.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy

from nas.run import folder
from nas.samplers import ExhaustedError
from nas.study.finals import HELD, FinalProposals, Finals, best_of, contenders, finals_of, rounds
from nas.study.records import trial_records
from nas.study.storage import load, load_finals
from nas.study.study import Study
from nas.trial import Result, Trial
from searchspace import Arch
from tests.nas.study.test_study import score

pytestmark = pytest.mark.slow
TRIALS, EPOCHS, FINALISTS, POINTS, KILLED = 4, 1, 2, 40, 9


def train(study: Study, trial: Trial) -> None:
    epochs = trial.final.epochs if trial.final else EPOCHS
    for epoch in range(1, epochs + 1):
        study.report(trial, Result(epoch=epoch, score=score(trial), loss=1.0))
    study.tell(trial, score(trial))


def search(run: Path, last: int = 0, told: Path | None = None) -> None:
    """Trials, then finals, then the files; ends the process before what it does to its database for the `last` time.
    How often that was is `told`."""
    done = count(1)

    def before(*_: object) -> None:
        number = next(done)
        if told:
            told.write_text(str(number))
        if number == last:
            os._exit(KILLED)

    for event in ("before_cursor_execute", "commit"):
        sqlalchemy.event.listen(sqlalchemy.Engine, event, before)
    with Study.open(run, "rexnet", "100MFLOPs", controls=1, seed=1) as study:
        study.validation_images = 100
        while not study.full(TRIALS):
            train(study, study.ask(TRIALS))
        chosen = tuple(contenders(study.records, FINALISTS, study.finals))
        with study.open_finals() as trainings:
            finals = Finals(chosen, tuple(trainings.records), rounds(EPOCHS))
            trainings.proposals = FinalProposals(trainings.design, finals)
            try:
                while True:
                    train(trainings, trainings.ask())
            except ExhaustedError:
                finals = replace(finals, trainings=tuple(trainings.records))
            trainings.keep(HELD, finals.kept)
        folder.write_results(study, run)


def ended(run: Path, *how: object) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=search, args=(run, *how))
    process.start()
    process.join(120)
    return process.exitcode


def outcomes(run: Path) -> dict[tuple[str, int], float | None]:
    """What has a score, of trials (round -1) and of trainings of finals."""
    if not (run / "study.db").exists():
        return {}
    try:
        stored = load(run)
    except ValueError:  # it was killed while it made the tables
        return {}
    kept = load_finals(stored)
    records = [*trial_records(stored), *(trial_records(kept) if kept else [])]
    return {(one.digest, one.final.round if one.final else -1): one.score for one in records if one.state == "complete"}


def test_no_statement_at_which_a_driver_ends_loses_anything(tmp_path: Path) -> None:
    assert ended(tmp_path / "whole", 0, tmp_path / "told") == 0
    whole, last = outcomes(tmp_path / "whole"), int((tmp_path / "told").read_text())
    assert {played for _, played in whole} > {-1, 3}
    found = []
    for moment in random.Random(0).sample(range(1, last), POINTS):
        run = tmp_path / f"run{moment}"
        assert ended(run, moment) == KILLED
        before = outcomes(run)
        assert ended(run) == 0, moment
        after, stored = outcomes(run), load(run)
        assert before.items() <= after.items(), moment
        assert after == whole, moment
        kept, finals = load_finals(stored), finals_of(stored)
        assert kept
        assert finals
        assert all(trial.state.is_finished() for trial in [*stored.trials, *kept.trials]), moment
        rows = pd.read_csv(run / "finals.csv")
        assert {(d, r): s for d, r, s in zip(rows["digest"], rows["round"], rows["accuracy"], strict=True)} == {
            key: one for key, one in after.items() if key[1] >= 0
        }, moment
        assert best_of(trial_records(stored), finals) == finals.winner
        assert Arch.load(run / "best.yaml") == finals.winner.arch
        found.append(any(played >= 0 for _, played in before))
    print(f"{POINTS} of {last} moments, {sum(found)} of them with trainings of finals that had ended")
    assert any(found)
    assert not all(found)
