"""What is taken home runs as its card says, in an interpreter without this project; what does not is not given."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from nas.analysis.confusion import Confusion
from nas.bundle import bundle, card, formats, int8_file, onnx_file, tflite_file
from nas.bundle.bundle import DifferentError
from nas.bundle.card import ModelCard, TrainingRecord
from nas.run import export
from searchspace import Arch, Budget, InputError, Space, build, zoo
from searchspace.format.network import Network
from searchspace.space.space import ready
from tests.support.strategies import networks

ARCH = Space(
    {
        "resolution": 32,
        "num_classes": 3,
        "stem": {"width": 8, "act": "hard_swish"},
        "schedule": {"kind": "explicit", "widths": [8, 12]},
        "stages": [{"block": "mbconv", "depth": 2, "stride": 2, "se": 0.5, "shortcut": "partial", "add_act": "silu"}],
        "head": {"width": 16, "act": "relu6", "dropout": 0.2},
        "drop_path": 0.1,
    }
).arch()
EVIL = "a\nb `*_<img src=x>|\n# c\n```python\nimport os\n```"
FACTS = ModelCard(EVIL, ARCH, zoo("mobilenet_v3_small"), "5MFLOPs", commands=(f"python -m nas.search --run '{EVIL}'",))
TRAINED = TrainingRecord(EVIL, 0, 2, 0.9, 287, 0.8, 364, (1.0, 2.0, 3.0), (60.0, 61.0, 62.0), ("ham", EVIL, "spam"))


def snippets(folder: Path) -> list[str]:
    """What the card's Python prints, run in the folder where this project cannot be imported."""
    printed = []
    for code in re.findall(r"^```python\n(.*?)^```", (folder / "card.md").read_text(), re.DOTALL | re.MULTILINE):
        (folder / "snippet.py").write_text(
            "import sys\nsys.modules['nas'] = sys.modules['searchspace'] = None\n" + code
        )
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, "snippet.py"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.strip())
    return printed


def test_untrained(tmp_path: Path) -> None:
    made = bundle.write(tmp_path / "out", FACTS)
    assert made.files == ["card.md", "arch.yaml", "model.py"]
    assert made.differences == {"model.py": 0.0}
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(made.files)
    assert snippets(tmp_path / "out") == ["torch.Size([1, 3])"]


def test_trained_with_onnx(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = build(ARCH).eval()
    confused = Confusion(TRAINED.classes, ((0, 0, 3), (1, 0, 2)))
    made = bundle.write(tmp_path, replace(FACTS, trained=TRAINED, confusion=confused), model.state_dict(), onnx=True)
    others = (int8_file.INT8, tflite_file.FILE, *formats.FILES)
    assert made.files == [file for file in bundle.FILES if file not in others]
    assert made.differences["model.py"] == 0
    assert made.differences["model.onnx"] < 1e-4
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (TRAINED.mean, TRAINED.std))
    with torch.no_grad():
        best = int(model((torch.zeros(1, 3, 32, 32) - mean) / std).argmax())
    served, loaded = snippets(tmp_path)
    assert loaded == TRAINED.classes[best].strip()
    assert served == f"[{best}]"
    assert json.loads((tmp_path / "classes.json").read_text()) == list(TRAINED.classes)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = torch.randn(5, 3, 32, 32)
    (logits,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(logits, model(images).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_branches_that_fold_to_something_else_are_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = replace(ARCH, blocks=tuple(replace(block, branches=2) for block in ARCH.blocks))
    assert bundle.deployed_weights(build(arch), arch).keys() == build(arch, deployed=True).state_dict().keys()
    monkeypatch.setattr(bundle, "fold", lambda model: build(arch, deployed=True).eval())
    with pytest.raises(DifferentError, match=r"^the deployed network is not the network: its output is off by"):
        bundle.deployed_weights(build(arch), arch)


def test_every_file_can_be_read_as_the_umask_says_and_names_no_place_of_this_machine(tmp_path: Path) -> None:
    """What is taken home is of a network, not of who made it and where."""
    home = tmp_path / "someone"
    commands = (f"python -m nas.train {home}/arch.yaml --dataset={home}/photos --out {Path.cwd()}/mine",)
    trained = replace(TRAINED, dataset=str(home / "photos"), classes=("ham", "eggs", "spam"), command=commands[0])
    facts = ModelCard("mine", ARCH, ARCH, trained=trained, commands=commands)
    mask = os.umask(0o027)
    try:
        assert export.write(tmp_path / "out", facts, build(ARCH).state_dict(), True)
    finally:
        os.umask(mask)
    places = (str(tmp_path), str(Path.cwd()), sys.prefix, str(Path(torch.__file__).parent), "site-packages")
    files = sorted((tmp_path / "out").iterdir())
    assert {"model.onnx", "predict.py", "weights.safetensors"} < {file.name for file in files}
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o640, file
        held = file.read_bytes().decode("latin-1")
        assert not [place for place in places if place in held], file
    text = (tmp_path / "out" / "card.md").read_text()
    assert "python -m nas.train …/arch.yaml --dataset=…/photos --out mine" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ("ham", "eggs")}, "names 2 classes, the network has 3"),
        ({"mean": (1.0,)}, "mean and std are not of the network's 3 channels"),
        ({"std": (1.0, 0.0, 1.0)}, "std is above 0"),
        ({"accuracy": 7.5}, "accuracy of 7.5 on 287 images is none"),
        ({"test_images": 0}, "accuracy of 0.8 on 0 images is none"),
    ],
)
def test_what_is_said_of_weights_has_to_fit_the_network(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        bundle.write(tmp_path, replace(FACTS, trained=replace(TRAINED, **change)), build(ARCH).state_dict())
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = build(ARCH).state_dict()
    state["head.classifier.weight"][1, 2] = torch.nan
    with pytest.raises(InputError, match=r"head\.classifier\.weight hold numbers that are not finite"):
        bundle.write(tmp_path, replace(FACTS, trained=TRAINED), state)


@pytest.mark.parametrize("output", ["features", "map"])
def test_outputs_are_called_what_they_are(output: str, tmp_path: Path) -> None:
    import onnxruntime

    arch = replace(ARCH, in_channels=2, head=replace(ARCH.head, output=output))
    bundle.write(tmp_path, replace(FACTS, arch=arch), onnx=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [given.name for given in session.get_inputs()] == ["images"]
    assert [made.name for made in session.get_outputs()] == [output]
    for images in (1, 3):
        (made,) = session.run(None, {"images": np.zeros((images, 2, 32, 32), np.float32)})
        assert made.shape == ((images, 16) if output == "features" else (images, 16, 8, 8))
    shape = (1, *made.shape[1:])
    assert snippets(tmp_path) == [str(shape), f"torch.Size({list(shape)})"]
    card_of_it = (tmp_path / "card.md").read_text()
    assert f"{output} (N, {', '.join(map(str, shape[1:]))}) out" in card_of_it
    assert "images = np" in card_of_it


def test_writing_onnx_says_nothing_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without torchvision, which is nothing of ours, torch warns four times of operators that no network here has."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchvision" else found(name))
    onnx_file.write(tmp_path / "model.onnx", build(ARCH).eval(), torch.zeros(2, 3, 32, 32), "logits")
    assert capfd.readouterr() == ("", "")


def test_others_are_heard_while_the_exporter_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """A thread says how long it takes; the exporter's own news is dropped."""
    with onnx_file._quiet():
        print("the exporter's news")
        other = threading.Thread(target=lambda: print("writing: 7 s"))
        other.start()
        other.join()
    print("after")
    assert capsys.readouterr().out == "writing: 7 s\nafter\n"


def test_names_that_people_chose_stay_text(tmp_path: Path) -> None:
    text = card.text(replace(FACTS, trained=TRAINED), onnx=True)
    assert sum(line.startswith("#") for line in text.splitlines()) == 7
    assert text.count("\n```python\n") == 2
    assert "<img" not in re.sub(r"\\<", "", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))
    ARCH.save(tmp_path / "arch.yaml", card.one_line(EVIL))
    assert Arch.load(tmp_path / "arch.yaml") == ARCH


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("nn.ReLU()", "nn.ReLU6()", "model.py is not the network"),
        ("self.stem =", "self.stump =", "cannot run it"),
        ("from torch import", "import searchspace\nfrom torch import", "cannot run it"),
    ],
)
def test_a_difference_is_an_error_and_nothing_is_written(
    old: str, new: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = zoo("resnet18", num_classes=3, resolution=32)
    true = bundle.source(arch)
    assert old in true
    monkeypatch.setattr(bundle, "source", lambda arch: true.replace(old, new))
    with pytest.raises(DifferentError, match=says):
        bundle.write(tmp_path, replace(FACTS, arch=arch))
    assert not list(tmp_path.iterdir())


def test_other_peoples_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "try_files", lambda *_: bundle.Tried({}, {}))
    (tmp_path / "notes.txt").write_text("mine")
    torch.manual_seed(0)
    bundle.write(tmp_path, replace(FACTS, trained=TRAINED), build(ARCH).state_dict())
    assert (tmp_path / "weights.safetensors").exists()
    bundle.write(tmp_path, FACTS)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "card.md", "arch.yaml", "model.py"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "card.md").write_text("mine")
    with pytest.raises(InputError, match=r"has a card\.md that no export wrote"):
        bundle.write(tmp_path, FACTS)
    for place, says in (("notes.txt", "not a file"), ("notes.txt/x", "cannot be written")):
        with pytest.raises(InputError, match=says):
            bundle.write(tmp_path / place, FACTS)


def test_an_export_that_was_killed_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "try_files", lambda *_: bundle.Tried({}, {}))
    (tmp_path / ".part-1p6_xdes" / "new").mkdir(parents=True)
    (tmp_path / ".part-1p6_xdes" / "new" / "model.py").touch()
    export.check_out(tmp_path)
    bundle.write(tmp_path, FACTS)
    assert {path.name for path in tmp_path.iterdir()} == {"card.md", "arch.yaml", "model.py"}


def test_an_export_loses_no_file_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "try_files", lambda *_: bundle.Tried({}, {}))
    confused = Confusion(TRAINED.classes, ((0, 0, 1), (1, 2, 1)))
    facts = replace(FACTS, trained=TRAINED, confusion=confused)
    made = bundle.write(tmp_path, facts, build(ARCH).state_dict(), onnx=True)
    assert set(made.files) == bundle.planned_files(trained=True, confused=True, onnx=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    says = r"has confusion\.json, .*model\.onnx, predict\.py of an earlier export.*--onnx writes such files anew"
    with pytest.raises(InputError, match=says):
        export.write(tmp_path, replace(facts, confusion=None), build(ARCH).state_dict(), False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    again, weights = export.choose(str(tmp_path), None)
    assert again.confusion == confused
    export.write(tmp_path, again, weights, onnx=True)
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def test_onnx_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnxscript, onnxruntime: pip install 'cnn-budget-search\[export\]'"):
        bundle.write(tmp_path / "out", FACTS, onnx=True)
    assert not (tmp_path / "out").exists()


def test_only_tflite_files_need_flatbuffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in an extra, and was imported by every command that exports."""
    code = "import sys; sys.modules['flatbuffers'] = None; import nas.run.train, nas.run.export, nas.run.deploy"
    subprocess.run([sys.executable, "-c", code], check=True)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "flatbuffers" else find(name))
    bundle.require_onnx()
    with pytest.raises(InputError, match=r"TFLite files need flatbuffers: pip install 'cnn-budget-search\[export\]'"):
        bundle.write(tmp_path / "out", FACTS, onnx=True, others=[bundle.TFLITE])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("space", ready())
@pytest.mark.parametrize("seed", range(3))
def test_onnx_of_every_space(space: str, seed: int, tmp_path: Path) -> None:
    arch = Space.load(space).sample(seed, Budget.parse("300MFLOPs"))
    made = bundle.write(tmp_path, replace(FACTS, arch=arch), onnx=True)
    assert made.differences["model.py"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "rexnet_100", "rexnet_lite_100", "convnext_tiny", "efficientnet_v2_s"])
def test_onnx_of_the_zoo(name: str, tmp_path: Path) -> None:
    bundle.write(tmp_path, replace(FACTS, arch=zoo(name, num_classes=10)), onnx=True)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(networks())
def test_onnx_of_random_networks(tmp_path_factory: Any, network: Network) -> None:
    bundle.write(tmp_path_factory.mktemp("onnx"), replace(FACTS, arch=network.arch()), onnx=True)
