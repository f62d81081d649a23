"""Images that are in memory: arrays and their labels, checked and brought to the form of a `Split`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.labelled import Labels
from searchspace.errors import InputError

MOST_CHANNELS = 16
SMALLEST = 8


def as_images(given: Any) -> NDArray[np.uint8]:
    """Images (N, C, H, W) as uint8, from (N, H, W), (N, H, W, C) or (N, C, H, W) of uint8, or floats from 0 to 1.

    `InputError` for another shape or type, for values beyond, and for images that are not square.
    """
    images = _array("images", given)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise InputError(
            f"images: an array (N, H, W), (N, H, W, C) or (N, C, H, W) is accepted, not of shape {images.shape}"
        )
    if images.shape[1] > MOST_CHANNELS or (images.shape[3] <= 4 < images.shape[1]):
        images = images.transpose(0, 3, 1, 2)
    _, channels, height, width = images.shape
    if height != width or height < SMALLEST or not 1 <= channels <= MOST_CHANNELS:
        raise InputError(
            f"images: square ones of at least {SMALLEST} px and 1 to {MOST_CHANNELS} channels are accepted, not "
            f"{channels} channels of {height}×{width}"
        )
    if np.issubdtype(images.dtype, np.floating):
        if not np.isfinite(images).all() or images.min(initial=0.0) < 0 or images.max(initial=0.0) > 1:
            raise InputError("images: floats from 0 to 1 are accepted, or uint8")
        images = np.round(images * 255)
    elif images.dtype != np.uint8:
        raise InputError(f"images: uint8, or floats from 0 to 1, are accepted, not {images.dtype}")
    return np.ascontiguousarray(images, np.uint8)


def as_labels(given: Any, number: int) -> tuple[Labels, tuple[str, ...], bool]:
    """Labels as numbers of classes, the classes' names in their order, and whether these are more than numbers."""
    # Of a list NumPy would make texts of all, of what is missing too.
    labels = _array("labels", np.array(given, dtype=object) if isinstance(given, (list, tuple)) else given)
    if labels.ndim != 1 or len(labels) != number:
        raise InputError(f"labels: one for each of {number} images is accepted, not an array of shape {labels.shape}")
    if labels.dtype.kind not in "iuUSOb" and not np.any(labels != labels):
        raise InputError(f"labels: whole numbers or names are accepted, not {labels.dtype}")
    numbers, kinds, named = sort_labels(labels, "labels")
    if len(kinds) < 2:
        raise InputError(f"labels: at least two classes are accepted, not {len(kinds)}")
    return numbers, kinds, named


def sort_labels(labels: NDArray[Any], what: str, none: bool = False) -> tuple[Labels, tuple[str, ...], bool]:
    """Labels as numbers of the sorted classes, the names of these, and whether they are more than numbers.

    With `none` all images may be without a label, or have a number below 0, and all labels are -1 then. `InputError`
    where some are without one, and for what is neither a whole number from 0 nor a name.
    """
    has = ~_is_missing(labels)
    if none and (not has.any() or (labels.dtype.kind == "i" and labels.max() < 0)):
        return np.full(len(labels), -1, np.int64), (), False
    if not has.all():
        first = int(np.flatnonzero(~has)[0])
        raise InputError(f"{what}: every image has one, and {(~has).sum():,} have none, first image {first:,}")
    known = _as_kind(labels, what)
    if known.dtype.kind == "i" and known.min(initial=0) < 0:
        raise InputError(f"{what}: whole numbers from 0, or names, are accepted, not {known.min()}")
    kinds, numbers = np.unique(known, return_inverse=True)
    return numbers.astype(np.int64), tuple(map(str, kinds.tolist())), known.dtype.kind == "U"


def _is_missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of some labels are none: an empty text, or what Python, NumPy or pandas have for what is not there."""
    if labels.dtype.kind in "iub":
        return np.zeros(len(labels), np.bool_)
    return np.array([_is_none(label) for label in labels.tolist()], np.bool_)


def _is_none(label: Any) -> bool:
    if label is None or isinstance(label, (str, bytes)):
        return not (label and label.strip())
    try:
        return bool(label != label)  # as NaN does
    except TypeError:  # of pandas' NA, which does not say whether it differs from itself
        return True
    except ValueError:  # of an array
        return False


def _as_kind(labels: NDArray[Any], what: str) -> NDArray[Any]:
    """Labels as whole numbers or as texts, whatever they are kept as."""
    if labels.dtype.kind == "f":
        whole = labels == np.round(labels)
        if not whole.all():
            raise InputError(f"{what}: whole numbers or names are accepted, not {labels[~whole][0]}")
        return labels.astype(np.int64)
    if labels.dtype.kind != "O":
        return labels.astype(str) if labels.dtype.kind == "S" else labels
    other = next((label for label in labels if not isinstance(label, (str, bytes, bool, np.bool_, Integral))), None)
    if other is not None:
        raise InputError(f"{what}: whole numbers or names are accepted, not {type(other).__name__}")
    words = any(isinstance(label, (str, bytes, bool, np.bool_)) for label in labels)
    return labels.astype(str if words else np.int64)


def class_names(classes: Sequence[str] | Mapping[Any, str] | None, found: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes as they are given, in the order of sorted labels, or by label."""
    if classes is None:
        return found
    if isinstance(classes, Mapping):
        named = {str(label): name for label, name in classes.items()}
        other = sorted(named.keys() ^ set(found))
        if other:
            raise InputError(f"classes: a name for every label there is, and for no other, is accepted; see {other[0]}")
        classes = [named[label] for label in found]
    if isinstance(classes, (str, bytes)) or not isinstance(classes, (Sequence, np.ndarray)):
        raise InputError(
            f"classes: a list of names, in the order of the sorted labels, or a dict of label and name, is accepted, "
            f"not {type(classes).__name__}"
        )
    if len(classes) != len(found):
        raise InputError(f"classes: {len(found)} names are accepted, one for every label there is, not {len(classes)}")
    names = tuple(map(str, classes))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"classes: names that differ are accepted, and {twice!r} is there twice")
    return names


def contents(images: NDArray[np.uint8]) -> str:
    """What tells images from others."""
    return hashlib.sha256(images.tobytes()).hexdigest()[:16]


def _array(what: str, given: Any) -> NDArray[Any]:
    if np.ma.is_masked(given):
        raise InputError(f"{what}: an array without masked values is accepted")
    try:
        return np.asarray(given)
    except Exception as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise InputError(f"{what}: an array is accepted ({said})") from None
