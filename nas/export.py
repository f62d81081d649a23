"""`python -m nas.export RUN --out DIR`: take a network home, as files that need nothing of this project.

RUN is a search, a training, an export, a file of a network, or a name of the zoo.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from searchspace import command
from searchspace.registry.plugins import plugin_option


def parser() -> command.Parser:
    p = command.Parser(prog="nas.export", description=__doc__, example="python -m nas.export runs/a --out best")
    p.add_argument(
        "run",
        metavar="RUN",
        help="folder of a search, finished or not, of nas.train or of an export; a network's file; a name of the zoo",
    )
    p.add_argument("--out", type=command.path, required=True, help="folder to write to")
    p.add_argument("--trial", type=int, help="which trial of a search (default: the best)")
    p.add_argument("--onnx", action="store_true", help="also model.onnx, tried with onnxruntime")
    p.add_argument(
        "--format",
        action="append",
        default=[],
        choices=("onnx", "pt2", "openvino", "executorch", "tflite"),
        help="also in this format, by its own converter and tried with its runtime; tflite is int8, for "
        "microcontrollers (and --int8); several",
    )
    p.add_argument("--int8", action="store_true", help="also model.int8.onnx, quantised by onnxruntime (and --onnx)")
    which = "images to quantise with (default: those it was trained on)"
    p.add_argument("--dataset", type=os.path.expanduser, metavar="NAME", help=which)
    p.add_argument("--calibration-images", type=int, metavar="N", help="of them, that give ranges (default: 256)")
    plugin_option(p)
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)

    from nas.bundle import bundle, formats
    from nas.run import export
    from nas.views.meter import waiting

    int8 = args.int8 or bundle.TFLITE in args.format
    onnx = args.onnx or int8 or "onnx" in args.format
    others = list(dict.fromkeys(name for name in args.format if name != "onnx"))
    export.check_images(int8, args.dataset, args.calibration_images)
    if onnx:
        bundle.require_onnx(bundle.TFLITE in others)
    formats.require([name for name in others if name != bundle.TFLITE])
    export.check_out(args.out, Path(args.run))
    facts, weights = export.choose(args.run, args.trial)
    export.check_earlier(args.out, facts, weights, onnx, int8, others)
    facts = replace(facts, commands=(*facts.commands, command.line("nas.export", arguments)))
    console = command.console()
    images = export.calibration(facts, args.dataset, args.calibration_images, console) if int8 else None
    try:
        with waiting(console, "writing the network and trying it in a fresh interpreter"):
            lines = export.write(args.out, facts, weights, onnx, images, others)
    except bundle.DifferentError as error:
        print(f"nas.export: nothing was written to {args.out}: {error}", file=sys.stderr)
        return command.FAILED
    for line in lines:
        console.print(line)
    return 0


if __name__ == "__main__":
    command.run(main, "nas.export")
