"""`nas.train` as a person runs it: killed and carried on, it ends with the same weights; nonsense is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score

from nas import export, train
from nas.bundle import bundle, card
from nas.bundle.card import TrainingRecord
from nas.config import DataConfig, TrainConfig, full_recipe
from nas.data.datasets import load, load_test
from nas.full_training import tensorboard, training_folder
from nas.full_training.training_folder import TrainingPlan
from nas.latency import timing
from nas.metric import Metric
from nas.run.train import line, why_unmeasured
from nas.training import checkpoint
from nas.training.trainer import Epoch, Training
from nas.views.training_progress import TrainingProgress
from searchspace import Arch, InputError, Space, build, cost
from searchspace.command import StoppedError
from tests.nas.test_search import refusal

NETWORK = {
    "resolution": 64,
    "stem": {"width": 8, "act": "relu"},
    "schedule": {"kind": "explicit", "widths": [8, 12]},
    "stages": [{"block": "mbconv", "depth": 2, "stride": 2, "expansion": 2, "shortcut": "partial"}],
    "head": {"width": 32, "act": "relu", "dropout": 0.1},
    "drop_path": 0.1,
}


DIGITS = ("--dataset", "digits")
RECORD = TrainingRecord("digits", 0, 2, 0.6, 100, 0.7, 200, (0.0,) * 3, (1.0,) * 3, ("a", "b"))


@pytest.fixture(scope="module")
def arch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arch") / "tiny.yaml"
    Space(NETWORK).arch().save(path)
    return path


@pytest.fixture(scope="module")
def trained(arch: Path) -> Path:
    """Two epochs without interruption."""
    out = arch.parent / "whole"
    assert train.main([str(arch), *DIGITS, "--epochs", "2", "--out", str(out), "--quiet"]) == 0
    return out


def test_an_event_file_for_tensorboard(arch: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = arch.parent / "events"
    command = [str(arch), *DIGITS, "--images", "300", "--epochs", "1", "--out", str(out), "--quiet", "--tensorboard"]
    assert train.main(command) == 0
    (file,) = (out / "tensorboard").iterdir()
    written = file.read_bytes()
    assert all(name in written for name in (b"loss/train", b"loss/validation", b"accuracy/validation", b"images_per_s"))
    assert load_file(out / "weights.safetensors").keys() == load_file(trained / "weights.safetensors").keys()
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="tensorboard needs tensorboardX"):
        train.main(command)


def test_killed_and_carried_on_it_ends_the_same(arch: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = arch.parent / "killed"
    command = [str(arch), *DIGITS, "--epochs", "2", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, "-m", "nas.train", *command], stdout=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while not (out / training_folder.STATE).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "not finished" in refusal(export.main, [str(out), "--out", str(arch.parent / "x")], capsys)
    assert "epochs: 2 → 4" in refusal(train.main, [str(arch), *DIGITS, "--epochs", "4", "--out", str(out)], capsys)
    assert train.main(command) == 0
    assert "1 of 2 epochs done" in capsys.readouterr().out
    whole, pieced = load_file(trained / bundle.WEIGHTS), load_file(out / bundle.WEIGHTS)
    assert whole.keys() == pieced.keys()
    assert all(torch.equal(whole[name], pieced[name]) for name in whole)
    measured = ["epoch", "train_loss", "accuracy", "loss"]
    tables = [pd.read_csv(folder / training_folder.METRICS)[measured] for folder in (trained, out)]
    pd.testing.assert_frame_equal(*tables)


def test_the_folder_is_complete_and_says_so_again(
    arch: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"arch.yaml", "model.py", "weights.safetensors", "classes.json", "card.md", "metrics.csv", "training.yaml"}
    names |= {"confusion.json", "confusion.svg"}
    assert {path.name for path in trained.iterdir()} == names
    weights = (trained / bundle.WEIGHTS).stat().st_mtime_ns
    assert train.main([str(arch), *DIGITS, "--epochs", "2", "--out", str(trained)]) == 0
    said = capsys.readouterr().out
    assert "test accuracy" in said
    assert "on 364 images" in said
    assert (trained / bundle.WEIGHTS).stat().st_mtime_ns == weights
    card = (trained / "card.md").read_text()
    assert "Recipe: epochs 2, optimizer sgd, batch size 32, learning rate 0.05," in card
    assert "mixup" not in card
    assert "## By class, on test images" in card
    assert "| class | images | recall | 90 % interval | precision | most often taken for |" in card
    facts, _ = training_folder.result(trained)
    assert facts.trained is not None
    assert facts.commands == (facts.trained.command,)
    assert facts.trained.command.startswith(f"python -m nas.train {arch}")
    assert facts.arch == Arch.load(arch).adapt(10, 16)
    assert facts.deployed == Arch.load(arch)


def test_the_test_accuracy_is_that_of_the_weights_on_the_test_images(trained: Path) -> None:
    facts, weights = training_folder.result(trained)
    assert facts.trained is not None
    split = load(DataConfig(), seed=0)
    found = load_test(split)
    assert found is not None
    images, labels = found
    model = build(facts.arch).eval()
    model.load_state_dict(weights)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (facts.trained.mean, facts.trained.std))
    right = (model((torch.from_numpy(images) - mean) / std).argmax(1).numpy() == labels).mean()
    assert facts.trained.test_accuracy == pytest.approx(right)
    assert facts.confusion is not None
    for counts, accuracy, number in (
        (facts.confusion.test, right, len(labels)),
        (facts.confusion.validation, facts.trained.accuracy, len(split.val_labels)),
    ):
        assert sum(n for *_, n in counts) == number
        assert sum(n for truth, answer, n in counts if truth == answer) == pytest.approx(accuracy * number)
    seen = {image.tobytes() for image in (*split.train_images, *split.val_images)}
    assert not any(image.tobytes() in seen for image in images)


def test_averaged_weights_are_scored_and_trained_ones_go_on(arch: Path) -> None:
    split = load(DataConfig(), seed=0)
    few = replace(split, train_images=split.train_images[:64], train_labels=split.train_labels[:64])
    recipe = replace(full_recipe("digits"), epochs=2)
    models = {}
    for ema in (0.0, 0.9):
        torch.manual_seed(0)
        models[ema] = Training(build(Arch.load(arch).adapt(10, 16)), few, replace(recipe, ema=ema), 0, "cpu")
        list(models[ema])
    plain = list(models[0.0].model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(plain, models[0.9].aside, strict=True))
    assert not torch.equal(plain[0], next(models[0.9].model.parameters()))


def test_a_network_with_branches_is_trained_with_them_and_deployed_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Averaged weights, killed between epochs or not, folded once at the end: every file is of the deployed network."""
    stages = [{**NETWORK["stages"][0], "branches": 2}]  # type: ignore[index]
    Space({**NETWORK, "stem": {"width": 8, "act": "relu", "branches": 1}, "stages": stages}).arch().save(
        tmp_path / "arch.yaml"
    )
    out = tmp_path / "trained"
    assert train.main([str(tmp_path / "arch.yaml"), *DIGITS, "--epochs", "2", "--ema", "0.9", "--out", str(out)]) == 0
    facts, weights = training_folder.result(out)
    assert facts.trained is not None
    model = build(facts.arch, deployed=True).eval()
    model.load_state_dict(weights)
    assert sum(parameter.numel() for parameter in model.parameters()) == cost(facts.arch).params
    assert [name for name in weights if "norm" in name] == [name for name in weights if name.startswith("head.norm")]
    split = load(DataConfig(), seed=0)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (facts.trained.mean, facts.trained.std))
    images = (torch.from_numpy(split.val_images) - mean) / std
    assert (model(images).argmax(1).numpy() == split.val_labels).mean() == pytest.approx(facts.trained.accuracy)
    assert export.main([str(out), "--out", str(tmp_path / "home"), "--onnx", "--int8"]) == 0
    assert "model.int8.onnx" in capsys.readouterr().out


def test_unreadable_test_images_are_refused_before_anything_is_trained(
    arch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for split, count in (("train", 8), ("test", 3)):
        for label in ("a", "b"):
            (photos / split / label).mkdir(parents=True)
            for n in range(count):
                Image.effect_noise((32, 32), 20 + n).save(photos / split / label / f"{n}.png")
    (photos / "test" / "b" / "2.png").write_bytes(b"")
    shutil.copy(photos / "train" / "a" / "0.png", photos / "test" / "a" / "0.png")
    words = [str(arch), "--dataset", str(photos), "--epochs", "1", "--batch-size", "4", "--out", str(out), "--quiet"]
    with pytest.raises(InputError, match=r"test: unreadable image: test/b/2\.png: .*\(--skip-bad\)"):
        train.main(words)
    assert not out.exists()
    assert train.main([*words, "--skip-bad"]) == 0
    said = capsys.readouterr().out
    assert "on 5 images" in said
    for note in ("1 image left out that cannot be read: test/b/2.png", "1 test image of 5 is training images too"):
        assert note in said
        assert note in " ".join((out / "card.md").read_text().split())
    (photos / "test" / "b" / "2.png").unlink()
    assert train.main(words) == 0  # finished, whether bad images are skipped or not


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonesuch"], "no such name in the zoo"),
        (["nothing.yaml"], "no such file"),
        (["."], "neither an arch.yaml nor a best.yaml"),
        (["resnet18", *DIGITS, "--epochs", "0"], "epochs: at least 1"),
        (["resnet18", *DIGITS, "--learning-rate", "-1"], "learning-rate: above 0"),
        (["resnet18", *DIGITS, "--learning-rate", "nan"], "learning-rate: above 0"),
        (["resnet18", *DIGITS, "--ema", "1"], "ema: from 0"),
        (["resnet18", *DIGITS, "--resolution", "0"], "resolution: at least 2, not 0"),
        (["resnet18", *DIGITS, "--resolution", "1"], "resolution: at least 2, not 1"),
        (
            ["resnet18", "--dataset", "nowhere/at/all"],
            "dataset: there is no folder nowhere/at/all (a dataset of the Hugging Face hub is NAME or",
        ),
        (["resnet18", *DIGITS, "--out", "file"], "a folder is accepted, not a file"),
        (["resnet18", *DIGITS, "--out", "file/x"], "cannot be written"),
        (["resnet18", *DIGITS, "--out", "mine"], "has a model.py that no export wrote"),
        (
            ["resnet18", *DIGITS, "--out", "table", "--dry-run"],
            "has a metrics.csv that no training here wrote; give another",
        ),
        (
            ["resnet18", *DIGITS, "--out", "state", "--dry-run"],
            "has a checkpoint.safetensors that no training here wrote",
        ),
        ([], "arch"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("mine").mkdir()
    Path("mine/model.py").write_text("mine")
    for folder, name in (("table", training_folder.METRICS), ("state", training_folder.STATE)):
        Path(folder).mkdir()
        Path(folder, name).write_text("mine")
    assert says in refusal(train.main, arguments, capsys)
    assert Path("mine/model.py").read_text() == "mine"


def test_a_start_that_fails_leaves_nothing_that_is_in_the_way(
    arch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [str(arch), "--epochs", "1", "--out", str(out), "--quiet", "--dataset"]
    assert "nowhere/at/all" in refusal(train.main, [*command, "nowhere/at/all"], capsys)
    assert not out.exists()
    out.mkdir()
    (out / "note.txt").write_text("mine")
    assert "nowhere/at/all" in refusal(train.main, [*command, "nowhere/at/all"], capsys)
    assert [path.name for path in out.iterdir()] == ["note.txt"]
    plan = training_folder.TrainingPlan(Arch.load(arch), DataConfig("elsewhere"))
    with training_folder.open_folder(out, plan):  # one that was killed in its first epoch, or by an earlier version
        pass
    assert training_folder.load_plan(out) == plan
    with training_folder.open_folder(out, replace(plan, seed=1)):
        assert training_folder.load_plan(out).seed == 1


def test_what_a_killed_start_was_told_holds_for_no_other(arch: Path, tmp_path: Path) -> None:
    plan = TrainingPlan(Arch.load(arch), DataConfig("photos", flip=False))
    with training_folder.open_folder(tmp_path, plan):
        pass
    other = replace(plan, data=DataConfig("others"))
    assert training_folder.keep_preparation(tmp_path, other) == other
    (tmp_path / training_folder.STATE).touch()
    assert training_folder.keep_preparation(tmp_path, other).data.flip is False


def test_a_start_that_fails_takes_its_table_away(arch: Path, tmp_path: Path) -> None:
    """It was killed after a first epoch's line and before its state."""
    plan, out = TrainingPlan(Arch.load(arch)), tmp_path / "out"
    with training_folder.open_folder(out, plan):
        training_folder.write_metrics(out / training_folder.METRICS, [])
    with pytest.raises(InputError, match=r"^no$"), training_folder.open_folder(out, plan):
        raise InputError("no")
    assert not out.exists()


def test_a_training_whose_steps_could_not_be_captured_says_so(
    arch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Training, "why_no_graphs", "a layer waits for the GPU")
    command = [str(arch), *DIGITS, "--epochs=1", "--images=100", "--device=cpu", "--threads=1"]
    command += ["--out", str(tmp_path / "out")]
    assert train.main(command) == 0
    assert "\ntrained without CUDA graphs: a layer waits for the GPU\n" in capsys.readouterr().out


def test_a_dry_run_says_what_and_how_long_and_makes_nothing(
    arch: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([str(arch), *DIGITS, "--epochs", "7", "--images", "300", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "300 used: 240 train, 60 score" in said
    assert re.search(
        r"would train tiny \(.* params.*\) on cpu in runs/train-tiny-digits-300-images: 0 of 7 epochs", said
    )
    assert re.search(r"1 thread: \d+ images/s\nabout [\d.]+ s per epoch, 0:00:\d+ for 7 epochs", said)
    assert not list(tmp_path.iterdir())
    assert train.main([str(arch), *DIGITS, "--epochs", "2", "--out", str(trained), "--dry-run"]) == 0
    assert "nothing is left to do" in capsys.readouterr().out
    assert "images: at least 2" in refusal(train.main, [str(arch), *DIGITS, "--images", "1", "--dry-run"], capsys)
    assert "threads: from 1 to" in refusal(train.main, [str(arch), *DIGITS, "--threads", "0"], capsys)


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (StoppedError(signal.SIGTERM), 143)])
def test_stopped_it_says_where_it_stands(
    error: BaseException,
    code: int,
    arch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the first epoch, then in the second."""
    out, real = tmp_path / "out", TrainingProgress.__call__
    command = [str(arch), *DIGITS, "--epochs", "3", "--images", "100", "--out", str(out), "--quiet"]

    at = {"stop in": 0}

    def stopped(self: TrainingProgress, what: str, done: int, total: int) -> None:
        if self.number == at["stop in"]:
            raise error
        real(self, what, done, total)

    monkeypatch.setattr(TrainingProgress, "__call__", stopped)
    for at["stop in"], where in ((1, "in the first epoch of 3"), (2, "after epoch 1 of 3")):
        assert train.main(command) == code
        assert capsys.readouterr().err == f"nas.train: stopped {where}; the same command carries on\n"
    at["stop in"] = 0
    assert train.main(command) == 0


def test_a_training_that_is_carried_on_refuses_what_a_new_one_does(
    arch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = replace(Arch.load(arch), in_channels=1)
    with training_folder.open_folder(tmp_path / "begun", TrainingPlan(grey)):
        pass
    for option, value, says in (
        ("--threads", "0", "threads: from 1 to"),
        ("--workers=2", "--threads=1", "threads: of a training on one CPU; workers share its cores, and a GPU needs"),
        ("--workers", "0", "workers: from 1 to"),
        ("--randaugment", "5", "randaugment: changes colours"),
    ):
        assert says in refusal(train.main, [str(tmp_path / "begun"), "--device=cpu", option, value], capsys)


def test_a_training_that_is_carried_on_keeps_its_threads(
    arch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, used = tmp_path / "out", list[int]()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("nas.run.train.speeds", lambda *_: {2: 300.0, 1: 100.0})
    real = training_folder.train_remaining

    def once(folder: Path, state: Training, watch: Callable[[Epoch], None], metric: Metric) -> None:
        def stop(epoch: Epoch) -> None:
            used.append(torch.get_num_threads())
            raise KeyboardInterrupt

        real(folder, state, stop)

    monkeypatch.setattr(training_folder, "train_remaining", once)
    command = [str(arch), *DIGITS, "--epochs", "4", "--images", "100", "--out", str(out)]
    with timing.threads(4):
        assert train.main(command) == 130
        assert "2 threads: 300 images/s; 1: 100\n" in capsys.readouterr().out
        monkeypatch.setattr("nas.run.train.speeds", lambda *_: {2: 100.0, 1: 300.0})
        assert train.main(command) == 130
        assert "images/s; " not in capsys.readouterr().out
        assert train.main([*command, "--threads", "1"]) == 130
        assert "it began with 2 threads: numbers may differ in their last digits" in capsys.readouterr().out
        assert torch.get_num_threads() == 4
    assert used == [2, 2, 1]


def test_divergence_is_one_line_and_exit_1(arch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        str(arch),
        *DIGITS,
        "--learning-rate",
        "1e30",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "wild"),
        "--quiet",
    ]
    assert train.main(command) == 1
    said = capsys.readouterr().err
    assert said.count("training loss is") == 1
    assert "at a learning rate of up to 1e+30: a lower --learning-rate may help; what was done before" in said


def test_a_damaged_or_foreign_file_is_refused(
    arch: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / training_folder.PLAN).write_bytes((trained / training_folder.PLAN).read_bytes())
    command = [str(arch), *DIGITS, "--epochs", "2", "--out", str(out), "--quiet"]
    (out / training_folder.STATE).write_bytes(b"\x80\x04K\x01.")  # a pickle
    assert "not a safetensors file" in refusal(train.main, command, capsys)
    save_file({"done": torch.tensor(1)}, out / training_folder.STATE)
    assert "not of this training" in refusal(train.main, command, capsys)
    (out / training_folder.STATE).unlink()
    save_file({"x": torch.zeros(1)}, out / bundle.WEIGHTS)
    assert "not of a training" in refusal(export.main, [str(out), "--out", str(tmp_path / "x")], capsys)
    _, notes = checkpoint.read(trained / bundle.WEIGHTS)
    save_file({"x": torch.zeros(1)}, out / bundle.WEIGHTS, notes)
    (out / "arch.yaml").write_bytes((trained / "arch.yaml").read_bytes())
    assert "Missing key" in refusal(export.main, [str(out), "--out", str(tmp_path / "x")], capsys)


def test_one_training_at_a_time(arch: Path, tmp_path: Path) -> None:
    plan = training_folder.TrainingPlan(Arch.load(arch))
    refused = pytest.raises(InputError, match="another training is running")
    with (
        training_folder.open_folder(tmp_path / "out", plan),
        refused,
        training_folder.open_folder(tmp_path / "out", plan),
    ):
        pass
    with training_folder.open_folder(tmp_path / "out", plan):
        assert training_folder.load_plan(tmp_path / "out") == plan


def test_a_training_of_a_version_without_confusions_still_opens(trained: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained, old, ignore=shutil.ignore_patterns("confusion.*"))
    facts, _ = training_folder.result(old)
    assert facts.confusion is None
    assert "By class" not in card.text(facts, onnx=False)


def test_a_trained_network_goes_on_to_another_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(trained), "--out", str(tmp_path / "home")]) == 0
    for name in ("model.py", "classes.json", "arch.yaml", "confusion.json", "confusion.svg"):
        assert (tmp_path / "home" / name).read_bytes() == (trained / name).read_bytes()
    assert "is a training, not a search" in refusal(
        export.main, [str(trained), "--out", str(tmp_path / "y"), "--trial", "1"], capsys
    )
    assert "holds a training" in refusal(export.main, [str(tmp_path), "--out", str(trained)], capsys)


def test_a_training_that_is_given_by_its_folder_goes_on_as_it_began(
    arch: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither its epochs nor its folder have to be said again."""
    assert train.main([str(trained), "--dry-run"]) == 0
    assert "2 of 2 epochs done" in capsys.readouterr().out
    assert "train.epochs: 2 → 3" in refusal(train.main, [str(trained), "--epochs", "3"], capsys)


def test_a_full_training_also_measures_what_its_search_scored_by(tmp_path: Path) -> None:
    """By scikit-learn, of the weights that are kept, on validation and test images."""
    split = load(DataConfig(images=200), seed=0)
    plan = TrainingPlan(Space(NETWORK).arch(), DataConfig(images=200), TrainConfig(epochs=1), metric=Metric("f1_macro"))
    training, seen = training_folder.resume(tmp_path, plan, split, "cpu"), []
    training_folder.train_remaining(tmp_path, training, seen.append, plan.metric)
    history = training_folder.epochs_done(tmp_path)
    assert seen == history
    tests = load_test(split)
    assert tests is not None
    record = training_folder.outcome(plan, split, history, training, tests).trained
    assert record is not None
    for (images, labels), found in zip(
        ((split.val_images, split.val_labels), tests), (record.score, record.test_score), strict=True
    ):
        assert found == pytest.approx(f1_score(labels, training.answers(images), average="macro"))
    assert f", f1 macro {record.score:.4f}, " in line(history[0], 1, plan.metric)
    (row,) = pd.read_csv(tmp_path / training_folder.METRICS).to_dict("records")
    assert list(row) == ["epoch", "train_loss", "accuracy", "loss", "images_per_s", "f1_macro"]
    assert (row["accuracy"], row["f1_macro"]) == (pytest.approx(record.accuracy), pytest.approx(record.score))
    assert [(name, metric.name) for name, metric, _, _ in record.scores] == [
        ("validation", "accuracy"), ("validation", "f1_macro"), ("test", "accuracy"), ("test", "f1_macro"),
    ]  # fmt: skip


def test_a_card_speaks_of_the_same_images_once_they_are_named() -> None:
    scores = replace(RECORD, metric="f1_macro", score=0.5, test_score=0.4)
    said = [line.split(" on ")[0].split(" [")[0] for line in card.scores(scores)[1:]]
    assert said == [
        "Validation accuracy 0.6000",
        "Of the same validation images, f1 macro: 0.5000.",
        "Test accuracy 0.7000",
        "Of the same test images, f1 macro: 0.4000.",
    ]


def test_a_metric_that_cannot_be_computed_costs_no_training(tmp_path: Path) -> None:
    """As of two classes where there are ten."""
    split = load(DataConfig(images=200), seed=0)
    plan = TrainingPlan(Space(NETWORK).arch(), DataConfig(images=200), TrainConfig(epochs=1), metric=Metric("f1"))
    training = training_folder.resume(tmp_path, plan, split, "cpu")
    training_folder.train_remaining(tmp_path, training, lambda epoch: None, plan.metric)
    (epoch,) = training_folder.epochs_done(tmp_path)
    assert epoch.other is None
    assert why_unmeasured(plan, split).startswith("metric f1: cannot be computed of these validation images: ")
    assert why_unmeasured(plan, split).endswith("; accuracy is measured")
    trained = training_folder.outcome(plan, split, [epoch], training, load_test(split)).trained
    assert trained is not None
    assert (trained.score, trained.test_score) == (None, None)
    assert "f1" not in line(epoch, 1, plan.metric)


def test_the_card_of_a_training_has_no_place_of_this_machine(arch: Path, trained: Path) -> None:
    text = (trained / "card.md").read_text()
    assert str(arch.parent) not in text
    assert "    python -m nas.train …/tiny.yaml --dataset digits --epochs 2 --out …/whole --quiet" in text
