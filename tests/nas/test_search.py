"""The commands as a person runs them: a whole search, killed and carried on; nonsense; export and dashboard."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from nas import dashboard, export, search, train
from nas.config import DataConfig, SearchConfig
from nas.run import folder, resume, search_options
from nas.run.run import Run
from nas.run.subject import Subject, subject
from nas.study import storage
from nas.study.opening import open_study
from nas.study.records import trial_records
from nas.study.storage import load
from nas.study.study import Study
from searchspace import Arch, Budget, InputError, Space, build, cost, signals
from searchspace.__main__ import main as searchspace_main

TINY = ["--budget", "20MFLOPs", "--resolution", "64", "--num-classes", "10", "--epochs", "1", "--trials", "4"]
TINY += ["--fix", "smallest_map=1"]  # no strides relaxed: trains quicker
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "80"}


def start(run: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas.search", *TINY, "--run", str(run), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=run.parent, start_new_session=True
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def ended(run: Path) -> int:
    """How many trials have ended, asked without disturbing the search."""
    try:
        with sqlite3.connect(f"file:{run / 'study.db'}?mode=ro", uri=True, timeout=10) as database:
            states = database.execute("select state from trials").fetchall()
    except sqlite3.OperationalError:
        return 0
    return sum(state in ("COMPLETE", "PRUNED") for (state,) in states)


def wait_until(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while ended(run) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was stopped once, killed once and then finished."""
    folder = tmp_path_factory.mktemp("searches") / "run"
    process = start(folder)
    wait_until(folder, 1, process)
    os.killpg(process.pid, signal.SIGTERM)  # all of its group, as a terminal that is closed or `timeout` does
    asked = time.monotonic()
    said = finish(process, 128 + signal.SIGTERM)
    assert time.monotonic() - asked < 60  # ten seconds where nothing else runs; beside other tests more
    assert "stopping: keeping epochs (up to 10 s); again to stop now" in said
    assert "interrupted, which the same command takes up); stopped" in said
    assert "the same command carries on" in said
    assert "starts: 0 of 4 trials done" in said

    process = start(folder)
    wait_until(folder, 2, process)
    process.kill()
    process.communicate()

    said = finish(start(folder))
    assert "carries on" in said
    assert "done; --trials 8 adds 4" in said
    return folder


def test_nothing_is_lost_repeated_or_left_running(run: Path) -> None:
    trials = trial_records(load(run))
    assert [trial.state for trial in trials].count("complete") == 4
    assert len({trial.digest for trial in trials}) == 4
    assert len(trials) == 4
    assert {trial.role for trial in trials} == {"baseline", "control", "search"}
    assert sorted(trial.baseline for trial in trials) == ["", "", "", "rexnet_100"]


def test_the_folder_has_all_that_it_should(run: Path) -> None:
    assert {"config.yaml", "study.db", "trials.csv", "best.yaml", "log.txt"} <= {p.name for p in run.iterdir()}
    table = pd.read_csv(run / "trials.csv")
    assert len(table) == 4
    assert ((table["macs"] <= 20e6) & (table["macs"] >= 0.97 * 20e6)).all()
    assert (table[["latency_ms", "images_per_s", "seconds"]] > 0).all(axis=None)
    assert (table["measured_ms"] > 0).all()
    assert (table["predicted_ms"] > 0).all()
    best = Arch.load(run / "best.yaml")
    assert best.digest == table.sort_values(["accuracy", "loss"], ascending=[False, True])["digest"].iloc[0]
    assert cost(best).macs <= 20_000_000
    assert build(best)(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    log = (run / "log.txt").read_text()
    assert log.count("complete") >= 3  # the killed driver may have died between a trial's record and its line
    assert "epoch 1: accuracy" in log


def test_a_finished_run_says_so_and_more_can_be_added(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main([*TINY, "--run", str(run)]) == 0
    said = capsys.readouterr().out
    assert "carries on: 4 of 4 trials done" in said
    assert "done; --trials 8 adds 4" in said
    assert "best networks within 20MFLOPs" in said
    assert "Known networks at this budget: rexnet_100 0." in said
    said = finish(start(run, "--trials", "5"))
    assert "done; --trials 10 adds 5" in said
    assert len(trial_records(load(run))) == 5


def test_a_run_of_something_else_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if not path.name.startswith("study.db")}
    for changed, says in (
        (["--budget", "21MFLOPs", *TINY[2:]], "budget.0: 20MFLOPs → 21MFLOPs"),
        ([*TINY, "--seed", "7"], "seed: 0 → 7"),
        ([*TINY, "--space", "rexnet"], "is another search"),
        ([*TINY, "--epochs", "2"], "epochs"),
    ):
        assert refusal(search.main, [*changed, "--run", str(run)], capsys).find(says) >= 0
    (tmp_path / "note.txt").write_text("mine")
    assert "is no run" in refusal(search.main, [*TINY, "--run", str(tmp_path)], capsys)
    assert "not a file" in refusal(search.main, [*TINY, "--run", str(tmp_path / "note.txt")], capsys)
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if not path.name.startswith("study.db")}


def refusal(main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command refuses: an InputError, or argparse's own with exit code 2."""
    capsys.readouterr()
    with pytest.raises((InputError, SystemExit)) as refused:
        main(arguments)
    said = str(refused.value)
    if isinstance(refused.value, SystemExit):
        assert refused.value.code == 2
        said = capsys.readouterr().err.strip()
    assert said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--budget", "banana"], "as in 300MFLOPs"),
        (["--budget", "300"], "no unit"),
        (["--budget", "-300MFLOPs"], "budget '-300MFLOPs'"),
        (["--budget", "-.3"], "budget '-.3'"),
        (["--budget=-300MFLOPs"], "as in 300MFLOPs"),
        (["--budget", "1kFLOPs"], "cannot be met: networks of mobile.yaml cost"),
        (["--budget", "5MFLOPs"], "; it can with --resolution 160 or --space mobile_small"),
        (["--budget", "5MFLOPs", "--quiet"], "; it can with --resolution 160 or --space mobile_small"),
        ([], "--budget"),
        (
            ["--budget", "300MFLOPs", "--space", "nowhere"],
            "all, convnext, fast, mcu, mobile, mobile_small, mobile_wide, regnet, resnet, rexnet",
        ),
        (["--budget", "300MFLOPs", "--sampler", "luck"], "random, tpe, gp"),
        (["--budget", "300MFLOPs", "--trials", "0"], "trials: at least 1"),
        (["--budget", "300MFLOPs", "--trials", "many"], "invalid int"),
        (["--budget", "300MFLOPs", "--epochs", "-1"], "epochs: at least 1"),
        (["--budget", "300MFLOPs", "--time-limit", "soon"], "time-limit 'soon': 90s, 30m or 2h"),
        (["--budget", "300MFLOPs", "--trial-timeout", "0s"], "trial-timeout '0s': 90s, 30m or 2h"),
        (["--budget", "300MFLOPs", "--device", "tpu"], "invalid choice"),
        (["--budget", "300MFLOPs", "--band", "0"], "band"),
        (["--budget", "300MFLOPs", "--fix", "stage3.block=mbconf"], "stage3.block"),
        (["--budget", "300MFLOPs", "--without", "sillu"], "no free value"),
        (["--budget", "300MFLOPs", "--deploy", "edge"], "one of edgetpu, mcu, mobile is accepted"),
        (["--budget", "300MFLOPs", "--deploy", "mcu", "--fix", "stem.act=silu"], "deploy mcu: activation silu"),
        (
            ["--budget", "300MFLOPs", "--resolution", "8", "--fix", "smallest_map=1"],
            "resolution: at least the total stride",
        ),
        (["--budget", "300MFLOPs", "--num-classes", "0"], "num-classes: at least 1"),
        (["--budget", "300MFLOPs", "--num-classes", "9"], "num-classes: at least 10, the classes of digits, not 9"),
        (["--budget", "300MFLOPs", "--images", "19"], "images: at least 20, two of each class of digits, not 19"),
        (["--budget", "300MFLOPs", "--train-resolution", "1"], "train-resolution: at least 2, not 1"),
        *(
            (["--budget", "300MFLOPs", "--dry-run", "--ray-address", address], f"ray-address '{address}': HOST:PORT,")
            for address in ("head", "head:port", "http://head:8265", "ray://head", "")
        ),
        (["--budget", "300MFLOPs", "--gpus-per-trial", "0"], "gpus-per-trial: auto, a part above 0"),
        (["--budget", "300MFLOPs", "--gpus-per-trial", "half"], "auto or a number is accepted, not 'half'"),
        (["--budget", "300MFLOPs", "--gpus-per-trial", "1.5"], "or a whole number is accepted, not 1.5"),
        (["--budget", "300MFLOPs", "--colour"], "no such option --colour"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refusal(search.main, arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_the_process_exits_with_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nas.search", "--budget", "banana"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("nas.search: budget 'banana'")


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot be written" in refusal(search.main, [*TINY, "--quiet", "--run", str(blocked / "run")], capsys)


def test_a_name_that_needs_the_network_is_refused_soon(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With a network this says that there is no such dataset; without one, that the hub cannot be reached."""
    begun = time.monotonic()
    arguments = [*TINY, "--quiet", "--run", str(tmp_path / "r"), "--dataset", "nobody-at-all/no-such-dataset"]
    assert "nobody-at-all/no-such-dataset" in refusal(search.main, arguments, capsys)
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "r").exists()  # so that the command may be corrected


def test_a_run_whose_study_is_gone_is_not_begun_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "r"
    with folder.lock_run(run, search_options.config_from_args(search_options.parser().parse_args(TINY))):
        (run / "trials.csv").write_text("trial,accuracy\n0,0.9\n1,0.8\n")
        (run / "study.db").touch()
    said = refusal(search.main, [*TINY, "--quiet", "--run", str(run)], capsys)
    assert "its study is gone, with the 2 trials of trials.csv" in said
    assert (run / "trials.csv").read_text().endswith("0.8\n")


def test_a_start_that_a_signal_ends_before_there_are_trials_refuses_no_other_command(tmp_path: Path) -> None:
    run, config = tmp_path / "r", search_options.config_from_args(search_options.parser().parse_args(TINY))

    def stop(trials: int, half_made: bool = False) -> None:
        with folder.lock_run(run, config):
            if half_made:
                storage.database(folder.study_location(run, "", None))  # tables, and no study yet
                raise signals.StoppedError(signal.SIGTERM)
            study = open_study(run, config)
            for _ in range(trials):
                study.ask()
            study.close()
            raise signals.StoppedError(signal.SIGTERM)

    with pytest.raises(signals.StoppedError):
        stop(0)
    assert not run.exists()
    with pytest.raises(signals.StoppedError):
        stop(0, half_made=True)
    assert not run.exists()
    with pytest.raises(signals.StoppedError):
        stop(1)
    assert len(load(run).trials) == 1


def test_a_start_that_fails_with_trials_keeps_them(tmp_path: Path) -> None:
    run, config = tmp_path / "r", search_options.config_from_args(search_options.parser().parse_args(TINY))

    def fail() -> None:
        with folder.lock_run(run, config):
            study = open_study(run, config)
            study.ask()
            study.close()
            raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        fail()
    assert len(trial_records(load(run))) == 1  # though there is no trials.csv yet


def test_nothing_else_is_written_to_the_folder_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "r"
    with folder.lock_run(run, search_options.config_from_args(search_options.parser().parse_args(TINY))):
        opened_study = open_study(run, search_options.config_from_args(search_options.parser().parse_args(TINY)))
        opened_study.ask()
        opened_study.close()
    before = sorted(run.iterdir())
    training = ["rexnet_100", "--dataset", "digits", "--out", str(run)]
    assert "is the folder of a search" in refusal(train.main, training, capsys)
    assert "is the folder of a search" in refusal(export.main, [str(run), "--trial", "0", "--out", str(run)], capsys)
    after = [path for path in run.iterdir() if path.name not in ("study.db-shm", "study.db-wal")]  # of who reads it now
    assert sorted(after) == before


def test_dry_run_plans_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main([*TINY, "--dry-run", "--run", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().out
    assert "plan: 4 trials (1 textbook network, 1 random control) of up to 1 epoch, " in said
    assert re.search(
        r"about 0:\d\d:\d\d: reading .*starting Ray 0:00:10, trials .*; 0:.* where no trial is stopped early", said
    )
    assert not (tmp_path / "r").exists()


def test_one_search_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = search_options.config_from_args(search_options.parser().parse_args(TINY))
    with folder.lock_run(tmp_path / "r", config):
        said = refusal(search.main, [*TINY, "--quiet", "--run", str(tmp_path / "r")], capsys)
    assert "another search is running in it" in said


def test_a_run_keeps_its_recipe_when_defaults_change(tmp_path: Path) -> None:
    config = search_options.config_from_args(search_options.parser().parse_args([*TINY, "--dataset", "digits"]))
    run = tmp_path / "r"
    with folder.lock_run(run, config):
        pass
    kept = yaml.safe_load((run / "config.yaml").read_text())
    recipe = kept["identity"]["train"]
    assert (recipe["momentum"], kept["identity"]["data"]["validation"]) == (0.9, 0.2), "at their defaults, and there"
    assert SearchConfig.load(run) == config
    recipe["momentum"] = 0.8  # as if that had been the default
    (run / "config.yaml").write_text(yaml.safe_dump(kept))
    assert search.main([*TINY, "--quiet", "--dry-run", "--run", str(run)]) == 0
    old = Run.config_of(run)
    assert old is not None
    assert resume.carry_on(search_options.parser().parse_args(TINY), run, old).identity.train.momentum == 0.8


def test_export_writes_what_builds(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "best"
    assert export.main([str(run), "--out", str(out)]) == 0
    assert Arch.load(out / "arch.yaml") == Arch.load(run / "best.yaml")
    assert {path.name for path in out.iterdir()} == {"arch.yaml", "model.py", "card.md"}
    card = (out / "card.md").read_text()
    assert "The budget is 20MFLOPs" in card
    assert f"{cost(Arch.load(out / 'arch.yaml')).macs:,}" in card
    assert "after 1 epoch of brief training on digits (complete). It is of 287 images" in card
    assert "    python -m nas.search --budget 20MFLOPs" in card
    assert subject(str(out)) == Subject("best", Arch.load(run / "best.yaml"), DataConfig(spare=True))
    assert subject(str(run)) == Subject("run", Arch.load(run / "best.yaml"), DataConfig(spare=True))
    assert export.main([str(run), "--out", str(out), "--trial", "1"]) == 0
    assert Arch.load(out / "arch.yaml").digest == load(run).trials[1].user_attrs["digest"]
    assert "0 to" in refusal(export.main, [str(run), "--out", str(tmp_path / "new"), "--trial", "99"], capsys)
    assert "no run folder" in refusal(export.main, [str(tmp_path), "--out", str(tmp_path / "new")], capsys)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(export.main, [str(run), "--out", str(tmp_path / "file" / "x")], capsys)
    Study.open(tmp_path / "empty", Space.load("rexnet"), Budget.parse("1GFLOPs"))
    assert "no trial is complete" in refusal(
        export.main, [str(tmp_path / "empty"), "--out", str(tmp_path / "new")], capsys
    )


def test_dashboard_serves_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = "18089"
    command = [sys.executable, "-m", "nas.dashboard", str(run), "--port", port]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    try:
        studies = fetched(f"http://127.0.0.1:{port}/api/studies", process)
        assert f'"study_name": "{run.name}"' in studies
        assert "cannot listen" in refusal(dashboard.main, [str(run), "--port", port], capsys)
    finally:
        process.terminate()
        process.communicate()
    assert "no run folder" in refusal(dashboard.main, [str(run.parent)], capsys)
    assert "port: 1 to 65535" in refusal(dashboard.main, [str(run), "--port", "0"], capsys)


def fetched(url: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_show_and_describe(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    assert searchspace_main(["show", str(run / "best.yaml")]) == 0
    said = capsys.readouterr().out
    assert f"{cost(Arch.load(run / 'best.yaml')).macs:,}" in said
    assert searchspace_main(["describe", "rexnet", "--budget", "300MFLOPs", "--points", "500"]) == 0
    assert "schedule.kind: linear, piecewise, stagewise" in capsys.readouterr().out
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(Space.load("rexnet").data))
    assert "a space, not a network" in refusal(searchspace_main, ["show", str(space)], capsys)
    assert "no such file" in refusal(searchspace_main, ["show", "nothing.yaml"], capsys)


@pytest.mark.slow
def test_a_search_within_milliseconds(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = finish(start(folder, "--budget", "8ms"))
    assert "pred. ms" in said
    assert "best networks within 20MFLOPs and 8ms" in said
    table = pd.read_csv(folder / "trials.csv")
    assert len(table) == 4
    assert (table["predicted_ms"] <= 8).all()
    assert (table[["predicted_ms", "measured_ms"]] > 0).all(axis=None)


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--epochs", "2")
    wait_until(folder, 1, process)
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    children = {pid: parent for pid, parent, _ in rows}

    def ours(pid: str) -> bool:
        while pid in children and pid != "1":
            if pid == str(process.pid):
                return True
            pid = children[pid]
        return False

    workers = [pid for pid, _, name in rows if "Worker" in name and name.startswith("ray::") and ours(pid)]
    assert workers
    os.kill(int(workers[0]), signal.SIGKILL)
    finish(process)
    assert [trial.state for trial in trial_records(load(folder))].count("running") == 0
    trials = trial_records(load(folder))
    assert len(trials) == len({trial.digest for trial in trials}) == 4
    assert {trial.state for trial in trials} <= {"complete", "pruned"}


@pytest.mark.slow
def test_early_stopping_on_workers_is_the_rule_of_the_course(tmp_path: Path) -> None:
    """Known networks are whole, nothing is stopped but at the rung, and not before six had been there."""
    folder = tmp_path / "run"
    finish(start(folder, "--epochs", "4", "--trials", "14"))
    trials = trial_records(load(folder))
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    assert {max(trial.curve) for trial in trials if trial.state == "pruned"} == {2}
    assert {max(trial.curve) for trial in trials if trial.state == "complete"} == {4}
    assert {trial.state for trial in trials if trial.role == "baseline" or trial.number < 4} == {"complete"}
    assert sum(trial.state == "pruned" for trial in trials) <= 8
