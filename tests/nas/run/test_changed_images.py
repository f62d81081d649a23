"""Images that change under a run or a training are noticed: their numbers could not be compared."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas import export, train
from nas.bundle.card import ModelCard
from nas.config import DataConfig, same_images
from nas.data.datasets import Split, load
from nas.full_training import training_folder
from nas.run.export import calibration
from nas.run.subject import subject
from nas.study.study import Study
from searchspace import InputError, Space, command
from tests.nas.data.test_image_folder import images
from tests.nas.study.test_study import BUDGET, SPACE, advance, opened
from tests.nas.test_train import NETWORK


def split(root: Path) -> Split:
    return load(DataConfig(str(root)), 0, 16)


def test_equal_folders_are_told_from_changed_ones(tmp_path: Path) -> None:
    root = images(tmp_path / "photos", ["cat", "dog", "owl"])
    whole = split(root)
    assert split(shutil.copytree(root, tmp_path / "copy")).fingerprint == whole.fingerprint
    (root / "owl").rename(root / "ant")
    assert split(root).fingerprint != whole.fingerprint, "the same labels, for other classes"
    (root / "ant").rename(root / "owl")
    first = min((root / "cat").iterdir())
    first.write_bytes(first.read_bytes() + b"0")
    assert not same_images(whole.fingerprint, split(root).fingerprint), "a file that has another size"
    Image.new("RGB", (20, 20), "red").save(root / "dog" / "0.bmp")
    red = split(root)
    Image.new("RGB", (20, 20), "blue").save(root / "dog" / "0.bmp")
    assert not same_images(red.fingerprint, split(root).fingerprint), "a file of the same size that shows another image"
    other = red.fingerprint.partition("@")[0] + "@0.1"
    assert same_images(other, split(root).fingerprint), "another Pillow may decode otherwise"
    (root / "dog" / "0.bmp").unlink()
    assert same_images(whole.fingerprint.partition("-")[0], split(root).fingerprint), "a run that knew no files"
    os.unlink(first)
    assert split(root).fingerprint != whole.fingerprint


def test_a_search_does_not_compare_scores_on_other_images(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        study.check_images("before", 300)
        study.check_images("other", 200)  # no trial was scored yet
        advance(study, 1)
        study.check_images("other", 200)
        with pytest.raises(InputError, match=r"1 trials were scored on 200 images that are not those of now \(300"):
            study.check_images("before", 300)
        assert study.validation_images == 200


def test_a_search_does_not_compare_mirrored_images_with_others(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        study.check_images("same", 300, None, False)
        study.check_images("same", 300, None, True)  # no trial was trained yet
        advance(study, 1)
        study.check_images("same", 300, None, True)
        study.check_images("same", 300)  # of a run whose training mirrors as it likes
        with pytest.raises(InputError, match=r"its 1 trials were trained on images mirrored at random, these are not"):
            study.check_images("same", 300, None, False)


def test_a_run_from_before_has_the_number_of_its_images_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        study.validation_images = 200
        advance(study, 1)
        with pytest.raises(InputError, match="the dataset has changed"):
            study.check_images("now", 300)
        study.check_images("now", 200)


def test_a_training_does_not_go_on_with_other_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = images(Path("photos"), ["cat", "dog", "owl"])
    Space(NETWORK).arch().save(Path("tiny.yaml"))
    words = ["tiny.yaml", "--dataset", "photos", "--epochs", "2", "--out", "out", "--quiet", "--resolution", "16"]
    monkeypatch.setattr(training_folder, "write_metrics", lambda path, history, metric: None)
    real = training_folder.checkpoint.write

    def stopped(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(training_folder.checkpoint, "write", stopped)
    assert train.main(words) == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (root / "owl").rename(root / "ant")
    with pytest.raises(InputError, match=r"out out: its first 1 epochs were trained on other images: .*30 images in 3"):
        train.main(words)
    (root / "ant").rename(root / "owl")
    assert train.main(words) == 0


def test_what_trained_a_network_does_not_score_it_as_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images that have changed since, the ones that score are drawn anew, and some of those were trained on."""
    monkeypatch.chdir(tmp_path)
    root = images(Path("photos"), ["cat", "dog", "owl"])
    Space(NETWORK).arch().save(Path("tiny.yaml"))
    options = ["--epochs", "1", "--quiet", "--resolution", "16"]
    assert train.main(["tiny.yaml", "--dataset", "photos", "--out", "out", *options]) == 0
    facts, _ = training_folder.result(Path("out"))
    assert facts.trained
    before = replace(facts, trained=replace(facts.trained, fingerprint=""))

    def scored(known: ModelCard, dataset: str | None = None) -> list[str]:
        return [name for name, *_ in calibration(known, dataset, 4, command.console()).scored]

    assert scored(facts) == scored(before) == scored(facts, "photos") == ["validation"]
    assert scored(facts, str(shutil.copytree(root, tmp_path / "copy"))) == ["validation"]
    for number in range(6):
        Image.new("RGB", (20, 20), "red").save(root / "dog" / f"more{number}.bmp")
    for known in (facts, before):
        with pytest.raises(InputError, match=r"int8: the images of photos are not those that tiny trained on photos"):
            scored(known)
        assert scored(known, "photos") == []


def test_images_of_the_same_name_elsewhere_are_not_taken_for_an_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--epochs", "1", "--quiet", "--resolution", "16"]
    for name, classes in (("here", ["cat", "dog", "owl"]), ("there", ["ant", "bee"])):
        images(tmp_path / name / "photos", classes)
    monkeypatch.chdir(tmp_path / "here")
    Space(NETWORK).arch().save(Path("tiny.yaml"))
    assert train.main(["tiny.yaml", "--dataset", "photos", "--out", "out", *options]) == 0
    assert export.main(["out", "--out", "home"]) == 0
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(InputError, match=r"dataset photos: has other classes than home was trained on"):
        train.main(["../here/home", "--out", "new", *options])
    assert not Path("new").exists()
    assert train.main(["../here/home", "--dataset", "photos", "--out", "new", *options]) == 0
    assert subject("../here/home").classes == ("cat", "dog", "owl")
    Path("../here/home/weights.safetensors").write_bytes(b"damaged")
    assert subject("../here/home").classes == (), "its network can be trained all the same"


def test_the_number_that_accuracies_are_is_checked(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        trial = study.ask()
        for wrong in (5, -0.1, "0.5"):
            with pytest.raises(InputError, match=r"accuracy: .*from 0 to 1 is accepted"):
                study.tell(trial, wrong)  # type: ignore[arg-type]
        assert study.tell(trial, np.float32(0.5))  # type: ignore[arg-type]
        assert study.best.digest == trial.digest


def test_a_split_keeps_its_fingerprint_when_images_are_replaced_by_arrays(tmp_path: Path) -> None:
    whole = split(images(tmp_path / "photos", ["cat", "dog"]))
    assert replace(whole, train_images=np.zeros_like(whole.train_images)).fingerprint == whole.fingerprint


def test_a_study_with_holes_is_called_damaged(tmp_path: Path) -> None:
    import sqlite3

    for number, change in enumerate(("delete from trials where number = 1", "delete from trial_values")):
        run = tmp_path / str(number)
        with Study.open(run, SPACE, BUDGET, controls=3) as study:
            advance(study, 3)
        with sqlite3.connect(run / "study.db") as database:
            database.execute(change)
        with pytest.raises(InputError, match="the study is damaged"):
            Study.read(run)
        with pytest.raises(InputError, match="the study is damaged"):
            opened(run, seed=0)


def test_a_network_that_is_not_the_one_that_was_trained_is_not_exported(tmp_path: Path) -> None:
    import sqlite3

    with opened(tmp_path) as study:
        advance(study, 2)
    with sqlite3.connect(tmp_path / "study.db") as database:
        (first,) = database.execute(
            "select value_json from trial_user_attributes where key = 'arch' order by trial_id limit 1"
        ).fetchone()
        database.execute("update trial_user_attributes set value_json = ? where key = 'arch'", (first,))
    with Study.read(tmp_path) as study, pytest.raises(InputError, match="is not the one that was trained"):
        study.front()
