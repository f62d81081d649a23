"""What networks lose in int8, and what they gain."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.speed import int8
from searchspace import Budget, cost
from tests.support.tables import rows


def test_kinds_keep_to_their_rules() -> None:
    budget = Budget.parse("30MFLOPs")
    accepted = {"": {"silu", "none"}, "edgetpu": {"relu6", "none"}, "mobile": {"relu6", "hard_swish", "none"}}
    for rules, title in int8.KINDS.items():
        arch = int8.spaces()[title].sample(0, budget)
        acts = {block.expand_act for block in arch.blocks} | {arch.stem.act, arch.head.act}
        squeezed = any(block.se for block in arch.blocks)
        assert acts <= accepted[rules]
        assert squeezed == (not rules)
        assert cost(arch).macs <= 30e6


def test_the_summary_is_of_each_kind_alone() -> None:
    made = [
        int8.Row(kind, n, 0.6, 0.6 - drop * (n + 1), 2.0, 1.0, 400, 100)
        for kind, drop in zip(int8.KINDS.values(), (0.0, 0.004, 0.1), strict=True)
        for n in range(3)
    ]
    found = int8.summary(made)
    assert [row["within a point"] for row in found] == [3, 2, 0]
    assert [row["at most"] for row in found] == ["+0.0000", "+0.0120", "+0.3000"]
    assert {row["times as fast"] for row in found} == {"2 (2–2)"}


@pytest.mark.slow
def test_int8(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    int8.main(["--smoke", "--out", str(tmp_path)])
    found = rows(tmp_path / "int8.csv")
    assert [row["kind"] for row in found] == list(int8.KINDS.values())
    for row in found:
        assert 0 <= float(row["int8"]) <= 1
        assert float(row["int8_ms"]) > 0
    assert (tmp_path / "int8.png").stat().st_size > 10_000
