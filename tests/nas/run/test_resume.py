"""The same command on an old run carries on as what the run began; what a command gives beside it is compared."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image

from nas import train
from nas.config import CONFIG, SearchConfig
from nas.data.datasets import load
from nas.run import folder as run_folder
from nas.run import resume, search_options
from nas.run.run import Run
from nas.run.search import Given, Search
from nas.run.train import data_of
from searchspace import InputError, Space, presets
from searchspace.command import line

WORDS = ["--budget", "30MFLOPs", "--space", "rexnet", "--resolution", "32", "--seed", "5"]


def begin(run: Path, *words: str) -> SearchConfig:
    """A run as a command begins it, without trials."""
    args = search_options.parser().parse_args(words)
    args.command = line("nas.search", [*words, "--run", str(run)])
    config = search_options.config_from_args(args)
    run.mkdir()
    config.save(run)
    return config


def again(run: Path, *words: str) -> SearchConfig:
    """What a command makes of the run that is there."""
    args = search_options.parser().parse_args(words)
    args.command = line("nas.search", [*words, "--run", str(run)])
    old = Run.config_of(run)
    assert old is not None
    return resume.carry_on(args, run, old)


def refusal(run: Path, *words: str) -> str:
    with pytest.raises(InputError) as refused:
        again(run, *words)
    said = re.search(r"is another search \((.*)\); give another --run", str(refused.value))
    assert said is not None, refused.value
    return said[1]


def rewrite(run: Path, change: dict[str, object]) -> None:
    """As if other defaults had held when the run began."""
    kept = yaml.safe_load((run / CONFIG).read_text())
    for place, value in change.items():
        *parents, last = place.split(".")
        node = kept["identity"]
        for parent in parents:
            node = node[parent]
        node[last] = value
    (run / CONFIG).write_text(yaml.safe_dump(kept))


def test_images_of_a_table_are_decoded_at_the_size_that_the_run_began_with(tmp_path: Path) -> None:
    """They were at their own size where the option was left out, and the dataset "has changed since"."""
    pictures = [Image.fromarray(np.full((40, 40, 3), 9 * n, np.uint8)) for n in range(24)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    table = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1] * 12}, features=features)
    options = {"budget": "2MFLOPs", "space": "mobile_small", "resolution": 32, "run": tmp_path / "run", "quiet": True}
    begun = Search(search_options.from_python({**options, "train_resolution": 16}), Given(dataset=table))
    begun.folder.mkdir()
    begun.config.save(begun.folder)
    carried_on = Search(search_options.from_python(options), Given(dataset=table))
    assert begun.split
    assert carried_on.split
    assert carried_on.split.resolution == begun.split.resolution == 16
    assert carried_on.split.fingerprint == begun.split.fingerprint


def test_the_same_command_carries_on_though_defaults_have_changed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run, *WORDS)
    older = {"train.epochs": 17, "train.momentum": 0.5, "data.validation": 0.3, "space.num_classes": 1000}
    rewrite(run, {**older, "sampler": "tpe", "band": 0.9, "space.stem.width": 48, "controls": 3})
    kept = SearchConfig.load(run)
    assert again(run, *WORDS).identity == kept.identity
    assert again(run, "--budget", "0.03GFLOPs").identity == kept.identity  # the same, said in fewer words
    assert again(run, *WORDS, "--epochs", "17", "--num-classes", "1000", "--band", "90").identity == kept.identity


def test_a_command_without_a_budget_has_the_runs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run, *WORDS)
    args = search_options.parser().parse_args(["--run", str(run), "--trials", "7"])
    args.command = f"python -m nas.search --run {run} --trials 7"
    kept = SearchConfig.load(run)
    told = search_options.with_budget_of(args, Run.config_of(run))
    assert tuple(told.budget) == kept.identity.budget
    assert f"--budget={kept.identity.budget[0]}" in told.command
    assert search_options.with_budget_of(args, Run.config_of(tmp_path / "new")).budget is None


def test_only_what_is_given_is_compared(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run, *WORDS, "--epochs", "3")
    assert refusal(run, "--budget", "31MFLOPs") == "budget.0: 30MFLOPs → 31MFLOPs"
    assert refusal(run, *WORDS, "--epochs", "4") == "train.epochs: 3 → 4"
    assert refusal(run, *WORDS[:-1], "6") == "seed: 5 → 6"
    assert refusal(run, *WORDS, "--dataset", "photos") == "data.dataset: digits → photos"
    assert refusal(run, *WORDS, "--resolution", "64") == "--resolution: 32 → 64"
    assert refusal(run, *WORDS, "--num-classes", "3") == "--num-classes: 10 → 3"
    assert refusal(run, *WORDS, "--minimize", "params") == "minimize.0: default → params"
    assert refusal(run, *WORDS, "--metric", "f1_macro") == "metric.name: accuracy → f1_macro"
    begin(tmp_path / "f1", *WORDS, "--metric", "f1_macro")
    assert refusal(tmp_path / "f1", *WORDS, "--metric", "accuracy") == "metric.name: f1_macro → accuracy"


def test_a_changed_space_is_told_as_it_was_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run, "--budget", "30MFLOPs", "--without", "bottleneck")
    budget = ["--budget", "30MFLOPs"]
    assert refusal(run, *budget, "--fix", "schedule.divisor=8") == "--fix: nothing → schedule.divisor=8"
    assert refusal(run, *budget, "--without", "silu") == "--without: bottleneck → silu"
    assert (
        refusal(run, *budget, "--without", "", "--space", "rexnet")
        == "--space: nothing → rexnet; --without: bottleneck → nothing"
    )
    assert again(run, *budget, "--space", "mobile").identity == SearchConfig.load(run).identity
    assert again(run, *budget, "--without", "bottleneck,").identity == SearchConfig.load(run).identity


def test_a_deployment_is_the_runs(tmp_path: Path) -> None:
    run, budget = tmp_path / "run", ("--budget", "30MFLOPs")
    begin(run, *budget, "--deploy", "edgetpu")
    same = SearchConfig.load(run).identity
    assert again(run, *budget).identity == again(run, *budget, "--deploy", "edgetpu").identity == same
    assert again(run, *budget).space.deployment is not None
    assert refusal(run, *budget, "--deploy", "mcu") == "--deploy: edgetpu → mcu"


def test_a_ready_space_may_change_but_not_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(Space.load("rexnet").data))
    begin(tmp_path / "ready", *WORDS)
    begin(tmp_path / "own", "--budget", "30MFLOPs", "--space", str(file))
    text = file.read_text().replace("width: 1280", "width: 640")
    assert text != file.read_text()
    file.write_text(text)
    said = refusal(tmp_path / "own", "--budget", "30MFLOPs", "--space", str(file))
    assert said == "space.head.width: 1280 → 640"
    kept = SearchConfig.load(tmp_path / "own").identity
    assert again(tmp_path / "own", "--budget", "30MFLOPs").identity == kept

    for folder in ("spaces", "targets", "deployments"):
        (tmp_path / folder).mkdir()
    (tmp_path / "spaces" / "rexnet.yaml").write_text(text)
    monkeypatch.setattr(presets.resources, "files", lambda _: tmp_path)
    assert Space.load("rexnet").network.head.width == 640
    kept = SearchConfig.load(tmp_path / "ready").identity
    assert again(tmp_path / "ready", *WORDS).identity == kept
    assert kept.space["head"]["width"] == 1280
    assert refusal(tmp_path / "ready", *WORDS, "--fix", "head.act=relu") == "--fix: nothing → head.act=relu"


def test_a_run_whose_command_is_not_known_is_compared_by_what_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = begin(run, *WORDS)
    kept = yaml.safe_load((run / CONFIG).read_text())
    for command in ("", "python -m nas.search --no-such-option", "mine.py 'x"):
        kept["conduct"]["command"] = command
        (run / CONFIG).write_text(yaml.safe_dump(kept))
        assert again(run, *WORDS).identity == config.identity
        assert again(run, "--budget", "30MFLOPs").identity == config.identity
        assert refusal(run, *WORDS, "--fix", "head.width=64").startswith("space.head.width: 1280 → 64; space.known.")


def test_the_command_that_is_kept_still_says_all(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    config = begin(run, *WORDS, "--fix", "schedule.kind=linear", "--fix", "head.width=640", "--no-baselines")
    found = again(run, "--budget", "30MFLOPs", "--seed", "5", "--trials", "99")
    assert found.conduct.trials == 99
    words = resume.options_of(found)
    assert words == resume.options_of(config)
    found.save(run)
    assert again(run, "--budget", "30MFLOPs").conduct.command.count("--fix=") == 2


def test_the_number_of_trials_is_the_runs_where_a_command_gives_none(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert begin(run, "--budget", "100MFLOPs", "--space", "rexnet").conduct.trials == 16
    again(run, "--budget", "100MFLOPs", "--space", "rexnet", "--trials", "24").save(run)
    assert again(run, "--budget", "100MFLOPs", "--space", "rexnet").conduct.trials == 24


def test_how_many_finalists_there_are_is_the_runs_where_a_command_gives_none(tmp_path: Path) -> None:
    run, words = tmp_path / "run", ["--budget", "100MFLOPs", "--space", "rexnet"]
    assert begin(run, *words, "--finalists", "2").conduct.finalists == 2
    assert again(run, *words).conduct.finalists == 2
    assert again(run, *words, "--finalists", "0").conduct.finalists == 0


def test_whether_trials_are_stopped_early_is_the_runs_where_a_command_does_not_say(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert not begin(run, *WORDS, "--no-early-stopping").conduct.early_stopping
    assert not again(run, *WORDS).conduct.early_stopping
    assert again(run, *WORDS, "--early-stopping").conduct.early_stopping
    assert begin(other, *WORDS).conduct.early_stopping
    assert again(other, *WORDS).conduct.early_stopping


def test_the_command_that_is_kept_says_how_many_trials_and_how_they_end(tmp_path: Path) -> None:
    """They were the run's, but its command no longer said so."""
    run, told = (
        tmp_path / "run",
        ["--trials", "24", "--finalists", "2", "--no-early-stopping", "--trial-timeout", "10m"],
    )
    begin(run, *WORDS, *told)
    again(run, *WORDS).save(run)
    found = again(run, *WORDS).conduct
    assert (found.trials, found.finalists, found.early_stopping, found.trial_timeout_s) == (24, 2, False, 600)
    words = ("--trials=24", "--finalists=2", "--no-early-stopping", "--trial-timeout=600s")
    assert found.command.endswith(" ".join(words))
    assert begin(tmp_path / "repeated", *WORDS, *words).conduct.trials == 24
    begin(tmp_path / "usual", *WORDS)
    assert again(tmp_path / "usual", *WORDS).conduct.command.endswith("usual")


def test_where_trials_run_is_each_commands_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run, *WORDS, "--device", "cpu", "--concurrent", "1", "--time-limit", "1h", "--no-mps")
    found = again(run, *WORDS).conduct
    assert (found.device, found.concurrent, found.time_limit_s, found.mps) == ("auto", None, None, True)


def test_options_that_a_run_cannot_take_any_more_are_refused(tmp_path: Path) -> None:
    """They were accepted without a word."""
    run = tmp_path / "run"
    begin(run, *WORDS)
    assert refusal(run, *WORDS, "--no-baselines") == "baselines: 2 → 0"
    begin(tmp_path / "none", *WORDS, "--no-baselines")
    assert again(tmp_path / "none", *WORDS, "--no-baselines").identity.baselines == 0
    for given in (again, begin):
        with pytest.raises(InputError, match=r"prescreen-by: .* give --prescreen 8 too"):
            given(run, *WORDS, "--prescreen-by", "zen")
    begin(tmp_path / "screened", *WORDS, "--prescreen", "4", "--prescreen-by", "zen")
    assert again(tmp_path / "screened", *WORDS, "--prescreen-by", "zen").identity.prescreen.by == "zen"


@pytest.mark.parametrize("kept", [{}, {"cuda_graphs": True}, {"cuda_graphs": True, "gpus_per_trial": 0.5}])
def test_a_run_of_before_graphs_and_sharing_were_the_defaults_carries_on(tmp_path: Path, kept: dict[str, Any]) -> None:
    """How it is carried out is the command's each time."""
    run = tmp_path / "run"
    begin(run, *WORDS)
    said = yaml.safe_load((run / CONFIG).read_text())
    said["conduct"] |= kept
    (run / CONFIG).write_text(yaml.safe_dump(said))
    assert SearchConfig.load(run).conduct.gpus_per_trial == kept.get("gpus_per_trial")
    conduct = again(run, *WORDS).conduct
    assert (conduct.cuda_graphs, conduct.gpus_per_trial) == (True, None)
    assert not again(run, *WORDS, "--no-cuda-graphs").conduct.cuda_graphs


def test_a_known_network_runs_in_small_runs_too(tmp_path: Path) -> None:
    words = ["--budget", "100MFLOPs", "--space", "rexnet", "--trials"]
    for trials, baselines in (("2", 0), ("8", 1), ("12", 2)):
        assert begin(tmp_path / trials, *words, trials).identity.baselines == baselines


def test_a_dataset_is_the_same_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "others"):
        for label in ("ham", "spam"):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8), (90 * number, 0, 0)).save(tmp_path / name / label / f"{number}.png")
    config = search_options.config_from_args
    begun = config(search_options.parser().parse_args([*WORDS, "--dataset", "photos"]))
    (tmp_path / "run").mkdir()
    begun.save(tmp_path / "run")
    for same in ("./photos/", str(tmp_path / "photos"), "others/../photos"):
        again = config(search_options.parser().parse_args([*WORDS, "--dataset", same]))
        assert run_folder.can_resume(tmp_path / "run", again)
    with pytest.raises(InputError, match="is another search"):
        run_folder.can_resume(
            tmp_path / "run", config(search_options.parser().parse_args([*WORDS, "--dataset", "others"]))
        )


def test_a_run_carries_on_from_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, photos = tmp_path / "run", tmp_path / "here" / "photos"
    for label in ("ham", "spam"):
        (photos / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(photos / label / f"{number}.png")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    parse = search_options.parser().parse_args
    begun = search_options.config_from_args(parse([*WORDS, "--dataset", "photos"]))
    run.mkdir()
    begun.save(run)
    old = SearchConfig.load(run)
    assert (old.identity.data.dataset, old.identity.data.location) == ("photos", "photos")
    monkeypatch.chdir(tmp_path / "there")
    for given in (["--dataset", "photos"], ["--dataset", str(photos)], []):
        again = resume.carry_on(parse([*WORDS, *given]), run, old)
        assert again.identity == old.identity
        assert run_folder.can_resume(run, again)
    told = replace(old, conduct=replace(old.conduct, command=line("nas.search", [*WORDS, "--dataset", "photos"])))
    assert f"--dataset={photos}" in resume.unsaid(search_options.settle_budget(parse(["--budget", "1MFLOPs"])), told)
    assert load(again.identity.data, 0).found == 8
    args = train.parser().parse_args([str(run), "--epochs", "1"])
    assert load(data_of(args, again.identity.data), 0).name == str(photos)
    photos.rename(tmp_path / "there" / "photos")  # with a copy beside the run that is moved
    assert again.identity.data.location == "photos"
    before = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(before.replace(f"base: {tmp_path / 'here'}", "base: ''"))  # of older runs
    assert SearchConfig.load(run).identity == old.identity


def test_a_start_without_trials_leaves_nothing_that_the_next_would_refuse(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = search_options.config_from_args(search_options.parser().parse_args(WORDS))
    (run / "evidence.json").write_text("{}")
    assert not run_folder.can_resume(run, config)
    config.save(run)
    run_folder.discard(run)
    assert not run.exists()
