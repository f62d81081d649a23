"""Images of many bands: TIFF files against Pillow's own, arrays of NumPy, and networks of any channels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas import export, search, train
from nas.config import DataConfig
from nas.data import bands, decoding
from nas.data.datasets import check_channels, load
from nas.data.decoding import pixels
from nas.data.pictures import picture, quiet
from nas.full_training import training_folder
from nas.run.images import describe
from searchspace.arch import Arch
from searchspace.errors import InputError
from tests.nas.test_train import NETWORK
from tests.support.paths import ROOT

SPACE = ROOT / "searchspace" / "spaces" / "rexnet.yaml"


def tiff(image: NDArray[np.generic], order: str = "<", apart: bool = False, deflate: bool = False) -> bytes:
    """(H, W, bands) as a TIFF of two strips, of more bands than Pillow reads; `apart` has each band by itself."""
    height, width, samples = image.shape
    rows, kind = -(-height // 2), {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    planes = [image[:, :, band] for band in range(samples)] if apart else [image]
    strips = [plane[y : y + rows] for plane in planes for y in (0, rows)]
    blocks = [s.astype(s.dtype.newbyteorder(order)).tobytes() for s in strips]
    blocks = [zlib.compress(block) for block in blocks] if deflate else blocks
    offsets = np.cumsum([8, *map(len, blocks)]).tolist()
    tags = {256: [width], 257: [height], 258: [image.dtype.itemsize * 8] * samples, 259: [8 if deflate else 1]}
    tags |= {262: [1], 273: offsets[:-1], 277: [samples], 278: [rows], 279: list(map(len, blocks))}
    tags |= {284: [2 if apart else 1], 338: [0] * (samples - 1), 339: [kind] * samples}
    after = offsets[-1] + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        inline = packed if len(packed) <= 4 else struct.pack(f"{order}I", after + len(values))
        values += b"" if len(packed) <= 4 else packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + inline
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, offsets[-1])
    return head + b"".join(blocks) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values


def encoded(image: NDArray[np.generic], **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "TIFF", **options)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (70, 53, 3), np.uint8)
SMOOTH = np.add.outer(np.arange(70), np.arange(53)).astype(np.uint8)


@pytest.mark.parametrize("image", [NOISE, SMOOTH, SMOOTH.astype(np.uint16) * 200, SMOOTH.astype(np.float32) / 7])
@pytest.mark.parametrize(
    ("compression", "predictor"),
    [
        (None, 1),
        ("packbits", 1),
        ("tiff_lzw", 1),
        ("tiff_lzw", 2),
        ("tiff_adobe_deflate", 1),
        ("tiff_adobe_deflate", 2),
    ],
)
def test_reads_what_pillow_writes(image: NDArray[np.generic], compression: str | None, predictor: int) -> None:
    predictor = 3 if predictor == 2 and image.dtype.kind == "f" else predictor
    data = encoded(image, compression=compression, tiffinfo={317: predictor} if predictor > 1 else {})
    assert np.array_equal(bands.tiff(data), np.atleast_3d(image))
    assert bands.tiff_bands(data) is None


def test_long_lzw_fills_its_table() -> None:
    for top in (4, 256):
        image = np.random.default_rng(1).integers(0, top, (400, 300), np.uint8)
        assert np.array_equal(bands.tiff(encoded(image, compression="tiff_lzw"))[:, :, 0], image)


@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("apart", [False, True])
def test_bands_together_and_apart(kind: str, order: str, apart: bool) -> None:
    image = np.arange(9 * 7 * 5).reshape(9, 7, 5).astype(kind)
    data = tiff(image, order, apart, deflate=kind == "u2")
    assert bands.tiff_bands(data) == 5
    assert np.array_equal(bands.tiff(data), image)


def test_pages_of_one_band_are_bands() -> None:
    pages = [Image.fromarray(SMOOTH + page) for page in range(5)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert bands.tiff_bands(file.getvalue()) == 5
    assert np.array_equal(bands.tiff(file.getvalue())[:, :, 3], SMOOTH + 3)


def test_a_tiff_without_what_it_takes_says_which_tag() -> None:
    """It was a number alone."""
    entries = [(256, 2), (257, 2), (258, 8), (277, 5)]
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)
    with pytest.raises(ValueError, match="a TIFF without its tag 273"):
        bands.tiff(data)


def test_photos_in_tiff_are_no_bands() -> None:
    for mode in ("L", "RGB", "RGBA", "LA", "CMYK", "P", "1", "I;16", "F"):
        file = io.BytesIO()
        Image.new(mode, (8, 9)).save(file, "TIFF")
        assert bands.tiff_bands(file.getvalue()) is None
    four = tiff(np.zeros((8, 9, 4), np.uint8))
    assert bands.tiff_bands(four) == 4
    with pytest.raises(bands.ChannelsError, match="an image of 4 bands; the network takes 3 channels"):
        picture(four, 3)


def numpy_file(image: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


def test_the_axis_of_an_array_that_has_the_channels() -> None:
    image = np.arange(6 * 8 * 5, dtype=np.uint8).reshape(6, 8, 5)
    for stored in (image, image.transpose(2, 0, 1)):
        assert np.array_equal(bands.array(numpy_file(stored), 5), image)
    square = np.arange(75, dtype=np.uint8).reshape(5, 3, 5)
    assert np.array_equal(bands.array(numpy_file(square), 5), square)
    packed = io.BytesIO()
    np.savez(packed, anything=image)
    assert np.array_equal(bands.array(packed.getvalue(), 5), image)
    with pytest.raises(bands.ChannelsError, match=r"shape \(6, 8, 5\); the network takes \(H, W, 4\) or \(4, H, W\)"):
        bands.array(numpy_file(image), 4)
    np.savez(packed, one=image, two=image)
    with pytest.raises(ValueError, match="one array is accepted, not 2"):
        bands.array(packed.getvalue(), 5)


@pytest.mark.parametrize(
    ("value", "data_range", "becomes"),
    [
        (np.uint8(200), None, 200),
        (np.uint16(32768), None, 127),
        (np.uint16(5000), 10_000.0, 127),
        (np.uint16(20_000), 10_000.0, 255),
        (np.float32(0.5), None, 127),
        (np.float32(0.0), None, 0),
        (np.float64(50.0), 100.0, 127),
        (np.bool_(True), None, 255),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_deep_values_are_scaled(value: np.generic, data_range: float | None, becomes: int, channels: int) -> None:
    image = np.full((9, 7, channels), value)
    with quiet():
        found = pixels(picture(numpy_file(image), channels), 4, channels, data_range)
    assert found.shape == (channels, 4, 4)
    assert set(found.flatten().tolist()) == {becomes}


@pytest.mark.parametrize("value", [np.float32(7.0), np.int16(-1), np.int32(70_000)])
def test_values_out_of_range_are_refused(value: np.generic) -> None:
    with pytest.raises(ValueError, match=r"values from .* is accepted"):
        pixels(np.full((9, 7, 5), value), 4, 5)


def scenes(root: Path, count: int = 12, channels: int = 5) -> Path:
    """Two classes that differ in their last band alone."""
    random = np.random.default_rng(0)
    for label, level in (("dry", 2_000), ("wet", 30_000)):
        (root / label).mkdir(parents=True)
        for index in range(count):
            image = random.integers(10_000, 11_000, (20, 20, channels)).astype(np.uint16)
            image[:, :, -1] = level + 10 * index
            (root / label / f"{index}.tif").write_bytes(tiff(image, apart=index % 2 == 0))
    return root


def test_a_folder_of_many_bands(tmp_path: Path) -> None:
    config = DataConfig(str(scenes(tmp_path)))
    check_channels(config, 5)
    split = load(config, 0, channels=5)
    assert split.channels == 5
    assert "20 px, 5 channels; " in describe(split)[0]
    levels = [split.train_images[:][split.train_labels == label][:, -1].mean() for label in (0, 1)]
    assert np.allclose(levels, [2_000 / 257, 30_000 / 257], atol=2)
    for channels in (1, 3, 4):
        with pytest.raises(InputError, match=r"dry/\d+\.tif: an image of 5 bands; the network takes"):
            check_channels(config, channels)


def deep_png(image: NDArray[np.uint16]) -> bytes:
    """(H, W, 3) as a PNG of 16 bits, which Pillow does not write."""
    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_images_that_a_data_range_clips_are_counted(tmp_path: Path) -> None:
    """Also by who reads them again, decoded before."""
    root = str(scenes(tmp_path, count=4))
    for white, notes in (
        (20_000.0, ["data: 4 images have values above --data-range 20000, which are clipped: they are white"]),
        (40_000.0, []),
    ):
        for _ in range(2):
            split = load(DataConfig(root, data_range=white), 0, channels=5)
            assert [line for line in describe(split) if "clipped" in line] == notes


def test_values_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(8):
        folder = tmp_path / "ab"[index % 2]
        folder.mkdir(exist_ok=True)
        image = rng.random((12, 12, 5)).astype(np.float32)
        image[:2] = [np.nan, np.inf, -np.inf, 0.5][index % 4] if index < 6 else image[:2]
        np.save(folder / f"{index}.npy", image)
    for _ in range(2):  # decoded, and from the cache
        said = describe(load(DataConfig(str(tmp_path)), 0, channels=5))
        assert "data: 5 images have values that are no numbers (NaN or infinite): they are black" in said
    np.save(tmp_path / "a" / "8.npy", np.full((12, 12, 5), np.nan, np.float32))
    with pytest.raises(InputError, match=r"unreadable image: a/8\.npy: no value is a number"):
        load(DataConfig(str(tmp_path)), 0, channels=5)


def test_the_brightest_value_is_of_deep_images_alone() -> None:
    assert decoding.brightest(Image.new("RGB", (2, 2), "white")) == 0
    assert decoding.brightest(np.full((2, 2, 3), 255, np.uint8)) == 0
    assert decoding.brightest(Image.fromarray(np.full((2, 2), 4_000, np.uint16))) == 4_000
    deep = Image.open(io.BytesIO(deep_png(np.full((2, 3, 3), 0x1234, np.uint16))))
    assert deep.mode == "RGB"
    assert decoding.brightest(deep) == 0x1200
    assert decoding.brightest(np.array([[0.5, np.nan], [np.inf, 2.0]])) == 2.0


def test_grey_images_for_a_network_of_one_channel(tmp_path: Path) -> None:
    assert load(DataConfig(), 0, channels=1).train_images.shape[1:] == (1, 16, 16)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(5):
            Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / label / f"{index}.png")
    split = load(DataConfig(str(tmp_path)), 0, channels=1)
    assert set(split.train_images[:].flatten().tolist()) == {76}
    assert "20 px, grey" in describe(split)[0]


def five(tmp_path: Path, channels: int) -> list[str]:
    """The options of a small search of networks of so many channels."""
    text = SPACE.read_text(encoding="utf-8")
    (tmp_path / "space.yaml").write_text(f"in_channels: {channels}\n{text}", encoding="utf-8")
    return ["--budget", "3MFLOPs", "--space", str(tmp_path / "space.yaml"), "--resolution", "32", "--num-classes", "2"]


def test_a_search_refuses_images_of_other_channels_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [*five(tmp_path, 3), "--dataset", str(scenes(tmp_path / "scenes")), "--run", "run"]
    for more in ([], ["--dry-run"]):
        with pytest.raises(InputError, match="an image of 5 bands; the network takes 3 channels"):
            search.main([*options, *more])
    assert not (tmp_path / "run").exists()
    assert search.main([*five(tmp_path, 5), "--dataset", str(tmp_path / "scenes"), "--dry-run"]) == 0
    assert "5 channels" in capsys.readouterr().out


def test_a_training_refuses_images_of_other_channels_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from searchspace.space.space import Space

    Space({**NETWORK, "in_channels": 5}).arch().save(tmp_path / "five.yaml")
    with pytest.raises(InputError, match="networks of 1 or 3 channels; the network takes 5"):
        train.main(["five.yaml", "--dataset", "digits", "--out", "out"])
    scenes(tmp_path / "scenes")
    with pytest.raises(InputError, match="images of 3 channels are accepted, not 5"):
        train.main(["five.yaml", "--dataset", "scenes", "--out", "out", "--randaugment", "3"])
    assert not (tmp_path / "out").exists()
    augmented = ["--mixup", "0.2", "--cutmix", "1.0", "--epochs", "1", "--quiet", "--device", "cpu"]
    assert train.main(["five.yaml", "--dataset", "scenes", "--out", "out", *augmented]) == 0


@pytest.mark.slow
def test_a_search_on_five_bands_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes differ in the last band alone, so that a network which has them apart has read it."""
    monkeypatch.chdir(tmp_path)
    scenes(tmp_path / "scenes", 60)
    shared = ["--dataset", "scenes", "--device", "cpu", "--quiet"]
    brief = ["--trials", "2", "--epochs", "4", "--batch-size", "16", "--run", "run", "--no-baselines"]
    assert search.main([*five(tmp_path, 5), *shared, *brief]) == 0
    assert Arch.load(tmp_path / "run" / "best.yaml").in_channels == 5
    assert train.main(["run", *shared, "--epochs", "12", "--batch-size", "16", "--out", "out"]) == 0
    facts, _ = training_folder.result(tmp_path / "out")
    assert facts.trained is not None
    assert len(facts.trained.mean) == 5
    assert facts.trained.accuracy > 0.8
    assert export.main(["out", "--out", "deploy"]) == 0
