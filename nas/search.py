"""`python -m nas.search --budget 300MFLOPs`: from a budget to a network that builds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nas.run import search_options
from searchspace import command


def command_line(words: Sequence[str], args: argparse.Namespace) -> str:
    """The command of these words, as a run keeps it: without a password."""
    return command.line("nas.search", search_options.without_password(words, args.storage))


def main(arguments: Sequence[str]) -> int:
    args = search_options.parser().parse_args(arguments)

    from nas.run.search import Search, carry_out_command

    args.command = command_line(arguments, args)
    return carry_out_command(Search(args))


if __name__ == "__main__":
    command.run(main, "nas.search")
