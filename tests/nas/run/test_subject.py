"""Which network and which images a command is given, by every way to name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas import train
from nas.bundle import bundle, card
from nas.bundle.card import ModelCard
from nas.config import DataConfig, SearchConfig, SearchSpec
from nas.full_training.training_folder import TrainingPlan, open_folder
from nas.run.subject import Subject, subject
from searchspace import Arch, InputError, Space, zoo
from tests.nas.test_search import refusal
from tests.nas.test_train import NETWORK

ARCH = Space(NETWORK).arch()
SEARCHED = DataConfig("photos", validation=0.3, images=12)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos, a search on some of them, an export of it, an older export, and a training."""
    here = tmp_path_factory.mktemp("subject")
    for number in range(20):
        pixels = np.full((24, 24, 3), 10 * number, np.uint8)
        folder = here / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (here / "run").mkdir()
    SearchConfig(SearchSpec(space={}, budget=("3MFLOPs",), data=SEARCHED)).save(here / "run")
    ARCH.save(here / "run" / "best.yaml")
    bundle.write(here / "export", ModelCard("best", ARCH, ARCH, data=SEARCHED))
    old = here / "old"
    old.mkdir()
    for path in (here / "export").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        (old / path.name).write_text("".join(line for line in lines if not line.startswith(card.IMAGES)))
    with open_folder(here / "training", TrainingPlan(ARCH, SEARCHED, name="tiny")):
        pass
    return here


@pytest.mark.parametrize(
    ("text", "name", "data"),
    [
        ("run", "run", SEARCHED),
        ("run/best.yaml", "run", SEARCHED),
        ("export", "export", SEARCHED),
        ("export/arch.yaml", "export", SEARCHED),
        ("training", "tiny", SEARCHED),
        ("old", "old", None),
        ("old/arch.yaml", "old", None),
        ("loose.yaml", "loose", None),
    ],
)
def test_a_network_is_known_with_its_images(
    text: str, name: str, data: DataConfig | None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    ARCH.save("loose.yaml")
    assert subject(text) == Subject(name, ARCH, data)


def test_a_name_of_the_zoo_is_no_folder_and_has_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resnet18").mkdir()
    assert subject("resnet18") == Subject("resnet18", zoo("resnet18"))
    Arch.save(ARCH, "resnet18/arch.yaml")
    assert subject("./resnet18") == Subject("resnet18", ARCH)


def test_a_search_without_a_complete_trial_says_so(here: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((here / "run" / "config.yaml").read_bytes())
    with pytest.raises(InputError, match="no trial of this search is complete yet"):
        subject(str(tmp_path))


@pytest.mark.parametrize("text", ["run", "run/best.yaml", "export", "training"])
def test_without_a_dataset_the_images_are_those_of_the_search(
    text: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, and that is said; with their other settings. A training that has begun keeps its part of them."""
    monkeypatch.chdir(here)
    assert train.main([text, "--dry-run", "--batch-size", "4"]) == 0
    said = capsys.readouterr().out
    if text == "training":  # which goes on as it began
        assert "data photos: 20 images in 2 classes found, 12 used: 8 train, 4 score; 24 px" in said
        assert "in training: 0 of " in said
        return
    assert "all training images of photos are used, not 12; --images 12 uses those" in said
    assert "data photos: 20 images in 2 classes found, 20 used: 14 train, 6 score; 24 px" in said
    assert "in runs/train-" in said
    assert "-photos: 0 of 100 epochs" in said
    assert not Path("runs").exists()


def test_another_dataset_may_be_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    assert train.main(["run", "--dataset", "digits", "--images", "100", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "100 used: 80 train, 20 score" in said
    assert "are used, not" not in said


@pytest.mark.parametrize("text", ["resnet18", "loose.yaml", "old"])
def test_images_that_nothing_names_have_to_be_given(
    text: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    ARCH.save("loose.yaml")
    for words in ([], ["--dry-run"]):
        said = refusal(train.main, [text, *words], capsys)
        assert f"nothing says what {text} was searched or trained on; give --dataset digits, a folder or" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["digits", "a/b", "weird --> <!-- name", "ü \n x", "-->"])
def test_a_cards_comment_is_read_back(name: str) -> None:
    data = DataConfig(name, images=7)
    line = card.images_line(data)
    assert "\n" not in line
    assert line.count("-->") == 1
    assert card.images_of(f"{card.MARK}\n{line}\n\n# title") == data
    assert card.images_of(card.MARK) is None
    assert card.images_of(f"{card.IMAGES}{{broken -->") is None
