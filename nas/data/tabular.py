"""Datasets that Hugging Face's `datasets` reads: local Parquet, and whatever the hub has. Nothing is decoded here."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.arrays import sort_labels
from nas.data.decoding import Source
from nas.data.image_folder import SPLITS
from nas.data.labelled import Labelled, Labels, Rows, purposes
from searchspace.errors import InputError

READ_AT_ONCE = 256
HUB_TIMEOUT_S = 10.0
PATTERN = frozenset("[]*?")


def tabular(name: str, kind: str, known: tuple[str, ...] | None = None) -> Labelled:
    """A split of a dataset that `datasets` reads: Parquet, or from the hub."""
    return of_table(_table(name, kind), name, kind, known)


def of_table(table: Any, name: str, kind: str = "train", known: tuple[str, ...] | None = None) -> Labelled:
    """The images and labels of a `datasets.Dataset`."""
    table = _without_decoding(table)
    labels, classes, named = _labels(table, name, known)
    words = "training" if kind == "train" else kind
    splits = {split: found.num_examples for split, found in (table.info.splits or {}).items()}
    return Labelled(labels, classes, partial(_source, table, f"{name}: {words}"), named, purposes(splits))


def first_records(name: str, number: int) -> list[Any]:
    """Some encoded training images."""
    table = _without_decoding(_table(name, "train"))
    column, _ = _columns(table, name)
    return [table.select_columns([column])[index][column] for index in range(min(number, len(table)))]


def _source(table: Any, place: str, rows: Rows) -> Source:
    """Some of the encoded images of a table."""
    column, _ = _columns(table, place)
    chosen = table.select(rows)
    # Batches of Arrow's, since `datasets` takes longer to hand over an image than PIL to decode a small one.
    batched = chosen.select_columns([column]).with_format("arrow")

    def records() -> Iterator[Any]:
        return (r for batch in batched.iter(batch_size=READ_AT_ONCE) for r in batch.column(column).to_pylist())

    return Source(place, len(chosen), chosen._fingerprint, records)


def _table(name: str, part: str) -> Any:
    """A split of a dataset, undecoded."""
    import datasets

    datasets.disable_progress_bars()
    path = Path(name)
    if path.exists():
        if not path.is_dir():
            raise InputError(
                f"dataset {name}: a folder of Parquet files or of one folder per class is accepted, not a file"
            )
        if not any(path.rglob("*.*")):
            raise InputError(f"dataset {name}: the folder is empty")
    with _offline_if_unreachable(name):
        try:
            asked, files = _request_of(name)
            table = datasets.load_dataset(asked, data_files=files, split=part)
        except Exception as error:
            raise InputError(f"dataset {name}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    return table


def _without_decoding(table: Any) -> Any:
    """The table with its images as encoded bytes."""
    import datasets

    for column, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(column, datasets.Image(decode=False))
    return table


def split_names(name: str) -> list[str]:
    import datasets

    with _offline_if_unreachable(name):
        try:
            asked, files = _request_of(name)
            return list(files or datasets.get_dataset_split_names(asked))
        except Exception as error:
            raise InputError(f"dataset {name}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _request_of(name: str) -> tuple[str, dict[str, list[str]] | None]:
    """What `datasets` is asked for: a dataset by its name, or Parquet by its files where it would take the name of a
    local folder for a pattern; then their own names say which split they are of."""
    files = sorted(Path(name).rglob("*.parquet")) if PATTERN & set(name) and Path(name).is_dir() else []
    splits: dict[str, list[str]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(name)).lower())
        kind = next((SPLITS[word] for word in words if word in SPLITS), "train")
        splits.setdefault(kind, []).append(glob.escape(str(file.resolve())))
    return ("parquet", splits) if splits else (name, None)


@contextmanager
def _offline_if_unreachable(name: str) -> Iterator[None]:
    """The hub as far as a dataset needs it: what is on this machine is read offline where the hub is out of reach."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or not (Path(name).exists() or _hub_has(name))
    if before and not Path(name).exists() and not _is_cached(name):
        raise InputError(_nowhere(name))
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _hub_has(name: str) -> bool:
    """Whether the hub has a dataset, within seconds, where `datasets` would retry for long; False for one that is
    known on this machine and out of reach. `InputError` where there is no such dataset, or no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_S)
        return True
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(f"{_no_folder(name)}{'' if _is_path(name) else ', and the hub has no such dataset'}") from None
    except Exception:
        if not _is_cached(name):
            raise InputError(_nowhere(name)) from None
        return False


def _is_path(name: str) -> bool:
    """Whether a text can be a folder only, and is no name of the hub."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1


def _no_folder(name: str) -> str:
    return f"dataset: there is no folder {name} (a dataset of the Hugging Face hub is NAME or OWNER/NAME)"


def _nowhere(name: str) -> str:
    """What is said of a dataset that is neither on this machine nor asked for at the hub."""
    return _no_folder(name) + ("" if _is_path(name) else ", and the hub cannot be reached; digits is built in")


def _is_cached(name: str) -> bool:
    """Whether a dataset of the hub was read on this machine before."""
    import datasets

    return (Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___").lower()).exists()


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
            raise InputError(f"dataset {name}: at least two folders of images are accepted, one per class, named by it")
        raise InputError(f"dataset {name}: needs an image column and a label column; it has {have}")
    return images[0], classes[0]


def _labels(table: Any, name: str, known: tuple[str, ...] | None = None) -> tuple[Labels, tuple[str, ...], bool]:
    """Labels, the classes' names, and whether these are more than the labels' numbers; of test images the labels are
    indices into the `known` names, or -1 where they have none."""
    _, column = _columns(table, name)
    raw = np.asarray(table.select_columns([column]).with_format("numpy")[:][column])
    if raw.ndim != 1:
        raise InputError(f"dataset {name}: column {column}: one label for each image is accepted, not a list")
    names = getattr(table.features[column], "names", None)
    if names is None:
        labels, classes, named = sort_labels(raw, f"dataset {name}: column {column}", none=known is not None)
    else:
        missing = np.isnan(raw) if raw.dtype.kind == "f" else raw < 0
        labels, classes, named = np.where(missing, -1, raw).astype(np.int64), tuple(map(str, names)), True
        least = 0 if known is None else -1
        if len(labels) and (labels.min() < least or labels.max() >= len(classes)):
            raise InputError(
                f"dataset {name}: labels from 0 to {len(classes) - 1} are accepted, not {labels.min()}…{labels.max()}"
            )
    if known is None:
        return labels, classes, named
    new = sorted(set(classes) - set(known))
    if new:
        raise InputError(f"dataset {name}: has test images of {new[0]!r}, which no training image has")
    index = np.array([*(known.index(c) for c in classes), -1], np.int64)
    return index[labels], known, named
