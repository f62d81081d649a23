"""ReXNet's features, its scaling, and networks of a fixed depth."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.papers import rexnet_more
from searchspace import Budget, InputError, cost
from tests.support.tables import rows


def test_rexnet_more(tmp_path: Path) -> None:
    rexnet_more.main(["--smoke", "--out", str(tmp_path)])
    first, second = rows(tmp_path / "rexnet_more_scaling.csv")
    assert (float(first["G multiply-adds"]), float(second["G multiply-adds"])) == (0.348, 0.398)
    spectra = rows(tmp_path / "rexnet_more.csv")
    assert [row["network"] for row in spectra] == ["ReXNet", "ReXNet without shortcuts", "MobileNetV2"]
    assert all(9.7 <= float(row["M multiply-adds"]) <= 10 for row in spectra)
    depth = rows(tmp_path / "rexnet_more_depth.csv")
    assert sorted(row["place"] for row in depth) == ["1", "2", "3", "4", "5"]
    assert [row["straight"] for row in depth].count("True") == 1
    assert all((tmp_path / f"rexnet_more{part}.png").stat().st_size > 10_000 for part in ("", "_scaling", "_depth"))


def test_widths_of_a_fixed_depth() -> None:
    more = rexnet_more
    found = more.models(5, 10, Budget.parse("17MFLOPs"))
    straight, *others = found
    assert more.linearity(straight) > 0.99 > min(map(more.linearity, others))
    for widths, arch in found.items():
        values = [int(width) for width in widths.split("-")]
        assert values == sorted(values) == [block.out_channels for block in arch.blocks]
        assert 0.97 * 17e6 <= cost(arch).macs <= 17e6
    with pytest.raises(InputError, match="no network of 5 blocks"):
        more.models(5, 1, Budget.parse("1MFLOPs"))
