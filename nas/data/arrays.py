"""Images that are in memory: arrays and their labels, checked and brought to the form of a `Split`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
    labels = _array("labels", given)
    if labels.ndim != 1 or len(labels) != number:
        raise InputError(f"labels: one for each of {number} images is accepted, not an array of shape {labels.shape}")
    if labels.dtype.kind not in "iuUSOb":
        raise InputError(f"labels: whole numbers or names are accepted, not {labels.dtype}")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise InputError(f"labels: whole numbers from 0, or names, are accepted, not {labels.min()}")
    kinds, numbers = np.unique(labels.astype(str) if labels.dtype.kind in "OS" else labels, return_inverse=True)
    if len(kinds) < 2:
        raise InputError(f"labels: at least two classes are accepted, not {len(kinds)}")
    return numbers.astype(np.int64), tuple(map(str, kinds.tolist())), labels.dtype.kind in "USO"


def class_names(classes: Sequence[str] | None, found: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes as they are given, in the order of sorted labels."""
    if classes is None:
        return found
    if len(classes) != len(found):
        raise InputError(f"classes: {len(found)} names are accepted, one for every label there is, not {len(classes)}")
    return tuple(map(str, classes))


def contents(images: NDArray[np.uint8]) -> str:
    """What tells images from others."""
    return hashlib.sha256(images.tobytes()).hexdigest()[:16]


def _array(what: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except Exception as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise InputError(f"{what}: an array is accepted ({said})") from None
