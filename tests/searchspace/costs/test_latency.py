"""Predicted latency: a fold over the layers, by a table of layer times; no timing here."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchspace import Arch, Budget, InputError, Space, cost
from searchspace.arch import lower
from searchspace.blocks.blocks import Block, SqueezeExcite
from searchspace.blocks.layers import Blur, ChannelConv, Conv, Gate, Linear, Reparametrised, Residual, leaves, steps
from searchspace.blocks.stem_head import Head, Stem
from searchspace.costs.latency import LatencyTable, Size, quantities, size_of
from searchspace.format.network import Network
from tests.support.strategies import networks

MBCONV = Block(
    "mbconv",
    8,
    32,
    8,
    kernel=5,
    groups=32,
    se=SqueezeExcite(4),
    shortcut="identity",
    expand_act="silu",
    spatial_act="silu",
)
SMALL = Arch(Stem(8), (MBCONV,), Head(width=24), resolution=32, num_classes=10)
SIZES = [
    Size(c, o, g, p, q) for c, o, g in ((8, 8, 1), (6, 18, 1), (40, 24, 1), (32, 32, 32)) for p, q in ((9, 4), (64, 49))
]
SPACE = {
    "resolution": 32,
    "num_classes": 10,
    "width_mult": {"fit": [0.1, 8.0]},
    "stem": {"width": 16},
    "schedule": {"kind": "linear", "start": 16, "end": {"choice": [32, 48]}},
    "defaults": {
        "block": "mbconv",
        "kernel": {"choice": [3, 5]},
        "expansion": {"choice": [1, 4]},
        "shortcut": "partial",
    },
    "stages": [{"depth": 1}, {"depth": {"choice": [1, 2]}, "stride": 2}],
}


def table(costs: dict[str, Any]) -> LatencyTable:
    """A table in which every operator takes what its quantities cost."""
    empty = LatencyTable("a device", "2.0", "2026-01-01")
    return empty.with_times(
        "by hand", 1, [(name, size, ms(each, size)) for name, each in costs.items() for size in SIZES]
    )


def ms(costs: Any, size: Size) -> float:
    return sum(c * q for c, q in zip(costs, quantities(size), strict=False))


def everything(space: Space, costs: tuple[float, ...]) -> LatencyTable:
    """A table in which all operators of a space cost the same."""
    empty = LatencyTable("a device", "2.0", "2026-01-01")
    names = set().union(*(empty.operators(space.sample(seed, Budget.parse("3MFLOPs"))) for seed in range(30)))
    return table(dict.fromkeys(sorted(names), costs))


def test_the_fold_is_the_sum_by_hand() -> None:
    constant = {
        "conv 3×3 s2": 1.0,
        "conv 1×1 s1": 2.0,
        "conv 5×5 s1 depthwise": 3.0,
        "batch norm": 5.0,
        "relu": 7.0,
        "silu": 11.0,
        "sigmoid": 13.0,
        "GlobalAvgPool": 17.0,
        "Gate": 19.0,
        "Residual": 23.0,
        "Flatten": 29.0,
        "Linear": 31.0,
    }
    stem = 1 + 5 + 7
    gate = 17 + 2 + 7 + 2 + 13 + 19
    block = (2 + 5 + 11) + (3 + 5 + 11 + gate) + (2 + 5) + 23
    head = 2 + 5 + 7 + 17 + 29 + 31
    found = table({name: (each,) for name, each in constant.items()})
    assert found.predict(SMALL) == pytest.approx(stem + block + head, rel=1e-6)
    assert cost(SMALL, latency=found) == replace(cost(SMALL), latency_ms=found.predict(SMALL))
    assert cost(SMALL).latency_ms is None


@settings(max_examples=40, deadline=None)
@given(networks())
def test_every_leaf_every_addition_and_every_gate_counts_once(network: Network) -> None:
    arch = network.arch()
    shape = (arch.in_channels, arch.resolution, arch.resolution)
    timed = Counter(type(part).__name__ for part, _ in steps(lower(arch), shape))
    written = Counter(re.findall(r"\b([A-Z]\w+)\(", repr(lower(arch))))
    for inside in ("Sequential", "Norm"):  # which hold others, or belong to another
        del written[inside]
    assert timed == written
    assert {type(part) for part, _ in leaves(lower(arch), shape)}.isdisjoint((Residual, Gate))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_multiply_adds_are_those_of_the_cost(network: Network) -> None:
    arch = network.arch()
    macs = 0.0
    for part, at in steps(lower(arch), (arch.in_channels, arch.resolution, arch.resolution)):
        if isinstance(part, (Conv, Linear, ChannelConv, Blur)):
            side = getattr(part, "kernel", 1)
            weights = {Conv: side**2, Reparametrised: side**2, ChannelConv: side, Blur: 9}
            macs += quantities(size_of(part, at))[3] * weights.get(type(part), 1)
    assert macs == cost(arch).macs


def test_what_times_are_made_of_is_found_again_between_them() -> None:
    costs = (0.01, 2e-6, 3e-6, 5e-7, 1e-5, 1e-6)
    found = table({"conv 3×3 s1": costs})
    for size in (*SIZES, Size(12, 20, 1, 16, 16), Size(25, 100, 1, 49, 49)):
        assert found.layer_ms("conv 3×3 s1", size) == pytest.approx(ms(costs, size), rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 9), min_size=len(SIZES), max_size=len(SIZES)), st.integers(1, 99), st.integers(1, 99))
def test_wider_never_takes_less_whatever_was_measured(times: list[float], width: int, more: int) -> None:
    rows = [("conv 3×3 s1", size, time) for size, time in zip(SIZES, times, strict=True)]
    found = LatencyTable("a device", "2.0", "2026-01-01").with_times("noise", 1, rows)
    narrow = found.layer_ms("conv 3×3 s1", Size(width, 16, 1, 49, 49))
    assert 0 <= narrow <= found.layer_ms("conv 3×3 s1", Size(width + more, 16, 1, 49, 49)) * (1 + 1e-9)


def test_a_time_measured_again_takes_the_place_of_the_old_one() -> None:
    old = LatencyTable("a device", "2.0", "2026-01-01").with_times("one", 2, [("silu", SIZES[0], 1.0)])
    new = old.with_times("one", 3, [("silu", SIZES[0], 2.0), ("relu", SIZES[1], 3.0)])
    assert new.times == {"silu": ((*SIZES[0], 2.0),), "relu": ((*SIZES[1], 3.0),)}
    assert new.spaces == {"one": 5}
    assert old.times["silu"] == ((*SIZES[0], 1.0),)


def test_a_saved_table_is_read_back(tmp_path: Path) -> None:
    saved = table({"conv 3×3 s1": (1.0, 1e-6), "silu": (0.5,)})
    saved.save(tmp_path / "new" / "table.json")
    assert LatencyTable.load(tmp_path / "new" / "table.json") == saved
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.json"]
    assert "a device, batch 1, 1 thread, float32" in str(saved)
    # A kit's script names the networks that it measured by their JSON, and an operator may be called anything.
    odd = replace(table({'a], "b\n], c': (1.0,)}), checked={json.dumps(SMALL.to_dict()): 1.5, '[[1], [2], "x\n"]': 2.0})
    odd.save(tmp_path / "odd.json")
    assert LatencyTable.load(tmp_path / "odd.json") == odd


HEADER = {"device": "d", "torch": "2.0", "date": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{" * 5, "not JSON"),
        ("[1, 2]", "an object"),
        ('{"hello": "world"}', "device: is missing"),
        (json.dumps({**HEADER, "colour": 1}), "colour: no such field"),
        (json.dumps({**HEADER, "threads": 0}), "threads: at least 1"),
        (json.dumps({**HEADER, "dtype": "int4"}), "dtype: 'float32'"),
        (json.dumps({**HEADER, "onnxruntime": "1.31"}), "torch and onnxruntime: the release of one of them"),
        (json.dumps({**HEADER, "torch": ""}), "torch and onnxruntime: the release of one of them"),
        (json.dumps({**HEADER, "times": {"silu": [[1, 1, 1, 1, 1]]}}), "times.silu.0.5: is missing"),
        (json.dumps({**HEADER, "times": {"silu": [[1, 1, 1, 1, 1, -2.0]]}}), "times.silu: .* above 0"),
        (json.dumps({**HEADER, "times": {"silu": [[1, 1, 0, 1, 1, 2.0]]}}), "times.silu: .* above 0"),
        (json.dumps({**HEADER, "times": {"silu": []}}), "times.silu: one row or more"),
        (json.dumps({**HEADER, "times": {"silu": [[1, 1, 1, 1, 1, float("nan")]]}}), "finite numbers"),
    ],
)
def test_a_broken_or_foreign_file_is_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as refused:
        LatencyTable.load(path)
    assert "\n" not in str(refused.value)
    assert "table.json" in str(refused.value)


def test_a_file_that_is_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        LatencyTable.load(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        LatencyTable.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        table({}).save(tmp_path / "file" / "table.json")


def test_what_was_never_timed_is_named() -> None:
    with pytest.raises(InputError, match=r"no times of .*GlobalAvgPool, .*conv 5×5 s1 depthwise.*nas\.measure"):
        table({"silu": (1.0,), "relu": (1.0,)}).predict(SMALL)
    assert "silu" not in table({"silu": (1.0,)}).missing(SMALL)


@pytest.mark.parametrize("text", ["0.5ms", "0.45-0.5ms", "3MFLOPs,0.5ms"])
def test_proposals_are_inside_a_latency_budget(text: str) -> None:
    plain = Space(SPACE)
    space, budget = plain.with_latencies(everything(plain, (0.01, 1e-7, 1e-7, 1e-8))), Budget.parse(text)
    for seed in range(8):
        arch = space.sample(seed, budget)
        spent = cost(arch, space.latency)
        assert budget.admits(spent)
        assert budget.share_used(spent) >= 0.85
    with pytest.raises(InputError, match="latency is of a device"):
        plain.sample(0, budget)
