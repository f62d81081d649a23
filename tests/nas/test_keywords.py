"""What a message says of an option, it says from Python of the keyword."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.keywords import of_python
from nas.run.run import Run
from nas.study.study import Study
from searchspace import InputError


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("time-limit 'x': 90s, 30m or 2h is accepted", "time_limit 'x': 90s, 30m or 2h is accepted"),
        (
            "run a is another search (seed: 0 → 1); give another --run",
            "run a is another search (seed: 0 → 1); give another folder=",
        ),
        ("takes 9 GB; --images N uses fewer", "takes 9 GB; images=N uses fewer"),
        ("takes 9 GB; --images 200 uses those", "takes 9 GB; images=200 uses those"),
        ("it can with --space mobile_small", "it can with space=mobile_small"),
        ("--train-resolution is for images", "train_resolution= is for images"),
        (
            "train it: python -m nas.train RUN --top 3; or --trials 9",
            "train it: python -m nas.train RUN --top 3; or trials=9",
        ),
        ("well-known words stay", "well-known words stay"),
    ],
)
def test_options_become_keywords(command: str, python: str) -> None:
    assert of_python(command, "folder") == python


def test_python_hears_of_its_own_keywords(tmp_path: Path) -> None:
    with Study.open(tmp_path / "asked", "rexnet", "300MFLOPs", controls=0):
        pass
    with pytest.raises(InputError, match=r"give another folder=$"):
        Run.search("300MFLOPs", space="rexnet", folder=tmp_path / "asked", quiet=True)
    with pytest.raises(InputError, match=r"give another run=$"):
        Study.open(tmp_path / "asked", "rexnet", "200MFLOPs", controls=0)
