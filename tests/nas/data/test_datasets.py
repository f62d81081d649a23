from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nas.config import DataConfig
from nas.data.datasets import load, load_test
from nas.data.decoding import Mapped
from searchspace import InputError
from tests.support.paths import ROOT

CIFAR = ROOT.parent / "shared" / "data" / "cifar10"
MODES = ["RGB", "L", "RGBA", "P", "1", "CMYK", "I;16", "LA"]


def picture(index: int, mode: str = "RGB", size: tuple[int, int] = (20, 24)) -> Image.Image:
    return Image.new("RGB", size, (40 * index % 256, 100, 200)).convert("RGB" if mode == "I;16" else mode)


def class_folders(root: Path, count: int = 6) -> Path:
    for label in ("cat", "dog"):
        (root / "train" / label).mkdir(parents=True)
        for index in range(count):
            picture(index, MODES[index % len(MODES)]).convert("RGB").save(root / "train" / label / f"{index}.png")
    return root


def parquet(root: Path, records: list[dict[str, Any]], labels: list[Any]) -> Path:
    """Parquet as anybody writes it: image structs of bytes and path, and a label."""
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"img": records, "label": labels}), root / "train-00000-of-00001.parquet")
    return root


def encoded(image: Image.Image, kind: str = "PNG") -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": None}


def test_digits_are_split_by_class_and_seed_and_leave_a_test_set() -> None:
    split = load(DataConfig(), seed=0)
    assert (split.train_images.shape, split.val_images.shape) == ((1146, 3, 16, 16), (287, 3, 16, 16))
    assert len(split.train_labels) + len(split.val_labels) < 0.81 * 1797
    shares = [np.bincount(labels) / len(labels) for labels in (split.train_labels, split.val_labels)]
    assert np.abs(shares[0] - shares[1]).max() < 0.01
    again, other = load(DataConfig(), seed=0), load(DataConfig(), seed=1)
    assert np.array_equal(split.val_images, again.val_images)
    assert not np.array_equal(split.val_images, other.val_images)
    assert not split.flip


def test_so_many_images_of_every_class_its_share(tmp_path: Path) -> None:
    part, whole = load(DataConfig(images=500), seed=0), load(DataConfig(), seed=0)
    assert (len(part.train_labels), len(part.val_labels)) == (400, 100)
    assert np.abs(np.bincount(part.train_labels) / 400 - np.bincount(whole.train_labels) / 1146).max() < 0.01
    assert np.array_equal(part.train_images, load(DataConfig(images=500), seed=0).train_images)
    assert np.array_equal(whole.train_images, load(DataConfig(images=10**6), seed=0).train_images)
    folder = str(class_folders(tmp_path / "pets"))
    few = load(DataConfig(folder, images=8, validation=0.5), seed=0)
    assert (np.bincount(few.train_labels).tolist(), np.bincount(few.val_labels).tolist()) == ([2, 2], [2, 2])
    with pytest.raises(InputError, match="images: at least 4, two of each class"):
        load(DataConfig(folder, images=3), seed=0)


def test_a_folder_in_which_no_classes_can_be_told(tmp_path: Path) -> None:
    whole = class_folders(tmp_path / "pets")
    one = next(path for path in whole.rglob("*") if path.is_dir() and not any(p.is_dir() for p in path.iterdir()))
    with pytest.raises(InputError, match="at least two folders of images are accepted, one per class"):
        load(DataConfig(str(one)), seed=0)


def test_a_folder_of_one_folder_a_class(tmp_path: Path) -> None:
    split = load(DataConfig(str(class_folders(tmp_path / "pets"))), seed=0)
    assert split.num_classes == 2
    assert split.train_images.shape[1:] == (3, 20, 20)
    assert split.flip


@pytest.mark.parametrize("part", ["test", "validation"])
def test_test_images_are_the_folders_own(tmp_path: Path, part: str) -> None:
    """Only a dog among them: labels are the training classes' numbers all the same."""
    folder = class_folders(tmp_path / "pets")
    (folder / part / "dog").mkdir(parents=True)
    picture(3, size=(40, 40)).save(folder / part / "dog" / "x.png")
    split = load(DataConfig(str(folder)), seed=0)
    assert split.classes == ("cat", "dog")
    assert len(split.train_labels) + len(split.val_labels) == 12
    found = load_test(split)
    assert found is not None
    assert found[0].shape == (1, 3, 20, 20)
    assert found[1].tolist() == [1]


def test_test_images_of_parquet_have_the_classes_of_the_training_images(tmp_path: Path) -> None:
    images = [encoded(picture(i)) for i in range(10)]
    folder = parquet(tmp_path / "p", images, ["cow", "ant"] * 5)
    assert load_test(load(DataConfig(str(folder)), seed=0)) is None
    pq.write_table(pa.table({"img": images[:3], "label": ["cow"] * 3}), folder / "test-00000-of-00001.parquet")
    split = load(DataConfig(str(folder)), seed=0)
    found = load_test(split)
    assert found is not None
    assert [split.classes[label] for label in found[1]] == ["cow"] * 3
    pq.write_table(
        pa.table({"img": images[:3], "label": ["cow", "emu", "cow"]}), folder / "test-00000-of-00001.parquet"
    )
    with pytest.raises(InputError, match="test images of 'emu', which no training image has"):
        load_test(split)


def test_a_folder_of_parquet_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    for name in ("p[bold]", "p*?"):
        folder = parquet(tmp_path / name, [encoded(picture(i)) for i in range(10)], ["cow", "ant"] * 5)
        (folder / "train-00000-of-00001.parquet").rename(folder / "some.parquet")
        pq.write_table(pa.table({"img": [encoded(picture(0))], "label": ["cow"]}), folder / "test-0.parquet")
        split = load(DataConfig(str(folder)), seed=0)
        assert split.classes == ("ant", "cow")
        tested = load_test(split)
        assert tested is not None
        assert tested[1].tolist() == [1]


def test_images_keep_their_size_up_to_the_networks(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "p", [encoded(picture(i, size=(90, 80))) for i in range(10)], [0, 1] * 5)
    config = DataConfig(str(folder))
    assert [load(config, 0, largest=side).resolution for side in (224, 72)] == [80, 72]
    assert load(config, 0).resolution == 64


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    images = [picture(i, mode) for i in range(10)]
    if mode == "I;16":
        images = [Image.fromarray(np.full((24, 20), 3000, np.uint16)) for _ in range(10)]
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    folder = parquet(tmp_path / "p", [encoded(image, kind) for image in images], [0, 1] * 5)
    split = load(DataConfig(str(folder)), seed=0, resolution=18)
    assert split.train_images.shape == (8, 3, 18, 18)
    assert split.train_images.dtype == np.uint8
    assert mode in ("1", "I;16") or 90 < np.median(split.train_images) < 200
    assert mode != "I;16" or np.unique(split.train_images).tolist() == [11]  # 3000 of 65535


def test_labels_of_any_kind_are_numbered(tmp_path: Path) -> None:
    for name, labels, classes in (
        ("numbers", [3, 7] * 5, ("3", "7")),
        ("texts", ["cat", "dog"] * 5, ("cat", "dog")),
        ("whole", [3.0, 11.0] * 5, ("3", "11")),
    ):
        folder = parquet(tmp_path / name, [encoded(picture(i)) for i in range(10)], labels)
        assert load(DataConfig(str(folder)), seed=0).classes == classes


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat", None] * 5, "column label: every image has one, and 5 have none, first image 1"),
        ([1, None] * 5, "column label: every image has one"),
        ([1.0, float("nan")] * 5, "column label: every image has one"),
        (["cat", ""] * 5, "column label: every image has one"),
        ([1, -1] * 5, "whole numbers from 0, or names, are accepted, not -1"),
        ([0.25, 1.0] * 5, "whole numbers or names are accepted, not 0.25"),
        ([[0], [0, 1]] * 5, "column label: .* accepted, not (a )?list|ndarray"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(tmp_path: Path, labels: Any, says: str) -> None:
    folder = parquet(tmp_path / "p", [encoded(picture(i)) for i in range(10)], labels)
    with pytest.raises(InputError, match=says) as refused:
        load(DataConfig(str(folder)), seed=0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("train", "test"), [(["cow", "ant"], [None, None]), ([0, 1], [-1, -1]), ([0, 1], [None] * 2)])
def test_test_images_without_labels_are_none(tmp_path: Path, train: list[Any], test: list[Any]) -> None:
    folder = parquet(tmp_path / "p", [encoded(picture(i)) for i in range(10)], train * 5)
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-0.parquet")
    split = load(DataConfig(str(folder)), seed=0)
    images = [encoded(picture(0))] * 2
    pq.write_table(pa.table({"img": images, "label": test}), folder / "test-0.parquet")
    assert load_test(split) is None
    pq.write_table(pa.table({"img": images, "label": [train[0], test[0]]}), folder / "test-0.parquet")
    with pytest.raises(InputError, match=r"column label: (every image has one, and 1 have none|.* not -1)"):
        load_test(split)


@pytest.mark.parametrize(
    ("records", "labels", "says"),
    [
        (
            [{"bytes": b"no image", "path": "x.png"}] * 10,
            [0, 1] * 5,
            r"unreadable images \(10 of 10\): image 0 \(x\.png\): ",
        ),
        ([encoded(picture(0))] * 10, [0] * 9 + [1], "the class '1' has one image"),
    ],
)
def test_refuses_bad_images_and_labels(tmp_path: Path, records: Any, labels: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(DataConfig(str(parquet(tmp_path / "p", records, labels))), seed=0)


def test_refuses_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.bin").write_bytes(b"x")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("hello")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 truncated")
    for name, says in (
        ("empty", "the folder is empty"),
        ("file.bin", "not a file"),
        ("text", "needs an image column"),
        ("broken", "cannot be read"),
    ):
        with pytest.raises(InputError, match=says) as refused:
            load(DataConfig(str(tmp_path / name)), seed=0)
        assert "\n" not in str(refused.value)


def test_what_does_not_fit_in_memory_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(str(class_folders(tmp_path / "images")))
    whole = load(config, seed=0)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nas.data.decoding.MEMORY_LIMIT_BYTES", 1000)
    mapped = load(config, seed=0)
    assert isinstance(mapped.train_images, Mapped)
    for images, same in ((mapped.train_images, whole.train_images), (mapped.val_images, whole.val_images)):
        assert images.shape == same.shape
        assert np.array_equal(images[:], same)
        assert len(pickle.dumps(images)) < 1000
        assert np.array_equal(pickle.loads(pickle.dumps(images))[[2, 0]], same[[2, 0]])
    (kept,) = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert load(config, seed=1).train_images.path == kept  # decoded once, for all splits of these images
    assert kept.stat().st_mtime_ns == written


def test_a_file_of_images_is_there_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nas.data.decoding.MEMORY_LIMIT_BYTES", 1000)
    folder = class_folders(tmp_path / "images")
    next(folder.rglob("*.png")).write_bytes(b"no image")
    with pytest.raises(InputError, match="unreadable image"):
        load(DataConfig(str(folder)), seed=0)
    assert not list((tmp_path / "cache").iterdir())
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("nas.data.decoding.shutil.disk_usage", lambda path: full)
    with pytest.raises(InputError, match=r"GB free in .*--images N uses fewer"):
        load(DataConfig(str(class_folders(tmp_path / "others"))), seed=0)


def test_many_images_are_decoded_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [encoded(picture(i)) for i in range(600)]
    config = DataConfig(str(parquet(tmp_path / "p", images, [0, 1] * 300)))
    alone, told = load(config, seed=0), []
    monkeypatch.setattr("nas.data.decoding.WORTH_S", 0.0)
    monkeypatch.setattr("nas.data.decoding.CHUNK", 256)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    several = load(config, seed=0, progress=lambda what, done, of: told.append((what, done, of)))
    assert np.array_equal(several.train_images, alone.train_images)
    assert told == [("decoding images", done, 600) for done in (256, 512, 600)]
    broken = [*images[:400], {"bytes": b"no image", "path": "x.png"}, *images[401:]]
    with pytest.raises(InputError, match=r"unreadable image: image 400 \(x\.png\): no image"):
        load(DataConfig(str(parquet(tmp_path / "q", broken, [0, 1] * 300))), seed=0)


@pytest.mark.cifar
@pytest.mark.skipif(not CIFAR.is_dir(), reason="needs the complete CIFAR-10 in ../shared/data/cifar10")
def test_cifar10() -> None:
    split = load(DataConfig(str(CIFAR), images=10_000), seed=0)
    assert split.train_images.shape == (8_000, 3, 32, 32)
    assert np.bincount(split.val_labels).tolist() == [200] * 10
    means = split.train_images.mean((0, 2, 3)) / 255
    assert np.allclose(means, [0.4914, 0.4822, 0.4465], atol=0.003)
