"""Folds of a split, whose held out images have decided nothing before; images that score as nothing else uses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.config import EPOCHS, DataConfig, trial_epochs
from nas.data.datasets import FOLDS, Split, load, number_of_training_images
from nas.data.decoding import Mapped, join
from nas.data.holding_out import hold_out, name_unscored


def numbered(images: int, classes: int = 4, validation: float = 0.2) -> Split:
    """Images that show their own number, in two pixels."""
    shown = np.zeros((images, 1, 8, 8), np.uint8)
    shown[:, 0, 0, 0], shown[:, 0, 0, 1] = np.arange(images) // 256, np.arange(images) % 256
    return Split.of(shown, np.arange(images) % classes, validation=validation)


def numbers(images: np.ndarray) -> list[int]:  # type: ignore[type-arg]
    return [256 * int(image[0, 0, 0]) + int(image[0, 0, 1]) for image in images]


@pytest.mark.parametrize(("images", "validation"), [(400, 0.2), (401, 0.1), (60, 0.5)])
def test_no_image_is_held_out_in_two_folds_and_all_are_used_in_each(images: int, validation: float) -> None:
    split, seen = numbered(images, validation=validation), list[int]()
    for fold in range(FOLDS + 1):
        one = split.fold(fold)
        train, held = numbers(one.train_images), numbers(one.val_images)
        assert sorted(train + held) == list(range(images))
        assert not set(held) & set(seen)
        seen += held
        assert one.val_labels.tolist() == [n % 4 for n in held]
        assert one.train_labels.tolist() == [n % 4 for n in train]
        shares = np.bincount(one.val_labels, minlength=4)
        assert shares.max() - shares.min() <= 1
        assert numbers(split.fold(fold).val_images) == held
    assert split.fold(0) is split


def test_images_in_a_file_stay_there(tmp_path: Path) -> None:
    split = numbered(40)
    np.save(tmp_path / "images.npy", np.concatenate([split.train_images[:], split.val_images[:]]))
    first, second = Mapped(tmp_path / "images.npy", np.arange(32)), Mapped(tmp_path / "images.npy", np.arange(32, 40))
    both = join(first, second)
    assert isinstance(both, Mapped)
    assert numbers(both[:]) == numbers(split.train_images) + numbers(split.val_images)
    assert not isinstance(join(first, split.val_images), Mapped)


def test_images_that_nothing_else_uses_score(tmp_path: Path) -> None:
    for index in range(200):
        folder = tmp_path / f"class{index % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(folder / f"{index}.png")
    sizes = {}
    for spare in (False, True):
        for images in (None, 50, 100, 200):
            split = load(DataConfig(str(tmp_path), images=images, spare=spare), seed=0)
            sizes[spare, images] = len(split.train_labels), len(split.val_labels)
            assert sizes[spare, images][0] == number_of_training_images(split.data, 200)
    assert {sizes[False, 50], sizes[False, 100]} == {(40, 10), (80, 20)}
    assert [sizes[True, images] for images in (None, 50, 100, 200)] == [(160, 40), (40, 20), (80, 40), (160, 40)]
    assert sizes[False, None] == sizes[True, None]


def test_a_trial_is_the_longer_the_fewer_images_there_are() -> None:
    epochs = [trial_epochs(images) for images in (50, 1_146, 3_200, 8_000, 40_000, 10**6)]
    assert epochs == sorted(epochs, reverse=True)
    assert (epochs[0], epochs[-1]) == EPOCHS[::-1]
    assert trial_epochs(3_200) * 3_200 >= 40_000
    assert trial_epochs(0) == EPOCHS[0]


@pytest.mark.parametrize("counts", [(100, 100, 2), (100, 100, 3), (4,) * 10, (2,) * 10, (*(3,) * 10, 200), (300, 2, 2)])
def test_small_classes_keep_an_image_that_trains_in_every_fold(counts: tuple[int, ...]) -> None:
    """A class of two images ended a search in its finals, after all of its trials."""
    labels = np.repeat(np.arange(len(counts)), counts)
    shown = np.zeros((len(labels), 1, 8, 8), np.uint8)
    shown[:, 0, 0, 0], shown[:, 0, 0, 1] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    split, seen = Split.of(shown, labels), list[int]()
    for fold in range(FOLDS + 1):
        one = split.fold(fold)
        held = numbers(one.val_images)
        assert held
        assert sorted(held + numbers(one.train_images)) == list(range(len(labels)))
        assert not set(held) & set(seen)
        assert np.bincount(one.train_labels, minlength=len(counts)).min() >= 1
        seen += held


def test_images_are_held_out_of_classes_by_their_size() -> None:
    labels = np.repeat(np.arange(4), (50, 30, 15, 5))
    assert np.bincount(labels[hold_out(labels, 20, 0)[1]], minlength=4).tolist() == [10, 6, 3, 1]
    assert np.bincount(labels[hold_out(labels, 2, 0)[1]], minlength=4).tolist() == [1, 1, 0, 0]
    lone = np.repeat(np.arange(3), (9, 9, 1))
    assert np.bincount(lone[hold_out(lone, 0.5, 0)[1]], minlength=3).tolist() == [5, 5, 0]
    assert hold_out(lone, 0.5, 1)[1].tolist() == hold_out(lone, 0.5, 1)[1].tolist()


@pytest.mark.parametrize("images", [20, 25, 30, 160, 195, 199])
def test_any_number_of_images_is_used(images: int, tmp_path: Path) -> None:
    for index in range(200):
        folder = tmp_path / f"class{index % 10}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(folder / f"{index}.png")
    exact = load(DataConfig(str(tmp_path), images=images, spare=False), 0, 16)
    assert len(exact.train_labels) + len(exact.val_labels) == images
    assert np.bincount(exact.train_labels, minlength=10).min() >= 1
    spare = load(DataConfig(str(tmp_path), images=images, spare=True), 0, 16)
    assert len(spare.train_labels) == round(0.8 * images)
    few = [note for note in exact.notes if "too few images" in note]
    labels = np.concatenate([exact.train_labels, exact.val_labels])
    assert tuple(few) == name_unscored(exact.val_labels, labels, exact.classes)


@pytest.mark.parametrize("sizes", [(2, 3, 40, 60, 80, 101), (101, 80, 60, 40, 3, 2)], ids=["rising", "falling"])
@pytest.mark.parametrize("images", [12, 25, 60, 101, 120, 200])
def test_a_part_of_the_images_has_two_of_every_class(images: int, sizes: tuple[int, ...], tmp_path: Path) -> None:
    """Of a class of two a sample had one, and the search was refused for that."""
    for label, number in enumerate(sizes):
        (tmp_path / f"class{label}").mkdir()
        for index in range(number):
            Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(tmp_path / f"class{label}" / f"{index}.png")
    split = load(DataConfig(str(tmp_path), images=images, spare=False), 0, 16)
    labels = np.concatenate([split.train_labels, split.val_labels])
    assert len(labels) == images
    assert np.bincount(labels, minlength=6).min() >= 2
    assert np.bincount(split.train_labels, minlength=6).min() >= 1


def test_classes_without_an_image_that_scores_are_named() -> None:
    classes = np.repeat(np.arange(8), (9, 2, 2, 2, 2, 2, 2, 2))
    assert name_unscored(np.array([0, 1]), np.array([0, 1, 0]), ("a", "b")) == ()
    one = name_unscored(np.array([0, 0]), np.array([0, 0, 0, 1, 1]), ("a", "b"))
    assert one == ("1 class has too few images for one to score: 'b'",)
    many = name_unscored(np.array([0]), classes, tuple("abcdefgh"))
    assert many == ("7 classes have too few images for one to score: 'b', 'c', 'd', 'e', 'f' and 2 more",)
    alike = name_unscored(np.array([0, 1, 2]), np.repeat(np.arange(4), 3), tuple("abcd"))
    assert alike == ("4 classes have too few images for one of each to score: 'a', 'b', 'c', 'd'; 'd' has none",)


@pytest.mark.parametrize(("images", "validation"), [(400, 0.2), (402, 1 / 3), (60, 0.5), (400, 0.8)])
def test_as_many_images_are_trained_on_in_every_fold(images: int, validation: float) -> None:
    """Where a search scores on many images, its finals trained on a sixth more than its trials, and what they told of
    the winner was more than it reaches on the trials' images."""
    split, seen = numbered(images, validation=validation), list[int]()
    for fold in range(FOLDS + 1):
        one = split.fold(fold, equal=True)
        train, held = numbers(one.train_images), numbers(one.val_images)
        assert len(train) == len(split.train_labels)
        assert not set(held) & set(train)
        assert not set(held) & set(seen)
        assert [n % 4 for n in train] == one.train_labels.tolist()
        assert [n % 4 for n in held] == one.val_labels.tolist()
        shares = np.bincount(one.train_labels, minlength=4)
        assert shares.max() - shares.min() <= 2
        assert len(held) >= min(len(split.val_labels), len(split.train_labels) // FOLDS - 4)
        assert numbers(split.fold(fold, equal=True).train_images) == train
        seen += held
