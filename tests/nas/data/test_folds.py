"""Folds of a split, whose held out images have decided nothing before; images that score as nothing else uses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.config import EPOCHS, DataConfig, trial_epochs
from nas.data.datasets import FOLDS, Split, load, number_of_training_images
from nas.data.decoding import Mapped, join


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
