"""Formats of other runtimes: what is installed computes the same, what is not is one line that says what to install."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from nas import export
from nas.bundle import bundle, formats
from nas.bundle.bundle import DifferentError
from nas.bundle.card import ModelCard
from searchspace import Space
from tests.nas.bundle.test_int8_file import NETWORK
from tests.nas.test_search import refusal

ARCH = Space(NETWORK).arch()
FACTS = ModelCard("mixed", ARCH, ARCH)
HERE = [name for name, one in formats.FORMATS.items() if importlib.util.find_spec(one.package)]


@pytest.fixture
def network(tmp_path: Path) -> str:
    ARCH.save(tmp_path / "mixed.yaml")
    return str(tmp_path / "mixed.yaml")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_is_written_and_tried_or_says_what_to_install(
    name: str, network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, made = tmp_path / "out", formats.FORMATS[name]
    words = [network, "--out", str(out), "--format", name]
    if name not in HERE:
        said = refusal(export.main, words, capsys)
        assert said == f"--format {name} needs {made.package}: pip install 'cnn-budget-search[{name}]'"
        assert not out.exists()
        return
    assert export.main(words) == 0
    assert f"{made.files[0]} by " in " ".join(capsys.readouterr().out.split())
    assert f"`{made.files[0]}`" in (out / "card.md").read_text()
    for file in made.files:
        written = (out / file).read_bytes()
        for place in (str(Path.cwd()), sys.prefix, str(Path(torch.__file__).parent), "site-packages"):
            assert place.encode() not in written, (file, place)


def test_pt2_takes_any_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bundle.write(tmp_path, FACTS, others=["pt2"])
    assert made.differences["model.pt2"] < 1e-5
    program = torch.export.load(tmp_path / "model.pt2").module()
    for number in (1, 3):
        assert program(torch.zeros(number, 3, 32, 32)).shape == (number, ARCH.num_classes)
    monkeypatch.setattr(bundle, "try_files", lambda *_: bundle.Tried({}, {}))
    bundle.write(tmp_path, FACTS)
    assert not (tmp_path / "model.pt2").exists()


def test_a_file_that_computes_something_else_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(path: Path, model: torch.nn.Module, images: torch.Tensor) -> None:
        formats.write_pt2(path, bundle.disturb(model), images)

    def unable(path: Path, model: torch.nn.Module, images: torch.Tensor) -> None:
        raise NotImplementedError("operator\nhardswish")

    def unreadable(path: Path, model: torch.nn.Module, images: torch.Tensor) -> None:
        path.write_bytes(b"")

    for write, says in (
        (other, "model.pt2 is not the network: its output is off by"),
        (unable, "model.pt2 cannot be written: NotImplementedError: operator hardswish"),
        (unreadable, "a fresh interpreter cannot run model.pt2: "),
    ):
        pt2 = formats.FORMATS["pt2"]
        broken = formats.Format(pt2.files, pt2.runtime, pt2.package, write, pt2.load)
        monkeypatch.setitem(formats.FORMATS, "pt2", broken)
        with pytest.raises(DifferentError) as refused:
            bundle.write(tmp_path / "out", FACTS, others=["pt2"])
        monkeypatch.undo()
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)
        assert not list((tmp_path / "out").iterdir())


def test_the_command_takes_every_format() -> None:
    for name in ("onnx", *formats.FORMATS):
        assert export.parser().parse_args(["run", "--out", "there", "--format", name]).format == [name]
