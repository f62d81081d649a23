"""What `nas.export` takes: searches, trainings, exports, files and names; and what it refuses in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nas import export, train
from nas.bundle import bundle, card
from nas.bundle.card import ModelCard
from nas.config import DataConfig
from nas.full_training import training_folder
from nas.run import export as taking
from nas.run import search_options
from searchspace import Arch, InputError, Space, build, zoo
from searchspace.document import plain
from tests.nas.bundle.test_bundle import ARCH, TRAINED
from tests.nas.test_search import refusal
from tests.support.records import record

GREY = """
resolution: 16
in_channels: 1
num_classes: 3
stem: {width: 4}
schedule: {kind: linear, start: 4, increment: 2}
stages: [{block: mbconv, depth: 1}]
"""


def test_a_file_or_name_that_others_take_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    Path("grey1.yaml").write_text(GREY)
    assert export.main(["grey1.yaml", "--out", "home", "--onnx"]) == 0
    assert "grey1: " in capsys.readouterr().out
    grey = Space.load("grey1.yaml").arch()
    assert Arch.load("home/arch.yaml") == grey
    (images,) = onnxruntime.InferenceSession("home/model.onnx").get_inputs()
    assert images.shape[1:] == [1, 16, 16]
    assert "    python -m nas.export grey1.yaml --out home --onnx" in Path("home/card.md").read_text()
    for given, name in (("home/arch.yaml", "home"), ("home", "home")):
        facts, weights = taking.choose(given, None)
        assert (facts.title, facts.arch, weights) == (name, grey, None)
    assert taking.choose("rexnet_100", None) == (ModelCard("rexnet_100", zoo("rexnet_100"), zoo("rexnet_100")), None)


def exported(folder: Path, trained: Any = None) -> Path:
    """What an export with weights has, written without trying it."""
    folder.mkdir()
    ARCH.save(folder / "arch.yaml")
    notes = json.dumps(plain(TRAINED)) if trained is None else trained
    save_file(build(ARCH).state_dict(), folder / bundle.WEIGHTS, {"trained": notes})
    return folder


def test_an_export_is_exported_again_with_its_weights(tmp_path: Path) -> None:
    facts, weights = taking.choose(str(exported(tmp_path / "home")), None)
    assert (facts.title, facts.arch, facts.trained) == ("home", ARCH, TRAINED)
    assert weights is not None
    assert set(weights) == set(build(ARCH).state_dict())
    (table,) = [line for line in card.costs(facts).splitlines() if line.startswith("|  |")]
    assert table == "|  | this network |", "which network is deployed it does not know"


@pytest.mark.parametrize("notes", ["[" * 100_000 + "]" * 100_000, "{}", "[1]", "x", '{"accuracy": "high"}'])
def test_notes_of_weights_that_say_nothing_are_refused(notes: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights\.safetensors: ") as refused:
        taking.choose(str(exported(tmp_path / "home", notes)), None)
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["resnet81", "--out", "x"], "resnet18"),
        (["nothing.yaml", "--out", "x"], "no such file"),
        (["empty", "--out", "x"], r"no run folder \(study\.db\), training \(training\.yaml\) or export \(arch\.yaml\)"),
        (["resnet18", "--out", "x", "--trial", "1"], "trial 1: resnet18 is no search"),
        (["resnet18", "--out", "file"], "a folder is accepted, not a file"),
        (["resnet18", "--out", "file/x"], "cannot be written"),
        (["resnet18", "--out", "run"], "is the folder of a search"),
        (["space.yaml", "--out", "x"], "a space, not a network"),
        (
            ["resnet18", "--out", "x", "--dataset", "nowhere"],
            "dataset and calibration-images: are for --int8 or --form",
        ),
        (["resnet18", "--out", "x", "--onnx", "--calibration-images=9"], "calibration-images: are for --int8"),
    ],
)
def test_what_is_refused(given: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    Path("run").mkdir()
    Path("run/config.yaml").write_text("")
    Path("space.yaml").write_text(GREY.replace("depth: 1", "depth: {choice: [1, 2]}"))
    with pytest.raises(InputError, match=says):
        export.main(given)
    assert not Path("x").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    home = exported(tmp_path / "home")
    other = build(ARCH.adapt(num_classes=8)).state_dict()
    save_file(
        {name: torch.clone(tensor) for name, tensor in other.items()},
        home / bundle.WEIGHTS,
        {"trained": json.dumps(plain(TRAINED))},
    )
    with pytest.raises(InputError, match="size mismatch"):
        export.main([str(home), "--out", str(tmp_path / "x")])


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels_from_arrays_to_predictions(channels: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, images in (("train", 12), ("test", 4)):
        for label, shade in (("dark", 40), ("light", 200)):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(images):
                np.save(folder / f"{number}.npy", random.integers(shade, shade + 40, (channels, 20, 24), np.uint8))
    (tmp_path / "tiny.yaml").write_text(GREY.replace("in_channels: 1", f"in_channels: {channels}"))
    command = [str(tmp_path / "tiny.yaml"), "--dataset", str(tmp_path / "images"), "--epochs", "4", "--batch-size", "4"]
    assert train.main([*command, "--out", str(tmp_path / "trained"), "--quiet"]) == 0
    assert export.main([str(tmp_path / "trained"), "--out", str(tmp_path / "home"), "--onnx"]) == 0
    script = [sys.executable, str(tmp_path / "home" / "predict.py"), "--json", str(tmp_path / "images" / "test")]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    named = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(named) == 8
    facts, _ = training_folder.result(tmp_path / "trained")
    assert facts.trained is not None
    right = sum(Path(line["file"]).parent.name == line["classes"][0]["class"] for line in named)
    assert right / 8 == facts.trained.test_accuracy
    assert f"images {channels}×16×16 in" in (tmp_path / "home" / "card.md").read_text()


def test_what_a_search_says_of_a_network_names_no_place_of_its_machine() -> None:
    words = ["--budget", "20MFLOPs", "--space", "rexnet", "--num-classes", "10"]
    config = search_options.config_from_args(search_options.parser().parse_args(words))
    config = replace(config, identity=replace(config.identity, data=DataConfig("/home/anna/photos")))
    said = " ".join(taking.score_sentences(record(0, curve={2: 0.5}), config, 100))
    assert "brief training on …/photos (complete)" in said
    assert "anna" not in said


def test_an_export_takes_nothing_of_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    assert "is not empty and no export (it has cat)" in refusal(export.main, ["resnet18", "--out", "photos"], capsys)
    assert export.main(["mobilenet_v3_small", "--out", "plain"]) == 0
    (tmp_path / "plain" / "weights.safetensors").touch()
    monkeypatch.setattr("nas.run.export.write", lambda *of: pytest.fail("begun before it was refused"))
    said = refusal(export.main, ["mobilenet_v3_small", "--out", "plain"], capsys)
    assert "holds trained weights, which this export has not" in said
