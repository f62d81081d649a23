"""`python -m nas.measure`: time this device's layers, for latency budgets (`--budget 12ms`) and predictions.

Random networks of a space are run and their layers timed; the times are kept in the user's cache, one file a device,
runtime, type of numbers, batch size and number of threads. What is stopped goes on from where it was, and what a later
space needs beside is added. `--check` compares predictions with measurements on networks that were not used.
"""

from __future__ import annotations

from collections.abc import Sequence

from searchspace import command
from searchspace.registry.plugins import plugin_option
from searchspace.space.space import ready

CHECKED = 30


def parser() -> command.Parser:
    p = command.Parser(prog="nas.measure", description=__doc__)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--runtime", choices=("torch", "onnxruntime"), default="torch", help="what runs networks (torch)")
    p.add_argument(
        "--dtype", choices=("float32", "int8"), default="float32", help="int8: quantised, with onnxruntime (float32)"
    )
    p.add_argument("--batch-size", type=int, default=1, help="images a run (default: 1)")
    p.add_argument(
        "--threads", type=int, default=1, help="of the CPU (default: 1); OMP_WAIT_POLICY=ACTIVE lets several spin"
    )
    p.add_argument("--space", help=f"{', '.join(ready())} or a YAML file (default: mobile)")
    p.add_argument("--resolution", type=int, help="deployment resolution in pixels (default: the space's, 224)")
    p.add_argument(
        "--table", type=command.path, metavar="FILE", help="the table (default: in the user's cache, see NAS_CACHE)"
    )
    p.add_argument(
        "--kit",
        type=command.path,
        metavar="DIR",
        help="write files that time another machine, with onnxruntime and numpy alone",
    )
    p.add_argument("--check", action="store_true", help=f"then compare predicted with measured on {CHECKED} networks")
    plugin_option(p)
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)
    if args.kit is not None:
        args.runtime = "onnxruntime"

    from nas.run import measure

    return measure.run(args)


if __name__ == "__main__":
    command.run(main, "nas.measure")
