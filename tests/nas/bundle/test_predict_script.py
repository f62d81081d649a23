"""`predict.py` of an export: image files in, names of classes out, prepared as in training."""

from __future__ import annotations

import io
import json
import os
import runpy
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nas.bundle import bundle
from nas.bundle.card import ModelCard, TrainingRecord
from nas.bundle.predict_script import script
from nas.data.decoding import pixels
from nas.data.image_folder import image_folder
from nas.data.pictures import picture
from searchspace import Arch, Space, build
from tests.nas.test_train import NETWORK
from tests.support.paths import ROOT

ARCH = Space(NETWORK).arch().adapt(num_classes=3, resolution=32)
TRAINED = TrainingRecord(
    "mine", 0, 2, 0.9, 287, 0.8, 364, (120.5, 110.25, 99.125), (60.0, 61.0, 62.0), ("ham", "é|`", "spam")
)


def pictures() -> dict[str, Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 4), np.uint8)
    colour = Image.fromarray(noise[..., :3])
    palette = colour.convert("P")
    palette.info["transparency"] = 3
    return {
        "colour.png": colour,
        "wide.jpg": colour.resize((90, 41)),
        "exact.png": colour.resize((32, 32)),
        "transparent.png": Image.fromarray(noise),
        "grey.png": colour.convert("L"),
        "palette.png": palette,
        "deep.png": Image.fromarray(noise[..., 0].astype(np.uint16) * 257),
        "small.bmp": colour.resize((7, 9)),
    }


def files() -> dict[str, bytes]:
    """Encoded images of many kinds."""
    made = {}
    for name, image in pictures().items():
        made[name] = io.BytesIO()
        image.save(made[name], {"jpg": "JPEG"}.get(name[-3:], name[-3:]))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was on its side
    made["turned.jpg"] = io.BytesIO()
    pictures()["wide.jpg"].save(made["turned.jpg"], "JPEG", exif=turned)
    noise = np.random.default_rng(0).integers(0, 4096, (40, 50, 5), np.uint16)
    for name, array in (("bands.npy", noise), ("first.npy", noise.transpose(2, 0, 1)), ("rgb.npy", noise[..., :3])):
        np.save(made.setdefault(name, io.BytesIO()), array)
    pages = [Image.fromarray(noise[..., band]) for band in range(5)]
    pages[0].save(made.setdefault("pages.tiff", io.BytesIO()), "TIFF", save_all=True, append_images=pages[1:])
    return {name: file.getvalue() for name, file in made.items()}


PHOTOS = sorted([*pictures(), "turned.jpg"])
CASES = [(name, channels, None) for name in PHOTOS for channels in (1, 3)]
CASES += [(name, 5, 4095.0) for name in ("bands.npy", "first.npy", "pages.tiff")] + [("rgb.npy", 3, None)]


def of_channels(channels: int, data_range: float | None = None) -> tuple[Arch, TrainingRecord]:
    mean, std = (tuple(start + band for band in range(channels)) for start in (99.125, 60.0))
    return replace(ARCH, in_channels=channels), replace(TRAINED, mean=mean, std=std, data_range=data_range)


@pytest.mark.parametrize(("name", "channels", "data_range"), CASES)
def test_prepares_images_as_training_does(name: str, channels: int, data_range: float | None, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    arch, trained = of_channels(channels, data_range)
    (tmp_path / "predict.py").write_text(script(arch, trained), encoding="utf-8")
    (tmp_path / name).write_bytes(files()[name])
    prepared: Any = runpy.run_path(str(tmp_path / "predict.py"))["prepared"](tmp_path / name)
    mean, std = (np.float32(numbers).reshape(1, -1, 1, 1) for numbers in (trained.mean, trained.std))
    expected = pixels(picture(files()[name], channels), 32, channels, data_range)
    assert expected.shape == (channels, 32, 32)
    np.testing.assert_array_equal(prepared, (expected[None].astype(np.float32) - mean) / std)


def test_a_file_of_other_channels_is_skipped(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "predict.py").write_text(script(*of_channels(5)), encoding="utf-8")
    (tmp_path / "colour.png").write_bytes(files()["colour.png"])
    with pytest.raises(ValueError, match="an image of 3 channels; the network takes 5"):
        runpy.run_path(str(tmp_path / "predict.py"))["prepared"](tmp_path / "colour.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, and an export in `out`."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    model = build(ARCH).eval()
    made = bundle.write(folder / "out", ModelCard("mine", ARCH, ARCH, trained=TRAINED), model.state_dict(), onnx=True)
    assert "predict.py" in made.files
    for name in ("colour.png", "wide.jpg"):
        pictures()[name].save(folder / name)
    return folder


def told(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "out/predict.py", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, "text": True, **options}
    return subprocess.run(command, cwd=home, env=environment, encoding="utf-8", **options)


def test_an_export_names_the_classes_of_files(home: Path) -> None:
    model = build(ARCH).eval()
    model.load_state_dict(load_file(home / "out" / "weights.safetensors"))
    expected = []
    for name in ("colour.png", "wide.jpg"):
        x = torch.tensor(pixels(picture((home / name).read_bytes(), 3), 32)[None]).float()
        mean, std = (torch.tensor(numbers).reshape(1, 3, 1, 1) for numbers in (TRAINED.mean, TRAINED.std))
        with torch.no_grad():
            likely = model((x - mean) / std).softmax(1)[0]
        expected.append((name, [(TRAINED.classes[i], float(likely[i])) for i in likely.argsort(descending=True)]))
    done = told(home, "colour.png", "wide.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    for line, (name, best) in zip(done.stdout.splitlines(), expected, strict=True):
        assert line.startswith(f"{name}: {best[0][0]} (")
        assert float(line.rpartition("(")[2].rstrip(")")) == pytest.approx(best[0][1], abs=2e-3)
    named = [
        json.loads(line) for line in told(home, "--top", "9", "--json", "colour.png", "wide.jpg").stdout.splitlines()
    ]
    assert [line["file"] for line in named] == ["colour.png", "wide.jpg"]
    for line, (_, best) in zip(named, expected, strict=True):
        assert [share["class"] for share in line["classes"]] == [name for name, _ in best]
        assert [share["probability"] for share in line["classes"]] == pytest.approx([s for _, s in best], abs=2e-3)
    assert told(home, "--top", "2", "wide.jpg").stdout.count(" (0.") == 2


def hostile(folder: Path) -> dict[str, str]:
    """Files that are no images, and what is said of each."""
    folder.mkdir()
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.jpg").write_bytes(b"")
    whole = io.BytesIO()
    pictures()["colour.png"].save(whole, "PNG")
    (folder / "truncated.png").write_bytes(whole.getvalue()[:900])
    (folder / "bad\x1b[31m.jpg").write_bytes(b"x")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "nothing").mkdir()
    says = dict.fromkeys(("text.jpg", "empty.jpg"), "no image of a known kind") | {"truncated.png": ""}
    return says | {
        "bomb.png": "60,000 × 60,000 px: more than",
        "bad\\x1b[31m.jpg": "",
        "pipe.jpg": "not a file",
        "nothing": "a folder without image files",
        "missing.jpg": "No such file",
    }


def test_what_is_no_image_is_skipped_and_named(home: Path, tmp_path: Path) -> None:
    says = hostile(tmp_path / "bad")
    paths = [str(tmp_path / "bad" / name.replace("\\x1b", "\x1b")) for name in says]
    done = told(home, *paths[:4], "colour.png", *paths[4:], "wide.jpg")
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["colour.png", "wide.jpg"]
    skipped = done.stderr.splitlines()
    assert len(skipped) == len(says)
    for line, (name, reason) in zip(skipped, says.items(), strict=True):
        assert line.startswith(f"{tmp_path}/bad/{name}: skipped: {reason}")
        assert line.isprintable()
    done = told(home, str(tmp_path))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", len(says) - 2)
    (tmp_path / "bad" / "fine.webp").write_bytes((home / "wide.jpg").read_bytes())
    assert [line.partition(": ")[0] for line in told(home, str(tmp_path)).stdout.splitlines()] == [
        f"{tmp_path}/bad/fine.webp"
    ]


def test_folders_are_entered_as_training_enters_them(home: Path, tmp_path: Path) -> None:
    photo, root = (home / "wide.jpg").read_bytes(), tmp_path / "photos"
    for name in ("there/a", "photos/own", "photos/__MACOSX", "photos/__pycache__", "photos/.hidden"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.jpg").write_bytes(photo)
    (root / "linked").symlink_to(tmp_path / "there")
    (root / "own" / "round").symlink_to(root)
    done = told(home, str(root))
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert found == [f"{root}/linked/a/x.jpg", f"{root}/own/x.jpg"]
    trained_on = image_folder(root)
    assert trained_on is not None
    assert sorted(path for path, _ in trained_on.splits["train"]) == ["linked/a/x.jpg", "own/x.jpg"]


def test_a_path_that_nothing_can_look_at_is_skipped_like_others(home: Path) -> None:
    long = "x" * 300 + ".jpg"
    done = told(home, long, "wide.jpg")
    assert done.returncode == 1
    assert done.stdout.startswith("wide.jpg: ")
    assert done.stderr == f"{long}: skipped: File name too long\n"


def test_it_says_how_it_is_used(home: Path) -> None:
    for option in ("-h", "--help"):
        done = told(home, option)
        assert (done.returncode, done.stderr) == (0, "")
        assert "--top K" in done.stdout
    for arguments, says in ((), "required: IMAGE"), (("--top", "0", "x"), "at least 1"), (("--tpo", "1"), "IMAGE"):
        done = told(home, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


def test_a_model_is_found_where_it_is_named_and_beside_the_script(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "out" / "model.onnx", home / "mine.onnx")
    (tmp_path / "model.onnx").write_bytes(b"of something else")
    for model in ("mine.onnx", "model.onnx", str(home / "mine.onnx")):
        assert told(home, "--model", model, "colour.png").returncode == 0
    script = [sys.executable, str(home / "out" / "predict.py"), str(home / "colour.png")]
    assert subprocess.run(script, cwd=tmp_path, capture_output=True).returncode == 0
    done = told(home, "--model", "none.onnx", "colour.png")
    assert done.returncode == 1
    assert "none.onnx have to be there" in done.stderr


def test_an_output_that_ends_early_is_no_traceback(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = told(home, "colour.png", stdout=full)
    assert (done.returncode, done.stderr) == (1, "standard output: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = told(home, "colour.png", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_classes_cannot_steer_a_terminal(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "out", tmp_path / "out")
    (tmp_path / "out" / "classes.json").write_text(json.dumps(["\x1b[31mred\x07", "a\nb", "\u202ehidden"]))
    shutil.copy(home / "colour.png", tmp_path)
    (line,) = told(tmp_path, "--top", "3", "colour.png").stdout.splitlines()
    assert line.isprintable()
    assert r"\x1b[31mred\x07" in line
    (tmp_path / "out" / "classes.json").unlink()
    done = told(tmp_path, "colour.png")
    assert done.returncode == 1
    assert "classes.json and model.onnx have to be there: No such file" in done.stderr


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_it_is_written_as_a_person_would(channels: int, tmp_path: Path) -> None:
    code = script(*of_channels(channels))
    (tmp_path / "predict.py").write_text(code, encoding="utf-8")
    for arguments in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *arguments, "--config", "pyproject.toml", str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"SIZE, CHANNELS, DATA_RANGE = 32, {channels}, None" in code
