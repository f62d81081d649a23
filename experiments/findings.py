"""What every experiment does with its result: options, and a page with its tables, figures and how they were made."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Table

from searchspace import command as commands
from searchspace.document import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
ACCENT, QUIET, WARM = "#1e8449", "#7f8c8d", "#b03a2e"
WIDTH, LONGEST_TABLE = 170, 30
BY_HAND = "## What it shows"
NOTHING_YET = "Nothing is concluded yet."

Row = Mapping[str, Any]


class Options(argparse.ArgumentParser):
    """The parser of a script. A little of an experiment (`--smoke`) does not take the place of its results."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found = super().parse_args(args, namespace)
        if found.smoke and found.out == self.get_default("out"):
            found.out = Path(tempfile.mkdtemp(prefix="smoke-"))
        return found


def options(doc: str | None, script: str, smoke: str, dataset: bool = True) -> Options:
    """A parser with the options that all scripts share; `smoke` says what is left of the experiment in that mode."""
    parser = Options(
        prog=f"python -m {module(script)}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if dataset:
        parser.add_argument("--dataset", default="digits", help="a folder of images or a hub name (default: digits)")
    parser.add_argument("--smoke", action="store_true", help=f"{smoke}; without --out into a temporary folder")
    out = Path(script).resolve().parent / "results"
    parser.add_argument("--out", type=Path, default=out, help="where log, tables, figures and the page go")
    return parser


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Start a script: what is wrong with its input is one line and exit code 2."""

    def done(arguments: Sequence[str]) -> int:
        main(list(arguments))
        return 0

    commands.run(done, Path(sys.argv[0]).name)


def module(script: str) -> str:
    """The name under which `python -m` starts a file of this checkout."""
    return ".".join(Path(script).resolve().relative_to(ROOT).with_suffix("").parts)


def environment(**more: str) -> dict[str, str]:
    """For processes that start modules of this checkout, from whatever folder."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def figure(width: float = 9.0, height: float = 4.8) -> Figure:
    """An empty figure that needs no display; `Page.figure` writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


class Page:
    """What a script found: shown on the terminal at once, and written as a page when all of it is there.

    `name` is the page's, where it is not the script's: other options give another result, which has its own page.
    """

    def __init__(
        self,
        doc: str | None,
        script: str,
        args: argparse.Namespace,
        arguments: Sequence[str] | None,
        name: str = "",
        device: str = "auto",
    ) -> None:
        from nas.latency.timing import device_for

        self.claim, self.method = described(doc or "")
        self.name, self.out = name or Path(script).stem, Path(args.out)
        self.command = commands.line(module(script), shareable(sys.argv[1:] if arguments is None else arguments))
        self.device, self.console = device_for(device), Console(width=WIDTH, markup=False, highlight=False)
        self.begun, self.start = time.time(), time.perf_counter()
        self.parts: list[str] = []
        self.trainings: dict[str, Row] = {}
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def hardware(self) -> str:
        """The device, its threads where it is a processor, and the version of PyTorch."""
        import torch

        from nas.latency.timing import device_name

        threads = torch.get_num_threads()
        count = f"{threads} thread{'s' if threads > 1 else ''}, " if self.device == "cpu" else ""
        return f"{device_name(self.device)}, {count}torch {torch.__version__}"

    def table(self, name: str, title: str, rows: Sequence[Row], shown: Sequence[Row] | None = None) -> None:
        """Write rows of equal keys as NAME.csv, show them, and keep them for the page. `shown` are rows that people
        read instead. Without a name there is no CSV."""
        if name:
            write_csv(self.out / f"{name}.csv", rows)
        shown = rows if shown is None else shown
        table = Table(*shown[0], title=title)
        for row in shown:
            table.add_row(*map(str, row.values()))
        self.console.print(table)
        self.parts.append(table_text(title, shown, f"{name}.csv" if name else ""))

    def say(self, line: str) -> None:
        """A sentence about what was found."""
        self.console.print(line, soft_wrap=True)
        self.parts.append(f"* {line}")

    def figure(self, name: str, figure: Figure, dpi: int = 110) -> None:
        """Write a figure as NAME.png."""
        figure.savefig(self.out / f"{name}.png", dpi=dpi)
        self.parts.append(f"![{name}]({name}.png)")

    def trained(self, records: Iterable[Row]) -> None:
        """These trainings are a part of the result: the page says how many there are and what they took."""
        self.trainings |= {record["key"]: record for record in records}

    def seconds(self) -> float:
        """Since the beginning, and what earlier starts of the script have spent on trainings that it found finished."""
        passed = 0.0
        for record in self.trainings.values():
            here = max(0.0, record.get("ended", 0.0) - self.begun)
            passed += max(0.0, record["seconds"] - here)
        return passed + time.perf_counter() - self.start

    def write(self, n: str) -> None:
        """Write the page; `n` says of how many networks, seeds and rounds the numbers are."""
        path, seconds = self.out / f"{self.name}.md", f"{self.seconds():,.0f}"
        head = {"command": f"`{self.command}`", "hardware": f"{self.hardware}; {os.cpu_count()} cores"}
        head |= {"seconds": seconds}
        spent = sum(record["seconds"] for record in self.trainings.values())
        effort = f"{len(self.trainings)} trainings, {spent:,.0f} s together" if self.trainings else ""
        head |= {"trainings": effort} if effort else {}
        write_text(path, page_text(self.claim, self.method, head | {"n": n}, self.parts, path))
        said = "; ".join(filter(None, [f"{seconds} s", effort, self.command]))
        self.console.print(said, f"page: {path}", sep="\n", soft_wrap=True)


def described(doc: str) -> tuple[str, str]:
    """(claim, what is done) of a script's docstring, whose second paragraph is how it is started."""
    claim, _, *rest = doc.strip().split("\n\n")
    claim = " ".join(claim.split()).removeprefix("Claim: ").removesuffix(".")
    return claim[0].upper() + claim[1:], "\n\n".join(rest)


def shareable(arguments: Sequence[str]) -> list[str]:
    """Arguments without the folders of this machine."""
    return [re.sub(r"(^|=)/(?:[^/]+/)*", r"\1path/to/", argument) for argument in arguments]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Rows of equal keys as CSV."""
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def table_text(title: str, rows: Sequence[Row], csv: str) -> str:
    """A table of a page; a long one is shortened, and says where the rest is."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    lines = [f"### {title[0].upper()}{title[1:]}", "", line(rows[0]), line("---" for _ in rows[0])]
    lines += [line(row.values()) for row in rows[:LONGEST_TABLE]]
    left = len(rows) - LONGEST_TABLE
    where = f"[{csv}]({csv})"
    if left > 0:
        lines += ["", f"{left:,} more rows are {f'in {where}' if csv else 'left out'}."]
    elif csv:
        lines += ["", f"As numbers: {where}."]
    return "\n".join(lines)


def page_text(claim: str, method: str, head: Mapping[str, str], parts: Sequence[str], path: Path) -> str:
    """A page. What people wrote on the one that is there stays."""
    rows = [f"| {name} | {text} |" for name, text in head.items()]
    parts = [f"# {claim}", method, "\n".join(["| | |", "|---|---|", *rows]), *parts]
    body = re.sub(r"(?m)^(\* .*)\n\n(?=\* )", r"\1\n", "\n\n".join(part for part in parts if part))
    return f"{body}\n\n{BY_HAND}\n\n{written_by_hand(path)}\n"


def written_by_hand(path: Path) -> str:
    """What stands on a page below the line `BY_HAND`."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    _, line, below = text.partition(f"\n{BY_HAND}\n")
    return below.strip() if line and below.strip() else NOTHING_YET
