"""What is said to CUDA, on a machine that has none: streams, captures that fail, memory that is given back."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.data.decoding import Mapped
from nas.latency import timing
from nas.training import batches, cuda_graphs
from nas.training.bfloat16_weights import Bfloat16Weights
from nas.training.cuda_graphs import CaptureError, CudaGraphStep, capture
from nas.training.trainer import Training
from nas.trial import Result, Trial
from nas.workers import evaluate
from nas.workers.evaluate import Context, brief_training, guard
from searchspace import Budget, Space, build, cost
from tests.nas.training.test_trainer import ARCH, PROXY, RECIPE, digits, few

__all__ = ["digits", "few"]
TRIAL = Trial(0, ARCH, cost(ARCH), "search")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The names of torch.cuda that a step uses, which keep what they were asked."""
    told = SimpleNamespace(streams=[], captures=[], emptied=[], renewed=[])

    @contextlib.contextmanager
    def graph(of: Any, **how: Any) -> Iterator[None]:
        told.captures.append(how)
        yield

    def stream(device: torch.device) -> SimpleNamespace:
        told.streams.append(SimpleNamespace(wait_stream=lambda other: None))
        return told.streams[-1]

    cuda_graphs.side_stream.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(cuda_graphs, "renew_generator", lambda device, state: told.renewed.append(state))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda one: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    yield told
    cuda_graphs.side_stream.cache_clear()


def taught(split: Split, config: TrainConfig, **more: Any) -> Training:
    torch.manual_seed(0)
    return Training(build(PROXY), split, config, 0, "cpu", **more)


def test_all_trainings_of_a_process_share_one_stream_and_other_threads_may_go_on(
    few: Split, cuda: SimpleNamespace
) -> None:
    one = replace(RECIPE, epochs=1, batch_size=32)
    for _ in range(3):
        next(iter(taught(few, one, graphs=True)))
    assert len(cuda.streams) == 1
    assert cuda.captures == [{"stream": cuda.streams[0], "capture_error_mode": "thread_local"}] * 3


def test_a_step_that_cannot_be_captured_is_carried_out_as_it_is(
    few: Split, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def graph(of: Any, **how: Any) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("the end of a capture that failed")

    def waits(step: cuda_graphs.Step, images: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(torch.cuda, "graph", graph)
    with pytest.raises(CaptureError, match=r"not permitted when stream is capturing$"):
        capture(lambda images, labels: waits(cuda_graphs.eager, images, labels), torch.zeros(1), torch.zeros(1))

    def at_once(of: Any, **how: Any) -> Any:
        raise RuntimeError("the end of a capture that failed")

    assert len(cuda.renewed) == 1
    monkeypatch.setattr(torch.cuda, "graph", at_once)
    monkeypatch.setattr(cuda_graphs, "check_usable", lambda device: None)  # which draws a number
    one = replace(RECIPE, epochs=1, batch_size=32)
    loss = next(iter(taught(few, one))).train_loss
    training = taught(few, one, graphs=True)
    assert next(iter(training)).train_loss == pytest.approx(loss, rel=1e-3)
    assert training.why_no_graphs == "the end of a capture that failed"
    assert taught(few, one).why_no_graphs == ""
    context = Context(few, "cpu", 0, 1, train=one, graphs=True)
    assert [r.note for r in guard(TRIAL, context, brief_training)] == [
        "trained without CUDA graphs: the end of a capture that failed"
    ]


def test_a_capture_that_ran_out_of_memory_says_so(cuda: SimpleNamespace) -> None:
    def greedy(images: Tensor, labels: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate")

    step = CudaGraphStep()
    step.done = cuda_graphs.EAGER_STEPS
    with pytest.raises(torch.OutOfMemoryError):
        step(greedy, torch.zeros(1), torch.zeros(1))


def test_no_step_waits_for_its_device(few: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the device `meta` have no numbers: whoever asks for one, or for a copy, gets an error."""
    monkeypatch.setattr(batches.BatchLoader, "between", lambda self, first, stop: pytest.fail("of the end of an epoch"))
    for near in (True, False):
        config = replace(RECIPE, epochs=1, batch_size=32, ema=0.9, mixup=0.2, cutmix=1.0, learning_rate=0.01)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        training, seen = Training(model, few, config, 0, "meta"), list[int]()
        training.feed.near = near
        assert training.feed.tensor is not None
        training.feed.tensor = training.feed.tensor.to("meta" if near else "cpu")
        training.mean, training.std = training.mean.to("meta"), training.std.to("meta")
        training.each = lambda what, done, total, seen=seen: seen.append(done)
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            next(iter(training))
        assert seen == [32 * (step + 1) for step in range(len(few.train_labels) // 32)]


@pytest.mark.parametrize("end", ["done", "closed", "out of memory", "raises"])
def test_memory_is_given_back_when_nothing_holds_it(
    end: str, few: Split, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []
    kinds = {"out of memory": torch.OutOfMemoryError, "raises": RuntimeError}

    def own(trial: Trial, context: Context) -> Generator[Result]:
        training = taught(few, replace(RECIPE, epochs=2, batch_size=64))
        made.append(weakref.ref(training))
        for epoch in training:
            yield Result(epoch=epoch.number, score=epoch.accuracy)
            if end in kinds:
                raise kinds[end]("2 GB")

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: cuda.emptied.append(made[0]() is None))
    monkeypatch.setattr(evaluate, "bound_memory", lambda device, share: None)
    results = guard(TRIAL, Context(few, "cuda", 0, 2, timed=False), own)
    if end == "closed":
        next(results)
        results.close()
    else:
        errors = {"done": "", "out of memory": "out of memory: 2 GB", "raises": "RuntimeError: 2 GB"}
        assert [result.error for result in results][-1] == errors[end]
    assert cuda.emptied == [True]


def test_memory_that_another_process_took_is_no_lost_device(few: Split, cuda: SimpleNamespace) -> None:
    def raising(code: int) -> Any:
        def own(trial: Trial, context: Context) -> Generator[Result]:
            error = torch.AcceleratorError("CUDA error: of some kind")
            error.error_code = code
            raise error
            yield

        return own

    context = Context(few, "cpu", 0, 1)
    (result,) = guard(TRIAL, context, raising(2))
    assert result.error == "out of memory: CUDA error: of some kind"
    with pytest.raises(torch.AcceleratorError):
        list(guard(TRIAL, context, raising(700)))


def test_a_device_that_is_lost_is_not_the_networks_fault(
    few: Split, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(trial: Trial, context: Context) -> Generator[Result]:
        raise RuntimeError("cuDNN error: EXECUTION_FAILED")
        yield

    def lost(device: object = None) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(evaluate, "bound_memory", lambda device, share: None)
    with pytest.raises(torch.AcceleratorError):
        list(guard(TRIAL, Context(few, "cuda", 0, 1, timed=False), own))


@pytest.mark.parametrize(("share", "bound"), [(1.0, 1.0), (0.5, 0.5 - 0.6 / 80), (0.01, 0.005)])
def test_a_share_of_the_memory_counts_what_a_process_takes_unasked(
    share: float, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    total = SimpleNamespace(total_memory=80 * 1000 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: total)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    evaluate.bound_memory("cuda", share)
    assert told == [pytest.approx(bound)]


def test_images_lie_on_the_gpu_where_a_share_has_room_and_stay_for_the_next_trial(
    few: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = few.train_images.copy()
    monkeypatch.setattr(batches, "_resident", [])
    total = 8 * images.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (total, total))
    assert batches.resident(images, "meta", 0.4) is None  # a quarter of 3.2 times the images
    there = batches.resident(images, "meta", 0.5)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, total))
    assert batches.resident(images, "meta", 0.5) is there
    assert batches.resident(few.train_images, "meta", 0.5) is None
    del images
    batches.resident(few.train_images, "meta", 0.5)
    assert batches._resident == []


def test_images_of_a_file_lie_on_the_gpu_too_copied_part_by_part(
    few: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "images.npy", few.train_images)
    images = Mapped(tmp_path / "images.npy", np.arange(3, 20))
    monkeypatch.setattr(batches, "_resident", [])
    monkeypatch.setattr(batches, "COPIED", 5)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    there = batches.resident(images, "cpu", 1.0)
    assert there is not None
    assert np.array_equal(there.numpy(), few.train_images[3:20])


@pytest.mark.parametrize(("number", "most"), [(0, 4), (1, 4), (4, 4), (5, 4), (801, 512), (1000, 128), (17, 3)])
def test_parts_are_equally_long_and_have_every_image_once(number: int, most: int) -> None:
    parts = list(batches.equal_parts(slice(7, 7 + number), most))
    assert [image for first, stop, seen in parts for image in range(first + seen, stop)] == list(range(7, 7 + number))
    assert len({stop - first for first, stop, _ in parts}) <= 1
    assert all(0 < stop - first <= most for first, stop, _ in parts)


def test_norms_without_running_means_train_the_same(few: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(RECIPE, epochs=2, batch_size=32)
    training = taught(few, config)
    epochs = list(training)
    monkeypatch.setattr(Training, "_keep_statistics", lambda self, kept: None)
    other = taught(few, config)
    assert [replace(epoch, images_per_s=0) for epoch in other] == [replace(epoch, images_per_s=0) for epoch in epochs]
    state = other.state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in training.state().items())


def test_weights_cast_at_once_learn_as_autocasts(few: Split) -> None:
    found = []
    for lower in (False, True):
        torch.manual_seed(0)
        model = build(Space.load("mobile").sample(0, Budget.parse("30MFLOPs")).adapt(10, 16)).to(
            memory_format=torch.channels_last
        )
        learning = Bfloat16Weights(model) if lower else model
        for _ in range(2):
            x = torch.linspace(-1, 1, 8 * 3 * 256).view(8, 3, 16, 16).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(learning(x), torch.arange(8))
            model.zero_grad(set_to_none=True)
            loss.backward()
            if isinstance(learning, Bfloat16Weights):
                learning.return_gradients()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.01 * p.grad
        found.append([loss.detach(), *(p.grad for p in model.parameters()), *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_checkpoints_come_no_more_often_than_they_pay(
    few: Split, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for every, kept in ((0.0, [True, True, False]), (1e9, [False, False, False])):
        monkeypatch.setitem(evaluate.CHECKPOINT_EVERY_S, "cpu", every)
        path = tmp_path / f"{every}.safetensors"
        context = Context(few, "cpu", 0, 3, train=RECIPE, checkpoint=path)
        there = []
        for _ in guard(TRIAL, context, brief_training):
            there.append(path.exists())
            path.unlink(missing_ok=True)
        assert there == kept


def test_a_gpu_is_busy_before_the_first_layer_is_timed(monkeypatch: pytest.MonkeyPatch, cuda: SimpleNamespace) -> None:
    told: list[str] = []
    event = SimpleNamespace(record=lambda: told.append("mark"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: told.append("busy"))
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: event)
    timing.Stopwatch("cuda").mark()
    assert told == ["wait", "busy", "mark", "mark"]
    monkeypatch.setattr(timing, "device_name", lambda device: "a GPU")
    assert ", bfloat16, " in str(timing.conditions("cuda"))
    assert timing.dtype("cuda") == torch.bfloat16
    assert isinstance(timing.as_deployed(nn.Identity(), "cpu"), nn.Module)
