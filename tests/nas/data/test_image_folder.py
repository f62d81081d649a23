"""A folder of images as people have them: every image is used or named, whatever files and folders are called."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from rich.console import Console

from nas import cache, export, search, train
from nas.config import DataConfig, SearchConfig, SearchSpec, as_begun, resume
from nas.data.datasets import Split, check_channels, load, load_test
from nas.data.decoding import pixels
from nas.data.mirroring import may_mirror
from nas.data.repeats import count_shared
from nas.full_training.training_folder import TrainingPlan, keep_preparation
from nas.latency import device_table, timing
from nas.metric import Metric
from nas.run import search_options
from nas.run.images import describe, read_images
from nas.run.resume import carry_on
from nas.views import meter
from searchspace import zoo
from searchspace.document import plain, write_yaml
from searchspace.errors import InputError


def images(root: Path, classes: list[str], count: int = 10, name: str = "{}.jpg") -> Path:
    """Some images of every class, no two alike, in a folder per class."""
    for number, label in enumerate(classes):
        (root / label).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            colour = (60 * number % 256, 10 * index % 256, 100)
            Image.new("RGB", (20, 24), colour).save(root / label / name.format(index))
    return root


def loaded(root: Path, **options: object) -> tuple[Split, list[str]]:
    """The split of a folder, and the lines that a person reads of it."""
    split = load(DataConfig(str(root), **options), seed=0)  # type: ignore[arg-type]
    return split, describe(split)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_names_of_files_say_nothing_of_splits(tmp_path: Path) -> None:
    root = images(tmp_path / "a", ["car", "bus", "van", "bike"], 40)
    for label in ("car", "bus", "van", "bike"):
        for index, name in enumerate(
            ["crop_train_0.jpg", "my-test.jpg", "ILSVRC2012_val_00000293.JPEG", "validation.jpg"]
        ):
            (root / label / f"{index}.jpg").rename(root / label / name)
    split, lines = loaded(root)
    assert lines == [
        f"data {root}: 160 images in 4 classes found, 160 used: 128 train, 32 score; 20 px; mirrored at random; "
        "no test images"
    ]
    assert split.classes == ("bike", "bus", "car", "van")


@pytest.mark.parametrize(
    "classes",
    [
        ["test_tube", "cup"],
        ["car", "bus", "train", "bike"],
        ["val", "train", "other"],
        ["a*b", "c?d", "e\\f", "g\nh", "i{}j", "k[l]", "[bold]m"],
    ],
)
def test_names_of_classes_say_nothing_of_splits(tmp_path: Path, classes: list[str]) -> None:
    split, lines = loaded(images(tmp_path / "p[bold]*?{x}", classes))
    assert split.classes == tuple(sorted(classes))
    assert f"{10 * len(classes)} images in {len(classes)} classes found, {10 * len(classes)} used" in lines[0]
    assert np.bincount(np.concatenate([split.train_labels, split.val_labels])).tolist() == [10] * len(classes)


def test_a_name_that_is_no_utf8_is_a_class(tmp_path: Path) -> None:
    root = images(tmp_path / "a", ["cat"])
    images(root, [b"caf\xe9".decode("utf-8", "surrogateescape")], name="\udce9{}.jpg")
    assert loaded(root)[0].classes == ("caf\\xe9", "cat")


def test_test_images_of_a_class_whose_name_is_no_utf8_are_found(tmp_path: Path) -> None:
    """Their class was looked up by another name than it had."""
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    for part in ("train", "test"):
        images(tmp_path / "a" / part, [latin, "tea"])
    found = load_test(loaded(tmp_path / "a")[0])
    assert found is not None
    assert np.bincount(found[1]).tolist() == [10, 10]


def test_splits_are_top_level_folders_of_class_folders(tmp_path: Path) -> None:
    root = tmp_path / "a"
    images(root / "Train", ["cat", "dog", "cat/young"])
    images(root / "TEST", ["dog", "emu"], 3)
    images(root / "valid", ["cat"], 2)
    images(root / "extra", ["cat"], 2)
    (root / "Train" / "bird").mkdir()
    Image.new("RGB", (8, 8)).save(root / "Train" / "preview.png")
    Image.new("RGB", (8, 8)).save(root / "logo.png")
    for name in ("Thumbs.db", ".hidden.jpg", "notes.txt", "photo.HEIC", "LICENSE"):
        (root / "Train" / "cat" / name).write_bytes(b"x")
    (root / "Train" / "__pycache__").mkdir()
    (root / "Train" / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    split, lines = loaded(root)
    assert split.classes == ("cat", "dog")
    assert lines[0].startswith(f"data {root}: 30 images in 2 classes found, 30 used: 24 train, 6 score; 20 px")
    for said in (
        "1 image of Train in no class folder, left out",
        "1 image beside the class folders, in no class, left out",
        "the folder 'bird' of Train has no image: no class",
        "2 images left out: the folder 'extra' beside 'TEST', 'Train', 'valid' is no split",
        "3 test images left out: of 'emu', of which there is no training image",
        "of 'cat' there is no test image",
        "of 'dog' there is no validation image",
        "3 test images, which nas.train tests on once, at its end",
        "2 validation images, not used: training images are held out to score on",
    ):
        assert f"data: {said}" in lines
    (left_out,) = (line for line in lines if "no images" in line)
    for kind in ("2 hidden", "1 .db", "1 .txt", "1 .heic", "1 without extension", "1 broken link or device"):
        assert kind in left_out
    tested = load_test(split)
    assert tested is not None
    assert tested[1].tolist() == [1, 1, 1]


def test_a_validation_folder_stands_for_a_test_folder(tmp_path: Path) -> None:
    images(tmp_path / "train", ["cat", "dog"])
    images(tmp_path / "val", ["cat", "dog"], 2)
    split, lines = loaded(tmp_path)
    assert "4 validation images, which nas.train tests on once, at its end: there are no others" in lines[1]
    tested = load_test(split)
    assert tested is not None
    assert tested[1].tolist() == [0, 0, 1, 1]


def test_a_test_folder_beside_the_classes_is_a_split(tmp_path: Path) -> None:
    images(tmp_path, ["cat", "dog", "eel"])
    images(tmp_path / "test", ["cat", "dog"], 2)
    split, lines = loaded(tmp_path)
    assert split.classes == ("cat", "dog", "eel")
    assert "data: 4 test images, which nas.train tests on once, at its end" in lines
    assert "data: of 'eel' there is no test image" in lines
    tested = load_test(split)
    assert tested is not None
    assert tested[1].tolist() == [0, 0, 1, 1]
    images(tmp_path / "test", ["newt"], 2)  # of no class beside it: then it is a class of its own
    split, lines = loaded(tmp_path)
    assert split.classes == ("cat", "dog", "eel", "test")
    assert "data: the folder 'test' is taken for a class" in lines


def test_what_is_below_a_class_folder_is_of_the_class(tmp_path: Path) -> None:
    images(tmp_path, ["train/goods", "train/people", "car", "bus/red/old"])
    split, lines = loaded(tmp_path)
    assert split.classes == ("bus", "car", "train")
    assert lines[1] == "data: the folder 'train' is taken for a class"
    (tmp_path / "empty").mkdir()
    assert "data: the folder 'empty' has no image: no class" in loaded(tmp_path)[1]


def test_folders_that_may_be_splits_are_asked_about(tmp_path: Path) -> None:
    images(tmp_path / "training", ["cat", "dog"])
    images(tmp_path / "testing", ["cat", "dog"])
    assert "name the folders above them train and test" in loaded(tmp_path)[1][1]


def test_folders_of_which_no_classes_can_be_told(tmp_path: Path) -> None:
    images(tmp_path / "flat", ["train", "test"])
    assert "no train folder holds one folder per class" in refused(lambda: loaded(tmp_path / "flat"))
    images(tmp_path / "one" / "all", ["cat", "dog"])
    assert "there is 'all' alone; " in refused(lambda: loaded(tmp_path / "one"))
    images(tmp_path / "few", ["lone"], 1)
    images(tmp_path / "few", ["cat"])
    assert "the class 'lone' has one image" in refused(lambda: loaded(tmp_path / "few"))


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    root = images(tmp_path, ["cat", "dog"], 5)
    (root / "cat" / "again").symlink_to(root)
    (root / "bird").symlink_to(root / "dog")
    assert np.bincount(loaded(root)[0].train_labels).size == 3


def test_links_that_multiply_the_ways_to_a_folder_are_refused(tmp_path: Path) -> None:
    """Two per folder are 2 ** 40 ways after 40 folders; a link to / is one too."""
    root = images(tmp_path, ["cat", "dog"], 5)
    for index in range(40):
        (root / f"n{index}").mkdir()
        for name in ("x", "y"):
            (root / f"n{index}" / name).symlink_to(root / f"n{index + 1}")
    assert "links lead to one folder in more than 100 ways" in refused(lambda: loaded(root))


def test_no_image_is_handed_to_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow knows PostScript by its contents and runs Ghostscript, whatever the file is called."""
    root = images(tmp_path, ["cat", "dog"])
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **options: pytest.fail(f"{words} was begun"))
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
    (root / "cat" / "a.png").write_bytes(script)
    assert "cat/a.png: no image of a known kind" in refused(lambda: loaded(root))


def test_a_file_without_an_end_is_not_waited_for(tmp_path: Path) -> None:
    """The kernel's log is a file to everybody who asks, has no bytes, and gives the next line when there is one."""
    root = images(tmp_path, ["cat", "dog"])
    (root / "cat" / "a.png").symlink_to("/proc/kmsg" if os.access("/proc/kmsg", os.R_OK) else "/proc/self/status")
    (root / "dog" / "b.png").touch()
    os.truncate(root / "dog" / "b.png", 10**12)
    said = refused(lambda: loaded(root))
    assert "cat/a.png: no image of a known kind; dog/b.png: a file of more than 4 GB" in said


def test_all_images_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    root = images(tmp_path, ["cat", "dog"])
    for index in range(7):
        (root / "cat" / f"{index}.jpg").write_bytes(b"no image" if index else b"")
    said = refused(lambda: loaded(root))
    assert "unreadable images (7 of 20): cat/0.jpg: no image of a known kind; cat/1.jpg: " in said
    assert said.endswith("cat/4.jpg: no image of a known kind; and 2 more (--skip-bad)")
    for _ in range(2):  # decoded, and from the cache
        split, lines = loaded(root, skip_bad=True)
        assert "20 images in 2 classes found, 13 used: 10 train, 3 score" in lines[0]
        assert lines[1].startswith("data: 7 images left out that cannot be read: cat/0.jpg: ")
        assert sorted(np.concatenate([split.train_labels, split.val_labels]).tolist()) == [0] * 3 + [1] * 10
        assert split.train_images[:].max(axis=(1, 2, 3)).min() > 0  # a row that was not read would be black
    images(root / "train", ["cat", "dog"])
    images(root / "test", ["cat", "dog"], 3)
    (root / "test" / "cat" / "0.jpg").write_bytes(b"no image")
    split, _ = loaded(root, skip_bad=True)
    told = list[str]()
    tested = load_test(split, say=told.append)
    assert tested is not None
    assert tested[1].tolist() == [0, 0, 1, 1, 1]
    left_out = "test images: 1 image left out that cannot be read: test/cat/0.jpg: no image of a known kind"
    assert told == [left_out]


def test_a_panorama_is_scaled_and_an_absurd_picture_named(tmp_path: Path) -> None:
    root = images(tmp_path, ["cat", "dog"])
    Image.new("RGB", (14_000, 7_000), "red").save(root / "cat" / "a.jpg", quality=30)
    split, _ = loaded(root)
    red = split.train_images[:][:, 0].mean(axis=(1, 2)).max(), split.val_images[:][:, 0].mean(axis=(1, 2)).max()
    assert max(red) > 250
    absurd = io.BytesIO()
    Image.new("1", (1, 1)).save(absurd, "PNG")
    header = bytearray(absurd.getvalue())
    header[16:24] = struct.pack(">II", 60_000, 60_000)
    header[29:33] = struct.pack(">I", zlib.crc32(bytes(header[12:29])))
    (root / "dog" / "b.png").write_bytes(bytes(header))
    assert "dog/b.png: 60,000 × 60,000 px: more than 500 million pixels" in refused(lambda: loaded(root))


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    lying = Image.new("RGB", (400, 200), "black")
    lying.paste("white", (0, 0, 400, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right: white comes to the right
    lying.save(tmp_path / "a.jpg", exif=exif, quality=95)
    for size in (16, 150):  # read at a quarter, and in full
        with Image.open(tmp_path / "a.jpg") as picture:
            upright = pixels(picture, size)
        assert upright[:, :, : size // 4].max() < 10
        assert upright[:, :, -size // 4 :].min() > 245
    lying.save(tmp_path / "b.jpg", exif=b"Exif\0\0damaged")
    with Image.open(tmp_path / "b.jpg") as picture:
        assert pixels(picture, 16)[:, :4].min() > 245


@pytest.mark.parametrize(
    ("classes", "flip"),
    [
        (["left", "right", "straight"], False),
        (["turnLeft_2", "none", "stop", "go"], False),
        (["clockwise", "other", "none"], False),
        (["knee_L", "knee_R", "hip"], False),
        (["l hand", "r hand", "foot"], False),
        (["size L", "size M", "R2D2"], True),
        (["0", "1", "2"], False),
        (["A", "b", "space"], False),
        (["text", "no_text"], False),
        (["speed limit 30", "speed limit 50", "other sign"], False),
        (["cat", "dog"], True),
        (["street sign", "letter opener", "cat", "dog", "emu"], True),
        (["leftover", "bright"], True),
        (["n01440764", "n02102040"], True),
    ],
)
def test_classes_say_whether_images_are_mirrored(classes: list[str], flip: bool) -> None:
    assert may_mirror(classes)[0] is flip
    assert may_mirror(classes, named=False)[0]


def test_the_data_line_says_whether_images_are_mirrored_and_why(tmp_path: Path) -> None:
    root = images(tmp_path, ["left", "right"])
    assert loaded(root)[1][0].endswith("not mirrored (there are classes 'left', 'right'); no test images")
    split, lines = loaded(root, flip=True)
    assert split.flip
    assert lines[0].endswith("mirrored at random (as the command says); no test images")
    assert not loaded(images(tmp_path / "b", ["cat", "dog"]), flip=False)[0].flip


def test_images_are_decoded_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    root = images(tmp_path / "images", ["cat", "dog"])
    told: list[str] = []

    def again(**options: object) -> Split:
        told.clear()
        return load(DataConfig(str(root), **options), 0, progress=lambda step, done, of: told.append(step))  # type: ignore[arg-type]

    first = again()
    assert "decoding images" in told
    assert np.array_equal(again().train_images[:], first.train_images[:])
    assert "decoding images" not in told
    again(data_range=3.0)
    assert "decoding images" in told
    Image.new("RGB", (20, 24), "white").save(root / "cat" / "0.jpg")
    assert again().train_images[:].max() == 255 or again().val_images[:].max() == 255


def test_a_cache_that_cannot_be_written_costs_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "file" / "cache"))
    _, lines = loaded(images(tmp_path / "images", ["cat", "dog"]))
    assert lines[1].startswith("data: decoded images are not kept for the next run")
    assert "NAS_CACHE" in lines[1]


def test_dark_images_are_remarked_on(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(5):
            deep = np.full((20, 20), 4000 + index, np.uint16)  # 12 bits in a file of 16
            Image.fromarray(deep).save(tmp_path / label / f"{index}.png")
    assert "data: the images are dark, up to 15 of 255: --data-range" in loaded(tmp_path)[1][1]
    split, lines = loaded(tmp_path, data_range=4095.0)
    assert split.train_images[:].min() >= 249
    assert not any("images are dark" in line for line in lines)


def test_runs_from_before_mirror_as_they_did(tmp_path: Path) -> None:
    begun = SearchConfig(SearchSpec({"stem": 8}, ("1MFLOPs",), DataConfig("left-and-right")))
    begun.save(tmp_path)
    path = tmp_path / "config.yaml"
    assert SearchConfig.load(tmp_path) == begun
    path.write_text(path.read_text().replace("flip: null, ", ""))
    old = SearchConfig.load(tmp_path)
    assert old.identity.data.flip is True
    assert resume(begun.identity, old.identity) == old.identity
    said = SearchSpec({"stem": 8}, ("1MFLOPs",), DataConfig("left-and-right", flip=False))
    assert resume(said, old.identity).data.flip is False


def test_one_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "nas"
    assert device_table.default_path(timing.conditions("cpu")).parent == tmp_path / "nas" / "latency"
    monkeypatch.setenv("NAS_CACHE", "/elsewhere")
    assert cache.cache_folder() == Path("/elsewhere")


def test_long_steps_are_told_where_no_bar_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = images(tmp_path / "a[bold]", ["cat", "dog"])
    monkeypatch.setattr("nas.views.meter.EVERY_S", 0.0)
    monkeypatch.setattr("nas.views.meter.Meter.tell", lambda *_: None)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    page = Console(file=io.StringIO(), width=300)
    read_images(DataConfig(str(root)), 0, None, page, quiet=False)
    assert isinstance(page.file, io.StringIO)
    assert "decoding images: 20 of 20, about 0:00:00 left" in page.file.getvalue()
    assert "a[bold]: 20 images in 2 classes found" in page.file.getvalue()
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    read_images(DataConfig(str(root)), 0, None, terminal, quiet=False)
    assert meter.line("decoding images", 1200, 9000, 10.0) == "decoding images: 1,200 of 9,000, about 0:01:05 left"


def test_what_the_hub_cannot_give_once_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    from huggingface_hub import HfApi

    def away(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network")

    offline: list[bool] = []

    def loads(*args: object, **kwargs: object) -> None:
        offline.append(datasets.config.HF_HUB_OFFLINE)
        raise ValueError("nothing there")

    before = datasets.config.HF_HUB_OFFLINE
    (tmp_path / "some___images").mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "dataset_info", away)
    monkeypatch.setattr(datasets, "load_dataset", loads)
    assert "nothing there" in refused(lambda: load(DataConfig("some/images"), 0))
    assert offline == [True]
    assert datasets.config.HF_HUB_OFFLINE is before


def test_a_folder_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where nobody asks the hub, as with HF_HUB_OFFLINE=1."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for name in (str(tmp_path / "gone"), "./gone", "A/pics", "gone"):
        said = refused(lambda name=name: load(DataConfig(name), 0))  # type: ignore[misc]
        assert said.startswith(
            f"dataset: there is no folder {name} (a dataset of the Hugging Face hub is NAME or OWNER/NA"
        )
        assert said.endswith(("OWNER/NAME)", "and the hub cannot be reached; digits is built in"))


def test_a_search_says_what_it_uses_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "mine", ["left", "right"], 12, "crop_train_{}.jpg")
    (tmp_path / "mine" / "left" / "0.jpg").write_bytes(b"no image")
    options = ["--budget", "2MFLOPs", "--space", "rexnet", "--resolution", "32", "--dataset", "mine", "--dry-run"]
    assert "left/0.jpg: no image of a known kind (--skip-bad)" in refused(lambda: search.main(options))
    assert search.main([*options, "--skip-bad", "--flip"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "data mine: 25 images in 2 classes found, 24 used" in said
    assert "mirrored at random (as the command says)" in said
    assert "1 image left out that cannot be read: left/0.jpg" in said


def test_channels_are_checked_before_anything_begins(tmp_path: Path) -> None:
    root = str(images(tmp_path, ["cat", "dog"]))
    for channels in (1, 3):
        check_channels(DataConfig(root), channels)
    assert "an image of 3 channels; the network takes 5" in refused(lambda: check_channels(DataConfig(root), 5))
    assert "networks of 1 or 3 channels" in refused(lambda: check_channels(DataConfig(), 5))


def test_one_white_for_all_deep_images_and_for_colours_too(tmp_path: Path) -> None:
    """A picture whose values are small is dark, whatever the brightest pixel of it or of another."""
    low = pixels(Image.fromarray(np.full((20, 20), 255, np.uint16)), 20, 1)
    assert low.max() == 0
    assert pixels(Image.fromarray(np.full((20, 20), 255, np.uint16)), 20, 1, 255.0).min() == 255
    deep = np.zeros((20, 20, 3), np.uint16)
    deep[..., 0] = 4095  # 12 bits of red in a file of 16
    tifffile = tmp_path / "red.tif"
    tifffile.write_bytes(colour_tiff(deep))
    assert pixels(Image.open(tifffile), 20, 3).max() <= 15
    assert pixels(Image.open(tifffile), 20, 3, 4095.0)[:, 5, 5].tolist() == [240, 0, 0]


def colour_tiff(image: np.ndarray) -> bytes:  # type: ignore[type-arg]
    """An uncompressed TIFF of three bands of 16 bits."""
    height, width, _ = image.shape
    data = image.astype("<u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14)]
    tags += [(277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data))]
    head = struct.pack("<2sHI", b"II", 42, 14 + len(data)) + struct.pack("<3H", 16, 16, 16)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return head + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def test_test_images_that_are_training_images_are_counted(tmp_path: Path) -> None:
    root = images(tmp_path / "train", ["cat", "dog"]).parent
    images(root / "test", ["cat", "dog"], 2)
    shutil.copy(root / "train" / "cat" / "0.jpg", root / "test" / "cat" / "again.jpg")
    split = loaded(root)[0]
    found = load_test(split)
    assert found is not None
    assert count_shared(found[0], split.train_images, split.val_images) >= 1
    assert count_shared(found[0][:0], split.train_images) == 0


def test_images_that_repeat_others_are_said(tmp_path: Path) -> None:
    root = images(tmp_path / "photos", ["cat", "dog", "eel"])
    assert not any("others: what scores" in line for line in loaded(root)[1])
    shutil.copy(root / "cat" / "0.jpg", root / "cat" / "again.jpg")
    assert "1 image repeats others: what scores may have been trained on" in "\n".join(loaded(root)[1])
    shutil.copy(root / "cat" / "0.jpg", root / "eel" / "mine.jpg")
    said = "\n".join(loaded(root)[1])
    assert "2 images repeat others: what scores may have been trained on" in said
    assert "1 picture is in several classes: in 'cat' and 'eel'" in said
    shutil.copy(root / "cat" / "1.jpg", root / "eel" / "other.jpg")
    said = " ".join(loaded(root)[1])
    assert "2 pictures are in several classes: one in 'cat' and 'eel'" in said


def test_classes_that_are_very_unequal_are_said(tmp_path: Path) -> None:
    root = images(images(tmp_path, ["cat"], 25), ["dog", "eel"], 3)
    assert not any("unequal" in line for line in loaded(root)[1])
    (root / "eel" / "2.jpg").unlink()
    split, lines = loaded(root)
    said = "data: classes are unequal ('cat' has 25 images, 'eel' 2)"
    assert said in lines
    assert said in describe(split, Metric("f1_macro"))
    assert f"{said}: --metric f1_macro counts all as much" in describe(split, Metric())


def of_sides(root: Path, sides: list[int]) -> Path:
    """Two classes of images with these shorter sides, in the order of their names."""
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for index, side in enumerate(sides):
            Image.new("RGB", (side, 2 * side), (8 * index, 60 * number, 100)).save(root / label / f"{index:02}.png")
    return root


def test_images_are_made_the_size_that_is_typical_of_them(tmp_path: Path) -> None:
    root = of_sides(tmp_path / "photos", [17] + [48] * 9 + [200])
    split, lines = loaded(root)
    assert split.resolution == 48
    assert "data: images differ in size: shorter sides of 17 to 200 px; all are made 48 px, smaller ones" in lines[1]
    assert loaded(root, typical=False)[0].resolution == 17  # as runs of before
    large, lines = loaded(of_sides(tmp_path / "large", [300, 500, 400]))
    assert large.resolution == 64
    assert not any("differ in size" in line for line in lines), "none is enlarged"


def test_the_size_is_told_by_images_from_all_of_a_folder(tmp_path: Path) -> None:
    root = of_sides(tmp_path / "photos", [20] * 30)
    for file in (root / "dog").iterdir():
        Image.new("RGB", (40, 40)).save(file)
    (root / "eel").mkdir()
    for n in range(30):
        Image.new("RGB", (50, 50), (n, 0, 0)).save(root / "eel" / f"{n}.png")
    assert loaded(root)[0].resolution == 40
    (root / "cat" / "00.png").write_bytes(b"no image")
    assert loaded(root, skip_bad=True)[0].resolution == 40


def test_a_run_from_before_keeps_the_size_of_its_first_image(tmp_path: Path) -> None:
    data = {"dataset": "photos"}
    as_begun(data)
    assert data["typical"] is False
    assert DataConfig("photos").typical
    words = ["--budget", "20MFLOPs", "--dataset", str(of_sides(tmp_path / "photos", [17, 48, 48]))]
    args = search_options.parser().parse_args(words)
    old = search_options.config_from_args(args)
    old = replace(old, identity=replace(old.identity, data=replace(old.identity.data, typical=False)))
    old.save(tmp_path)
    assert not carry_on(args, tmp_path, SearchConfig.load(tmp_path)).identity.data.typical
    training = tmp_path / "training"
    training.mkdir()
    plan = TrainingPlan(zoo("rexnet_100"), old.identity.data)
    write_yaml(training / "training.yaml", plain(plan, (DataConfig,)))
    (training / "checkpoint.safetensors").touch()
    assert not keep_preparation(training, replace(plan, data=DataConfig("photos"))).data.typical


@pytest.mark.parametrize("words", [["--dataset", ""], ["--dataset= "]])
def test_an_empty_dataset_is_not_the_current_folder(words: list[str]) -> None:
    said = "dataset: digits, a folder or a Hugging Face name is accepted, not an empty text"
    assert refused(lambda: search.main(["--budget", "20MFLOPs", "--dry-run", *words])) == said
    assert refused(lambda: train.main(["rexnet_100", "--dry-run", *words])) == said


def test_a_home_in_a_dataset_s_path_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    for parser in (search_options.parser(), train.parser(), export.parser()):
        words = ["--dataset=~/photos"] + (["x"] if parser.prog != "nas.search" else [])
        words += ["--out", "y"] if parser.prog == "nas.export" else []
        assert parser.parse_args(words).dataset == "/somewhere/photos"


def test_a_folder_that_was_moved_is_named_with_the_link_that_carries_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "photos", ["cat", "dog"])

    def args(name: str) -> argparse.Namespace:
        return search_options.parser().parse_args(["--budget", "20MFLOPs", "--dataset", name])

    old = search_options.config_from_args(args("photos"))
    (tmp_path / "photos").rename("elsewhere")
    said = refused(lambda: carry_on(args("elsewhere"), tmp_path / "run", old))
    link = f"ln -s {tmp_path}/elsewhere {tmp_path}/photos"
    assert said.endswith(
        f"{tmp_path}/photos is not there: where it was moved, {link} carries on; else give another --run"
    )
    subprocess.run(shlex.split(link), check=True)
    assert carry_on(args("elsewhere"), tmp_path / "run", old).identity == old.identity
    images(tmp_path / "others", ["cat", "dog"])
    assert refused(lambda: carry_on(args("others"), tmp_path / "run", old)).endswith("; give another --run")
