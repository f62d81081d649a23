"""Odd names, files of the wrong kind, no rights, no room, no output: every command ends with its work or with one line.

Commands are called as their processes call them (`command.run`), in this process where that is enough. The run has
trials that nobody trained, so that no Ray is needed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from nas.run import folder, search_options
from nas.study.opening import open_study
from nas.trial import Result
from searchspace import command, zoo
from tests.nas.study.test_study import score
from tests.support.paths import ROOT

WORDS = ["--budget", "2MFLOPs", "--space", "rexnet", "--resolution", "32", "--trials", "4", "--no-baselines"]
ODD = "mk[/x] m[bold]y :smile: it's [/]"
LONG = "n" * 300
TIMEOUT_S = 120


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of instant trials."""
    run = tmp_path_factory.mktemp("attacks") / "run"
    args = search_options.parser().parse_args(WORDS)
    args.command = command.line("nas.search", [*WORDS, "--run", str(run)])
    config = search_options.config_from_args(args)
    with folder.lock_run(run, config):
        study = open_study(run, config)
        for _ in range(4):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=score(trial), loss=1.0))
            study.tell(trial, score(trial))
        study.validation_images = 100
        study.alone_ms = {trial.number: 1.0 for trial in study.trials}
        folder.write_results(study, run)
        study.close()
    return run


@pytest.fixture(autouse=True)
def _no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, and never for ever: what waits on a pipe fails."""
    monkeypatch.chdir(tmp_path)
    signal.alarm(TIMEOUT_S)
    yield
    signal.alarm(0)


def copied(finished: Path, to: str | Path) -> Path:
    return Path(shutil.copytree(finished, to))


def attack(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, *words: str | Path) -> Ended:
    """A command as its process runs it; what it raises but SystemExit is the test's failure."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        command.run(import_module(name).main, name.removesuffix(".__main__"))
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, *capsys.readouterr())


def test_paths_are_shown_as_they_are(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To rich they would be markup and a picture."""
    run, name = copied(finished, ODD), ODD
    carried = attack(capsys, monkeypatch, "nas.search", *WORDS, "--run", run)
    assert carried.code == 0, carried.err
    assert f"run {name} carries on: 4 of 4 trials done" in carried.out
    assert f"best network: {name}/best.yaml" in carried.out
    planned = attack(capsys, monkeypatch, "nas.search", *WORDS, "--run", f"{name} new", "--dry-run")
    assert f", in {name} new\n" in planned.out
    assert f"wrote {name}/report.html" in attack(capsys, monkeypatch, "nas.report", run).out
    assert f"wrote {name} out: " in attack(capsys, monkeypatch, "nas.export", run, "--out", f"{name} out").out
    refused = attack(capsys, monkeypatch, "nas.search", *WORDS, "--dataset", name, "--run", f"{name} other")
    assert refused.code == 2
    assert name in refused.err
    shutil.copy(run / "best.yaml", f"{name}.yaml")
    assert attack(capsys, monkeypatch, "searchspace.__main__", "show", f"{name}.yaml").code == 0


def test_names_that_are_too_long_and_files_of_another_kind(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, pipe = copied(finished, "run"), Path("pipe")
    os.mkfifo(pipe)
    zoo("rexnet_100").save("arch.yaml")
    Path("folder").mkdir()
    Path("deep.json").write_text("[" * 100_000)
    wrong: list[tuple[str, Sequence[str | Path]]] = [
        ("nas.search", [*WORDS, "--run", LONG]),
        ("nas.search", [*WORDS, "--dataset", LONG, "--run", "new"]),
        ("nas.search", [*WORDS, "--warm-start", LONG, "--run", "new"]),
        ("nas.search", [*WORDS, "--space", LONG]),
        ("nas.search", [*WORDS, "--latency-table", LONG, "--run", "new"]),
        ("nas.search", [*WORDS, "--space", pipe]),
        ("nas.search", [*WORDS, "--latency-table", pipe, "--run", "new"]),
        ("nas.search", [*WORDS, "--latency-table", "deep.json", "--run", "new"]),
        ("nas.search", [*WORDS, "--latency-table", "folder", "--run", "new"]),
        ("nas.search", [*WORDS, "--run", pipe]),
        ("nas.search", [*WORDS, "--run", "arch.yaml"]),
        ("nas.report", [LONG]),
        ("nas.report", [pipe]),
        ("nas.report", ["folder"]),
        ("nas.dashboard", [LONG]),
        ("nas.export", [LONG, "--out", "out"]),
        ("nas.export", [run, "--out", LONG]),
        ("nas.export", [run, "--out", pipe]),
        ("nas.train", [LONG, "--dataset", "digits"]),
        ("nas.train", [pipe, "--dataset", "digits"]),
        ("nas.train", ["arch.yaml", "--dataset", "digits", "--out", LONG]),
        ("nas.train", ["arch.yaml", "--dataset", "digits", "--out", pipe]),
        ("nas.deploy", [*WORDS, "--run", LONG, "--out", "out"]),
        ("nas.deploy", [*WORDS, "--run", "new", "--out", LONG]),
        ("searchspace.__main__", ["show", LONG]),
        ("searchspace.__main__", ["show", pipe]),
        ("searchspace.__main__", ["show", "folder"]),
        ("searchspace.__main__", ["describe", LONG, "--budget", "1MFLOPs"]),
        ("searchspace.__main__", ["describe", "rexnet", "--budget", "1ms", "--latency-table", "deep.json"]),
        ("searchspace.__main__", ["show", "rexnet_100", "--plot", f"{LONG}/x.png"]),
    ]
    for name, words in wrong:
        ended = attack(capsys, monkeypatch, name, *words)
        assert ended.code == 2, (name, words, ended)
        assert ended.err.count("\n") == 1, (name, words, ended.err)
    assert not Path("new").exists()
    assert not Path("out").exists()


def test_what_is_in_a_run_may_be_of_another_kind(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("best.yaml", "trials.csv"):
        run = copied(finished, f"run without {name}")
        (run / name).unlink()
        (run / name).mkdir()
        for module, words in (("nas.search", [*WORDS, "--run", run]), ("nas.report", [run])):
            ended = attack(capsys, monkeypatch, module, *words)
            assert ended.err.count("\n") <= 1, ended.err
            assert ended.code in (0, 1, 2)
    run = copied(finished, "deep")
    (run / "evidence.json").write_text("[" * 100_000)
    assert "evidence.json: cannot be read" in attack(capsys, monkeypatch, "nas.search", *WORDS, "--run", run).err
    with sqlite3.connect(run / "study.db") as database:
        deep = "'\"" + "[" * 100_000 + "\"'"
        database.execute(f"update trial_user_attributes set value_json = {deep} where key = 'arch'")
    ended = attack(capsys, monkeypatch, "nas.export", run, "--out", "out")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err


def process(script: str, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "", "PY": sys.executable}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        ["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, **settings
    )


def test_no_room_for_a_file_that_is_written(finished: Path) -> None:
    """A file may have 1,024 bytes here, as on a full disk; what SQLite keeps beside a study has more."""
    run = copied(finished, "run")
    before = (run / "config.yaml").read_bytes()
    done = process(f"ulimit -f 1; $PY -m nas.search {' '.join(WORDS)} --quiet --run run")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("nas.search: run/study.db: ")
    assert (run / "config.yaml").read_bytes() == before
    assert not list(run.glob("*.part"))


def test_no_room_for_a_report(finished: Path) -> None:
    """No other command mends that: it is no wrong input."""
    copied(finished, "run")
    done = process("ulimit -f 64; $PY -m nas.report run --out out")
    assert (done.returncode, done.stderr) == (1, "nas.report: out/report.html: File too large\n")
    assert not list(Path("out").iterdir())


LINKS = [
    "log.txt",
    "study.db",
    "study.db-wal",
    "study.db-journal",
    "checkpoints",
    "trials.csv",
    "best.yaml",
    "config.yaml",
]


@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_written_through_a_link(
    name: str, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that a stranger has made, a link may lead to any file or folder of the user's."""
    run, outside = copied(finished, "run"), Path("outside")
    copied(run, outside)
    (outside / "checkpoints").mkdir()
    (outside / "checkpoints" / "mine").write_text("mine")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(Path("..") / outside / name)
    for file in ("trials.csv", "report.html", "trials.parquet"):
        (run / f"{file}.{os.getpid()}.part").symlink_to(Path("..") / outside / "best.yaml")
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in outside.rglob("*")}
    in_place = name in LINKS[:5]
    searched = attack(capsys, monkeypatch, "nas.search", *WORDS, "--quiet", "--run", run)
    assert searched.code == (2 if in_place else 0), searched.err
    assert f"{name}: a file or folder of its own" in searched.err or not in_place
    reported = attack(capsys, monkeypatch, "nas.report", run)
    assert reported.code == (2 if name in LINKS[1:4] else 0), reported.err
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in outside.rglob("*")}
    assert after == before


@pytest.mark.parametrize("name", ["retrained", "retrained/trial-0"])
def test_no_training_is_made_through_a_link(
    name: str, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished, "run")
    Path("outside").mkdir()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(Path("outside").resolve())
    ended = attack(capsys, monkeypatch, "nas.train", run, "--top", "1", "--quiet")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert f"{run}/{name}: a file or folder of its own" in ended.err
    assert not list(Path("outside").iterdir())


def test_an_output_that_is_full_or_closed(finished: Path) -> None:
    copied(finished, "run")
    full = process("$PY -m nas.report run > /dev/full")
    assert (full.returncode, full.stderr) == (1, "nas.report: standard output: No space left on device\n")
    closed = process("$PY -m nas.export run --out out >&- 2>&-")
    assert closed.returncode == 0
    assert Path("out/model.py").is_file()


def test_a_path_that_is_no_text(finished: Path) -> None:
    os.rename(copied(finished, "run"), os.fsdecode(b"r\xffn"))
    done = process("$PY -m nas.report $'r\\xffn'")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def without_rights() -> None:
    """Root without the capabilities by which it reads and writes what is others' (prctl(2), capabilities(7))."""
    drop, dac_override, dac_read_search = 24, 1, 2
    for capability in (dac_override, dac_read_search):
        ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0)


def test_what_is_another_user_s(finished: Path) -> None:
    """All in one process, of a folder that it has no rights in."""
    closed = Path("closed")
    closed.mkdir()
    copied(finished, closed / "run")
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    attacks: list[tuple[str, list[str]]] = [
        ("nas.report", ["closed/run"]),
        ("nas.search", [*WORDS, "--run", "closed/run"]),
        ("nas.search", [*WORDS, "--dataset", "closed/images", "--run", "new"]),
        ("nas.search", [*WORDS, "--warm-start", "closed/run", "--run", "new"]),
        ("nas.search", [*WORDS, "--space", "closed/space.yaml"]),
        ("nas.train", ["rexnet_100", "--dataset", "digits", "--out", "closed/out"]),
        ("nas.train", ["closed/arch.yaml", "--dataset", "digits"]),
        ("nas.export", ["closed/run", "--out", "out"]),
        ("nas.dashboard", ["closed/run"]),
        ("searchspace.__main__", ["show", "closed/arch.yaml"]),
    ]
    script = f"""
import sys
from importlib import import_module
from searchspace import command
for name, words in {attacks!r}:
    sys.argv = [name, *words]
    try:
        command.run(import_module(name).main, name)
    except SystemExit as ended:
        print(name, ended.code)
"""
    root = ROOT
    done = process(f"PYTHONPATH={root} $PY - <<'END'\n{script}\nEND", preexec_fn=without_rights)
    closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    ends = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith(("nas.", "searchspace."))]
    assert ends == ["2"] * len(attacks), done.stdout + done.stderr
    assert done.stderr.count("\n") == len(attacks), done.stderr
