"""Do brief scores rank like full training: which networks are trained, how rankings are compared, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from scipy import stats

from nas import Run, report, train
from nas.analysis import agreement
from nas.config import OWN_DATA, DataConfig, SearchConfig
from nas.full_training import training_folder
from nas.metric import Metric
from nas.run import folder, search_options
from nas.study.opening import open_study
from nas.study.study import Study
from nas.training import checkpoint
from nas.trial import Result, TrialRecord
from searchspace.errors import InputError
from tests.nas.test_search import refusal
from tests.support.records import record

SPACE = """
resolution: 32
num_classes: 10
width_mult: {fit: [0.2, 4.0]}
stem: {width: 8, act: relu}
schedule: {kind: linear, start: 8, end: {choice: [12, 16, 20, 24]}}
defaults: {block: mbconv, expansion: {choice: [1, 2, 3]}}
stages:
  - {depth: 1, stride: 2}
head: {width: 32, act: relu}
"""


def outcome(number: int, role: str, accuracy: float, state: Any = "complete") -> TrialRecord:
    return record(number, state, accuracy, role=role, loss=0.0)


def test_the_best_and_random_controls_are_trained_and_none_twice() -> None:
    trials = [outcome(n, "control", 0.1 * n, "pruned" if n % 2 else "complete") for n in range(8)]
    trials += [outcome(8 + n, "search", 0.5 + 0.01 * n) for n in range(4)]
    picked = agreement.networks_to_compare(trials, 3, 4, seed=0)
    assert [trial.number for trial in picked[:3]] == [6, 11, 10]
    assert len({trial.number for trial in picked}) == 7
    assert all(trial.role == "control" for trial in picked[3:])
    assert picked == agreement.networks_to_compare(trials, 3, 4, seed=0)
    draws = [tuple(t.number for t in agreement.networks_to_compare(trials, 0, 4, seed)) for seed in range(20)]
    assert len(set(draws)) > 5
    for top, controls, said in ((9, 0, "top 9: the run has 8"), (0, 9, "control 9: the run has 8")):
        with pytest.raises(InputError, match=said):
            agreement.networks_to_compare(trials, top, controls, 0)


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.integers(0, 8, 12).astype(float), rng.integers(0, 8, 12).astype(float)
        assert agreement.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
        assert agreement.kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_networks_of_different_lengths_of_training_are_not_compared() -> None:
    rows = [agreement.Retrained(i, "search", 0.1 * i, 5 if i % 2 else 30, 0.1 * i, 100, None, 0) for i in range(6)]
    assert agreement.sentences(rows) == [
        "6 networks were trained for different numbers of epochs (5, 30): not compared."
    ]
    assert "Spearman" in agreement.sentences(rows[1::2] + rows[1::2])[0]


def test_agreement_has_intervals_or_says_nothing() -> None:
    brief = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    same = agreement.agreement(brief, brief)
    assert same is not None
    assert (same.spearman, same.kendall) == (pytest.approx(1), pytest.approx(1))
    assert same.spearman_interval == pytest.approx((1, 1))
    mixed = agreement.agreement(brief, [0.3, 0.1, 0.2, 0.5, 0.4, 0.8, 0.6, 0.7])
    assert mixed is not None
    assert mixed.spearman_interval[0] < mixed.spearman < mixed.spearman_interval[1]
    assert mixed == agreement.agreement(brief, [0.3, 0.1, 0.2, 0.5, 0.4, 0.8, 0.6, 0.7])
    assert agreement.agreement([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) is None
    assert agreement.agreement(brief, [0.5] * 8) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of small networks, made through the study alone."""
    here = tmp_path_factory.mktemp("retrain")
    (here / "tiny.yaml").write_text(SPACE)
    words = ["--budget", "200kFLOPs", "--space", str(here / "tiny.yaml"), "--trials", "6", "--sampler", "random"]
    config = search_options.config_from_args(search_options.parser().parse_args(words))
    with folder.lock_run(here / "run", config):
        study = open_study(here / "run", config)
        study.validation_images = 287
        for index in range(6):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=0.3 + index / 10))
            study.tell(trial, 0.3 + index / 10)
    return here / "run"


def test_a_search_is_retrained_and_carried_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(run), "--top", "2", "--control", "2", "--epochs", "1"]
    assert train.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("data digits:") == 1
    assert said.count("epoch 1 of 1: train loss") == 4
    assert "Brief scores and full training of 4 networks, validation images" in said
    assert "Brief scores and full training of 4 networks, test images" in said
    folders = sorted(path.name for path in (run / "retrained").iterdir())
    assert folders[-2:] == ["trial-4", "trial-5"]
    first = {name: checkpoint.read(run / "retrained" / name / "weights.safetensors")[0] for name in folders}
    assert train.main(command) == 0
    assert "epoch 1" not in capsys.readouterr().out
    again = {name: checkpoint.read(run / "retrained" / name / "weights.safetensors")[0] for name in folders}
    assert all(torch.equal(first[name][key], again[name][key]) for name in folders for key in first[name])
    assert report.main([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Do brief scores predict full training?" in page
    assert ">Brief and full training</text>" in page
    assert page.count('<svg class="matrix"') == 4
    assert page.count(" test images of 10 classes ") == 4
    assert f"python -m nas.export {run}/retrained/trial-" in page
    assert "Brief scores and full training of 4 networks" in capsys.readouterr().out


def test_the_training_of_a_deployment_is_in_the_report(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("retrained"))
    folder.write_results(Study.read(copied), copied)
    assert "python -m nas.train" in Run.open(copied).report().read_text()
    out = copied / agreement.DEPLOYED
    assert train.main([str(copied), "--out", str(out), "--dataset", "digits", "--epochs", "1", "--quiet"]) == 0
    found = Run.open(copied)
    (row,) = found.retrained
    assert (row.trial, row.folder, row.epochs) == (found.best.number, out, 1)
    said = f"Trial {row.trial} trained in full, 1 epoch: validation accuracy {row.full:.4f}, test accuracy"
    assert said in found.describe()
    page = found.report().read_text()
    assert page.count('<svg class="matrix"') == 1
    assert "--top 1" not in page
    assert f"python -m nas.export {out} --out" in page


def test_images_that_only_a_search_had_have_to_be_given(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("retrained"))
    config = SearchConfig.load(copied)
    replace(config, identity=replace(config.identity, data=DataConfig(OWN_DATA), evaluate="own:score")).save(copied)
    said = refusal(train.main, [str(copied), "--top", "1"], capsys)
    assert said.startswith(f"dataset: nothing says what {copied} was searched or trained on; give --dataset digits")
    assert train.main([str(copied), "--top", "1", "--dataset", "digits", "--dry-run"]) == 0


def test_every_network_is_asked_whether_the_images_leave_it_within_its_budget(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one's name was said of the first one's size."""
    asked = []
    monkeypatch.setattr("nas.run.train.over_budget", lambda *pair: asked.append(pair) or "")
    monkeypatch.setattr("nas.run.train.train_one", lambda *of: 0 if of[4]() else 1)
    assert train.main([str(run), "--top", "2", "--control", "1", "--dry-run", "--out", str(tmp_path / "new")]) == 0
    assert [(given.name, given.arch) for given, _, _ in asked] == [(plan.name, plan.arch) for _, plan, _ in asked]
    assert len({given.name for given, _, _ in asked}) == 3
    assert {classes for *_, classes in asked} == {10}


def test_nonsense_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the run has 6" in refusal(train.main, [str(run), "--top", "7"], capsys)
    assert "at least 0" in refusal(train.main, [str(run), "--top", "-1"], capsys)
    assert "not both 0" in refusal(train.main, [str(run), "--top", "0"], capsys)
    assert "no run folder" in refusal(train.main, [str(tmp_path), "--top", "1"], capsys)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / training_folder.PLAN).touch()
    (tmp_path / "one" / training_folder.STATE).touch()
    for words in ([], ["--dry-run"]):
        said = refusal(train.main, [str(run), "--top", "1", "--out", str(tmp_path / "one"), *words], capsys)
        assert said == f"out {tmp_path / 'one'}: has another training; give another --out, for several"
    assert "the folder of a search" in refusal(train.main, [str(run), "--top", "1", "--out", str(run)], capsys)
    made = agreement.folder_of(tmp_path, outcome(3, "search", 0.5))
    made.mkdir()
    (made / "weights.safetensors").write_bytes(b"{}")
    with pytest.raises(InputError, match="not of a training"):
        agreement.load(tmp_path, [outcome(3, "search", 0.5)])
    checkpoint.write(
        made / "weights.safetensors", {}, {"trained": json.dumps({"accuracy": 0.5, "images": 9, "epochs": 2})}
    )
    (row,) = agreement.load(tmp_path, [outcome(3, "search", 0.5)])
    assert (row.full, row.test) == (0.5, None)


def test_brief_scores_are_those_after_epochs_that_all_trials_had(tmp_path: Path) -> None:
    """Scores of controls that were stopped after 2 epochs were ranked beside those of others after 4."""
    trials = [record(n, score=0.5 + n / 10, curve={2: 0.4 - n / 10, 4: 0.5 + n / 10}) for n in range(2)]
    trials += [record(2, "pruned", 0.2, curve={2: 0.2}, role="control")]
    for trial in trials:
        out = agreement.folder_of(tmp_path, trial)
        out.mkdir()
        (out / agreement.WEIGHTS).write_bytes(save({}, {"trained": '{"epochs": 9, "images": 10, "accuracy": 0.9}'}))
    rows = agreement.load(tmp_path, trials)
    assert {row.trial: row.brief for row in rows} == {0: 0.4, 1: pytest.approx(0.3), 2: 0.2}
    assert "Brief scores after 2 epochs, which all had, and full training of 3 networks" in agreement.sentences(rows)[0]
    assert [(row.brief, row.brief_epochs) for row in agreement.load(tmp_path, trials[:2])] == [(0.5, 0), (0.6, 0)]


def test_scores_of_two_metrics_are_not_compared_and_where_less_is_better_the_order_is_that() -> None:
    error = Metric("error", "minimize")
    rows = [agreement.Retrained(i, "search", 0.1 * i, 5, 0.1 * i, 100, None, 0, error, error) for i in range(6)]
    assert "Spearman 1.00" in agreement.sentences(rows)[0]
    rows = [agreement.Retrained(i, "search", 0.1 * i, 5, 0.1 * i, 100, None, 0, brief_metric=error) for i in range(6)]
    assert agreement.sentences(rows) == ["The search scored error, the full training accuracy: not compared."]
