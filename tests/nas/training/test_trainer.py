from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from nas.config import DIGITS_RECIPE, DataConfig, TrainConfig
from nas.data.datasets import Split, load
from nas.data.decoding import Mapped
from nas.training import checkpoint, cuda_graphs
from nas.training.batches import BatchLoader
from nas.training.trainer import DivergedError, Training, _augment, _learning_rate, fit, recalibrate, statistics
from nas.trial import Final, Result, Trial
from nas.workers.evaluate import Context, brief_training, guard, seed_and_recipe, trial_seed
from searchspace import Arch, InputError, Space, build, cost, zoo
from searchspace.budget import Cost
from tests.support.paths import ROOT

CIFAR = ROOT.parent / "shared" / "data" / "cifar10"
# Each kind of layer that training treats by itself is in it, few times.
NETWORK = {
    "resolution": 32,
    "stem": {"width": 8},
    "schedule": {"kind": "explicit", "widths": [8, 16, 16]},
    "stages": [
        {"block": "mbconv", "depth": 1, "expansion": 2, "kernel": 5},
        {"block": "mbconv", "depth": 2, "stride": 2, "expansion": 4, "se": 0.25},
    ],
    "head": {"width": 64},
}
ARCH = Space(NETWORK).arch()
PROXY = ARCH.adapt(10, 16)
RECIPE = replace(DIGITS_RECIPE, epochs=3)


def evaluate(
    trial: Trial, split: Split, config: TrainConfig, seed: int, device: str, folder: Path | None = None, **more: Any
) -> Generator[Result]:
    """What a worker does with a trial; its network is timed where that is asked for."""
    kept = folder / f"{trial.digest}.safetensors" if folder and folder.is_dir() else None
    own = trial_seed(seed, trial.digest)
    context = Context(split, device, own, config.epochs, train=config, checkpoint=kept, **{"timed": False, **more})
    return guard(trial, context, brief_training)


@pytest.fixture(scope="module")
def digits() -> Split:
    torch.set_num_threads(1)
    return load(DataConfig(), seed=0)


@pytest.fixture(scope="module")
def few(digits: Split) -> Split:
    return replace(digits, train_images=digits.train_images[:192], train_labels=digits.train_labels[:192])


def trained(split: Split, seed: int = 0, config: TrainConfig = RECIPE) -> list[tuple[float, float, float]]:
    torch.manual_seed(seed)
    return [(e.train_loss, e.accuracy, e.loss) for e in fit(build(PROXY), split, config, seed, "cpu")]


def test_learns(digits: Split) -> None:
    epochs = trained(digits)
    assert epochs[-1][1] > 0.5
    assert epochs[-1][0] < epochs[0][0]


def test_repeats_bit_for_bit(few: Split) -> None:
    epochs = trained(few)
    assert trained(few) == epochs
    assert trained(few, seed=1) != epochs


def test_a_training_of_the_finals_says_which_images_it_answered_right(few: Split) -> None:
    trial, one = Trial(0, ARCH, cost(ARCH), "search"), replace(RECIPE, epochs=2)
    final = replace(trial, final=Final(0, 1, 2, 0))
    assert [result.correct for result in evaluate(trial, few, one, 0, "cpu")] == ["", ""]
    first, last = evaluate(final, few, one, 0, "cpu")
    assert first.correct == ""
    number, _, digits = last.correct.partition(":")
    right = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=int(number))
    assert right.mean() == pytest.approx(last.score)
    assert int(number) == len(few.val_labels)


def test_images_in_a_file_train_as_those_in_memory(few: Split, tmp_path: Path) -> None:
    """Also with an optimizer of other state."""
    np.save(tmp_path / "images.npy", few.train_images)
    mapped = replace(few, train_images=Mapped(tmp_path / "images.npy"))
    config = replace(RECIPE, epochs=2, batch_size=48, optimizer="adamw", learning_rate=0.003)
    assert trained(mapped, config=config) == trained(few, config=config)


def test_shared_images_are_not_copied(few: Split) -> None:
    few.train_images.flags.writeable = False  # as Ray's object store hands them out
    feed = BatchLoader(few.train_images, "cpu")
    assert feed.tensor is not None
    assert feed.tensor.data_ptr() == few.train_images.ctypes.data
    assert torch.equal(feed.at(torch.tensor([3, 1])), torch.tensor(few.train_images[[3, 1]]))


def test_a_modern_recipe_learns_and_repeats_too(digits: Split, few: Split) -> None:
    recipe = replace(RECIPE, mixup=0.2, cutmix=1.0, ema=0.9)
    assert trained(digits, config=recipe)[-1][1] > 0.3
    epochs = trained(few, config=recipe)
    assert epochs == trained(few, config=recipe)
    assert epochs != trained(few)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_that_are_replayed_learn_as_others_do(
    few: Split, optimizer: Literal["sgd", "adamw"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CUDA graph replays is a step over tensors that stay where they are, its learning rate among them."""

    def by_hand(step: cuda_graphs.Step, images: Tensor, labels: Tensor) -> tuple[Callable[[], None], Tensor]:
        loss, rates = torch.zeros(()), [group["lr"] for group in training.optimizer.param_groups]

        def replay() -> None:
            assert all(group["lr"] is rate for group, rate in zip(training.optimizer.param_groups, rates, strict=True))
            assert isinstance(rates[0], Tensor)
            loss.copy_(step(images, labels))
            seen.append(float(rates[0]))

        return replay, loss

    seen: list[float] = []
    monkeypatch.setattr(cuda_graphs, "on_side_stream", lambda step, images, labels: step(images, labels))
    monkeypatch.setattr(cuda_graphs, "capture", by_hand)
    config = replace(RECIPE, optimizer=optimizer, epochs=1, batch_size=16, learning_rate=0.001)
    losses = []
    for graphs in (False, True):
        torch.manual_seed(0)
        training = Training(build(PROXY), few, config, 0, "cpu", graphs=graphs)
        losses.append(next(iter(training)).train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # a rate of fewer digits
    steps = len(few.train_labels) // config.batch_size
    assert len(seen) == steps - cuda_graphs.EAGER_STEPS
    assert min(seen) < 0.1 * max(seen)


def test_stops_when_nobody_asks_for_more(digits: Split) -> None:
    epochs = fit(build(PROXY), digits, RECIPE, 0, "cpu")
    assert next(epochs).number == 1
    epochs.close()


def test_divergence_is_said_in_the_first_epoch(digits: Split) -> None:
    with pytest.raises(DivergedError, match="training loss is nan in epoch 1"):
        trained(digits, config=replace(RECIPE, learning_rate=1e30, warmup=0.0))


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    config = TrainConfig(learning_rate=1.0, warmup=0.2)
    rates = [_learning_rate(config, step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert all(a >= b for a, b in pairwise(rates[19:]))
    assert rates[-1] < 0.001


@pytest.mark.parametrize("wrong", [-0.1, 1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["momentum", "weight_decay", "label_smoothing", "warmup"])
def test_a_recipe_that_cannot_be(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: from 0 to below 1, not {wrong}"):
        replace(RECIPE, **{name: wrong})  # type: ignore[arg-type]


def test_augmentation_shifts_each_image_by_itself_and_flips() -> None:
    images = torch.arange(16 * 16, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(64, 3, 1, 1)
    generator = torch.Generator().manual_seed(0)
    moved = _augment(images, False, generator)
    assert moved.shape == images.shape
    assert len({image.numpy().tobytes() for image in moved}) > 10
    rows = moved[:, 0, 8, 8] // 16
    assert rows.min() == 6
    assert rows.max() == 10
    flipped = _augment(images, True, generator)[:, 0]
    falling = (flipped[:, 8, 12].int() - flipped[:, 8, 4].int()) < 0
    assert 10 < int(falling.sum()) < 54


def test_evaluate_gives_one_result_an_epoch_and_no_surprises(few: Split) -> None:
    trial = Trial(0, ARCH, cost(ARCH), "control")
    brief = replace(RECIPE, epochs=2)
    results = list(evaluate(trial, few, brief, 0, "cpu", timed=True))
    assert [r.epoch for r in results] == [1, 2]
    assert [r.done for r in results] == [False, True]
    assert results[-1].contended_ms > 0
    assert results[-1].images_per_s > 0
    assert [r.score for r in evaluate(trial, few, brief, 0, "cpu")] == [r.score for r in results]


def test_evaluate_reports_what_goes_wrong(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    right = cost(ARCH)
    wrong = Trial(0, ARCH, Cost(right.macs - 1, right.params, 0, 0), "search")
    (result,) = evaluate(wrong, digits, RECIPE, 0, "cpu")
    assert result.done
    assert result.error.startswith(f"audit: computed {right.macs - 1} MACs")
    wild = replace(RECIPE, learning_rate=1e30, warmup=0.0)
    (result,) = evaluate(Trial(0, ARCH, right, "search"), digits, wild, 0, "cpu")
    assert result.error.startswith("diverged:")
    (result,) = evaluate(Trial(0, ARCH, right, "search"), digits, RECIPE, 0, "cpu", timeout_s=0.05)
    assert result.error == "timeout: it took longer than 0.05 s"

    def full(_: Arch, deployed: bool) -> None:
        raise MemoryError("7 GB")

    monkeypatch.setattr("nas.workers.evaluate.build", full)
    (result,) = evaluate(Trial(0, ARCH, right, "search"), digits, RECIPE, 0, "cpu")
    assert result.error == "out of memory: 7 GB"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_was_put_aside_is_taken_up_with_equal_numbers(
    few: Split, optimizer: Literal["sgd", "adamw"], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, learning_rate=0.01)
    trial = Trial(0, ARCH, cost(ARCH), "control")
    straight = list(evaluate(trial, few, recipe, 0, "cpu"))
    cut = evaluate(trial, few, recipe, 0, "cpu", tmp_path)
    begun = [next(cut), next(cut)]
    cut.close()
    (kept,) = tmp_path.iterdir()
    asked = []

    def taken_up(config: TrainConfig = recipe) -> list[Result]:
        results = []
        for result in evaluate(trial, few, config, 0, "cpu", tmp_path):
            results.append(result)
            asked.append(kept.stat().st_mtime_ns)
        return results

    again = taken_up()
    assert again[:2] == begun, "what was measured is not measured again"
    assert len(set(asked)) == 1, "only the last epoch was trained, and that leaves nothing"
    assert again[2].seconds > begun[1].seconds
    assert numbers(again) == numbers(straight)

    kept.write_bytes(kept.read_bytes()[:-1000])
    assert numbers(taken_up()) == numbers(straight)
    other = replace(recipe, epochs=2)
    assert numbers(taken_up(other)) == numbers(list(evaluate(trial, few, other, 0, "cpu", tmp_path / "gone")))
    assert not (tmp_path / "gone").exists()


def numbers(results: list[Result]) -> list[tuple[int, float, float, float]]:
    """What does not depend on the clock."""
    return [(r.epoch, r.score, r.loss, r.train_loss) for r in results]


def test_a_trial_of_before_goes_on_from_its_checkpoint(few: Split) -> None:
    """Recipes that say nothing of residual branches were written when these started as all else."""
    context = Context(few, "cpu", 7, 3, train=replace(RECIPE, zero_residuals=False))
    assert seed_and_recipe(context).startswith("seed 7, TrainConfig(epochs=3, optimizer='sgd', ")
    assert seed_and_recipe(context).endswith(", randaugment=0, qat=0.0)")
    assert seed_and_recipe(replace(context, train=RECIPE)).endswith(", qat=0.0, zero_residuals=True)")


def test_a_full_disk_leaves_a_trial_without_checkpoint(
    few: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("nas.training.checkpoint.save_file", full)
    trial = Trial(0, ARCH, cost(ARCH), "control")
    results = list(evaluate(trial, few, replace(RECIPE, epochs=2), 0, "cpu", tmp_path))
    assert [(r.epoch, r.error) for r in results] == [(1, ""), (2, "")]
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What writes tensors says so in words alone, and an error of the system is a line for every command."""
    told = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(*_: object) -> None:
        raise SafetensorError(told)

    monkeypatch.setattr("nas.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        checkpoint.write(tmp_path / "weights.safetensors", {"x": torch.zeros(3)})
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "weights.safetensors"))
    assert not list(tmp_path.iterdir())


def test_a_network_trains_the_same_in_any_trial() -> None:
    assert trial_seed(0, ARCH.digest) == trial_seed(0, ARCH.digest)
    assert len({trial_seed(0, ARCH.digest), trial_seed(1, ARCH.digest), trial_seed(0, PROXY.digest)}) == 3


@pytest.mark.parametrize(("number", "step"), [(70, 1), (5000, 1), (5001, 2), (9999, 2)])
def test_means_and_deviations_are_of_at_most_5000_images_a_few_at_a_time(
    number: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 200, (number, 3, 4, 5)).astype(np.uint8)
    images[:, 2] = 7
    feed = BatchLoader(images, "cpu")
    fetched, fetch = list[int](), feed.at
    monkeypatch.setattr(feed, "at", lambda index: fetched.append(len(index)) or fetch(index))
    mean, std = statistics(feed)
    some = torch.tensor(images[::step]).double()
    expected = some.std((0, 2, 3), keepdim=True).clamp_min(1.0)
    torch.testing.assert_close(mean, some.mean((0, 2, 3), keepdim=True).float())
    torch.testing.assert_close(std, expected.float())
    assert sum(fetched) == len(some) <= 5000
    assert max(fetched) <= 64


def test_recalibration_takes_the_statistics_of_the_weights_as_they_are() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    norm = model[1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    norm.running_mean = torch.full((4,), 99.0)
    images = torch.randn(40, 3, 5, 5)
    recalibrate(model, images, batch=10)
    torch.testing.assert_close(norm.running_mean, model[0](images).mean((0, 2, 3)))
    assert norm.momentum == 0.1


def normed_pixel() -> torch.nn.Sequential:
    """A network with a norm on a map of one pixel, as those of squeeze and excitation in ReXNet."""
    pool, norm = torch.nn.AdaptiveAvgPool2d(1), torch.nn.BatchNorm2d(4)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), pool, norm, torch.nn.Flatten(), torch.nn.Linear(4, 10))


def test_recalibration_leaves_out_an_image_that_is_alone(few: Split) -> None:
    """After the first epoch it was an error of torch, of 65 images in batches of 64."""
    split = replace(few, train_images=few.train_images[:65], train_labels=few.train_labels[:65])
    (epoch,) = fit(normed_pixel(), split, replace(RECIPE, epochs=1, batch_size=64), 0, "cpu")
    assert epoch.number == 1


def test_batches_of_one_image_are_refused_where_a_norm_has_one_number(few: Split) -> None:
    config = replace(RECIPE, epochs=1, batch_size=1)
    with pytest.raises(InputError, match="batch-size: of this network, which has a norm on a map of one pixel"):
        Training(normed_pixel(), few, config, 0, "cpu")
    Training(build(PROXY), few, config, 0, "cpu")


def test_an_error_of_any_kind_is_an_outcome_with_its_reason(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Arch, deployed: bool) -> None:
        raise RuntimeError("no kernel for this\nsecond line")

    monkeypatch.setattr("nas.workers.evaluate.build", broken)
    (result,) = evaluate(Trial(0, ARCH, cost(ARCH), "search"), digits, RECIPE, 0, "cpu")
    assert result.error == "RuntimeError: no kernel for this"


@pytest.mark.slow
@pytest.mark.cifar
@pytest.mark.skipif(not CIFAR.is_dir(), reason="needs the complete CIFAR-10 in ../shared/data/cifar10")
@pytest.mark.parametrize("name", ["rexnet_100", "convnext_tiny"])
def test_an_epoch_of_cifar10(name: str) -> None:
    """Every training image once: ConvNeXt-T takes most of an hour on one core."""
    split = load(DataConfig(str(CIFAR)), seed=0)
    model = build(zoo(name).adapt(num_classes=10, resolution=32))
    (epoch,) = fit(model, split, TrainConfig(epochs=1), 0, "cpu")
    assert epoch.accuracy > 0.2
