"""A fuzzer of run folders: from a seed, a thousand changed copies of one small run × the commands that open it.

None may raise, wait for ever, fail without a reason in one line, or change a file outside the folder. Commands are
called as their processes call them (`command.run`), in this process, without what trains, times and serves.

    FUZZ_SEED=7 FUZZ_CASES=3000 python -m pytest -m slow tests/system/test_fuzzed_runs.py

FUZZ_FIRST is the number of the first case.
"""

from __future__ import annotations

import ctypes
import io
import os
import random
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from nas import train
from nas.bundle import bundle
from nas.full_training import estimate
from nas.run import environment, folder, latencies, search_options
from nas.run.run import TABLE, Run
from nas.run.search import taught_by
from nas.study import warm_start
from nas.study.opening import open_study
from nas.trial import Result
from nas.views import figures, server
from nas.workers import tuner
from nas.workers.cluster import Cluster
from searchspace import command
from tests.nas.study.test_study import score
from tests.searchspace.costs.test_latency import everything
from tests.support.mutations import mutated

SEED, CASES = int(os.environ.get("FUZZ_SEED", "0")), int(os.environ.get("FUZZ_CASES", "1000"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
HANGS_S = 20
WORDS = ["--budget", "2MFLOPs", "--space", "rexnet", "--resolution", "32", "--trials", "5", "--no-baselines"]
COMMANDS: dict[str, tuple[str, Sequence[str]]] = {
    "report": ("nas.report", ["RUN"]),
    "report elsewhere": ("nas.report", ["RUN", "--out", "out"]),
    "export": ("nas.export", ["RUN", "--out", "out"]),
    "export a trial": ("nas.export", ["RUN", "--trial", "1", "--out", "out"]),
    "export a training": ("nas.export", ["RUN/retrained/trial-0", "--out", "out"]),
    "dashboard": ("nas.dashboard", ["RUN", "--port", "8123"]),
    "search": ("nas.search", [*WORDS, "--quiet", "--run", "RUN"]),
    "search on": ("nas.search", [*WORDS, "--trials", "9", "--quiet", "--run", "RUN"]),
    "warm start": ("nas.search", [*WORDS, "--quiet", "--warm-start", "RUN", "--run", "new"]),
    "train": ("nas.train", ["RUN", "--out", "out", "--dry-run"]),
    "train several": ("nas.train", ["RUN", "--top", "2", "--out", "out", "--dry-run"]),
    "train the file": ("nas.train", ["RUN/best.yaml", "--out", "out", "--dry-run"]),
    "show": ("searchspace.__main__", ["show", "RUN/best.yaml"]),
    "table": ("nas.search", [*WORDS, "--quiet", "--latency-table", f"RUN/{TABLE}", "--run", "new"]),
}
PAGES = ("/", "/api/studies", "/api/studies/1", "/artifacts/1/1/DIGEST")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with everything that a run folder may have; nobody trained its trials, one network is."""
    here = tmp_path_factory.mktemp("fuzz")
    run = here / "run"
    args = search_options.parser().parse_args(WORDS)
    args.command = command.line("nas.search", [*WORDS, "--run", str(run)])
    config = search_options.config_from_args(args)
    with folder.lock_run(run, config) as log:
        everything(config.space, (1e-3,)).save(run / TABLE)
        environment.note(run)
        with open_study(run, config) as study:
            for number in range(5):
                trial = study.ask()
                study.report(trial, Result(epoch=1, score=score(trial) / 2, loss=1.0))
                study.report(trial, Result(epoch=2, score=score(trial), loss=1.0))
                study.tell(trial, score(trial), pruned=number == 3)
            study.interrupt(study.ask())
            study.validation_images = 287  # of digits
            study.alone_ms = dict.fromkeys(range(3), 1.0)
            folder.write_results(study, run)
        log.info("trial 0 complete")
    warm_start.save(taught_by([run], config), run)
    best = Run.open(run).trials[0]
    out = run / "retrained" / f"trial-{best.number}"
    best.arch.save(here / "arch.yaml")
    words = [str(here / "arch.yaml"), "--dataset", "digits", "--images", "100", "--epochs", "1", "--out", str(out)]
    assert train.main([*words, "--quiet"]) == 0
    return run


@pytest.fixture
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what trains, times, serves, or starts processes: it is not what opens a folder."""

    def nothing(*arguments: Any, **settings: Any) -> str:
        return ""

    monkeypatch.setattr(tuner, "run", lambda *arguments: "stopped")
    monkeypatch.setattr(Cluster, "begin", nothing)
    monkeypatch.setattr(latencies, "time_best", nothing)
    monkeypatch.setattr(latencies, "with_layer_times", lambda space, *others: space)
    monkeypatch.setattr(estimate, "sentences", lambda *arguments: iter(()))
    monkeypatch.setattr(bundle, "try_files", lambda *arguments: bundle.Tried({}, {"model.py": 1.0}))
    monkeypatch.setattr(figures, "svg", lambda figure, titles=None: pyplot.close(figure) or "")
    monkeypatch.setattr(server, "listening", lambda app, host, port: Visited(app))


class Visited:
    """In place of a server: the application is asked for some pages, as a browser asks."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app

    def __enter__(self) -> Visited:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def serve_forever(self) -> None:
        for path in PAGES:
            said: list[str] = []
            environ = {
                **{"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "HTTP_HOST": "127.0.0.1:8123"},
                **{"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8123", "wsgi.url_scheme": "http"},
                **{"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr},
            }
            b"".join(self.app(environ, lambda status, headers, error=None: said.append(status)))  # noqa: B023
            if said[0].startswith("5"):
                raise AssertionError(f"{path}: {said[0]}")


class HangError(BaseException):
    """A command takes too long."""


@pytest.fixture
def _few_rights() -> Iterator[None]:
    """Root without the capabilities by which it reads and writes what is others' (capset(2), capabilities(7))."""
    version, dac_override, dac_read_search = 0x20080522, 1, 2
    header, kept = (ctypes.c_uint32 * 2)(version, 0), (ctypes.c_uint32 * 6)()
    system = ctypes.CDLL(None)
    assert system.capget(header, kept) == 0
    fewer = (ctypes.c_uint32 * 6)(*kept)
    fewer[0] &= ~(1 << dac_override | 1 << dac_read_search)
    assert system.capset(header, fewer) == 0
    yield
    system.capset(header, kept)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made_outside(here: Path) -> Path:
    """What links lead to: files and a folder that nothing may change."""
    outside = here / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "victim.txt").write_text("mine\n")
    (outside / "folder" / "mine.safetensors").write_text("mine\n")
    return outside


def contents(at: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder, by name: what it is, when it was changed, what it says."""
    found = {}
    for path in [at, *sorted(at.rglob("*"))]:
        status = path.lstat()
        found[str(path)] = status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b""
    return found


def ended(name: str, words: Sequence[str]) -> str:
    """What is wrong with how a command ended, "" if nothing is."""
    out, err = io.StringIO(), io.StringIO()

    def late(number: int, frame: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANGS_S)
    try:
        sys.argv = [name, *words]
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            command.run(import_module(name).main, name.removesuffix(".__main__"))
    except SystemExit as end:
        signal.alarm(0)
        code, said = end.code, err.getvalue()
        if code not in (0, 1, 2) or "Traceback" in said + out.getvalue():
            return f"code {code}: {said[-3000:]}"
        if code and (said.count("\n") != 1 or len(said) > 1000):
            return f"code {code}, no one line: {said[:2000]!r}"
        return ""
    except BaseException:
        signal.alarm(0)
        return traceback.format_exc(limit=-14)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    raise AssertionError


def removed(at: Path) -> None:
    """Take away a folder in which rights were taken away."""
    at.chmod(0o700)
    for child in at.iterdir():
        if child.is_dir() and not child.is_symlink():
            removed(child)
        else:
            child.unlink()
    at.rmdir()


def case(number: int, base: Path, here: Path) -> tuple[str, str]:
    """One changed folder and one command: what they were, and what is wrong, "" if nothing is."""
    rng = random.Random(f"{SEED} {number}")
    name = list(COMMANDS)[number % len(COMMANDS)]
    run = here / f"run{number}"
    shutil.copytree(base, run)
    said = mutated(rng, run, here / "outside")
    before = contents(here / "outside")
    module, words = COMMANDS[name]
    wrong = ended(module, [word.replace("RUN", str(run.relative_to(here))) for word in words])
    if contents(here / "outside") != before:
        wrong += "\nwhat is outside was changed"
        shutil.rmtree(here / "outside")
        made_outside(here)
    for left in (run, here / "out", here / "new"):
        if left.exists():
            removed(left)
    return f"case {number}: {name}, {said}", wrong


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_run_as_it_is(name: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else what is changed would not matter."""
    shutil.copytree(base, tmp_path / "run")
    module, words = COMMANDS[name]
    sys.argv = [module, *(word.replace("RUN", "run") for word in words)]
    with pytest.raises(SystemExit) as end:
        command.run(import_module(module).main, module)
    assert end.value.code == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("_nothing_runs", "_few_rights")
def test_a_changed_run(base: Path, tmp_path: Path) -> None:
    made_outside(tmp_path)
    failed = []
    for number in range(FIRST, FIRST + CASES):
        what, wrong = case(number, base, tmp_path)
        if wrong:
            failed.append(f"{what}\n{wrong}")
    assert not failed, f"{len(failed)} of {CASES} cases of seed {SEED}\n\n" + "\n\n".join(failed)
