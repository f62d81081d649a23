"""Images as two plain arrays: digits, any Hugging Face dataset, a local folder; stratified splits. No torch here.

The search sees training images only, split into those that train and those that score; `load_test` is for `nas.train`
alone. Everything is decoded once, by the driver, and shared with the workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.config import DataConfig
from nas.decoding import SMALLEST, Images, Progress, decoded, part, pixels
from searchspace.errors import InputError

Labels = NDArray[np.int64]

LARGEST = 64
DIGITS = tuple(map(str, range(10)))
READ_AT_ONCE = 256
HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Split:
    """Images (N, 3, H, W) as uint8 and labels (N,), to train and to score. `flip`: mirrored is the same class."""

    name: str
    train_images: Images
    train_labels: Labels
    val_images: Images
    val_labels: Labels
    classes: tuple[str, ...]
    flip: bool

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def resolution(self) -> int:
        return int(self.train_images.shape[-1])


def load(
    config: DataConfig,
    seed: int,
    resolution: int | None = None,
    progress: Progress | None = None,
    largest: int = LARGEST,
) -> Split:
    """The training images of a dataset, split by class and seed; `InputError` says what is wrong with them.

    Without a `resolution` they have their own, from 16 px to `largest`.
    """
    name = config.dataset
    if name == "digits":
        images, labels = _digits(test=False, size=resolution or SMALLEST)
        classes = DIGITS
        used = _part(labels, config.images, seed, name)
        images, labels = images[used], labels[used]
    else:
        table = _table(name, "train")
        labels, classes = _labels(table, name)
        used = _part(labels, config.images, seed, name)
        labels = labels[used]
        images = _decoded(table.select(used), f"{name}: training", resolution, largest, progress)
    train, val = _stratified(labels, config.validation, seed, name)
    flip = name != "digits"
    return Split(name, part(images, train), labels[train], part(images, val), labels[val], classes, flip)


def class_names(config: DataConfig) -> tuple[str, ...]:
    """The classes of a dataset, without an image being decoded."""
    if config.dataset == "digits":
        return DIGITS
    return _labels(_table(config.dataset, "train"), config.dataset)[1]


def load_test(split: Split, progress: Progress | None = None) -> tuple[Images, Labels] | None:
    """The test images of a split's dataset, or those it calls validation; None where neither has labels."""
    if split.name == "digits":
        return _digits(test=True, size=split.resolution)
    have = _split_names(split.name)
    for kind in ("test", "validation"):
        if kind in have:
            table = _table(split.name, kind)
            labels, _ = _labels(table, split.name, split.classes)
            if len(labels) and labels.min() >= 0:
                return _decoded(table, f"{split.name}: {kind}", split.resolution, LARGEST, progress), labels
    return None


def _digits(test: bool, size: int) -> tuple[Images, Labels]:
    """scikit-learn's 8×8 digits: the last fifth of each class stands for a test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    parts = [np.split(np.flatnonzero(labels == c), [int(0.8 * np.sum(labels == c))]) for c in range(10)]
    chosen = np.sort(np.concatenate([part[test] for part in parts]))
    return np.stack([pixels(Image.fromarray(image), size) for image in grey[chosen]]), labels[chosen]


def _part(labels: Labels, images: int | None, seed: int, name: str) -> NDArray[np.int64]:
    """Which images are used: all, or so many, of every class its share."""
    if images is None or images >= len(labels):
        return np.arange(len(labels))
    classes = len(np.unique(labels))
    if images < 2 * classes:
        raise InputError(f"images: at least {2 * classes}, two of each class of {name}, not {images}")
    return _stratified(labels, len(labels) - images, seed, name)[0]


def _stratified(labels: Labels, share: float, seed: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split

    alone = np.flatnonzero(np.bincount(labels) == 1)
    if len(alone):
        raise InputError(f"dataset {name}: class number {alone[0]} has one image; at least two of each are accepted")
    try:
        train, val = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
    except ValueError as error:
        raise InputError(f"dataset {name}: cannot be split by class: {error}") from None
    return np.sort(train), np.sort(val)


def _decoded(table: Any, place: str, resolution: int | None, largest: int, progress: Progress | None) -> Images:
    """Every image of a table, RGB, square, at one size."""
    column, _ = _columns(table, place)
    # Batches of Arrow's, since `datasets` takes longer to hand over an image than PIL to decode a small one.
    batches = table.select_columns([column]).with_format("arrow").iter(batch_size=READ_AT_ONCE)
    records = (record for batch in batches for record in batch.column(column).to_pylist())
    return decoded(records, len(table), place, resolution, largest, table._fingerprint, progress)


def _table(name: str, part: str) -> Any:
    """A split of a dataset, undecoded."""
    import datasets

    datasets.disable_progress_bars()
    path = Path(name)
    if path.exists():
        if not path.is_dir():
            raise InputError(
                f"dataset {name}: a folder of Parquet files or of one folder a class is accepted, not a file"
            )
        if not any(path.rglob("*.*")):
            raise InputError(f"dataset {name}: the folder is empty")
    else:
        _reach_hub(name)
    try:
        table = datasets.load_dataset(name, split=part)
    except Exception as error:
        raise InputError(f"dataset {name}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    for column, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(column, datasets.Image(decode=False))
    return table


def _split_names(name: str) -> list[str]:
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name))
    except Exception as error:
        raise InputError(f"dataset {name}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _reach_hub(name: str) -> None:
    """Says within seconds that there is no such dataset or no network, where `datasets` would retry for long."""
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_S)
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(f"dataset {name!r}: digits, a local folder or a dataset on the hub is accepted") from None
    except Exception:
        cache = Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___").lower()
        if not cache.exists():
            message = (
                f"dataset {name!r}: no such folder, and the Hugging Face hub cannot be reached; digits is built in"
            )
            raise InputError(message) from None
        datasets.config.HF_HUB_OFFLINE = True


def _is_image(feature: Any) -> bool:
    """An image as `datasets` knows it, or as Parquet written elsewhere has it: encoded bytes, alone or with a path."""
    import datasets

    encoded = feature.get("bytes") if isinstance(feature, dict) else feature
    return isinstance(feature, datasets.Image) or getattr(encoded, "dtype", "") in ("binary", "large_binary")


def _columns(table: Any, name: str) -> tuple[str, str]:
    """The image column and the label column."""
    import datasets

    images = [c for c, feature in table.features.items() if _is_image(feature)]
    classes = [c for c, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    classes += [c for c in ("label", "labels", "fine_label", "class") if c in table.features and c not in classes]
    if not images or not classes:
        have = ", ".join(table.features)
        if images and Path(name).is_dir() and not any(Path(name).rglob("*.parquet")):
            raise InputError(f"dataset {name}: at least two folders of images are accepted, one a class, named by it")
        raise InputError(f"dataset {name}: needs an image column and a label column; it has {have}")
    return images[0], classes[0]


def _labels(table: Any, name: str, known: tuple[str, ...] | None = None) -> tuple[Labels, tuple[str, ...]]:
    """Labels and the classes' names; of test images as indices into the `known` names, or -1 where they have none."""
    _, column = _columns(table, name)
    raw = np.asarray(table.select_columns([column]).with_format("numpy")[:][column])
    names = getattr(table.features[column], "names", None)
    if names is None or not np.issubdtype(raw.dtype, np.integer):
        kinds, raw = np.unique(raw, return_inverse=True)
        names = list(kinds)
    labels, classes = raw.astype(np.int64), tuple(map(str, names))
    least = 0 if known is None else -1
    if len(labels) and (labels.min() < least or labels.max() >= len(classes)):
        raise InputError(
            f"dataset {name}: labels from 0 to {len(classes) - 1} are accepted, not {labels.min()}…{labels.max()}"
        )
    if known is None:
        return labels, classes
    new = sorted(set(classes) - set(known))
    if new:
        raise InputError(f"dataset {name}: has test images of {new[0]!r}, which no training image has")
    index = np.array([*(known.index(c) for c in classes), -1], np.int64)
    return index[labels], known
