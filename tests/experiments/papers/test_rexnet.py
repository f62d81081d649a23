"""ReXNet's scaling, its features, and networks of a fixed depth."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import fixed_depth, rexnet_features, rexnet_scaling
from searchspace import Budget, InputError, cost
from tests.support.tables import rows


def test_scaling(tmp_path: Path) -> None:
    rexnet_scaling.main(["--smoke", "--out", str(tmp_path)])
    first, second = rows(tmp_path / "rexnet_scaling.csv")
    assert (float(first["G multiply-adds"]), float(second["G multiply-adds"])) == (0.348, 0.398)
    assert (tmp_path / "rexnet_scaling.png").stat().st_size > 10_000


def test_features(tmp_path: Path) -> None:
    rexnet_features.main(["--smoke", "--out", str(tmp_path)])
    spectra = rows(tmp_path / "rexnet_features.csv")
    assert [row["network"] for row in spectra] == ["ReXNet", "ReXNet without shortcuts", "MobileNetV2"]
    assert all(9.7 <= float(row["M multiply-adds"]) <= 10 for row in spectra)
    assert (tmp_path / "rexnet_features.png").stat().st_size > 10_000


def test_fixed_depth(tmp_path: Path) -> None:
    fixed_depth.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "fixed_depth.csv")
    assert sorted(row["place"] for row in found) == ["1", "2", "3", "4", "5"]
    assert [row["straight"] for row in found].count("True") == 1
    assert (tmp_path / "fixed_depth.png").stat().st_size > 10_000


def test_widths_of_a_fixed_depth() -> None:
    found = fixed_depth.models(5, 10, Budget.parse("17MFLOPs"))
    straight, *others = found
    assert fixed_depth.linearity(straight) > 0.99 > min(map(fixed_depth.linearity, others))
    for widths, arch in found.items():
        values = [int(width) for width in widths.split("-")]
        assert values == sorted(values) == [block.out_channels for block in arch.blocks]
        assert 0.97 * 17e6 <= cost(arch).macs <= 17e6
    with pytest.raises(InputError, match="no network of 5 blocks"):
        fixed_depth.models(5, 1, Budget.parse("1MFLOPs"))
