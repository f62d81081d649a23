"""`python -m nas.dashboard RUN`: the Optuna dashboard on a run, running or finished, with notes and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from searchspace import command
from searchspace.errors import InputError
from searchspace.registry.plugins import plugin_option

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parser() -> command.Parser:
    p = command.Parser(prog="nas.dashboard", description=__doc__, example="python -m nas.dashboard runs/a")
    p.add_argument("run", type=command.path, help="run folder of a search")
    p.add_argument("--port", type=int, default=8080)
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    plugin_option(p)
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)

    from nas.run.run import Run

    run = Run.open(args.run)
    if not 0 < args.port < 65536:
        raise InputError(f"port: 1 to 65535, not {args.port}")

    import optuna_dashboard

    from nas.views.dashboard_storage import PictureStore, ReadOnlyStorage
    from nas.views.server import listening

    shown = ReadOnlyStorage(run.name, run.config, run.study)
    app = optuna_dashboard.wsgi(shown, artifact_store=PictureStore(shown))
    with listening(app, args.host, args.port) as server:
        console = command.console()
        console.print(f"dashboard of {args.run}: http://{args.host}:{args.port} (Ctrl+C ends it)")
        if args.host not in LOOPBACK:
            console.print("whoever reaches this address sees the run and may write notes: there is no password")
        server.serve_forever()
    return 0


if __name__ == "__main__":
    command.run(main, "nas.dashboard")
