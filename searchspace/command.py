"""What every command shares: one-line errors and exit codes. 0 done, 1 the work failed, 2 the command was wrong."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from rich.console import Console

from searchspace.errors import InputError

FAILED, WRONG, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def console() -> Console:
    """Standard output: prose is wrapped at words in a terminal, and left in one line elsewhere.

    A notebook is no terminal, also for what it runs with `!`: it shows every state of what is drawn over and over.
    Nor are its own widgets used, one for every line.
    """
    terminal = sys.stdout.isatty() and "JPY_PARENT_PID" not in os.environ
    return Console(highlight=False, soft_wrap=not terminal, force_terminal=terminal, force_jupyter=False)


def line(module: str, arguments: Sequence[str]) -> str:
    """The command that was given, as it can be given again in a shell."""
    return shlex.join(["python", "-m", module, *arguments])


def run(main: Callable[[Sequence[str]], int], name: str) -> NoReturn:
    """Call a command's main with the process's arguments and exit with its code; bad input is one line on stderr."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = WRONG
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has gone, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
