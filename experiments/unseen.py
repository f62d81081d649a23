"""`python -m nas.search` as it is on images that nobody has searched on: what the prior has of them is left out.

    python -m experiments.unseen --budget 30MFLOPs --dataset path/to/imagenette64

The prior that ships was learnt on the datasets that experiments use. A search on one of them would be told what it is
to find out; with this command it is told what the others have taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nas import search
from nas.study import prior
from nas.study.warm_start import Sources
from searchspace import command


def leave_out(dataset: str) -> None:
    """Let the prior have no source of a dataset, given as its path or name."""
    shipped = prior.read

    def read(name: str) -> Sources:
        known = shipped(name)
        return replace(known, sources=tuple(one for one in known.sources if one.dataset != Path(dataset).name))

    prior.read = read


def main(arguments: Sequence[str]) -> int:
    leave_out(arguments[arguments.index("--dataset") + 1])
    return search.main(arguments)


if __name__ == "__main__":
    command.run(main, "experiments.unseen")
