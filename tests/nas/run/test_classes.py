"""How many classes a new search's network has: an option's number, a file's of one's own, or the dataset's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from nas import search
from nas.data import decoding
from nas.run import search_options
from searchspace import InputError, Space

BUDGET = ["--budget", "2MFLOPs", "--resolution", "32"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of two images, which nothing has decoded."""
    for label in ("ham", "jam", "spam"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (8, 8), (90 * index, 0, 0)).save(folder / f"{index}.png")
    return tmp_path / "photos"


def classes(*words: str) -> tuple[int, str]:
    args = search_options.parser().parse_args([*BUDGET, *words])
    config = search_options.config_from_args(args)
    return config.space.network.num_classes, search_options.classes_of(args, config)


def test_classes_are_the_dataset_s(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "picture", lambda *_: pytest.fail("an image was decoded"))
    assert classes() == (10, "the dataset's")
    assert classes("--dataset", str(photos)) == (3, "the dataset's")
    assert classes("--dataset", str(photos), "--num-classes", "7") == (7, "")


def test_a_file_of_ones_own_may_say_it(photos: Path, tmp_path: Path) -> None:
    file, data = tmp_path / "mine.yaml", Space.load("rexnet").data
    file.write_text(yaml.safe_dump(data))
    assert classes("--dataset", str(photos), "--space", str(file)) == (1000, "mine.yaml's")
    del data["num_classes"]
    file.write_text(yaml.safe_dump(data))
    assert classes("--dataset", str(photos), "--space", str(file)) == (3, "the dataset's")


def test_known_networks_stay_known(photos: Path) -> None:
    config = search_options.config_from_args(search_options.parser().parse_args([*BUDGET, "--dataset", str(photos)]))
    assert list(config.space.known) == ["rexnet_100"]


def test_the_first_line_says_whose_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert search.main([*BUDGET, "--space", "rexnet", "--dry-run", "--run", run]) == 0
    said = capsys.readouterr().out
    assert said.startswith("counting")
    assert re.search(
        r"(?m)^budget 2MFLOPs for the network as deployed: 32 px, 10 classes \(the dataset's\); 1 FLOP", said
    )


def test_fewer_classes_than_the_dataset_s_are_refused_before_anything_begins(photos: Path, tmp_path: Path) -> None:
    words, run = [*BUDGET, "--space", "rexnet", "--dataset", str(photos), "--run", str(tmp_path / "run")], "run"
    with pytest.raises(InputError, match=rf"^num-classes: at least 3, the classes of {photos}, not 2$"):
        search.main([*words, "--num-classes", "2"])
    file, data = tmp_path / "mine.yaml", Space.load("rexnet").data
    file.write_text(yaml.safe_dump({**data, "num_classes": 2}))
    with pytest.raises(InputError, match="at least 3"):
        search.main([*words, "--space", str(file)])
    assert not (tmp_path / run).exists()
    file.write_text(yaml.safe_dump({**data, "num_classes": 2, "head": {**data["head"], "output": "features"}}))
    search_options.check_classes(
        search_options.config_from_args(search_options.parser().parse_args([*words, "--space", str(file)]))
    )


def test_an_address_that_ray_can_join() -> None:
    parse = search_options.parser().parse_args
    for address in ("head:6379", "10.0.0.1:6379", "[::1]:6379", "ray://head:10001", "auto"):
        search_options.check(parse(["--budget", "1MFLOPs", "--ray-address", address]))


def test_a_class_of_one_image_is_said_before_anything_is_counted(photos: Path) -> None:
    (photos / "jam" / "1.png").unlink()
    with pytest.raises(InputError, match="the class 'jam' has one image; at least two of each are accepted"):
        classes("--dataset", str(photos))
