"""`predict.py` of an export: image files in, names of classes out, prepared as in training."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas import bundle
from nas.card import Facts, Trained
from nas.decoding import pixels
from nas.prediction import script
from searchspace import Space, build
from tests.test_train import NETWORK

ARCH = Space(NETWORK).arch().adapt(num_classes=3, resolution=32)
TRAINED = Trained("mine", 0, 2, 0.9, 287, 0.8, 364, (120.5, 110.25, 99.125), (60.0, 61.0, 62.0), ("ham", "é|`", "spam"))


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


@pytest.mark.parametrize("name", sorted(pictures()))
def test_prepares_images_as_training_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "predict.py").write_text(script(ARCH, TRAINED), encoding="utf-8")
    pictures()[name].save(tmp_path / name)
    prepared: Any = runpy.run_path(str(tmp_path / "predict.py"))["prepared"](tmp_path / name)
    mean, std = (np.float32(numbers).reshape(1, 3, 1, 1) for numbers in (TRAINED.mean, TRAINED.std))
    with Image.open(tmp_path / name) as picture:
        np.testing.assert_array_equal(prepared, (pixels(picture, 32)[None].astype(np.float32) - mean) / std)


def test_an_export_names_the_classes_of_files(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = build(ARCH).eval()
    made = bundle.write(tmp_path / "out", Facts("mine", ARCH, ARCH, trained=TRAINED), model.state_dict(), onnx=True)
    assert "predict.py" in made.files
    assert "`python predict.py IMAGE …`" in (tmp_path / "out" / "card.md").read_text()
    expected = []
    for name in ("colour.png", "wide.jpg"):
        pictures()[name].save(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            x = torch.tensor(pixels(picture, 32)[None]).float()
        mean, std = (torch.tensor(numbers).reshape(1, 3, 1, 1) for numbers in (TRAINED.mean, TRAINED.std))
        with torch.no_grad():
            likely = model((x - mean) / std).softmax(1)[0]
        expected.append((name, TRAINED.classes[int(likely.argmax())], float(likely.max())))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    environment.pop("PYTHONPATH", None)

    def told(*paths: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "out/predict.py", *paths]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")

    lines = told("colour.png", "wide.jpg").stdout.splitlines()
    for line, (name, label, share) in zip(lines, expected, strict=True):
        assert line.startswith(f"{name}: {label} (")
        assert float(line.rpartition("(")[2].rstrip(")")) == pytest.approx(share, abs=2e-3)
    (tmp_path / "text.png").write_text("no picture")
    refused = told("text.png")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("text.png: not an image that can be read")
    assert told().stderr == "python predict.py IMAGE …\n"
