"""A search's network that is trained on more classes than were searched for: its budget is kept, or it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas import train
from nas.data.datasets import load
from nas.run import deploy, search_options
from nas.run.search import Search
from nas.study.study import Study
from searchspace import Arch, InputError, cost
from tests.nas.data.test_image_folder import images
from tests.nas.study.test_study import advance

MORE = [f"more{n}" for n in range(150)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search of three classes whose best network just fits, as a folder."""
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "photos", ["cat", "dog", "owl"], count=4)
    words = ["--budget", "250kParams", "--space", "mobile_small", "--dataset", "photos", "--run", "run", "--quiet"]
    config = search_options.config_from_args(search_options.parser().parse_args(words))
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run")
    found = config.space.sample(0, config.budget)
    assert 212_000 <= cost(found).params <= 250_000
    found.save(tmp_path / "run" / "best.yaml")
    return tmp_path / "run"


def test_more_classes_than_were_searched_for_are_not_trained_over_the_budget(run: Path, tmp_path: Path) -> None:
    images(tmp_path / "photos", MORE, count=4)
    said = (
        r"run: for 153 classes it takes .*Params, more than the 250kParams of its search, whose networks have 3: search"
    )
    for arch in (run, run / "best.yaml"):
        with pytest.raises(InputError, match=said):
            train.main([str(arch), "--epochs", "1", "--resolution", "16", "--quiet", "--out", "trained"])
        assert not (tmp_path / "trained").exists()


def test_other_images_with_more_classes_are_a_wish_and_it_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = images(tmp_path / "other", MORE, count=4)
    assert train.main([str(run), "--dataset", str(other), "--resolution", "16", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "run: for 150 classes it takes" in said
    assert "more than the 250kParams of its search" in said


def test_an_exported_network_and_fewer_classes_are_trained(run: Path, tmp_path: Path) -> None:
    assert train.main([str(run), "--resolution", "16", "--dry-run"]) == 0
    Path("alone").mkdir()
    Arch.load(run / "best.yaml").save(Path("alone") / "arch.yaml")
    images(tmp_path / "other", MORE, count=4)
    assert train.main(["alone", "--dataset", "other", "--resolution", "16", "--dry-run"]) == 0


def test_a_deployment_refuses_images_that_are_not_those_of_its_trials(run: Path, tmp_path: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "best.yaml").unlink()
    words = ["--budget", "250kParams", "--space", "mobile_small", "--dataset", "photos", "--run", "run", "--quiet"]
    begun = Search(search_options.parser().parse_args(words))
    begun.config.save(run)
    i = begun.config.identity
    split = load(i.data, i.seed, i.train.resolution, largest=i.largest)
    with Study.open(run, begun.config.space, "250kParams", controls=3) as study:
        study.check_images(split.fingerprint, len(split.val_labels), 0.34)
        advance(study, 1)
        assert study.chance == 0.34
    begun = Search(search_options.parser().parse_args(words))
    deploy.check_images(begun)
    images(tmp_path / "photos", ["emu"], count=4)
    with pytest.raises(InputError, match=r"run run: its 1 trials were scored on .* the dataset has changed since"):
        deploy.check_images(begun)
