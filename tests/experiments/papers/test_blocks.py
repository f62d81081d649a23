"""Blocks at equal multiply-adds."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import blocks
from searchspace import Arch
from searchspace.blocks.blocks import Block
from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Stem
from tests.support.tables import rows


def test_blocks(tmp_path: Path) -> None:
    blocks.main(["--smoke", "--out", str(tmp_path)])
    measured = rows(tmp_path / "blocks_measured.csv")
    assert all(9.7 <= float(row["M multiply-adds"]) <= 10 for row in measured)
    for pair in rows(tmp_path / "blocks_fused.csv"):
        width = int(pair["width"])  # 3×3 to 4 times the width and 1×1 back, against 1×1, depthwise 3×3, 1×1
        assert pair["× multiply-adds"] == f"{(9 + 1) * 4 * width / (2 * 4 * width + 9 * 4):.2f}"
    assert len(rows(tmp_path / "blocks.csv")) == 2
    assert all((tmp_path / f"blocks{part}.png").stat().st_size > 10_000 for part in ("", "_measured"))


def test_bytes_and_intensity_of_a_block() -> None:
    """A stem, a depthwise 3×3 and a 1×1 of 4 channels and nothing between, then pool and classifier."""
    none = Norm("none")
    block = Block("mbconv", 4, 4, 4, groups=4, expand_act="none", spatial_act="none", norm=none)
    stem = Stem(4, kernel=1, stride=1, act="none", norm=none)
    arch = Arch(stem, (block,), resolution=8, num_classes=2)
    maps, weights = 4 * 64, 3 * 4 + 9 * 4 + 4 * 4
    numbers = (3 * 64 + maps) + 2 * (maps + maps) + weights + (maps + 4) + (4 + 4) + (4 + 2 + 10)
    assert blocks.intensity(arch) == pytest.approx((weights * 64 + 4 * 2) / (4 * numbers))
    assert blocks.kept_bytes(arch, "cpu") == 4 * (3 * 64 + 2 * maps + 4)  # what has weights keeps what it was given
