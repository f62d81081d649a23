"""Trainings of somebody's own: what every one of them is promised, and what is no result. No Ray."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
import torch

from nas.metric import Metric
from nas.trial import Result, Trial
from nas.workers import actor, declarations, evaluate, tuner
from nas.workers.evaluate import Context, audit, guard
from searchspace import InputError, cost
from tests.nas.training.test_trainer import ARCH

TRIAL = Trial(0, ARCH, cost(ARCH), "search")


def results(evaluate: Any, epochs: int = 3, **options: Any) -> list[Result]:
    return list(guard(TRIAL, Context(None, "cpu", 1, epochs, **options), evaluate))


def test_a_score_alone_is_a_result_and_the_last_one_says_so() -> None:
    found = results(lambda trial, context: iter([0.1, 0.2, 0.3]))
    assert [(r.epoch, r.score, r.last, r.error) for r in found] == [
        (1, 0.1, False, ""),
        (2, 0.2, False, ""),
        (3, 0.3, True, ""),
    ]
    assert all(r.contended_ms > 0 and r.seconds > 0 for r in found)


def test_a_training_that_ends_early_is_complete_and_one_that_goes_on_is_ended() -> None:
    short = results(lambda trial, context: iter([0.1, 0.2]))
    assert [(r.epoch, r.last) for r in short] == [(1, False), (2, False), (2, True)]
    closed = []

    def endless(trial: Trial, context: Context) -> Iterator[float]:
        try:
            while True:
                yield 0.5
        finally:
            closed.append(True)

    assert [r.epoch for r in results(endless)] == [1, 2, 3]
    assert closed == [True]


@pytest.mark.parametrize(
    ("yielded", "says"),
    [
        ([], "evaluate: it yielded nothing"),
        ([float("nan")], "evaluate: the accuracy of epoch 1 is nan"),
        ([0.5, float("inf")], "evaluate: the accuracy of epoch 2 is inf"),
        ([1.5], "evaluate: accuracy: from 0 to 1 is accepted, not 1.5"),
        ([{"score": 0.5}], "evaluate: a Result or a number is accepted, not {'score': 0.5}"),
        ([0.5, None, 0.9], "evaluate: a Result or a number is accepted, not None"),
        (
            [Result(epoch=2, score=0.5), Result(epoch=1, score=0.5)],
            "evaluate: epochs that rise are accepted, not 1 after 2",
        ),
        ([Result(score="high")], "evaluate: score: a number is accepted, not 'high'"),
        ([Result(error="no data")], "no data"),
    ],
)
def test_what_is_no_result_is_an_error_of_the_trial(yielded: list[Any], says: str) -> None:
    last = results(lambda trial, context: iter(yielded))[-1]
    assert last.done
    assert last.error.startswith(says)


def test_what_a_training_raises_is_the_trials_error() -> None:
    def raises(trial: Trial, context: Context) -> Iterator[float]:
        yield 0.5
        raise KeyError("weights")

    assert results(raises)[-1].error == "KeyError: 'weights'"

    def slow(trial: Trial, context: Context) -> Iterator[float]:
        while True:
            time.sleep(0.02)
            yield 0.5

    assert results(slow, epochs=99, timeout_s=0.1)[-1].error == "timeout: it took longer than 0.1 s"

    def cut_off(trial: Trial, context: Context) -> Iterator[float]:
        yield 0.5
        raise TimeoutError("the bucket does not answer")  # as sockets do

    assert results(cut_off)[-1].error == "TimeoutError: the bucket does not answer"


def test_a_function_that_returns_its_score_is_told_what_is_meant() -> None:
    (only,) = results(lambda trial, context: 0.5)
    assert only.error == "evaluate: a generator that yields a score after every epoch is accepted, not float"


def test_on_a_gpu_the_audit_runs_beside_the_first_epoch_and_no_score_is_told_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted, seen = threading.Event(), list[str]()

    def slow_audit(*network: Any) -> None:
        assert counted.wait(10)
        seen.append("audit")
        audit(*network)

    def training(trial: Trial, context: Context) -> Iterator[float]:
        seen.append("epoch")
        counted.set()
        yield 0.5

    monkeypatch.setattr(evaluate, "audit", slow_audit)
    monkeypatch.setattr(evaluate, "bound_memory", lambda *_: None)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    context = Context(None, "cuda", 1, 1, timed=False)
    (result,) = guard(TRIAL, context, training)
    assert (result.score, result.error, seen) == (0.5, "", ["epoch", "audit"])
    counted.clear()
    wrong = replace(TRIAL, cost=replace(TRIAL.cost, params=1))
    (result,) = guard(wrong, context, training)
    assert result.error.startswith("audit: computed")
    assert result.score != 0.5


def test_a_metric_of_ones_own_may_have_any_finite_score() -> None:
    loss = Metric("loss", "minimize")
    assert results(lambda trial, context: iter([7.5]), epochs=1, metric=loss)[-1].score == 7.5


def test_what_cannot_be_sent_to_workers_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(InputError, match=r"evaluate: cannot be sent to workers \(TypeError"):
        tuner.check_sent("evaluate", lambda trial, context: iter([lock]))
    tuner.check_sent("evaluate", lambda trial, context: iter([0.5]))


def test_what_a_worker_cannot_load_is_the_trials_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(sent: str) -> Any:
        if sent == "own":
            raise ray.exceptions.RaySystemError("No module named 'mine'\nTraceback …")
        return lambda: 1 / 0

    monkeypatch.setattr(ray, "get", get)
    missing = "data: cannot be loaded by workers (No module named 'mine'); its module has to be importable there"
    for data, says in (("own", missing), ("", "data: ZeroDivisionError: division by zero")):
        worker = object.__new__(actor.Worker)
        sent: Any = {"evaluate": "", "data": data}
        worker.setup({"trial": TRIAL.to_text()}, sent, Context(None, "cpu", 1, 1), None, declarations.dump())
        assert worker.step()["error"] == says


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    told = Result(score=np.float32(0.25), loss=torch.tensor(0.5), images=np.int64(3), seconds=np.float64(2))  # type: ignore[arg-type]
    (found,) = results(lambda trial, context: iter([told]), epochs=1)
    assert (found.score, found.loss, found.images, found.seconds, found.error) == (0.25, 0.5, 3, 2.0, "")
    assert [type(getattr(found, name)) for name in ("score", "loss", "images", "seconds")] == [float, float, int, float]
    scores = [np.float32(0.5), torch.tensor(0.25), np.int64(1)]
    assert [found.score for found in results(lambda trial, context: iter(scores))] == [0.5, 0.25, 1.0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"correct": 113}, "evaluate: correct: how many images, a colon and hexadecimal digits"),
        ({"correct": "zz"}, "evaluate: correct: how many images"),
        ({"loss": "x"}, "evaluate: loss: a number is accepted, not 'x'"),
        ({"loss": [1]}, "evaluate: loss: a number is accepted, not [1]"),
        ({"train_loss": True}, "evaluate: train_loss: a number is accepted, not True"),
        ({"loss": torch.ones(2)}, "evaluate: loss: a number is accepted, not tensor([1., 1.])"),
        ({"images": -3}, "evaluate: images: a whole number from 0 to 1,000,000,000 is accepted, not -3"),
        ({"images": 2.5}, "evaluate: images: a whole number"),
        ({"note": 5}, "evaluate: note: a text is accepted, not 5"),
    ],
)
def test_a_field_that_no_study_keeps_is_the_trials_error(fields: dict[str, Any], says: str) -> None:
    told = Result(score=0.5, **fields)
    assert results(lambda trial, context: iter([told]))[-1].error.startswith(says)


def test_an_exit_of_a_training_is_its_error_and_rays_own_is_not() -> None:
    def leaves(trial: Trial, context: Context) -> Iterator[float]:
        yield 0.5
        sys.exit("no licence")

    assert results(leaves)[-1].error == "evaluate: it called sys.exit('no licence')"

    def told(trial: Trial, context: Context) -> Iterator[float]:
        yield 0.5
        ray._raylet.raise_sys_exit_with_custom_error_message("The process receives a SIGTERM.", exit_code=1)

    with pytest.raises(SystemExit):
        results(told)
