"""`python -m nas.search --budget 300MFLOPs`: from a budget to a network that builds."""

from __future__ import annotations

from collections.abc import Sequence

from nas.run import search_options
from searchspace import command


def main(arguments: Sequence[str]) -> int:
    args = search_options.parser().parse_args(arguments)

    from nas.run.search import Search, carry_out_command

    words = search_options.without_password(arguments, args.storage)
    args.command = command.line("nas.search", words)
    return carry_out_command(Search(args))


if __name__ == "__main__":
    command.run(main, "nas.search")
