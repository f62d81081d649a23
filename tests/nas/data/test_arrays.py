"""Images that Python has: arrays, splits, tables, callables, and what is none of these."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nas.config import DataConfig
from nas.data.datasets import Split, load_object
from nas.run.images import describe
from searchspace import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 12, 12, 3), np.uint8)
LABELS = np.arange(20) % 2


def test_arrays_of_every_form_become_one() -> None:
    split = Split.of(IMAGES, LABELS)
    assert split.train_images.shape == (16, 3, 12, 12)
    assert (split.found, split.num_classes, split.classes) == (20, 2, ("0", "1"))
    assert np.array_equal(np.bincount(split.val_labels), [2, 2])
    for form in (IMAGES.transpose(0, 3, 1, 2), IMAGES / 255, (IMAGES / np.float32(255)).transpose(0, 3, 1, 2)):
        assert Split.of(form, LABELS).fingerprint == split.fingerprint
    assert Split.of(IMAGES[..., 0], LABELS).channels == 1
    assert Split.of(IMAGES, ["no", "yes"] * 10).classes == ("no", "yes")
    assert Split.of(IMAGES, LABELS, classes=("cat", "dog")).classes == ("cat", "dog")
    assert Split.of(IMAGES[::-1], LABELS).fingerprint != split.fingerprint
    assert not Split.of(IMAGES, LABELS, classes=("left", "right")).flip


def test_images_that_are_nearly_black_are_said() -> None:
    masks = (IMAGES > 127).astype(np.uint8)
    assert (
        "the images are dark, up to 1 of 255: 255 is white in uint8, 1 in floats"
        in describe(Split.of(masks, LABELS))[1]
    )
    assert not Split.of(masks.astype(float), LABELS).notes
    assert not Split.of(IMAGES, LABELS).notes


def test_numbers_without_names_say_nothing_against_mirroring() -> None:
    split = Split.of(IMAGES, LABELS)
    assert (split.flip, split.mirroring) == (True, "its classes have no names")
    assert "mirrored at random (its classes have no names)" in describe(split)[0]
    assert not Split.of(IMAGES, np.array(LABELS).astype(str)).flip  # names of one character
    assert not Split.of(IMAGES, LABELS, classes=("1", "7")).flip
    assert Split.of(IMAGES, LABELS, flip=False).mirroring == "as the caller says"


def test_labels_are_sorted_as_what_they_are() -> None:
    numbers = np.arange(24) % 12
    images, names = np.resize(IMAGES, (24, 12, 12, 3)), tuple(f"c{i}" for i in range(12))
    for labels in (numbers, numbers.astype(object), numbers.tolist(), pd.Series(numbers, dtype="Int64")):
        split = Split.of(images, labels, classes=names, validation=0.5)
        assert split.classes == names
        assert split.fingerprint == Split.of(images, numbers, classes=names, validation=0.5).fingerprint
        assert Split.of(images, labels).classes == tuple(map(str, range(12)))
    texts = [f"{i}" for i in numbers]
    assert Split.of(images, texts).classes == tuple(sorted(set(texts)))


def test_classes_are_named_by_label_too() -> None:
    assert Split.of(IMAGES, LABELS, classes={1: "one", 0: "zero"}).classes == ("zero", "one")
    assert Split.of(IMAGES, ["no", "yes"] * 10, classes={"yes": "ja", "no": "nein"}).classes == ("nein", "ja")
    given: tuple[tuple[Any, str], ...] = (
        ({1: "one"}, "for every label there is"),
        ({0: "a", 1: "b", 2: "c"}, "for no other, is accepted; see 2"),
        ({"a", "b"}, "a list of names.*not set"),
        ("ab", "a list of names.*not str"),
        (["a", "a"], "'a' is there twice"),
        (iter("ab"), "a list of names"),
    )
    for classes, says in given:
        with pytest.raises(InputError, match=says):
            Split.of(IMAGES, LABELS, classes=classes)


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", None] * 10,
        ["cat", float("nan")] * 10,
        ["cat", ""] * 10,
        np.array([0, None] * 10, dtype=object),
        pd.Series(["cat", None] * 10),
        pd.Series([1, None] * 10, dtype="Int64"),
        pd.Series(["cat", pd.NA] * 10, dtype="string"),
        pd.Categorical(["cat", None] * 10),
    ],
)
def test_an_image_without_a_label_is_of_no_class(labels: Any) -> None:
    with pytest.raises(InputError, match="labels: every image has one, and 10 have none, first image 1"):
        Split.of(IMAGES, labels)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"validation": 0}, "validation: a share between 0 and 1"),
        ({"validation": "x"}, "split: "),
        ({"seed": "x"}, "seed: a whole number from 0"),
        ({"seed": -1}, "seed: a whole number from 0"),
    ],
)
def test_a_split_that_cannot_be_made_is_an_input_error(more: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Split.of(IMAGES, LABELS, **more)


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (IMAGES[0, 0], LABELS, "not of shape"),
        (IMAGES[:, :10], LABELS, "square ones"),
        (IMAGES.astype(np.int32), LABELS, "not int32"),
        (IMAGES.astype(float), LABELS, "floats from 0 to 1"),
        (IMAGES, LABELS[:-1], "one for each of 20 images"),
        (IMAGES, LABELS.astype(float), "not float64"),
        (IMAGES, LABELS - 1, "whole numbers from 0"),
        (IMAGES, [0.0, 1.0] * 10, "not float"),
        (IMAGES, [[0], [1, 2]] * 10, "not list"),
        (IMAGES, np.ma.array(LABELS, mask=LABELS), "without masked values"),
        (IMAGES, np.zeros(20, int), "at least two classes"),
        (IMAGES, np.arange(20), "have one image"),
        ("photos", LABELS, "not of shape"),
        ([[1, 2], [3]], LABELS, "an array is accepted"),
    ],
)
def test_what_does_not_fit_is_said(images: Any, labels: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Split.of(images, labels)
    with pytest.raises(InputError, match="2 names are accepted"):
        Split.of(IMAGES, LABELS, classes=("cat",))


def test_a_dataset_is_a_split_a_pair_a_table_or_what_makes_one() -> None:
    split = Split.of(IMAGES, LABELS)
    rows = {"image": [Image.fromarray(image) for image in IMAGES], "label": LABELS.tolist()}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    table = datasets.Dataset.from_dict(rows, features=features)

    def given(thing: Any) -> Split:
        return load_object(thing, DataConfig(), 0, None, 3)

    assert given(split) is split
    assert given((IMAGES, LABELS)).fingerprint == split.fingerprint == given(lambda: (IMAGES, LABELS)).fingerprint
    found = given(table)
    assert (found.classes, found.resolution, len(found.train_labels)) == (("cat", "dog"), 16, 16)
    for wrong, says in ((7, "not int"), (lambda: 1 / 0, "ZeroDivisionError"), (lambda: IMAGES[0], "not ndarray")):
        with pytest.raises(InputError, match=says):
            given(wrong)
    with pytest.raises(InputError, match=r"images of 3 channels, .* the network takes 1"):
        load_object(split, DataConfig(), 0, None, 1)


def test_an_option_that_arrays_do_not_take_is_refused_and_not_forgotten() -> None:
    """`images=1000` of 50,000 in an array trained on all of them, and the run said 1,000."""
    split = Split.of(IMAGES, LABELS)
    for given, asked in ((split, "images"), ((IMAGES, LABELS), "data_range"), (split, "flip")):
        with pytest.raises(InputError, match=f"{asked}: images of an array are taken as they are"):
            load_object(given, DataConfig(), 0, None, 3, [asked])
    assert load_object((IMAGES, LABELS), DataConfig(flip=False), 0, None, 3, ["flip"]).flip is False
