"""What every command shares: options by their whole names, one line for what is wrong, an output that never fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest
from rich.color import ColorSystem
from rich.table import Table
from rich.text import Text

from nas import __main__ as overview
from nas import deploy, search
from nas.run import search_options
from searchspace import InputError, Space, command
from searchspace.__main__ import main as describe
from tests.support.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "80", "PYTHONUNBUFFERED": ""}
MODULES = [*(f"nas.{name}" for name in overview.COMMANDS), "searchspace.__main__"]


def refusal(main: Callable[[Sequence[str]], int], *arguments: str) -> str:
    with pytest.raises(InputError) as refused:
        main(arguments)
    return str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--buget", "40MFLOPs"], "no such option --buget; did you mean --budget?"),
        (["--buget=40MFLOPs"], "no such option --buget; did you mean --budget?"),
        (["--budget", "40MFLOPs", "--epoch", "2"], "no such option --epoch; did you mean --epochs?"),
        (["--budget", "40MFLOPs", "--zzzzz"], "no such option --zzzzz (see"),
        (
            ["--budget", "40MFLOPs", "--full-epoch", "9"],
            "no such option --full-epoch; nas.deploy, which trains the best network in full, has --full-epochs",
        ),
        (["-b", "40MFLOPs"], "no such option -b"),
        (["--epochs", "2"], "--budget or --target is missing, as in: python -m nas.search --budget 300MFLOPs"),
        (["--budget", "40MFLOPs", "stray"], "unrecognized arguments: stray"),
        (["--budget", "40MFLOPs", "--without", "swish"], "did you mean hard_swish or stagewise?"),
        (["--budget", "40MFLOPs", "--without", "hardswish"], "no free value has it; did you mean hard_swish?"),
        (["--budget", "40MFLOPs", "--storage", "postgresql://me:a@b@db/runs"], "is written %40"),
    ],
)
def test_a_wrong_option_is_named_first_with_the_nearest(arguments: list[str], says: str) -> None:
    assert says in refusal(search.main, *arguments)


def test_a_plan_for_a_device_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["--budget", "2MFLOPs", "--space", "rexnet", "--resolution", "32", "--run", str(tmp_path / "run")]
    assert "PyTorch sees no GPU here" in refusal(search.main, *words, "--dry-run", "--device", "cuda")


@pytest.mark.parametrize("module", MODULES)
def test_no_command_takes_a_part_of_an_option_for_it_and_all_tell_the_version(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main = import_module(module).main
    assert "no such option --versio; did you mean --version?" in refusal(main, "--versio")
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"cnn-budget-search {command.version()}"


def test_an_option_that_a_command_has_is_not_said_to_be_anothers() -> None:
    assert "no such option --full-epoch; did you mean --full-epochs?" in refusal(deploy.main, "--full-epoch", "9")


def test_a_network_is_shown_at_other_pixels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert describe(["show", "rexnet_100", "--resolution", "64", "--num-classes", "10"]) == 0
    assert "64 px, 10 classes" in capsys.readouterr().out
    file = tmp_path / "mine.yaml"
    file.write_text(
        "stem: {width: 8}\nschedule: {kind: linear, start: 8, end: 16}\nstages: [{block: mbconv, depth: 1}]"
    )
    assert describe(["show", str(file), "--resolution", "64"]) == 0
    assert "64 px, 1000 classes" in capsys.readouterr().out
    Space.load(file).arch().save(tmp_path / "arch.yaml")
    said = refusal(describe, "show", str(tmp_path / "arch.yaml"), "--resolution", "64")
    assert said.startswith("resolution: a name of the zoo or a file in stages takes it")
    capsys.readouterr()
    for export in (str(tmp_path), str(tmp_path / "arch.yaml")):
        assert describe(["show", export]) == 0
        assert Space.load(file).arch().digest in capsys.readouterr().out
    (tmp_path / "arch.yaml").unlink()
    assert refusal(describe, "show", str(tmp_path)).endswith("it has no arch.yaml or best.yaml")


def test_the_nearest_name_begins_as_the_given_one_does() -> None:
    assert "the nearest are rexnet_100, rexnet_110" in refusal(describe, "show", "rexnet_10")
    assert "the nearest are mobilenet_v2," in refusal(describe, "show", "mobilnet_v2")


def test_options_of_a_subcommand_are_its_own() -> None:
    main = import_module("searchspace.__main__").main
    assert "no such option --plo; did you mean --plot?" in refusal(main, "show", "rexnet_100", "--plo", "x.png")
    assert "show" in refusal(main, "shwo")


def test_describe_says_how_many_classes_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["describe", "rexnet", "--budget", "2MParams", "--points", "20"]
    smallest = []
    for more, classes in (([], "1,000"), (["--num-classes", "10"], "10")):
        assert describe([*words, *more]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first == f"budget 2MParams for the network as deployed: 224 px, {classes} classes"
        smallest.append(next(line for line in lines if line.strip().startswith("smallest")))
    assert smallest[0] != smallest[1]
    with pytest.raises(InputError, match="num-classes: at least 2, not 1"):
        describe([*words, "--num-classes", "1"])


def test_known_networks_have_as_many_classes_as_those_of_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["describe", "rexnet", "--budget", "2MParams", "--points", "20"]
    found = []
    for classes in ("1000", "5"):  # mobilenet_v3_small has 2.54M parameters with 1,000 classes, 1.52M with five
        assert describe([*words, "--num-classes", classes]) == 0
        found.append("mobilenet_v3_small" in capsys.readouterr().out)
    assert found == [False, True]


def test_describe_says_what_would_meet_a_budget() -> None:
    with pytest.raises(
        InputError, match=r"cannot be met: .*; nas\.search can with --resolution 160 or --space mobile_s"
    ):
        describe(["describe", "mobile", "--budget", "5MFLOPs", "--points", "20", "--num-classes", "10"])


def test_the_overview_names_every_command_and_forwards(capsys: pytest.CaptureFixture[str]) -> None:
    assert overview.main([]) == 0
    said = capsys.readouterr().out
    folder = Path(str(overview.__file__)).parent
    runnable = {path.stem for path in folder.glob("*.py") if "command.run(main" in path.read_text()} - {"__main__"}
    assert runnable == set(overview.COMMANDS)
    assert all(f"python -m nas.{name} " in said for name in runnable)
    assert "no such command serach; did you mean search?" in refusal(overview.main, "serach")
    assert "did you mean --budget?" in refusal(overview.main, "search", "--buget", "1")


def test_the_commands_that_are_shown_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    overview.main([])
    said, makefile = capsys.readouterr().out, (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = [line.split()[2:] for line in said.splitlines() if " --budget " in line]
    demo = makefile.partition("SEARCH = $(if $(BUDGET),--budget $(BUDGET),")[2].partition(")")[0]
    assert [words[0] for words in shown] == ["nas.search", "nas.deploy"]
    first = search_options.parser().parse_args(shown[0][1:])
    assert f"python -m nas.report runs/{search_options.default_name(first)}\n" in said
    assert shown[0][1:] == demo.split()
    assert deploy.parser().parse_args(shown[1][1:]).out == Path("deploy")


def ran(script: str, *before: str) -> subprocess.CompletedProcess[str]:
    """A main that is this script, as a process of its own."""
    code = f"import sys, os\nfrom searchspace import command\ndef main(words):\n    {script}\ncommand.run(main, 'it')"
    return subprocess.run([sys.executable, "-c", code, *before], capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("script", "word", "code", "says"),
    [
        ("raise PermissionError(13, 'Permission denied', words[0])", "run", 2, "it: run: Permission denied"),
        ("raise OSError(36, 'File name too long', os.path.abspath(words[0]))", "a", 2, "/a: File name too long"),
        ("raise PermissionError(13, 'Permission denied', '/no/such/cache')", "run", 1, "it: /no/such/cache: Perm"),
        ("raise OSError(28, 'No space left on device', words[0])", "run", 1, "it: run: No space left on device"),
        ("raise OSError(28, 'No space left on device')", "run", 1, "it: No space left on device"),
        ("raise IsADirectoryError(21, 'Is a directory', 'run/best.yaml')", "--run=run", 1, "it: run/best.yaml: Is a"),
        ("print(words[0].encode('utf-8'))", b"\xff\xfe".decode("utf-8", "surrogateescape"), 2, "names in UTF-8"),
        (
            "os.chdir(os.mkdir('/tmp/nas-gone') or '/tmp/nas-gone'); os.rmdir(os.getcwd()); os.getcwd()",
            "x",
            1,
            "is gone; cd",
        ),
        ("raise KeyboardInterrupt", "run", 130, "it: interrupted"),
        ("raise MemoryError", "run", 1, "it: out of memory (MemoryError); the machine has no more"),
        ("raise RuntimeError('std::bad_alloc')", "run", 1, "it: out of memory (std::bad_alloc)"),
        ('raise RuntimeError("can\'t start new thread")', "run", 1, "it: no other thread may begin here"),
        ("raise ImportError('x.so: failed to map segment from shared object')", "run", 1, "it: out of memory (x.so"),
    ],
)
def test_what_the_system_refuses_is_one_line(script: str, word: str, code: int, says: str) -> None:
    done = ran(script, word)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert "ImportError: no such thing" in ran("raise ImportError('no such thing')").stderr


def test_too_little_memory_for_the_libraries_is_said_before_they_are_loaded() -> None:
    """With 0.45 GB NumPy's OpenBLAS asked for more for ever."""
    done = shell("ulimit -v 450000; $PY -m nas.report nothing")
    assert done.returncode == 1
    assert done.stderr == (
        b"nas.report: out of memory (1 GB of addresses are needed at least); ulimit -v allows 0.5 GB\n"
    )


def test_what_others_wrote_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A title that is set, a line that is hidden, a name that is read backwards; rich's own colours stay."""
    text = "a\x1b]0;mine\x07b\x1b[2Kc\u202etxt.exe\x9bd é 漢字"
    shown = r"a\x1b]0;mine\x07b\x1b[2Kc\u202etxt.exe\x9bd é 漢字"
    console = command.console(width=200)
    table = Table("name")
    table.add_row(text)
    for drawn in (text, Text(text)):
        console.print(drawn)
    console.print(table)
    command.complain(text)
    command.fail("it", text)
    out, err = capsys.readouterr()
    assert out.count(shown.replace(r"\x07", "")) == 2, "rich leaves the bell out"
    assert not set(out) & set("\x1b\x07\x9b\u202e")
    assert err.count(shown) == 2
    coloured = command.console(width=200)
    coloured._force_terminal, coloured._color_system = True, ColorSystem.TRUECOLOR
    coloured.print(Text("red", style="red"))
    assert "\x1b[31mred" in capsys.readouterr().out


def shell(text: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    script = f"export PY={sys.executable}; {text}"
    return subprocess.run(["bash", "-c", script], capture_output=True, env={**ENVIRONMENT, **environment})


@pytest.mark.parametrize(
    ("redirected", "code", "says"),
    [
        ("> /dev/full", 1, b"searchspace: standard output: No space left on device\n"),
        ("--help > /dev/full", 1, b""),
        (">&-", 0, b""),
        ("2>&-", 0, b""),
        ("<&- >&- 2>&-", 0, b""),
        ("| head -1 > /dev/null; exit ${PIPESTATUS[0]}", None, b""),
    ],
)
def test_an_output_that_cannot_be_written(redirected: str, code: int | None, says: bytes) -> None:
    done = shell(f"$PY -m searchspace keys stem {redirected}")
    assert done.stderr == says
    assert code is None or done.returncode == code


@pytest.mark.parametrize(
    "words", ["search --budget 3MFLOPs --run", "export rexnet_100 --out", "train rexnet_100 --out"]
)
def test_an_empty_path_is_none(words: str) -> None:
    """As a shell gives it for a variable that is not set: the current folder is not meant."""
    done = shell(f'$PY -m nas.{words} "$UNSET"')
    assert done.returncode == 2
    assert b": a path is accepted, not an empty text" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_lacks_characters(encoding: str) -> None:
    done = shell(
        "$PY -m searchspace show rexnet_100 && $PY -m searchspace describe rexnet --budget 1kFLOPs --points 9",
        PYTHONIOENCODING=encoding,
    )
    assert b"Traceback" not in done.stderr
    assert b"total" in done.stdout
    assert b"cannot be met" in done.stderr
