"""Encoded images as plain arrays: every kind RGB, square, at one size. No torch here.

Decoded once, by a process a core where there are many. What does not fit in memory goes into a file on this machine,
which later runs and all their trials read.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searchspace.errors import InputError
from searchspace.processes import processes

Array = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]

SMALLEST = 16
MEMORY_LIMIT_BYTES = 8 * 10**9
MEMORY_SHARE = 0.25
CHUNK = 256
MANY = 4_000


class Mapped:
    """Images (N, 3, H, W) in a file, read as they are asked for; an object that is cheap to hand to another process."""

    def __init__(self, path: Path, rows: NDArray[np.int64] | None = None) -> None:
        self.path = path
        self.file: Array = np.load(path, mmap_mode="r")
        self.rows = np.arange(len(self.file)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Array:
        found: Array = self.file[self.rows[key]]
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.file.shape[1:])

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def part(self, rows: NDArray[np.int64]) -> Mapped:
        """Some of the images, still in the file."""
        return Mapped(self.path, self.rows[rows])

    def __reduce__(self) -> tuple[type[Mapped], tuple[Path, NDArray[np.int64]]]:
        return Mapped, (self.path, self.rows)


Images = Array | Mapped


def part(images: Images, rows: NDArray[np.int64]) -> Images:
    """Some of the images, in memory where all are."""
    return images.part(rows) if isinstance(images, Mapped) else images[rows]


def decoded(
    records: Iterable[Any],
    number: int,
    place: str,
    resolution: int | None,
    largest: int,
    fingerprint: str,
    progress: Progress | None,
) -> Images:
    """So many images at one `resolution`: without one their own, from SMALLEST to `largest` pixels, as the first says.

    `fingerprint` tells these images from others, for what is kept in a file. `InputError` names an unreadable image.
    """
    waiting = iter(records)
    first = next(waiting, None)
    if first is None:
        raise InputError(f"dataset {place} images: there are none")
    size = resolution or min(max(min(opened(first, f"{place} image 0").size), SMALLEST), largest)
    shape = (number, 3, size, size)
    if int(np.prod(shape)) <= memory_limit():
        return _filled(np.empty(shape, np.uint8), chain([first], waiting), place, progress)
    key = hashlib.sha256(f"{fingerprint} {shape}".encode()).hexdigest()[:16]
    path = cache() / f"{key}.npy"
    if not path.is_file():
        _decode_to(path, shape, chain([first], waiting), place, progress)
    return Mapped(path)


def _decode_to(
    path: Path, shape: tuple[int, ...], records: Iterable[Any], place: str, progress: Progress | None
) -> None:
    """A file of decoded images, there under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"dataset {place} images take {needed / 1e9:.1f} GB at {shape[-1]} px: more than the "
            f"{memory_limit() / 1e9:.1f} GB that are kept in memory and the {free / 1e9:.1f} GB free in {path.parent} "
            "(NAS_CACHE names another folder); --images N uses fewer"
        )
    begun = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        into = np.lib.format.open_memmap(begun, mode="w+", dtype=np.uint8, shape=shape)
        _filled(into, records, place, progress)
        into.flush()
        begun.replace(path)
    finally:
        begun.unlink(missing_ok=True)


def memory_limit() -> int:
    """Bytes of one dataset's images that are kept in memory: at most a quarter of the machine's, and 8 GB."""
    return min(MEMORY_LIMIT_BYTES, int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))


def cache() -> Path:
    """The folder of decoded images that do not fit in memory."""
    return Path(os.environ.get("NAS_CACHE") or Path.home() / ".cache" / "nas")


def _filled(images: Array, records: Iterable[Any], place: str, progress: Progress | None) -> Array:
    done, size = 0, images.shape[-1]
    with processes(len(images), MANY) as mapped:
        for arrays in mapped(partial(_chunk, place, size), _chunks(records)):
            images[done : done + len(arrays)] = arrays
            done += len(arrays)
            if progress is not None:
                progress("decoding images", done, len(images))
    return images


def _chunks(records: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
    start, waiting = 0, iter(records)
    while chunk := list(islice(waiting, CHUNK)):
        yield start, chunk
        start += len(chunk)


def _chunk(place: str, size: int, chunk: tuple[int, list[Any]]) -> Array:
    start, records = chunk
    images = (opened(record, f"{place} image {start + index}") for index, record in enumerate(records))
    return np.stack([pixels(image, size) for image in images])


def opened(record: Any, place: str) -> Image.Image:
    """The image of a record: encoded bytes, alone or as `{"bytes": …, "path": …}`."""
    where = f"{place} ({record['path']})" if isinstance(record, dict) and record.get("path") else place
    try:
        data = record if isinstance(record, bytes) else record["bytes"]
        picture = Image.open(io.BytesIO(data) if data is not None else record["path"])
        picture.load()
    except Exception as error:  # of damaged bytes PIL may say it with a SyntaxError, a struct.error, …
        raise InputError(f"dataset {where}: unreadable image: {error}") from None
    if min(picture.size) < 1:
        raise InputError(f"dataset {where}: an image of size zero")
    return picture


def pixels(picture: Image.Image, size: int) -> Array:
    """(3, size, size): transparency on white, shorter side resized, centre cropped."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel, which PIL would cut off at 255
        deep = np.asarray(picture, np.float64)
        top = 65535.0 if deep.max(initial=0) > 255 else 255.0
        picture = Image.fromarray((deep.clip(0, top) * (255 / top)).astype(np.uint8))
    picture = picture.convert("RGB")
    if picture.size != (size, size):
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture, np.uint8).transpose(2, 0, 1)
