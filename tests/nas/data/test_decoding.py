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


def deep(key: int | None) -> Image.Image:
    """A ramp of 16 bits as a PNG, of which one value may be transparent."""
    values = (np.arange(32 * 32, dtype=np.uint16) * 60).reshape(32, 32)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **({} if key is None else {"transparency": key}))
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_of_a_deep_grey_image_the_transparent_value_alone_is_white() -> None:
    assert deep(600).info["transparency"] == 600
    whole, clear = pixels(deep(None), 32, 1), pixels(deep(600), 32, 1)
    assert whole.max() == 60 * 1023 * 255 // 65535
    assert np.argwhere(whole != clear).tolist() == [[0, 0, 10]]
    assert clear[0, 0, 10] == 255
    assert (pixels(deep(600), 32, 3) == clear).all()


@pytest.mark.parametrize("shape", [(20000, 1), (1, 20000), (9000, 60)])
def test_of_a_thin_image_only_the_middle_is_scaled(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made, resize = [], Image.Image.resize

    def noting(image: Image.Image, size: tuple[int, int], *rest: object) -> Image.Image:
        made.append(size)
        return resize(image, size, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noting)
    found = pixels(photo(*shape), 224)
    assert found.shape == (3, 224, 224)
    assert all(max(size) <= 3 * 224 for size in made)


def test_a_thin_image_shows_what_its_middle_shows() -> None:
    image = photo(1500, 100)
    assert np.abs(pixels(image, 48).astype(int) - plain(image, 48)).max() <= 1
