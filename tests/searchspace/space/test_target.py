"""Boards: their files, and those of somebody's own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from searchspace import Budget, InputError, Space
from searchspace.space.space import ARENA_BAND
from searchspace.space.target import SPACE, Target, boards

KIB = 1024


def test_a_board_is_two_budgets_less_what_the_firmware_needs() -> None:
    board = Target.load("stm32f746")
    assert board.budget == Budget.parse([f"{(320 - 24) * KIB}B int8", f"{(1024 - 96) * KIB}BFlash int8"])
    assert Target.load("STM32F746") == board


@pytest.mark.parametrize("name", boards())
def test_every_board_says_where_its_memory_stands_and_has_networks(name: str) -> None:
    board, space, rng = Target.load(name), Space.load(SPACE), random.Random(0)
    assert board.source
    fitted = [space.fit(space.random_point(rng), board.budget, ARENA_BAND) for _ in range(20)]
    assert sum(found is not None for found in fitted) >= 19


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nram: 128kB\nflash: 1MB\nsource: me\nreserve_ram: 28kB\nreserve_flash: 0.1MB\n")
    assert Target.load(path).budget == Budget.parse(["100kB int8", "900kBFlash int8"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nram: 64KiB\nsource: me\n", "mine.yaml:1: flash: is missing"),
        (
            "name: a\nram: 64 pounds\nflash: 1MiB\nsource: me\n",
            "ram: bytes are accepted, as in 320KiB, not '64 pounds'",
        ),
        ("name: a\nram: 64KiB\nflash: 1MFLOPs\nsource: me\n", "flash: bytes are accepted"),
        ("name: a\nram: 64\nflash: 1MiB\nsource: me\n", "mine.yaml:2: ram"),
        ("name: a\nram: 64KiB\nflash: 1MiB\nsource: me\nspeed: 3\n", "mine.yaml:5: speed: no such field"),
        ("name: a\nram: 16KiB\nflash: 1MiB\nsource: me\n", "reserve_ram: less than ram, 16KiB, not 24,576 bytes"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        Target.load(tmp_path / "mine.yaml")


def test_an_unknown_board_names_those_known() -> None:
    with pytest.raises(InputError, match=r"target 'stm33': a file, or one of esp32s3, .*stm32h743 is accepted"):
        Target.load("stm33")
