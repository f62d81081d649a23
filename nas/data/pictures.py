"""One encoded image: where its bytes are, what it is called, how it is opened; without its pixels."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nas.data import bands

MOST_PIXELS, MOST_BYTES = 500 * 10**6, 4 * 10**9
# Pillow's names of what is accepted. Others it hands to programs, as PostScript to Ghostscript, whatever a file's name.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "AVIF", "ICO", "TGA")


@dataclass(frozen=True, slots=True)
class File:
    """An image file, by its path below a folder."""

    root: str
    path: str


def reason_of(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known kind"
    return " ".join(str(error).split())[:120] or type(error).__name__


def name(index: int, record: Any) -> str:
    if isinstance(record, File):
        return record.path
    path = record["path"] if isinstance(record, dict) else None
    return f"image {index}" + (f" ({path})" if path else "")


def read_encoded(record: Any) -> bytes:
    if isinstance(record, File):
        return read_file(Path(record.root, record.path))
    if isinstance(record, dict):
        return read_file(Path(record["path"])) if record["bytes"] is None else bytes(record["bytes"])
    return bytes(record)


def read_file(path: Path) -> bytes:
    """A file's bytes, as many as it has: what has none, as the kernel's log in /proc, is not waited for."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"a file of more than {MOST_BYTES // 10**9} GB")
        return file.read(size)


def misfit(record: Any, channels: int) -> str:
    """What keeps a network of so many channels from an image; "" where nothing does."""
    try:
        with quiet():
            picture(read_encoded(record), channels)
    except bands.ChannelsError as error:
        return f"{name(0, record)}: {error}"
    except Exception:  # of what is damaged decoding has more to say
        return ""
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow neither warns of what it can read nor refuses large photos: `picture` has its own limit."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def picture(data: bytes, channels: int) -> Image.Image | NDArray[Any]:
    """An encoded image, not yet read, or an array (H, W, bands).

    A network of 1 or 3 channels takes photos of any kind; one of other channels takes files of just as many bands.
    """
    if bands.is_array(data):
        return bands.array(data, channels)
    if bands.is_tiff(data):
        found = bands.tiff_bands(data)
        if found is not None or channels not in (1, 3):
            array = bands.tiff(data)
            if array.shape[2] != channels:
                raise bands.ChannelsError(
                    f"an image of {array.shape[2]} bands; the network takes {channels} channels "
                    f"(--fix in_channels={array.shape[2]} of a search)"
                )
            return array
    Image.init()
    image = Image.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width:,} × {image.height:,} px: more than {MOST_PIXELS // 10**6} million pixels")
    if min(image.size) < 1:
        raise ValueError("an image of size zero")
    if channels not in (1, 3) and len(image.getbands()) != channels:
        raise bands.ChannelsError(f"an image of {len(image.getbands())} channels; the network takes {channels}")
    return image
