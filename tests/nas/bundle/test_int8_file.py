"""A trained network in 8-bit numbers: what is quantised, what that costs, and what is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from nas import export, train
from nas.bundle import bundle, int8_file, onnx_file
from nas.bundle.int8_file import FLOAT, INT8, Calibration
from nas.config import DataConfig
from nas.data.datasets import load, load_test
from nas.full_training import training_folder
from nas.run import export as taking
from searchspace import InputError, Space
from tests.nas.test_search import refusal

NETWORK = {
    "resolution": 32,
    "stem": {"width": 8, "act": "hard_swish"},
    "schedule": {"kind": "explicit", "widths": [8, 12, 16]},
    "stages": [
        {"block": "mbconv", "depth": 1, "expansion": 2, "expand_act": "relu6", "spatial_act": "relu6"},
        {"block": "mbconv", "depth": 2, "stride": 2, "expansion": 4, "se": 0.25, "expand_act": "silu"},
    ],
    "head": {"width": 512, "act": "silu"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with ReLU6, SiLU, hard swish and squeeze and excitation, trained on digits."""
    folder = tmp_path_factory.mktemp("int8")
    Space(NETWORK).arch().save(folder / "mixed.yaml")
    command = [str(folder / "mixed.yaml"), "--dataset", "digits", "--epochs", "4", "--out", str(folder / "trained")]
    assert train.main([*command, "--quiet"]) == 0
    return folder / "trained"


@pytest.fixture(scope="module")
def home(trained: Path) -> Path:
    out = trained.parent / "home"
    assert export.main([str(trained), "--out", str(out), "--int8", "--calibration-images", "64"]) == 0
    return out


def operators(path: Path, optimised: Path) -> Counter[str]:
    """The operators that onnxruntime makes of a file."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(optimised).graph.node)


def test_every_convolution_is_of_8_bit_numbers(home: Path, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(home / INT8).graph
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(home / FLOAT).graph.node)
    kinds = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    weights = [makers[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert len(weights) == convolutions > 10
    for node in weights:
        assert node.op_type == "DequantizeLinear"
        assert kinds[node.input[0]][0] == onnx.TensorProto.INT8
        assert kinds[node.input[1]][1] == kinds[node.input[0]][1][:1]  # a scale per output channel
    run = operators(home / INT8, tmp_path / "optimised.onnx")
    assert run["QLinearConv"] == convolutions
    assert run["Conv"] == run["FusedConv"] == 0
    assert (home / INT8).stat().st_size < (home / FLOAT).stat().st_size


def test_its_scores_are_those_of_the_files_on_the_datasets_images(home: Path, trained: Path) -> None:
    facts, _ = training_folder.result(trained)
    assert facts.trained is not None
    split = load(DataConfig(), seed=0)
    test = load_test(split)
    assert test is not None
    card = (home / "card.md").read_text()
    for name, images, labels in (("validation", split.val_images, split.val_labels), ("test", *test)):
        right = [(int8_file.answers(home / file, images, facts.trained) == labels).mean() for file in (FLOAT, INT8)]
        assert right[0] == {"validation": facts.trained.accuracy, "test": facts.trained.test_accuracy}[name] > 0.5
        assert abs(right[1] - right[0]) < 0.05
        assert f"| {name} accuracy ({len(labels):,} images) | {right[0]:.4f} | {right[1]:.4f} |" in card
    assert f"| bytes | {(home / FLOAT).stat().st_size:,} | {(home / INT8).stat().st_size:,} |" in card
    assert "| ms of one image, one thread |" in card
    assert "whose ranges 64 training images gave" in card


def test_it_is_the_same_again_and_names_no_place_of_this_machine(home: Path, trained: Path, tmp_path: Path) -> None:
    facts, _ = training_folder.result(trained)
    assert facts.trained is not None
    (tmp_path / FLOAT).write_bytes((home / FLOAT).read_bytes())
    int8_file.write(tmp_path, facts.trained, Calibration.of(load(DataConfig(), seed=0).train_images, 64))
    written = (tmp_path / INT8).read_bytes()
    assert written == (home / INT8).read_bytes()
    for place in (str(Path.cwd()), sys.prefix, "/tmp", str(tmp_path)):
        assert place.encode() not in written


def test_predict_takes_either_file(home: Path, tmp_path: Path) -> None:
    test = load_test(load(DataConfig(), seed=0))
    assert test is not None
    for number, image in enumerate(test[0][:40]):
        Image.fromarray(np.asarray(image).transpose(1, 2, 0)).save(tmp_path / f"{number:02}.png")
    found = {}
    for file in (FLOAT, INT8):
        command = [sys.executable, str(home / "predict.py"), "--json", "--model", file, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        found[file] = [json.loads(line)["classes"][0] for line in done.stdout.splitlines()]
    facts = [[one["class"] for one in found[file]] for file in (FLOAT, INT8)]
    assert sum(a == b for a, b in zip(*facts, strict=True)) >= 36
    assert found[FLOAT] != found[INT8]  # probabilities differ
    command = [sys.executable, str(home / "predict.py"), "--model", "model.int4.onnx", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "model.int4.onnx have to be there" in done.stderr


def test_an_export_with_int8_is_exported_again_without(home: Path, tmp_path: Path) -> None:
    facts, weights = taking.choose(str(home), None)
    made = bundle.write(tmp_path / "again", facts, weights)
    assert made.int8 == []
    assert not (tmp_path / "again" / INT8).exists()
    assert facts.data == DataConfig()


def test_an_export_calibrates_on_images_as_its_training_read_them(tmp_path: Path) -> None:
    """Where its card names images of another machine, all that it says of them was forgotten, and what white is."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for number in range(12):
            deep = random.integers(0, 4096, (16, 16)).astype(np.uint16)
            Image.fromarray(deep).save(tmp_path / "deep" / name / f"{number}.png")
    stage = {"block": "conv", "depth": 1, "spatial_act": "relu"}
    network = {"resolution": 16, "in_channels": 1, "stem": {"width": 4}, "stages": [stage], "head": {"width": 0}}
    Space({**network, "schedule": {"kind": "explicit", "widths": [4]}}).arch().save(tmp_path / "small.yaml")
    photos, out = str(tmp_path / "deep"), tmp_path / "out"
    command = [str(tmp_path / "small.yaml"), "--dataset", photos, "--data-range", "4095", "--no-flip", "--quiet"]
    assert train.main([*command, "--epochs", "1", "--device=cpu", "--threads=1", "--out", str(out)]) == 0
    facts, _ = taking.of_export(out)
    assert facts.data == DataConfig("…/deep", data_range=4095, flip=False)
    with pytest.raises(InputError, match="nothing says which images"):
        taking.calibration(facts, None, 8, Console())
    for known in (facts, replace(facts, data=None)):
        calibration = taking.calibration(known, photos, 8, Console())
        assert calibration.images.max() > 200
        assert [name for name, *_ in calibration.scored] == ["validation"]


def test_what_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--int8"]
    said = refusal(export.main, ["mobilenet_v2", *out], capsys)
    assert said == "int8: mobilenet_v2 has no trained weights to quantise; python -m nas.train makes them"
    said = refusal(export.main, [str(trained), *out, "--calibration-images", "0"], capsys)
    assert said == "calibration-images: at least 1, not 0"
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (20, 20)).save(tmp_path / "photos" / name / f"{number}.png")
    said = refusal(export.main, [str(trained), *out, "--dataset", str(tmp_path / "photos")], capsys)
    assert "has other classes than mixed trained on digits was trained on" in said
    facts, _ = training_folder.result(trained)
    assert facts.trained is not None
    with pytest.raises(InputError, match="no training image is there to calibrate on"):
        int8_file.write(tmp_path, facts.trained, Calibration(np.zeros((0, 3, 16, 16), np.uint8)))
    find = onnx_file.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_file.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    said = refusal(export.main, [str(trained), *out], capsys)
    assert said == "ONNX files need onnxruntime: pip install 'cnn-budget-search[export]'"
    assert not (tmp_path / "out").exists()
