"""One writer in a run folder: threads of one, a second one in the same or another process, and who only looks."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nas.run import folder, search_options
from nas.study import lock
from nas.study.drivers import MissingError
from nas.study.lock import HeldError
from nas.study.opening import open_study
from nas.study.storage import load
from nas.study.study import Study
from nas.trial import Result, Trial
from nas.workers.cluster import Cluster
from searchspace import InputError
from searchspace.space.choices import Options
from tests.nas.study.test_study import BUDGET, SPACE, advance, opened, score
from tests.searchspace.space.test_space import SMALL

CONFIG = search_options.config_from_args(
    search_options.parser().parse_args(["--budget", "100MFLOPs", "--space", "rexnet", "--trials", "4"])
)
HOLDER = """
import sys
from nas.study import Study
from nas.trial import Result
from searchspace import Budget, Space

with Study.open(sys.argv[1], Space.load("rexnet"), Budget.parse("100MFLOPs"), controls=3, seed=1) as study:
    trials = [study.ask(), study.ask()]
    study.report(trials[0], Result(epoch=1, score=0.4))
    print("asked", flush=True)
    sys.stdin.readline()
    print(study.tell(trials[0], 0.9), study.tell(trials[1], 0.8), flush=True)
"""


def held(run: Path, code: str = HOLDER) -> subprocess.Popen[str]:
    """Another process that has asked two trials and waits for a line."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "asked\n"
    return process


def test_threads_ask_different_networks_and_lose_no_score(tmp_path: Path) -> None:
    """Every thread asks, reports and tells while the others do."""
    for repeat in range(2):
        study = opened(tmp_path / str(repeat), sampler="random")

        def work(_: int, study: Study = study) -> list[Trial]:
            trials = []
            for _ in range(16):
                trials.append(study.ask())
                assert study.report(trials[-1], Result(epoch=1, score=0.25))
                assert study.tell(trials[-1], score(trials[-1]))
            return trials

        with ThreadPoolExecutor(4) as pool:
            asked = [trial for trials in pool.map(work, range(4)) for trial in trials]
        assert len({trial.digest for trial in asked}) == len({trial.number for trial in asked}) == 64
        assert {t.number: t.score for t in study.records} == {t.number: score(t) for t in asked}
        assert {o.curve[1] for o in study.records} == {0.25}
        assert sum(trial.role == "control" for trial in asked) == 3
        study.close()


def test_threads_that_interrupt_have_their_networks_asked_again_once(tmp_path: Path) -> None:
    with opened(tmp_path, sampler="random") as study:
        with ThreadPoolExecutor(4) as pool:
            lost = list(pool.map(lambda _: study.ask(), range(8)))
            assert all(pool.map(study.interrupt, lost))
            again = list(pool.map(lambda _: study.ask(), range(8)))
        assert sorted(t.digest for t in again) == sorted(t.digest for t in lost)
        assert study.ask().digest not in {t.digest for t in lost}


def test_two_processes(tmp_path: Path) -> None:
    """The second writer is refused, a reader sees what runs, and the first one's scores are kept."""
    process = held(tmp_path)
    for link in (tmp_path, tmp_path / ".." / tmp_path.name):
        with pytest.raises(InputError, match=f"another search is running in it, process {process.pid}") as refused:
            opened(link)
    assert "Study.read" in str(refused.value)
    with pytest.raises(InputError, match="another search is running"), folder.lock_run(tmp_path, CONFIG):
        pass
    look = Study.read(tmp_path)
    assert [trial.state for trial in look.records] == ["running", "running"]
    assert (look.space.data, str(look.budget)) == (SPACE.data, str(BUDGET))
    with pytest.raises(LookupError):
        _ = look.best
    for write in (look.ask, look.close_abandoned, look.close_interrupted):
        with pytest.raises(InputError, match="opened to be read"):
            write()
    out, _ = process.communicate("go on\n", timeout=60)
    assert out == "True True\n"
    assert look.best.number == 0
    assert [trial.digest for trial in look.front()][-1] == look.best.digest
    assert [(t.state, t.score) for t in look.records] == [("complete", 0.9), ("complete", 0.8)]
    look.close()
    with opened(tmp_path) as study:
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2


def test_of_those_that_open_a_new_folder_at_one_instant_one_has_it(tmp_path: Path) -> None:
    for repeat in range(3):
        start, run = threading.Barrier(4), tmp_path / str(repeat)

        def begin(_: int, start: threading.Barrier = start, run: Path = run) -> Study | str:
            start.wait()
            try:
                return opened(run)
            except HeldError as error:
                return str(error)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(begin, range(4)))
        (study,) = (one for one in found if isinstance(one, Study))
        assert sum("another search is running in it" in str(one) for one in found) == 3
        advance(study, 2)
        study.close()


def test_a_killed_process_leaves_no_lock_and_no_trial_is_lost(tmp_path: Path) -> None:
    process = held(tmp_path)
    process.kill()
    process.communicate()
    with opened(tmp_path) as study:
        assert study.interrupted == {0: None, 1: None}
        assert [study.ask().number, study.ask().number] == [2, 3]
        assert study.interrupted == {0: 2, 1: 3}


FORKING = """
import os, signal, sys, time
from nas.study import Study
from searchspace import Budget, Space

study = Study.open(sys.argv[1], Space.load("rexnet"), Budget.parse("100MFLOPs"), controls=3, seed=1)
if os.fork() == 0:
    time.sleep(120)
print("asked", flush=True)
sys.stdin.readline()
"""


def test_a_fork_that_outlives_its_process_does_not_keep_the_folder(tmp_path: Path) -> None:
    process = held(tmp_path, FORKING)
    forked = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    try:
        with pytest.raises(HeldError):
            opened(tmp_path)
        process.kill()
        process.wait()
        opened(tmp_path).close()
        os.kill(forked, 0)  # it lives
    finally:
        os.kill(forked, 9)
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()


def test_a_fork_may_not_write(tmp_path: Path) -> None:
    study = opened(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            study.ask()
            said = "asked"
        except BaseException as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert "not a fork of it" in os.read(reading, 1000).decode()
    os.close(reading)
    os.close(writing)
    with pytest.raises(HeldError):
        opened(tmp_path)
    advance(study, 1)
    study.close()


def test_a_second_study_of_the_same_process_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    first = opened(tmp_path)
    trial = first.ask()
    with pytest.raises(InputError, match=r"of this process; close\(\) its Study first"):
        opened(tmp_path)
    assert first.tell(trial, 0.5)
    first.close()
    first.close()
    with pytest.raises(InputError, match="the study is closed"):
        first.ask()
    second = opened(tmp_path)
    assert second.finished == 1
    del second
    gc.collect()
    opened(tmp_path).close()


def test_an_opening_that_fails_leaves_no_lock(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(InputError, match="holds another search"):
        opened(tmp_path, controls=3, minimize=["params"])
    opened(tmp_path).close()


def test_no_file_can_be_taken_away_from_under_the_lock(tmp_path: Path) -> None:
    with folder.lock_run(tmp_path / "run", CONFIG):
        (tmp_path / "run" / "log.txt").unlink()
        with pytest.raises(HeldError), lock.lent(tmp_path / "run"):
            pass
        with pytest.raises(InputError, match="another search is running"), folder.lock_run(tmp_path / "run", CONFIG):
            pass


@pytest.mark.parametrize("what", [".", "study.db"])
def test_what_is_moved_away_is_said_and_written_again_once_it_is_back(tmp_path: Path, what: str) -> None:
    run, away = tmp_path / "run", tmp_path / "away"
    with opened(run) as study:
        advance(study, 2)
        trial = study.ask()
        (run / what).rename(away)
        for replaced in (False, True):
            if replaced:
                shutil.copytree(away, run) if what == "." else shutil.copy(away, run / what)
            before = sorted(tmp_path.rglob("*"))
            for write in (study.ask, lambda: study.tell(trial, 0.5), study.close_abandoned, study.open_finals):
                with pytest.raises(MissingError, match=f"{re.escape(str(run / what))} was moved, removed or replaced"):
                    write()
            assert sorted(tmp_path.rglob("*")) == before
        shutil.rmtree(run) if what == "." else (run / what).unlink()
        away.rename(run / what)
        assert study.tell(trial, 0.5)
    with opened(run) as study:
        assert study.finished == 3


def test_a_study_that_was_replaced_is_closed_and_the_other_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "other"
    with opened(other) as study:
        advance(study, 1)
    with opened(tmp_path / "run") as study:
        advance(study, 2)
        (tmp_path / "run" / "study.db").rename(tmp_path / "mine.db")
        shutil.copy(other / "study.db", tmp_path / "run" / "study.db")
    assert (tmp_path / "run" / "study.db").read_bytes() == (other / "study.db").read_bytes()


def test_a_search_lends_its_lock_to_one_study(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with folder.lock_run(run, CONFIG):
        with open_study(run, CONFIG) as study:
            study.ask()
            with pytest.raises(HeldError):
                open_study(run, CONFIG)
        left = open_study(run, CONFIG)
    with pytest.raises(HeldError):  # the study that is left has it still
        open_study(run, CONFIG)
    left.close()
    open_study(run, CONFIG).close()


def test_where_folders_cannot_be_locked_a_file_in_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, where only what is open for writing can be locked."""
    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(9, "Bad file descriptor")
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with opened(tmp_path), pytest.raises(HeldError, match="of another process"):
        opened(tmp_path)
    opened(tmp_path).close()
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, how: flock(os.open(tmp_path, os.O_RDONLY), how))
    with pytest.raises(InputError, match="Bad file descriptor"):
        opened(tmp_path)


def test_a_score_that_comes_too_late_is_lost_loudly(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        first, second = study.ask(), study.ask()
        study.close_interrupted()
        with pytest.warns(UserWarning, match=r"trial 0 is closed \(interrupted\): its accuracy 0.5 of epoch 1 is not"):
            assert not study.report(first, Result(epoch=1, score=0.5))
        with pytest.warns(UserWarning, match=r"trial 1 is closed \(interrupted\): its accuracy 0.9 is not kept"):
            assert not study.tell(second, 0.9)
        third = study.ask()
        assert study.tell(third, 0.5)
        assert study.tell(third, 0.5)
        with pytest.warns(UserWarning, match=r"trial 2 is closed \(complete\): its accuracy 0.7 is not kept"):
            assert not study.tell(third, 0.7)
        assert study.best.number == third.number


def test_a_closed_study_is_one_file(tmp_path: Path) -> None:
    """Also where somebody reads it meanwhile, who keeps the write-ahead file open."""
    look = None
    with opened(tmp_path / "run") as study:
        advance(study, 3)
        look = Study.read(tmp_path / "run")
        assert len(look.records) == 3
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "run" / "study.db", tmp_path / "copy")
    assert len(Study.read(tmp_path / "copy").records) == 3
    look.close()


def test_leftovers_of_killed_processes_go_with_the_next_start(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    CONFIG.save(run)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (run / "artifacts").mkdir()
    parts = [run / f"trials.csv.{dead.pid}.part", run / "artifacts" / f"a.{dead.pid}.part"]
    others = [run / f"best.yaml.{os.getpid()}.part", run / "notes.part", run / f"new.{dead.pid}.part"]
    for path in (*parts, *others):
        path.touch()
        os.utime(path, (0, 0) if path is not others[2] else None)
    with folder.lock_run(run, CONFIG):
        assert not (run / "checkpoints").exists()
        assert not [path for path in parts if path.exists()]
        assert all(path.exists() for path in others)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "a.safetensors").touch()
    with folder.lock_run(run, CONFIG):
        assert (run / "checkpoints" / "a.safetensors").exists()


def test_of_two_searches_that_start_at_one_instant_the_first_keeps_its_configuration(tmp_path: Path) -> None:
    """Both find no run; the second has the folder once the first was killed."""
    run, other = tmp_path / "run", replace(CONFIG, identity=replace(CONFIG.identity, seed=7))
    assert not folder.can_resume(run, CONFIG)
    assert not folder.can_resume(run, other)
    with folder.lock_run(run, CONFIG), open_study(run, CONFIG) as study:
        advance(study, 1)
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(InputError, match="is another search"), folder.lock_run(run, other):
        pass
    assert (run / "config.yaml").read_bytes() == before
    with folder.lock_run(run, CONFIG), open_study(run, CONFIG) as study:
        assert study.finished == 1


def test_ray_keeps_no_handler_on_a_closed_log(tmp_path: Path) -> None:
    logger = logging.getLogger("ray")
    before = logger.handlers
    with folder.lock_run(tmp_path / "run", CONFIG) as log, Cluster(None, "") as cluster:
        cluster.log_to(log)
        cluster.log_to(log)
        logger.error("a worker died")
    assert logger.handlers is before
    assert "a worker died" in (tmp_path / "run" / "log.txt").read_text()


def test_results_are_written_after_every_trial_of_few_and_seldom_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [0.0], []
    monkeypatch.setattr(folder.time, "monotonic", lambda: clock[0])

    def write() -> int:
        clock[0] += len(written) / 1000  # it takes longer and longer
        written.append(clock[0])
        return len(written)

    results = folder.Results(write, logging.getLogger("test"))
    for index in range(folder.SMALL):
        results.update()
        assert len(written) == index + 1
    begun, after = clock[0], len(written)
    while clock[0] < begun + 1000:
        clock[0] += 0.1  # of other work
        results.update()
    assert 5 < len(written) - after < 200
    spent = sum(range(after, len(written))) / 1000
    assert spent <= 1.1 * folder.SHARE * (clock[0] - begun)


def test_every_trial_of_a_run_is_in_its_table(tmp_path: Path) -> None:
    with folder.lock_run(tmp_path / "run", CONFIG) as log, open_study(tmp_path / "run", CONFIG) as study:
        results = folder.Results(lambda: folder.write_results(study, tmp_path / "run"), log)
        for index in range(5):
            advance(study, 1)
            results.update()
            assert len((tmp_path / "run" / "trials.csv").read_text().splitlines()) == index + 2
        assert (tmp_path / "run" / "best.yaml").is_file()
    assert len(load(tmp_path / "run").trials) == 5


def test_spaces_whose_choices_are_equal_are_refused_when_a_study_is_opened(tmp_path: Path) -> None:
    space = type(SPACE)(SMALL, "small")
    for equal in ((6, 6.0), (1, True), (0, 3, False)):
        space.choices["stage1.depth"] = Options(equal)
        with pytest.raises(InputError, match=r"stage1.depth: choices that differ are accepted, and"):
            opened(tmp_path, space=space)


@pytest.mark.parametrize("path", ["", "nul\0x"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="run folder"):
        opened(Path(path) if path else path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="run folder"):
        Study.read(path)
