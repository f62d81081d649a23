"""What every command shares: options, one-line errors, exit codes, and an output that takes every character.

0 done, 1 the work failed, 2 the command was wrong; 130, 143, 129: ended by SIGINT (Ctrl-C), SIGTERM, SIGHUP.
"""

from __future__ import annotations

import argparse
import atexit
import difflib
import errno
import gc
import io
import os
import re
import resource
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from searchspace.errors import InputError, harmless
from searchspace.signals import StoppedError, end_at_once, ending, exit_code, say

FAILED, WRONG = 1, 2
DISTRIBUTION = "cnn-budget-search"
MISSING = "the following arguments are required: "
# What is wrong with a path itself, and not with the disk that it is on.
WRONG_PATH = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
# What torch and the loader of libraries say where they are refused memory, as errors of many kinds.
NO_MEMORY = ("bad_alloc", "allocate memory", "failed to map segment")
LEAST_MEMORY = 1e9
NO_THREAD = "can't start new thread"  # Python's words
NOWHERE: Mapping[str, str] = MappingProxyType({})
STREAMS = ("stdin", "stdout", "stderr")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line. An option is accepted by its whole name alone, and an unknown one
    is named before anything else that is wrong. `example` is shown where something is missing; `elsewhere` says of
    options that another command has which one that is."""

    def __init__(self, *, example: str = "", elsewhere: Mapping[str, str] = NOWHERE, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.example, self.elsewhere = example, elsewhere
        self.add_argument("--version", action="version", version=f"{DISTRIBUTION} {version()}", help="show the version")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = self._join(sys.argv[1:] if args is None else args)
        for word in self._options_in(words):
            if word not in self._option_string_actions:
                near = difflib.get_close_matches(word, [*self.elsewhere, *self._option_string_actions], 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                if near and near[0] not in self._option_string_actions:
                    meant = f"; {self.elsewhere[near[0]]} has {near[0]}"
                self.error(f"no such option {word}{meant}")
        return super().parse_known_args(words, namespace)

    def _join(self, words: Sequence[str]) -> list[str]:
        """The words with `--budget -3MFLOPs` as `--budget=-3MFLOPs`: argparse takes the value for another option, and
        says that there is none. No option begins with a digit."""
        joined: list[str] = []
        for word in words:
            action = self._option_string_actions.get(joined[-1]) if joined else None
            if action and action.nargs is None and re.match(r"-\.?[0-9]", word):
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined

    def _options_in(self, words: Sequence[str]) -> Iterator[str]:
        """The words that argparse takes for options of this parser, each without its value."""
        for word in words:
            if word == "--" or (self._subparsers and not word.startswith("-")):  # what follows is a command's
                return
            if re.match(r"-(-|[A-Za-z])", word) and " " not in word:
                yield word.partition("=")[0]

    def error(self, message: str) -> NoReturn:
        if message.startswith(MISSING) and self.example:
            raise InputError(f"{message.removeprefix(MISSING)} is missing, as in: {self.example} (see --help)")
        raise InputError(f"{message} (see --help)")


def version() -> str:
    """This project's version as it is installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "of a checkout"


class Terminal(Console):
    """A console on which names and texts of others, as in a folder that was sent, are shown and command nothing."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


def console(width: int | None = None) -> Console:
    """Standard output: prose is wrapped at words in a terminal, and left in one line elsewhere. Text is shown as it
    is: a path may hold `[b]` or `:x:`, which are markup to rich.

    A notebook is no terminal, also for what it runs with `!`: it shows every state of what is drawn over and over.
    Nor are its own widgets used, one for every line.
    """
    terminal = sys.stdout.isatty() and "JPY_PARENT_PID" not in os.environ
    return Terminal(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
        force_terminal=terminal,
        force_jupyter=False,
        width=width,
    )


def path(text: str) -> Path:
    """A path that an option gives; an empty text, such as a shell's variable that is not set, is none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is accepted, not an empty text")
    return Path(text)


def line(module: str, arguments: Sequence[str]) -> str:
    """The command that was given, as it can be given again in a shell."""
    return shlex.join(["python", "-m", module, *arguments])


def fail(name: str, reason: str) -> int:
    """Say on standard error why a command failed; returns its exit code."""
    print(f"{name}: {harmless(reason)}", file=sys.stderr)
    return FAILED


def run(main: Callable[[Sequence[str]], int], name: str) -> NoReturn:
    """Call a command's main with the process's arguments and exit with its code.

    Bad input is one line on stderr, and so is what the system refuses: files without rights, a full disk.
    """
    settle_streams()
    atexit.register(gc.freeze)  # else all that was imported is searched for cycles at the exit: 0.6 s of a processor
    arguments = sys.argv[1:]
    code: Any = FAILED

    def end(number: int) -> None:
        say(f"{name}: interrupted")
        raise StoppedError(number)

    try:
        check_memory()
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # imports are done: see nas/__init__.py
        with ending(end):
            code = main(check(arguments))
        sys.stdout.flush()
    except SystemExit as ended:  # --help and --version
        code = ended.code
    except InputError as error:
        complain(f"{name}: {error}")
        code = WRONG
    except KeyboardInterrupt as stopped:
        end_at_once()
        if not isinstance(stopped, StoppedError):  # which has said so
            complain(f"{name}: interrupted")
        code = exit_code(stopped)
    except (MemoryError, RuntimeError, ImportError) as error:
        if NO_THREAD in str(error):
            complain(f"{name}: no other thread may begin here (ulimit -u, or pids.max of a cgroup or container)")
        elif not lacks_memory(error):
            raise
        else:
            complain(f"{name}: out of memory ({str(error) or type(error).__name__}); {memory_limit()}")
    except BrokenPipeError:  # the reader of a pipe has gone, as in `… | head`
        pass
    except OSError as error:
        where = error.filename if output_works() else "standard output"
        if where is None and error.errno == errno.ENOENT:  # of a path that is none: where we are
            where = "the current folder is gone; cd to another"
        complain(": ".join(str(part) for part in (name, where, error.strerror or error) if part is not None))
        code = WRONG if blames(error, arguments) else FAILED
    sys.exit(code if output_works() else FAILED)


def lacks_memory(error: Exception) -> bool:
    """Whether memory was refused: to Python, to torch, or to what loads either's libraries."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)


def check_memory() -> None:
    """`MemoryError` under a limit with which no libraries can be loaded: OpenBLAS, which is NumPy's, tries for ever."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= allowed < LEAST_MEMORY:
        raise MemoryError(f"{LEAST_MEMORY / 1e9:.0f} GB of addresses are needed at least")


def memory_limit() -> str:
    """What limits a process's memory."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return "the machine has no more" if allowed < 0 else f"ulimit -v allows {allowed / 1e9:.1f} GB"


def check(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments; `InputError` for one that is no text, which no file of a run could hold."""
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="replace").decode()
            raise InputError(f"{shown}: names in UTF-8 are accepted, in a locale of UTF-8") from None
    return arguments


def settle_streams() -> None:
    """Standard streams that are closed lead nowhere; what an output's encoding lacks becomes a question mark."""
    for name in STREAMS:
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the closed stream's own number, which is the lowest
            os.set_inheritable(nowhere, True)
            setattr(sys, name, open(nowhere, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def complain(text: str) -> None:
    """One line on stderr, where that can be written."""
    with suppress(OSError):
        print(harmless(" ".join(text.splitlines())), file=sys.stderr, flush=True)


def output_works() -> bool:
    """Whether standard output takes what was printed. Where it does not, the rest leads nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def blames(error: OSError, arguments: Sequence[str]) -> bool:
    """Whether an argument names a path that cannot be used, or one in it or above it."""
    if error.errno not in WRONG_PATH or not isinstance(error.filename, str):
        return False
    path = Path(os.path.abspath(error.filename))
    words = [word.partition("=")[2] if word.startswith("--") else word for word in arguments]
    wanted = [Path(os.path.abspath(word)) for word in words if word]
    within = error.errno != errno.EISDIR and any(one in path.parents for one in wanted)  # else what is in it is wrong
    return within or any(path in (one, *one.parents) for one in wanted)
