"""`python -m nas.dashboard RUN`: the Optuna dashboard on a run, running or finished."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from nas import study
from searchspace import command
from searchspace.errors import InputError


def parser() -> command.Parser:
    p = command.Parser(prog="nas.dashboard", description=__doc__)
    p.add_argument("run", type=Path, help="run folder of a search")
    p.add_argument("--port", type=int, default=8080)
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    study.load(args.run)
    if not 0 < args.port < 65536:
        raise InputError(f"port: 1 to 65535, not {args.port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((args.host, args.port))
        except OSError as error:
            raise InputError(
                f"{args.host}:{args.port}: cannot listen ({error.strerror}); give another --port"
            ) from None
    command.console().print(f"dashboard of {args.run}: http://{args.host}:{args.port} (Ctrl+C ends it)")

    import optuna_dashboard

    optuna_dashboard.run_server(study.database(args.run), host=args.host, port=args.port)
    return 0


if __name__ == "__main__":
    command.run(main, "nas.dashboard")
