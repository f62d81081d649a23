"""`python -m nas`: which commands there are, and where to begin. `python -m nas search …` runs `nas.search`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from searchspace import command
from searchspace.errors import InputError

COMMANDS = {
    "search": "find the best network within a budget",
    "report": "a search as one page and as tables",
    "dashboard": "a search in Optuna's dashboard, while it runs or afterwards",
    "train": "train one network in full",
    "export": "a network as files that need nothing of this project: model.py, weights, ONNX, predict.py",
    "deploy": "search, train and export in one: from a folder of images to predictions",
    "measure": "time this device's layers, for budgets in milliseconds",
}
BEGIN = """Begin with a search of handwritten digits, in two to three minutes on two CPU cores, then look at it:
  python -m nas.search --budget 8MFLOPs --resolution 32 --trials 16 --epochs 3
  python -m nas.report runs/mobile-8MFLOPs-digits
With images of your own, one folder per class, all the way to predictions:
  python -m nas.deploy --budget 40MFLOPs --dataset path/to/images --out deploy
Every command has --help. Networks and spaces: python -m searchspace --help"""


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h"):
        print(overview())
        return 0
    word = arguments[0]
    if word == "--version":
        print(f"{command.DISTRIBUTION} {command.version()}")
        return 0
    if word not in COMMANDS:
        near = difflib.get_close_matches(word, COMMANDS, 1)
        print(overview(), file=sys.stderr)
        raise InputError(f"no such command {word}; " + (f"did you mean {near[0]}?" if near else "those above are"))
    called: int = import_module(f"nas.{word}").main(arguments[1:])
    return called


def overview() -> str:
    lines = [f"  python -m nas.{name:<10} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["Commands:", *lines, "", BEGIN])


def name(words: Sequence[str]) -> str:
    """The command that speaks."""
    return f"nas.{words[0]}" if words and words[0] in COMMANDS else "nas"


if __name__ == "__main__":
    command.run(main, name(sys.argv[1:]))
