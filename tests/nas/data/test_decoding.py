"""Large JPEGs are decoded at a part of their size, which is faster and shows the same; nothing else changes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from nas.data.decoding import pixels


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes and edges, as photos have them."""
    y, x = np.mgrid[0:height, 0:width] / 100
    waves = [np.sin(3 * x + channel) * np.cos(2 * y - channel) + (np.hypot(x - 5, y - 4) < 2) for channel in range(3)]
    return Image.fromarray((np.stack(waves, 2) * 60 + 110).clip(0, 255).astype(np.uint8))


def opened(image: Image.Image, kind: str) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return Image.open(io.BytesIO(buffer.getvalue()))


def plain(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The whole image, its shorter side resized, the centre cropped out."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, above = (width - size) // 2, (height - size) // 2
    small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small.crop((left, above, left + size, above + size))).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "decoded"), [(128, (600, 450)), (224, (600, 450)), (64, (300, 225)), (256, (1200, 900))]
)
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_and_shows_the_same(size: int, decoded: tuple[int, int]) -> None:
    image = opened(photo(1200, 900), "JPEG")
    off = pixels(image, size).astype(int) - plain(opened(photo(1200, 900), "JPEG"), size)
    assert image.size == decoded  # at least twice as large as it is wanted
    assert np.abs(off).mean() < 0.6
    assert np.abs(off).max() <= 20


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_other_images_are_decoded_whole(kind: str) -> None:
    assert np.array_equal(pixels(opened(photo(700, 500), kind), 128), plain(photo(700, 500), 128))


def test_a_jpeg_that_is_not_twice_as_large_is_decoded_whole() -> None:
    image = opened(photo(500, 375), "JPEG")
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    assert np.array_equal(pixels(image, 224), plain(opened(photo(500, 375), "JPEG"), 224))
