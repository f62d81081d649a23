"""Image files as plain arrays: every kind with the same channels, square, at one size. No torch here.

Decoded once, and kept in a file on this machine for the runs to come; what does not fit in memory is read from there.
Where decoding takes long, it is shared among processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.cache import cache_folder
from nas.data.pictures import name, picture, quiet, read_encoded, reason_of
from searchspace import machine
from searchspace.document import write_text
from searchspace.errors import InputError
from searchspace.processes import processes

Array = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]

VERSION = 6  # of what `pixels` makes of a file, and of the remarks that are kept beside images
SMALLEST = 16
MEMORY_LIMIT_BYTES = 8 * 10**9
MEMORY_SHARE = 0.25
CHUNK = 32
WORTH_S = 6.0  # what is left has to take so long that processes, which need a second or two to start, save time
SHOWN = 5


class Mapped:
    """Images (N, C, H, W) in a file, read as they are asked for; an object that is cheap to hand to another process."""

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


def join(first: Images, second: Images) -> Images:
    """The images of both, in a file where both are in it, else in memory."""
    if isinstance(first, Mapped) and isinstance(second, Mapped) and first.path == second.path:
        return Mapped(first.path, np.concatenate([first.rows, second.rows]))
    return np.concatenate([first[:], second[:]])


@dataclass(frozen=True, slots=True)
class Form:
    """What images are made: `channels` bands, square of `size` pixels; `data_range` is white in deep images."""

    channels: int
    size: int
    data_range: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Encoded images: a `number` of records (bytes, `{"bytes": …, "path": …}` or a `File`), in order.

    `place` is what they are called in messages, `fingerprint` tells them from all others, `records` begins anew with
    every call. `contents` tells the names and sizes of files from others, wherever their folder is; empty of no files.
    """

    place: str
    number: int
    fingerprint: str
    records: Callable[[], Iterator[Any]]
    contents: str = ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The images that could be read, the `rows` of the source that they are, and what the `bad` ones are."""

    images: Images
    rows: NDArray[np.int64]
    bad: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is to be said of decoded images: why the `bad` ones cannot be read, by row; how many are `clipped`, which
    have values above the one that is white, and how many have `holes`, values that are no numbers."""

    bad: dict[int, str] = field(default_factory=dict)
    clipped: int = 0
    holes: int = 0


def shorter_sides(source: Source, channels: int) -> Iterator[int]:
    """The shorter sides in pixels of the images that can be opened; `InputError` where there are no images."""
    if not source.number:
        raise InputError(f"dataset {source.place} images: there are none")
    with quiet():
        for record in source.records():
            with suppress(Exception):  # of what cannot be read `decode` has more to say
                found = picture(read_encoded(record), channels)
                yield min(found.shape[:2] if isinstance(found, np.ndarray) else found.size)


def decode(source: Source, form: Form, skip_bad: bool, progress: Progress | None) -> Decoded:
    """All images of a source, from the file of an earlier run where there is one.

    `InputError` names those that cannot be read, all at once, unless `skip_bad` leaves them out.
    """
    shape = (source.number, form.channels, form.size, form.size)
    made = f"{source.fingerprint} {shape} {form.data_range} {VERSION} {PIL.__version__}"
    path = cache_folder() / f"{hashlib.sha256(made.encode()).hexdigest()[:16]}.npy"
    fits = int(np.prod(shape)) <= memory_limit()
    kept = _load_kept(path, shape, fits)
    if kept is None:
        images, remarks, notes = _decode_and_keep(path, source, form, shape, fits, skip_bad, progress)
    else:
        (images, remarks), notes = kept, ()
    bad, clipped, holes = remarks.bad, remarks.clipped, remarks.holes
    if clipped:
        which = f"{clipped:,} images have" if clipped > 1 else "1 image has"
        notes = (f"{which} values above --data-range {form.data_range:g}, which are clipped: they are white", *notes)
    if holes:
        which = f"{holes:,} images have" if holes > 1 else "1 image has"
        notes = (f"{which} values that are no numbers (NaN or infinite): they are black", *notes)
    if bad and (not skip_bad or len(bad) == source.number):
        raise InputError(_refusal(source, bad))
    rows = np.setdiff1d(np.arange(source.number), np.array(list(bad), np.int64))
    return Decoded(part(images, rows) if bad else images, rows, tuple(bad.values()), notes)


def _refusal(source: Source, bad: dict[int, str]) -> str:
    many = f"s ({len(bad)} of {source.number:,})" if len(bad) > 1 else ""
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    hint = "" if len(bad) == source.number else " (--skip-bad)"
    return f"dataset {source.place}: unreadable image{many}: {'; '.join(list(bad.values())[:SHOWN])}{more}{hint}"


def _load_kept(path: Path, shape: tuple[int, ...], fits: bool) -> tuple[Images, Remarks] | None:
    """What an earlier run decoded, and what there was to say."""
    try:
        images: Images = np.load(path) if fits else Mapped(path)
        if images.shape != shape:
            return None
        notes = path.with_suffix(".json")
        said: Any = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else asdict(Remarks())
        bad = {int(index): str(reason) for index, reason in said["bad"].items()}
        return images, Remarks(bad, int(said["clipped"]), int(said["holes"]))
    except (OSError, ValueError, EOFError, AttributeError, KeyError, TypeError):
        return None


def _decode_and_keep(
    path: Path,
    source: Source,
    form: Form,
    shape: tuple[int, ...],
    fits: bool,
    skip_bad: bool,
    progress: Progress | None,
) -> tuple[Images, Remarks, tuple[str, ...]]:
    """The images, what is to be said of them, and a word where they could not be kept for the next run."""
    begun = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if fits:
            images = np.zeros(shape, np.uint8)
            found = _fill(images, source, form, progress)
            return images, found, () if found.bad and not skip_bad else _keep(images, found, path, begun)
        with _reserve(path, source, shape):
            into = np.lib.format.open_memmap(begun, mode="w+", dtype=np.uint8, shape=shape)
            found = _fill(into, source, form, progress)
            into.flush()
            if found.bad and not skip_bad:
                return into, found, ()
            _finish(found, path, begun)
        return Mapped(path), found, ()
    finally:
        with suppress(OSError):
            begun.unlink(missing_ok=True)


def _keep(images: Array, remarks: Remarks, path: Path, begun: Path) -> tuple[str, ...]:
    """Keep images that are in memory for the next run; where that cannot be, a word about it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with begun.open("wb") as file:
            np.save(file, images)
        _finish(remarks, path, begun)
    except OSError as error:
        why = f"{error.strerror or error}; NAS_CACHE names another folder"
        return (f"decoded images are not kept for the next run: {path.parent} cannot be written ({why})",)
    return ()


def _finish(remarks: Remarks, path: Path, begun: Path) -> None:
    """A file is there under its name when it is complete."""
    if remarks != Remarks():
        write_text(path.with_suffix(".json"), json.dumps(asdict(remarks)))
    begun.replace(path)


@contextmanager
def _reserve(path: Path, source: Source, shape: tuple[int, ...]) -> Iterator[None]:
    """Room for a file of images that do not fit in memory; `InputError` where it cannot be written."""
    needed = int(np.prod(shape))
    what = f"dataset {source.place} images take {needed / 1e9:.1f} GB at {shape[-1]} px"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise InputError(
                f"{what}: more than the {memory_limit() / 1e9:.1f} GB that are kept in memory and the "
                f"{free / 1e9:.1f} GB free in {path.parent} (NAS_CACHE names another folder); --images N uses fewer"
            )
        yield
    except OSError as error:
        raise InputError(
            f"{what}: more than is kept in memory, and {path.parent} cannot be written ({error.strerror}); NAS_CACHE "
            "names another folder; --images N uses fewer"
        ) from None


def memory_limit() -> int:
    """Bytes of one dataset's images that are kept in memory: at most a quarter of what there is, and 8 GB."""
    return min(MEMORY_LIMIT_BYTES, int(MEMORY_SHARE * machine.memory()))


def _fill(images: Array, source: Source, form: Form, progress: Progress | None) -> Remarks:
    """Decode into an array; what is to be said of it. The first images say whether processes are worth it."""
    chunks, work = _chunks(source.records()), partial(_chunk, form)
    bad: dict[int, str] = {}
    done, clipped, holes, begun = 0, 0, 0, time.monotonic()

    def take(results: Iterator[tuple[Array, Remarks]]) -> None:
        nonlocal done, clipped, holes
        for arrays, found in results:
            images[done : done + len(arrays)] = arrays
            bad.update(found.bad)
            clipped += found.clipped
            holes += found.holes
            done += len(arrays)
            if progress is not None:
                progress("decoding images", done, len(images))

    take(map(work, islice(chunks, 1)))
    left_s = (time.monotonic() - begun) / max(1, done) * (len(images) - done)
    with processes(int(left_s >= WORTH_S), 1) as mapped:
        take(mapped(work, chunks))
    return Remarks(bad, clipped, holes)


def _chunks(records: Iterator[Any]) -> Iterator[tuple[int, list[Any]]]:
    start = 0
    while chunk := list(islice(records, CHUNK)):
        yield start, chunk
        start += len(chunk)


def _chunk(form: Form, chunk: tuple[int, list[Any]]) -> tuple[Array, Remarks]:
    """Images from a row on, black where they cannot be read, and why they cannot."""
    start, records = chunk
    images = np.zeros((len(records), form.channels, form.size, form.size), np.uint8)
    bad, clipped, holes = {}, 0, 0
    with quiet():
        for index, record in enumerate(records):
            try:
                found = picture(read_encoded(record), form.channels)
                images[index] = pixels(found, form.size, form.channels, form.data_range)
                holes += has_holes(found)
                if form.data_range is not None:
                    clipped += brightest(picture(read_encoded(record), form.channels)) > form.data_range
            except Exception as error:  # of damaged bytes PIL may say it with a SyntaxError, a struct.error, …
                bad[start + index] = f"{name(start + index, record)}: {reason_of(error)}"
    return images, Remarks(bad, clipped, holes)


def brightest(picture: Image.Image | NDArray[Any]) -> float:
    """The largest value of an image of more than 8 bits; 0 of another. Of colours of 16 bits as Pillow has them, by
    their upper 8."""
    if isinstance(picture, Image.Image):
        if picture.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ())):
            return max(float(high) for _, high in picture.getextrema()[:3]) * 256  # type: ignore[misc]
        if not picture.mode.startswith(("I", "F")):
            return 0.0
    values = np.asarray(picture)
    return 0.0 if values.dtype in (np.uint8, bool) else float(np.nan_to_num(values, posinf=0.0).max(initial=0))


def has_holes(picture: Image.Image | Array) -> bool:
    """Whether some values of an image are no numbers, as where a satellite saw nothing."""
    floats = picture.mode == "F" if isinstance(picture, Image.Image) else picture.dtype.kind == "f"
    return floats and not bool(np.isfinite(np.asarray(picture)).all())


def pixels(
    picture: Image.Image | NDArray[Any], size: int, channels: int = 3, data_range: float | None = None
) -> np.typing.NDArray[np.uint8]:
    """(channels, size, size): upright, transparency on white, shorter side resized, centre cropped.

    1 channel is grey, 3 are red, green and blue; of other numbers an image has to have as many bands. Values of more
    than 8 bits are scaled so that `data_range` is white: by default 65,535 of whole numbers, 1 of floats. Needs NumPy
    and Pillow alone: an export brings a copy.
    """
    top, clear = data_range, None
    if isinstance(picture, Image.Image):
        picture.draft(None, (2 * size, 2 * size))  # a large JPEG is read at a half, a quarter or an eighth
        # Of colours of 16 bits Pillow keeps the upper 8.
        deep_colours = any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))
        picture.load()
        try:
            picture = ImageOps.exif_transpose(picture)
        except Exception:  # what cannot be read of EXIF says nothing of the orientation
            picture = picture.copy()
        if deep_colours and data_range and picture.mode in ("RGB", "RGBA"):
            scale = 65535 / data_range
            levels = [min(255, round(level * scale)) for level in range(256)]
            opaque = [band.point(levels) for band in picture.split()[:3]]
            picture = Image.merge(picture.mode, [*opaque, *picture.split()[3:]])
        if picture.mode.startswith(("I", "F")):  # of deep images one value may be transparent
            clear = picture.info.get("transparency")
        elif channels in (1, 3) and (picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info):
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if not isinstance(picture, Image.Image) or picture.mode.startswith(("I", "F")):
        values = np.asarray(picture)
        if values.dtype == bool:
            values = values * np.uint8(255)
        if values.dtype != np.uint8:
            top = top or (1.0 if values.dtype.kind == "f" else 65535.0)
            if not np.isfinite(values).any():
                raise ValueError("no value is a number")
            deep = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
            if deep.min(initial=0) < 0 or (data_range is None and deep.max(initial=0) > top):
                reach = f"{deep.min(initial=0):g} to {deep.max(initial=0):g}"
                raise ValueError(f"values from {reach}; 0 to {top:g} is accepted, or to that of --data-range")
            if channels in (1, 3) and isinstance(clear, int):
                deep[values == clear] = top
            values = (deep.clip(0, top) * 255 / top).astype(np.uint8)
        flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
        whole = flat.ndim == 2 or flat.shape[2] == 3
        picture = Image.fromarray(flat) if whole else values
    if isinstance(picture, Image.Image):
        parts = [picture.convert("L" if channels == 1 else "RGB")] if channels in (1, 3) else list(picture.split())
    else:
        parts = [Image.fromarray(np.ascontiguousarray(picture[:, :, band])) for band in range(picture.shape[2])]
    if sum(len(image.getbands()) for image in parts) != channels:
        raise ValueError(f"an image of {sum(len(image.getbands()) for image in parts)} channels, not {channels}")
    parts = [square(image, size) for image in parts]
    return np.concatenate([np.atleast_3d(np.asarray(image, np.uint8)).transpose(2, 0, 1) for image in parts])


def square(image: Image.Image, size: int) -> Image.Image:
    """The image with its shorter side resized, the centre cropped out. Of a thin one only the middle is resized."""
    if max(image.size) > 4 * min(image.size):
        aside = [(side - min(side, 2 * min(image.size))) // 2 for side in image.size]
        image = image.crop((aside[0], aside[1], image.width - aside[0], image.height - aside[1]))
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, above = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, above, left + size, above + size))
