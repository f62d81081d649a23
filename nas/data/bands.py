"""Images of any number of bands as arrays (H, W, bands): TIFF files that Pillow cannot read, and NumPy's .npy and .npz.

Of TIFF (revision 6.0, and BigTIFF) strips and tiles are read, whole numbers and floats of 8 to 64 bits, uncompressed or
compressed by PackBits, LZW or Deflate. Needs NumPy alone, so that what an export brings along can be a copy of this.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 5 * 10**8
TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # TIFF's types of whole numbers
KINDS = {1: "u", 2: "i", 3: "f"}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES = 256, 257, 258, 259, 262, 273, 277
ROWS, COUNTS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT = 278, 279, 284, 317, 322, 323
TILE_OFFSETS, TILE_COUNTS, EXTRA, FORMAT = 324, 325, 338, 339
INKS, ALPHA = 5, (1, 2)

Array = NDArray[Any]
Tags = dict[int, tuple[int, ...]]


class ChannelsError(ValueError):
    """An image has other channels than the network takes."""


def is_array(data: bytes) -> bool:
    return data[:6] == b"\x93NUMPY" or data[:4] == b"PK\x03\x04"


def is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def array(data: bytes, channels: int) -> Array:
    """A .npy file, or the one array of a .npz: (H, W), or (H, W, channels), or else (channels, H, W)."""
    if data[:2] == b"PK":
        _check_size(sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist()))
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        if len(loaded.files) != 1:
            raise ValueError(f"one array is accepted, not {len(loaded.files)}: {', '.join(loaded.files[:5])}")
        loaded = loaded[loaded.files[0]]
    if not isinstance(loaded, np.ndarray):  # of any other archive the bytes of a file
        raise ValueError("no array")
    found: Array = loaded[:, :, None] if loaded.ndim == 2 else loaded
    if found.ndim == 3 and found.shape[0] == channels != found.shape[2]:
        found = found.transpose(1, 2, 0)
    if found.ndim != 3 or (found.shape[2] != channels and not {found.shape[2], channels} <= {1, 3}):
        wanted = f"the network takes (H, W, {channels}) or ({channels}, H, W)"
        raise ChannelsError(f"an array of shape {loaded.shape}; {wanted}")
    return found


def tiff_bands(data: bytes) -> int | None:
    """How many bands a TIFF has, or pages of one band each; None for a photo: grey, colour, inks, with alpha."""
    pages = _pages(data)
    first = pages[0]
    samples = first.get(SAMPLES, (1,))[0]
    alpha = samples in (2, 4) and first.get(EXTRA, (0,))[-1] in ALPHA
    inks = samples == 4 and first.get(PHOTOMETRIC, (1,))[0] == INKS
    if alpha or inks or samples == 3 or (samples == 1 and len(pages) == 1):
        return None
    return samples if samples > 1 else len(pages)


def tiff(data: bytes) -> Array:
    """A TIFF as (H, W, bands): the bands of its first page, or the pages where each is one band."""
    pages, order = _pages(data), "<" if data[:1] == b"I" else ">"
    single = pages[0].get(SAMPLES, (1,))[0] == 1
    used = [page for page in pages if _shape(page) == _shape(pages[0])] if single else pages[:1]
    return np.concatenate([_page(data, page, order) for page in used], axis=2)


def _shape(tags: Tags) -> tuple[int, ...]:
    return tags.get(WIDTH, (0,))[0], tags.get(HEIGHT, (0,))[0], tags.get(SAMPLES, (1,))[0], *tags.get(BITS, (1,))


def _check_size(values: int) -> None:
    if values > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES // 10**6:,} million values")


def _pages(data: bytes) -> list[Tags]:
    """The tags of every page, as far as they are whole numbers."""
    order, big = "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    found: list[Tags] = []
    seen: set[int] = set()
    while at and at not in seen:
        seen.add(at)
        tags, at = _directory(data, at, order, big)
        found.append(tags)
    if not found:
        raise ValueError("a TIFF without an image")
    return found


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[Tags, int]:
    entry, inline = (order + "HHQ", 8) if big else (order + "HHI", 4)
    number = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    at += 8 if big else 2
    tags: Tags = {}
    for _ in range(number):
        tag, kind, count = struct.unpack_from(entry, data, at)
        at += struct.calcsize(entry)
        if kind in TYPES and count <= len(data):
            layout = f"{order}{count}{TYPES[kind]}"
            inside = struct.calcsize(layout) <= inline
            place = at if inside else struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
            tags[tag] = struct.unpack_from(layout, data, place)
        at += inline
    return tags, struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]


def _page(data: bytes, tags: Tags, order: str) -> Array:
    """One page as (H, W, bands), put together from its strips or tiles."""
    for tag in (
        WIDTH,
        HEIGHT,
        *((TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS) if TILE_WIDTH in tags else (OFFSETS, COUNTS)),
    ):
        if tag not in tags:
            raise ValueError(f"a TIFF without its tag {tag}")
    width, height, samples = tags[WIDTH][0], tags[HEIGHT][0], tags.get(SAMPLES, (1,))[0]
    _check_size(width * height * samples)
    kind, tiled = _kind(tags, order), TILE_WIDTH in tags
    wide, high = (tags[TILE_WIDTH][0], tags[TILE_HEIGHT][0]) if tiled else (width, tags.get(ROWS, (height,))[0])
    high = high if tiled else min(high, height)
    offsets, counts = (tags[TILE_OFFSETS], tags[TILE_COUNTS]) if tiled else (tags[OFFSETS], tags[COUNTS])
    apart = samples > 1 and tags.get(PLANAR, (1,))[0] == 2
    together = 1 if apart else samples
    image = np.zeros((height, width, samples), kind.newbyteorder("="))
    corners = [(y, x) for y in range(0, height, high) for x in range(0, width, wide)]
    for index, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        plane, (y, x) = index // len(corners), corners[index % len(corners)]
        rows = high if tiled else min(high, height - y)
        block = _block(data[offset : offset + count], tags, kind, (rows, wide, together))
        bands = slice(plane, plane + 1) if apart else slice(None)
        image[y : y + rows, x : x + wide, bands] = block[: height - y, : width - x]
    return image


def _kind(tags: Tags, order: str) -> np.dtype[Any]:
    bits, forms = set(tags.get(BITS, (1,))), set(tags.get(FORMAT, (1,)))
    if len(bits) > 1 or len(forms) > 1 or not bits <= {8, 16, 32, 64} or not forms <= KINDS.keys():
        raise ValueError(f"bands of {', '.join(map(str, sorted(bits)))} bits; equal ones of 8 to 64 are accepted")
    return np.dtype(f"{order}{KINDS[forms.pop()]}{bits.pop() // 8}")


def _block(raw: bytes, tags: Tags, kind: np.dtype[Any], shape: tuple[int, int, int]) -> Array:
    """A strip or tile: decompressed, and what it says of neighbours' differences summed up."""
    rows, wide, samples = shape
    size = rows * wide * samples * kind.itemsize
    raw = _decompress(raw, tags.get(COMPRESSION, (1,))[0], size)
    predictor = tags.get(PREDICTOR, (1,))[0]
    if predictor == 3:
        split = np.frombuffer(raw, np.uint8, size).reshape(rows, wide * kind.itemsize, samples)
        split = np.cumsum(split, axis=1, dtype=np.uint8).reshape(rows, kind.itemsize, wide * samples)
        joined = np.ascontiguousarray(split.transpose(0, 2, 1)).view(kind.newbyteorder(">"))
        return joined.reshape(shape)
    block = np.frombuffer(raw, kind, rows * wide * samples).reshape(shape)
    if predictor == 2:  # of floats too it is their bits as whole numbers
        whole = block.view(f"{kind.byteorder}u{kind.itemsize}")
        return np.cumsum(whole, axis=1, dtype=f"u{kind.itemsize}").view(kind.newbyteorder("="))
    return block


def _decompress(raw: bytes, compression: int, size: int) -> bytes:
    if compression == 1:
        return raw
    if compression == 5:
        return _lzw(raw, size)
    if compression in (8, 32946):
        return zlib.decompressobj().decompress(raw, size)
    if compression == 32773:
        return _packbits(raw, size)
    raise ValueError(f"TIFF compression {compression}; none, PackBits, LZW and Deflate are accepted")


def _packbits(raw: bytes, size: int) -> bytes:
    found, at = bytearray(), 0
    while at < len(raw) and len(found) < size:
        head = raw[at]
        if head < 128:
            found += raw[at + 1 : at + 2 + head]
            at += 2 + head
        else:
            found += raw[at + 1 : at + 2] * (257 - head if head > 128 else 0)
            at += 2 if head > 128 else 1
    return bytes(found)


def _lzw(raw: bytes, size: int) -> bytes:
    """Codes of 9 to 12 bits, the highest bit first; 256 begins a new table and 257 ends."""
    start = [bytes([byte]) for byte in range(256)] + [b"", b""]
    table, width, before = list(start), 9, b""
    found, held, bits = bytearray(), 0, 0
    for byte in raw:
        held, bits = (held << 8 | byte) & 0xFFFFFF, bits + 8
        if bits < width:
            continue
        bits -= width
        code = held >> bits & (1 << width) - 1
        if code == 257 or len(found) >= size:
            break
        if code == 256:
            table, width, before = list(start), 9, b""
            continue
        if code > len(table) or (code == len(table) and not before):
            raise ValueError("damaged LZW data")
        entry = table[code] if code < len(table) else before + before[:1]
        found += entry
        if before:
            table.append(before + entry[:1])
            width = 9 + (len(table) >= 511) + (len(table) >= 1023) + (len(table) >= 2047)
        before = entry
    return bytes(found)
