"""From images to predictions in one command: which stages run, and where it carries on. `make readme` runs it whole."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import nas.run.search as run_search
from nas import deploy, export, train
from nas.bundle import card
from nas.config import DataConfig
from nas.full_training import training_folder
from nas.run import deploy as run_deploy
from nas.run.run import Run
from nas.run.search import Search
from searchspace import InputError, zoo
from searchspace.document import plain, write_yaml
from tests.support.records import record

WORDS = ["--budget", "20MFLOPs", "--space", "rexnet", "--run", "run", "--seed", "3"]


class Stages:
    """What each stage was told, and how it ends."""

    def __init__(self, codes: dict[str, int]) -> None:
        self.codes, self.calls = codes, []  # type: ignore[var-annotated]

    def search(self, begun: Search) -> int:
        begun.folder.mkdir(exist_ok=True)
        begun.config.save(begun.folder)
        return self.ended("search", shlex.split(begun.args.command)[3:])

    def train(self, words: Sequence[str]) -> int:
        folder = Path(train.parser().parse_args(words).out)
        folder.mkdir(exist_ok=True)
        plan = training_folder.TrainingPlan(zoo("rexnet_100"), DataConfig("digits"))
        write_yaml(folder / training_folder.PLAN, plain(plan))
        return self.ended("train", words)

    def export(self, words: Sequence[str]) -> int:
        export.parser().parse_args(words)
        return self.ended("export", words)

    def ended(self, stage: str, words: Sequence[str]) -> int:
        self.calls.append((stage, list(words)))
        return self.codes.get(stage, 0)


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    stages = Stages({})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_search, "carry_out_command", stages.search)
    for module, stage in ((train, stages.train), (export, stages.export)):
        monkeypatch.setattr(module, "main", stage)
    return stages


def test_unreadable_test_images_are_refused_before_the_search(stages: Stages, tmp_path: Path) -> None:
    for split, count in (("train", 8), ("test", 2)):
        for label in ("a", "b"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for n in range(count):
                Image.effect_noise((32, 32), 20 + n).save(tmp_path / "photos" / split / label / f"{n}.png")
    (tmp_path / "photos" / "test" / "a" / "0.png").write_bytes(b"")
    words = ["--budget", "20MFLOPs", "--space", "rexnet", "--dataset", "photos", "--run", "run", "--out", "there"]
    with pytest.raises(InputError, match=r"test: unreadable image: test/a/0\.png"):
        deploy.main(words)
    assert stages.calls == []
    assert deploy.main([*words, "--skip-bad"]) == 0
    assert "--skip-bad" in stages.calls[1][1]


def test_a_budget_out_of_reach_is_refused_before_images_are_read(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_deploy, "check_images", lambda *_: pytest.fail("images were read"))
    with pytest.raises(InputError, match="budget 1kFLOPs cannot be met"):
        deploy.main(["--budget", "1kFLOPs", "--run", "run", "--out", "there"])
    assert stages.calls == []


def test_search_then_training_then_export(stages: Stages) -> None:
    assert deploy.main([*WORDS, "--out=there", "--full-epochs", "7"]) == 0
    assert stages.calls == [
        ("search", WORDS),
        ("train", ["run", "--dataset=digits", "--out=run/trained", "--device=auto", "--epochs=7"]),
        ("export", ["run/trained", "--out", "there", "--onnx"]),
    ]


def test_it_says_which_network_of_a_front_it_trains(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = [
        record(n, score=score, curve={1: score}, role="search", minimized={"params": params})
        for n, score, params in ((0, 0.5, 1e6), (1, 0.7, 3e6), (2, 0.6, 2e6))
    ]
    found = SimpleNamespace(best=trials[1], front=trials, folder=Path("run"))
    monkeypatch.setattr(Run, "open", lambda folder: found)
    assert deploy.main([*WORDS, "--out", "there", "--minimize", "params"]) == 0
    said = "of the front of 3 networks the one with the best accuracy is trained in full: trial 1, 0.7000, 3MParams; "
    assert f"{said}python -m nas.export run --trial N --out DIR takes another" in capsys.readouterr().out


@pytest.mark.parametrize(("stage", "code"), [("search", 1), ("search", 130), ("train", 1), ("export", 1)])
def test_it_ends_with_the_stage_that_fails_and_carries_on_there(stages: Stages, stage: str, code: int) -> None:
    stages.codes = {stage: code}
    assert deploy.main([*WORDS, "--out", "there"]) == code
    assert stages.calls[-1][0] == stage
    stages.codes, stages.calls = {}, []
    assert deploy.main([*WORDS, "--out", "there"]) == 0
    began = "search" if stage == "search" else "train"  # what is finished says so at once
    assert [name for name, _ in stages.calls] == ["search", "train", "export"][0 if began == "search" else 1 :]
    if began == "train":
        assert stages.calls[0][1][0] == "run/trained", "the network that the training began with"


def test_a_run_that_exists_says_its_own_budget(stages: Stages) -> None:
    without = ["--run", "run", "--out", "there"]
    with pytest.raises(InputError, match="--budget or --target is missing"):
        deploy.main(without)
    assert deploy.main([*WORDS, "--out", "there"]) == 0
    stages.calls = []
    assert deploy.main(without) == 0
    assert [name for name, _ in stages.calls] == ["train", "export"]


def test_a_dry_run_is_the_search_s(stages: Stages) -> None:
    assert deploy.main([*WORDS, "--out", "there", "--dry-run"]) == 0
    assert [name for name, _ in stages.calls] == ["search"]


def test_what_could_not_be_written_is_said_before_anything_runs(stages: Stages) -> None:
    Path("there").mkdir()
    Path("there/model.py").write_text("mine")
    with pytest.raises(InputError, match=r"model\.py that no export wrote"):
        deploy.main([*WORDS, "--out", "there"])
    with pytest.raises(InputError, match=r"--out is missing, as in: python -m nas\.deploy"):
        deploy.main(WORDS)
    assert not stages.calls


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("run", "is the folder of the search or of its training; give another"),
        ("elsewhere/../run/trained", "is the folder of the search or of its training; give another"),
        (".", "the folder of the search is in it; give another"),
    ],
)
def test_a_folder_that_the_search_would_fill_is_refused_before_anything_runs(
    stages: Stages, out: str, says: str
) -> None:
    with pytest.raises(InputError, match=rf"^out {out}: {says}"):
        deploy.main([*WORDS, "--out", out])
    assert not stages.calls


def test_an_export_in_the_folder_of_the_search_is_fine(stages: Stages) -> None:
    assert deploy.main([*WORDS, "--out", "run/home"]) == 0
    assert [name for name, _ in stages.calls] == ["search", "train", "export"]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_training_of_ones_own_without_images_is_refused_before_the_search(
    stages: Stages, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    Path("own_score.py").write_text("def score(trial, context):\n    yield 0.5\n")
    with pytest.raises(InputError, match=r"^evaluate: a training of your own without --dataset leaves no images"):
        deploy.main([*WORDS, "--out", "there", "--evaluate", "own_score:score", *more])
    assert not stages.calls
    assert deploy.main([*WORDS, "--out", "there", "--evaluate", "own_score:score", "--dataset", "digits", *more]) == 0


def test_files_of_a_richer_export_are_named_before_anything_runs(stages: Stages) -> None:
    Path("there").mkdir()
    Path("there/card.md").write_text(card.MARK)
    Path("there/model.int8.onnx").write_text("")
    with pytest.raises(InputError, match=r"there: has model\.int8\.onnx of an earlier export.*--int8"):
        deploy.main([*WORDS, "--out", "there"])
    assert not stages.calls


def test_a_full_training_that_has_begun_keeps_its_epochs(stages: Stages) -> None:
    assert deploy.main([*WORDS, "--out", "there"]) == 0
    plan = training_folder.load_plan(Path("run/trained"))
    began = plan.train.epochs
    stages.calls = []
    assert deploy.main([*WORDS, "--out", "elsewhere"]) == 0
    assert f"--epochs={began}" in stages.calls[0][1]
    with pytest.raises(
        InputError, match=f"run/trained began with {began}; python -m nas.train run --epochs {began + 1} --out DIR"
    ):
        deploy.main([*WORDS, "--out", "elsewhere", "--full-epochs", str(began + 1)])


def test_another_search_of_the_same_run_is_refused_once_its_training_has_begun(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    """`A/pics` and `B/pics` share a run's default name."""
    assert deploy.main([*WORDS, "--out", "there"]) == 0
    stages.calls = []
    for other in (["--dataset", "B/digits"], ["--budget", "3MParams"], ["--epochs", "9"], ["--seed=4"]):
        with pytest.raises(InputError, match=r"run run is another search \(.*give another --run"):
            deploy.main([*WORDS, *other, "--out", "there"])
    assert not stages.calls
    capsys.readouterr()
    assert deploy.main([*WORDS, "--trials", "48", "--out", "there"]) == 0, "conduct may differ"
    assert capsys.readouterr().out == "the full training in run/trained has begun: the search stays as it is\n"


def test_a_dry_run_of_what_has_begun_is_the_training_s(stages: Stages) -> None:
    assert deploy.main([*WORDS, "--out", "there"]) == 0
    stages.calls = []
    assert deploy.main([*WORDS, "--out", "there", "--dry-run"]) == 0
    ((stage, words),) = stages.calls
    assert stage == "train"
    assert "--dry-run" in words


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize(("number", "says"), [("-1", "at least 1, not -1"), ("10000000", "at most 1,000,000, not 1")])
def test_epochs_of_the_training_are_refused_before_the_search(
    stages: Stages, number: str, says: str, more: list[str]
) -> None:
    with pytest.raises(InputError, match=f"^full-epochs: {says}"):
        deploy.main([*WORDS, "--out", "there", "--full-epochs", number, *more])
    assert not stages.calls
