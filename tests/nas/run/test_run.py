"""`Run`: a search from Python, by one's own training and metric, watched, opened again, carried on, taken home."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image

import nas
from nas import Context, Result, Run, Split, Study, Trial, export, report, search
from nas.config import CONFIG
from nas.metric import Metric
from nas.run import search_options
from nas.run.search import Ended, Given, Search, carry_out_command
from nas.study import lock, storage
from nas.views import notes
from nas.workers import tuner
from nas.workers.cluster import Cluster
from nas.workers.coordinator import Coordinator, FailuresError
from searchspace import Arch, Budget, InputError, Space, command
from tests.nas.study.test_study import SPACE, advance
from tests.searchspace.space.test_space import SMALL

BUDGET = "2MFLOPs"
TINY = {"budget": BUDGET, "space": "mobile_small", "resolution": 32, "num_classes": 3, "concurrent": 2, "quiet": True}


def half_of_the_parameters(trial: Trial, context: Context) -> Iterator[Result]:
    """A "training" that takes no time: an error that is the smaller, the more parameters a network has."""
    for epoch in range(context.epochs):
        assert context.data["scale"] == 1e5
        yield Result(score=1 - trial.cost.params / context.data["scale"] + 0.1 / (epoch + 1), images=50)


def untold(trial: Trial) -> float:
    return 0.5


class Notes:
    """A watcher of somebody's own, without a method for epochs, which fails when a trial ends."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def started(self, trial: Trial) -> None:
        self.told.append(trial.number)

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        raise RuntimeError("the tracker is down")

    def close(self) -> None:
        self.told.append("closed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, notes = tmp_path_factory.mktemp("run") / "own", Notes()
    found = Run.search(
        **TINY, evaluate=half_of_the_parameters, data=lambda: {"scale": 1e5}, metric="error:minimize", folder=folder,
        trials=4, epochs=2, watchers=[notes], track=["tensorboard"],
    )  # fmt: skip
    assert notes.told == [0, 1, 2, 3, "closed"]
    return found


def test_a_search_by_ones_own_training_has_all_that_a_search_has(run: Run) -> None:
    assert [trial.state for trial in run.trials] == ["complete"] * 4
    assert run.best.score == min(trial.score or 9 for trial in run.trials)
    assert run.best.score == pytest.approx(1 - run.best.cost.params / 1e5 + 0.05)
    assert len({trial.digest for trial in run.trials}) == 4
    assert all(Budget.parse(BUDGET).admits(trial.cost) for trial in run.trials)
    assert all(trial.curve.keys() == {1, 2} and trial.contended_ms for trial in run.trials)
    assert run.images == 50
    assert run.best.number in [trial.number for trial in run.front]
    assert run.trial(0) == run.trials[0]
    assert "4 of 4 trials ended" in repr(run)
    assert Arch.load(run.folder / "best.yaml") == run.best.arch
    assert len(list((run.folder / "tensorboard").glob("trial-*/events*"))) == 4
    assert "watcher Notes failed at ended: RuntimeError: the tracker is down" in (run.folder / "log.txt").read_text()


def test_the_interval_of_a_metric_is_what_python_gave(tmp_path: Path) -> None:
    given = Metric("accuracy", "maximize", "unknown")
    options = {**TINY, "num_classes": 10, "run": tmp_path}
    begun = Search(search_options.from_python(options), Given(metric=given))
    begun.config.save(tmp_path)
    assert Run.config_of(tmp_path) == begun.config
    assert begun.config.identity.metric == given
    for same in ("accuracy", None):
        assert Search(search_options.from_python({**options, "metric": same})).config.identity.metric == given
    with pytest.raises(InputError, match=r"is another search \(metric.interval: unknown → binomial"):
        Run.search(**{**TINY, "num_classes": 10}, folder=tmp_path, metric=Metric("accuracy", "maximize", "binomial"))


def test_watchers_are_closed_where_a_search_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of trackers stayed open."""

    def fail(*rest: object) -> str:
        raise FailuresError("most trials fail")

    monkeypatch.setattr(tuner, "run", fail)
    monkeypatch.setattr(Cluster, "begin", lambda cluster: None)
    watcher, options = Notes(), {**TINY, "num_classes": 10, "folder": tmp_path / "run", "epochs": 2, "trials": 2}
    with pytest.raises(FailuresError):
        Run.search(**options, watchers=[watcher])
    assert watcher.told == ["closed"]


@pytest.mark.parametrize("stopping", [True, False])
def test_trials_are_stopped_early_where_that_is_asked_for(
    stopping: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rungs = []

    def carried_out(coordinator: Coordinator, *rest: object) -> str:
        rungs.append(coordinator.early_stopping.rung)
        return "cut off"

    monkeypatch.setattr(tuner, "run", carried_out)
    monkeypatch.setattr(Cluster, "begin", lambda cluster: None)
    words = {**TINY, "num_classes": 10, "quiet": False}
    Run.search(**words, folder=tmp_path / "run", epochs=9, trials=12, early_stopping=stopping)
    assert rungs == [3 if stopping else 0]
    assert f"a trial trains for {'up to ' * stopping}9 epochs" in " ".join(capsys.readouterr().out.split())


def test_without_finalists_the_best_score_is_named(run: Run) -> None:
    assert run.finals is None
    assert run.best == run.ranked[0]
    assert not (run.folder / "finals.csv").exists()


def test_what_is_shown_of_it_follows_the_metric(run: Run) -> None:
    assert "validation error" in run.describe()
    assert "accuracy" not in run.describe()
    assert run.frame()["score"].min() == run.best.score
    page = run.report().read_text()
    assert "after a training of the searcher&#x27;s own, tests.nas.run.test_run:half_of_the_parameters" in page
    assert "accuracy" not in page.replace("validation accuracy of", "")
    card = (run.export("best", run.folder.parent / "home") / "card.md").read_text()
    assert f"validation error {run.best.score:.4f}" in card
    assert (run.export(0, run.folder.parent / "first") / "model.py").is_file()


def test_opening_a_run_writes_nothing(run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    opened = Run.open(run.folder)
    assert (opened.metric, opened.best, opened.state.alive) == (run.metric, run.best, False)
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    with pytest.raises(InputError, match="no run folder"):
        Run.open(run.folder.parent)
    with pytest.raises(InputError, match="trial 4: 0 to 3 are in"):
        run.trial(4)
    with pytest.raises(InputError, match="trial '0': 0 to 3 are in"):
        run.trial("0")  # type: ignore[arg-type]
    with pytest.raises(InputError, match='"best" or the number of a trial is accepted'):
        run.export("worst")


def test_a_trial_is_found_by_a_number_of_the_table(run: Run) -> None:
    number = run.frame()["trial"][2]
    assert run.trial(number) == run.trials[2]
    assert run.network(number).arch == run.trials[2].arch
    with pytest.raises(InputError, match="trial 4: 0 to 3 are in"):
        run.network(4)
    with pytest.raises(InputError, match="trial '0': 0 to 3 are in"):
        run.network("0")  # type: ignore[arg-type]


def test_a_run_stays_open_when_the_working_folder_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder.parent)
    opened = Run.open(run.folder.name)
    assert str(opened.folder) == run.folder.name
    copied = pickle.dumps(opened)
    database, held = storage.database(Path(run.folder.name), make=False), lock.FolderLock(run.folder)
    monkeypatch.chdir(run.folder.parents[2])
    database.engine.dispose()
    assert database.get_all_studies()
    assert opened.alive
    held.release()
    assert (opened.folder, opened.best, opened.environments) == (run.folder, run.best, run.environments)
    assert opened.report() == run.folder / "report.html"
    assert pickle.loads(copied).best == run.best


def test_paths_from_python_may_begin_at_home(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.folder.parent))
    opened = Run.open(f"~/{run.folder.name}")
    assert opened.folder == run.folder
    assert opened.report("~/page") == run.folder.parent / "page" / "report.html"
    assert opened.export(0, "~/taken") == run.folder.parent / "taken"
    args = search_options.from_python({"budget": BUDGET, "run": "~/a", "dataset": "~/b/", "warm_start": "~/c"})
    home = str(run.folder.parent)
    assert (args.run, args.dataset, args.warm_start) == (Path(home, "a"), f"{home}/b/", [f"{home}/c"])
    run.best.arch.save("~/arch.yaml")
    assert Arch.load("~/arch.yaml") == run.best.arch
    (run.folder.parent / "space.yaml").write_text(yaml.safe_dump(SMALL))
    assert Space.load("~/space.yaml").choices == Space(SMALL).choices


def test_the_same_call_carries_on_and_another_training_does_not(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    more = {**TINY, "folder": run.folder, "data": {"scale": 1e5}, "metric": "error:minimize", "epochs": 2}
    again = Run.search(**more, evaluate=half_of_the_parameters, trials=4)
    assert len(again.trials) == 4
    fewer = Run.search(**{**more, "quiet": False}, evaluate=half_of_the_parameters, trials=2)
    assert len(fewer.trials) == 4
    assert "4 trials ended" in repr(fewer)
    assert fewer.state.sentences == ["The search is finished: 4 of 4 trials ended."]
    assert f"--trials 2 adds nothing: run {run.folder} has 4 trials already" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"is another search .*evaluate"):
        Run.search(**more, evaluate=lambda trial, context: iter([0.5]), trials=4)
    with pytest.raises(InputError, match=r"is another search .*metric"):
        Run.search(**{**more, "metric": "f1_macro"}, evaluate=half_of_the_parameters, trials=4)
    said = yaml.safe_load((run.folder / CONFIG).read_text())["identity"]
    assert said["evaluate"] == "tests.nas.run.test_run:half_of_the_parameters"
    assert said["metric"]["name"] == "error"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trails": 4}, "no option trails=; did you mean trials="),
        ({"trials": "4"}, "trials: a whole number is accepted, not '4'"),
        ({"trials": True}, "trials: a whole number is accepted"),
        ({"budget": 300}, "budget"),
        ({"space": 7}, "space 7: a Space, a file, its data"),
        ({"dataset": 7}, "dataset: a name, a folder, a Split"),
        ({"dataset": lambda: np.zeros(3)}, "not ndarray"),
        ({"metric": "acuracy"}, "metric 'acuracy': the name of one of scikit-learn's scorers"),
        ({"metric": "f1"}, "metric f1: cannot be computed of these validation images"),
        ({"evaluate": "nowhere"}, "evaluate 'nowhere': module:function is accepted"),
        ({"evaluate": "nowhere:train"}, "evaluate nowhere:train: nowhere cannot be imported"),
        ({"evaluate": "nas.trial:train"}, "nas.trial has no such function"),
        ({"evaluate": "tests.nas.run.test_run:untold"}, "accepted, not tests.nas.run.test_run:untold(trial): too many"),
        ({"evaluate": lambda: 0.5}, "evaluate: a function of (trial, context) is accepted, not "),
        ({"evaluate": lambda trial, context, *, extra: 0.5}, "(trial, context, extra): missing a required"),
        ({"evaluate": 7}, "evaluate: a function or module:function is accepted, not 7"),
        ({"data": 7}, "data: goes with evaluate="),
        ({"sampler": "best"}, "sampler 'best': random, tpe"),
        ({"seed": -1}, "seed: from 0"),
        ({"trials": 10**9}, "trials: at most 1,000,000"),
        ({"dry_run": True}, "dry_run: the command has it"),
        ({"budget": None}, "budget None: no text"),
        (
            {"budget": "5MFLOPs", "space": "mobile", "resolution": 224},
            "it can with resolution=160 or space=mobile_small",
        ),
        ({"track": ["x"]}, "track 'x': mlflow, tensorboard, wandb is accepted"),
        ({"track": 3}, "track: a text or a list of texts is accepted, not 3"),
        ({"warm_start": 3}, "warm_start: a text or a list of texts"),
        ({"resolution": 31.5}, "resolution: pixels, or a list of several"),
        ({"resolution": [32, "x"]}, "resolution: pixels, or a list of several"),
        ({"storage": "foo"}, "storage: not an address of a database"),
        ({"metric": len}, "metric: a name or a Metric is accepted"),
        ({"watchers": 3}, "watchers: a list of objects is accepted"),
        ({"watchers": [print]}, "at least one of the methods started, epoch, ended, close is accepted, not <built-in"),
        ({"watchers": [Notes]}, "watchers: an object with at least one of"),
        ({"device": "tpu"}, "device 'tpu': auto, cpu, cuda"),
        ({"time_limit": "x"}, "time_limit 'x'"),
        ({"prescreen": 2, "minimize": "params"}, "not with minimize="),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        Run.search(**{**TINY, "dataset": "digits", "num_classes": None, "folder": tmp_path / "run", **options})
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_paths_that_are_none_are_refused() -> None:
    for wrong in (3, None):
        with pytest.raises(InputError, match="a folder's path is accepted"):
            Run.open(wrong)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="run folder: a path is accepted"):
            Study.open(wrong, SPACE, "100GFLOPs")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="folder: a path or a text is accepted, not 3"):
        Run.search(**TINY, folder=3)


def test_a_budget_that_nothing_keeps_is_refused_before_a_study_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="budget 3MFLOPs cannot be met"):
        Study.open(tmp_path / "run", space="mobile_small", budget="3MFLOPs")
    assert not (tmp_path / "run").exists()


def test_keywords_are_the_commands_options() -> None:
    given = {"budget": Budget.parse("3MFLOPs,8ms"), "fix": {"stem.act": "relu"}, "without": ["se"], "resolution": 64}
    args = search_options.from_python({**given, "time_limit": 90, "flip": False, "run": "runs/a", "trials": None})
    words = search_options.words_of(args)
    assert "--no-flip" in words
    again = search_options.parser().parse_args([word.strip("'") for word in words])
    again.command = args.command
    assert again == args
    assert args.command.startswith("python -m nas.search --budget=3MFLOPs --budget=8ms")


@pytest.mark.parametrize(
    ("given", "words", "settled"),
    [
        ({}, [], (None, True, True)),
        ({"gpus_per_trial": "auto", "cuda_graphs": True, "mps": True}, [], (None, True, True)),
        (
            {"gpus_per_trial": 0.25, "cuda_graphs": False, "mps": False},
            ["--gpus-per-trial=0.25", "--no-cuda-graphs", "--no-mps"],
            (0.25, False, False),
        ),
        ({"gpus_per_trial": 2}, ["--gpus-per-trial=2.0"], (2.0, True, True)),
    ],
)
def test_how_gpus_are_used_is_said_in_words_too(given: dict[str, Any], words: list[str], settled: Any) -> None:
    args = search_options.from_python({"budget": "3MFLOPs", **given})
    assert search_options.words_of(args)[1:] == words
    conduct = search_options.conduct(args)
    assert (conduct.gpus_per_trial, conduct.cuda_graphs, conduct.mps) == settled
    written = search_options.parser().parse_args(["--budget", "3MFLOPs", "--cuda-graphs", *words])
    assert search_options.conduct(written) == replace(conduct, command="")


def test_a_switch_that_is_off_is_no_word_of_the_command() -> None:
    """The command that a run kept had --no-no-prior, which is none."""
    off = {"skip_bad": False, "no_baselines": False, "no_prior": False}
    args = search_options.from_python({"budget": "3MFLOPs", **off, "flip": False, "early_stopping": False})
    assert search_options.words_of(args)[1:] == ["--no-flip", "--no-early-stopping"]
    with pytest.raises(InputError, match="no_prior: True or False is accepted"):
        search_options.from_python({"budget": "3MFLOPs", "no_prior": 0})


def test_a_share_of_a_gpu_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="gpus_per_trial: auto or a number is accepted, not 'half'"):
        search_options.from_python({"budget": "3MFLOPs", "gpus_per_trial": "half"})


def test_python_may_give_a_dataset_a_space_and_a_sampler(tmp_path: Path) -> None:
    import optuna

    from nas.samplers import Repaired

    asked = []

    def sampler(choices: Any, cost: Any, budget: Any, seed: int) -> Any:
        asked.append(seed)
        return Repaired(lambda seed: optuna.samplers.RandomSampler(seed=seed), choices, cost, budget, seed)

    with Study.open(tmp_path / "a", SMALL, "100GFLOPs", sampler=sampler, band=0.0, controls=1) as study:
        assert len(set(advance(study, 4))) == 4
    assert len(asked) >= 3
    with pytest.raises(InputError, match="seed: a whole number"):
        Study.open(tmp_path / "b", SPACE, "100GFLOPs", seed=-1)


def test_a_study_that_is_asked_and_told_is_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Study.open(tmp_path / "run", Space(SMALL), "100GFLOPs", band=0.0, controls=2) as study:
        advance(study, 3)
        assert Run.open(tmp_path / "run").state.ended == 3
    run = Run.open(tmp_path / "run")
    assert run.best.digest == study.ranked[0].digest
    assert report.main([str(tmp_path / "run")]) == 0
    assert run.state.sentences[0] == "Asked and told by its caller: 3 trials ended."
    assert repr(run).endswith(": 3 trials ended)")
    told = notes.of_run(run.config, run.trials, 0)
    assert "\n3 trials done. " in told
    assert "scored by the caller; the objective" in told
    assert "carries on" not in capsys.readouterr().out
    assert "scored by the caller" in (tmp_path / "run" / "report.html").read_text()
    assert export.main([str(tmp_path / "run"), "--out", str(tmp_path / "home")]) == 0
    with pytest.raises(InputError, match="its trials are scored by the caller"):
        search.main(["--budget", "100GFLOPs", "--run", str(tmp_path / "run")])
    (tmp_path / "run" / CONFIG).unlink()  # a study of before had none
    assert len(Run.open(tmp_path / "run").trials) == 3


def test_the_package_is_light_until_it_is_used() -> None:
    assert {"Run", "Split", "Metric"} <= set(nas.__all__)
    assert Split is nas.Split
    with pytest.raises(AttributeError, match="has no attribute 'Rum'"):
        _ = nas.Rum
    assert "nas" in sys.modules


def test_a_search_without_a_complete_trial_says_so_where_errors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Search(search_options.parser().parse_args(["--budget", "2MFLOPs", "--run", str(tmp_path / "run")]))
    monkeypatch.setattr(Search, "carry_out", lambda self: Ended())
    assert carry_out_command(begun) == command.FAILED
    assert capsys.readouterr().err == (
        f"nas.search: no trial is complete, so there is no network; see {tmp_path}/run/log.txt\n"
    )


@pytest.mark.parametrize("kind", ["split", "dataset"])
def test_grey_images_that_python_has_go_to_networks_that_take_them(kind: str, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
    labels = np.arange(40) % 3
    given: Any = Split.of(grey, labels)
    if kind == "dataset":
        pictures = [Image.fromarray(image) for image in grey]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
        given = datasets.Dataset.from_dict({"image": pictures, "label": labels.tolist()}, features)
    options = {"budget": BUDGET, "run": tmp_path / "run", "resolution": 32, "fix": ["in_channels=1"]}
    begun = Search(search_options.from_python(options), Given(dataset=given))
    assert begun.split
    assert begun.split.train_images.shape[1] == begun.config.space.network.in_channels == 1


@pytest.mark.slow
def test_workers_find_the_modules_of_the_script_or_the_search_says_which_they_do_not(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    training = "def train(trial, context):\n    yield 0.5\n"
    (tmp_path / "lib" / "mine.py").write_text(training)
    (tmp_path / "script.py").write_text(f"""
import sys, types
sys.path.insert(0, {str(tmp_path / "lib")!r})
import mine
from nas import Run
if __name__ == "__main__":
    options = {TINY!r} | {{"trials": 8, "epochs": 1, "finalists": 0}}
    print(len(Run.search(**options, evaluate=mine.train, folder="found").ranked))
    sys.modules["nowhere"] = nowhere = types.ModuleType("nowhere")
    exec({training!r}, vars(nowhere))
    Run.search(**options, evaluate=nowhere.train, folder="lost")
""")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "8" in done.stdout.splitlines(), done.stderr
    assert "8 of evaluate, as in: evaluate: cannot be loaded by workers (No module named 'nowhere')" in done.stderr
