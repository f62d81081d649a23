from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from searchspace import Arch, Budget, InputError, Space, cost, zoo
from searchspace.space.preflight import left_out
from searchspace.space.space import ready
from tests.searchspace.space.test_space import SMALL

SPACES = {name: Space.load(name) for name in ready()}
KNOWN = [(space, name) for space in ready() for name in SPACES[space].known]
# What a space's network has otherwise than the paper's; where nothing stands here, the two are equal.
STATED = {
    ("mobile", "rexnet_100"): {"se.norm", "init"},
    ("mobile_wide", "rexnet_100"): {"se.norm", "init"},
    ("all", "rexnet_100"): {"se.norm", "init"},
    ("resnet", "resnext50_32x4d"): {"type"},
}


def different(ours: Arch, theirs: Arch) -> set[str]:
    """The names of the fields in which two networks differ."""
    pairs: list[tuple[str, Any, Any]] = [("", ours, theirs)]
    pairs += [("", a, b) for a, b in zip(ours.blocks, theirs.blocks, strict=True)]
    pairs += [("se.", a.se, b.se) for a, b in zip(ours.blocks, theirs.blocks, strict=True) if a.se and b.se]
    names = {
        f"{prefix}{field.name}"
        for prefix, a, b in pairs
        for field in fields(a)
        if field.name not in ("blocks",) and getattr(a, field.name) != getattr(b, field.name)
    }
    return names - {"se"} if any(name.startswith("se.") for name in names) else names


def test_every_ready_space_knows_networks_of_the_papers() -> None:
    assert {space for space, _ in KNOWN} == set(ready()) - {"fast", "mcu"}  # those that would suit have other stages
    assert {name for _, name in KNOWN} >= {"rexnet_100", "resnet50", "resnext50_32x4d", "regnet_y_400mf"}


@pytest.mark.parametrize(("space", "name"), KNOWN)
def test_a_known_point_is_the_network_of_the_paper(space: str, name: str) -> None:
    ours, theirs = SPACES[space].arch(SPACES[space].known[name], 1.0), zoo(name)
    assert different(ours, theirs) == STATED.get((space, name), set())
    if (space, name) not in STATED:
        assert ours.digest == theirs.digest
    assert cost(ours).macs == cost(theirs).macs


@pytest.mark.parametrize(("space", "name"), KNOWN)
def test_and_can_be_scaled_to_a_budget(space: str, name: str) -> None:
    candidate = SPACES[space].fit(SPACES[space].known[name], Budget.parse("300MFLOPs"))
    assert candidate is not None
    assert candidate.point == SPACES[space].known[name]
    assert [b.type for b in candidate.arch.blocks] == [b.type for b in SPACES[space].arch(candidate.point).blocks]


def small(**entry: Any) -> Space:
    stages = [{"block": "mbconv", "depth": {"choice": [1, 2]}}, {"block": "mbconv", "depth": {"choice": [1, 2]}}]
    return Space({**SMALL, "stages": stages, "known": {"mine": entry}}, "small.yaml")


def test_a_file_says_what_it_knows() -> None:
    space = small(**{"schedule.end": 24, "stage*.depth": [1, 2]})
    assert space.known == {"mine": {"schedule.end": 24, "stage1.depth": 1, "stage2.depth": 2}}
    assert space.fix(["stage1.depth=1"]).known == {"mine": {"schedule.end": 24, "stage2.depth": 2}}
    assert space.fix(["resolution=96"]).known == space.known
    assert not space.fix(["stage1.depth=2"]).known
    assert not space.fix(["stem.width=16"]).known
    assert space.fix(["stem.width=16"]).lacking == {"mine": "stem.width=8"}
    assert not SPACES["mobile"].without(["silu"]).known
    assert not small(**{"schedule.end": 25, "stage*.depth": [1, 2]}).known


@pytest.mark.parametrize(
    "assignment", ["schedule.divisor=8", "schedule.min_width=16", "stage*.se_min=8", "stage2.hidden_min=16"]
)
def test_a_network_that_is_rounded_otherwise_is_still_known(assignment: str) -> None:
    space = SPACES["mobile"].fix([assignment])
    candidate = space.fit_known("rexnet_100", Budget.parse("300MFLOPs"))
    assert candidate is not None
    assert candidate.point == space.known["rexnet_100"]
    assert candidate.cost.macs >= 0.85 * 300e6
    if assignment == "schedule.divisor=8":
        assert {block.out_channels % 8 for block in candidate.arch.blocks} == {0}


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        (["stem.width=16"], "stem.width=32"),
        (["stage3.se_gate=hard_sigmoid"], "stage3.se_gate=sigmoid"),
        (["head.hidden=64"], "head.hidden=0"),
        (["init=torch"], "init=normal"),
        (["stage*.kernel=5"], "stage1.kernel=3"),
        (["stage3.se_gate=sigmoid", "stem.kernel=3", "stem.kernel=5"], "stem.kernel=3"),
    ],
)
def test_why_a_network_is_no_longer_known(changes: list[str], lacks: str) -> None:
    fixed = SPACES["mobile"].fix(changes)
    assert not fixed.known
    assert fixed.lacking == {"rexnet_100": lacks}
    assert Space(fixed.data).lacking == fixed.lacking
    assert left_out(fixed, "300MFLOPs") == {"rexnet_100": f"it has {lacks}, which this space has not"}


def test_what_is_fixed_as_a_network_has_it_keeps_it_known() -> None:
    fixed = SPACES["mobile"].fix(["stage3.se_gate=sigmoid", "stem.kernel=3", "num_classes=10", "resolution=160"])
    assert list(fixed.known) == ["rexnet_100"]
    one = small(**{"schedule.end": 24, "stage*.depth": [1, 2]})
    assert one.fix(["stage2.kernel=3", "stage1.kernel=3"]).known == one.known
    assert not left_out(fixed, "300MFLOPs")


def test_a_network_is_known_for_what_becomes_free() -> None:
    mobile = SPACES["mobile"]
    freed = mobile.free("head.dropout", [0.0, 0.2])
    assert freed.known == {"rexnet_100": {**mobile.known["rexnet_100"], "head.dropout": 0.2}}
    assert mobile.free("num_classes", [10, 100]).lacking == {"rexnet_100": "num_classes=1000"}
    assert list(mobile.free("resolution", [96, 128]).known) == ["rexnet_100@128", "rexnet_100@96"]
    without = mobile.fix(["stem.width=16"])
    assert without.free("head.dropout", [0.0, 0.2]).lacking == without.lacking
    assert without.free("stem.width", [16, 32]).known["rexnet_100"]["stem.width"] == 32


def test_a_network_that_no_multiplier_brings_into_the_budget_is_said_to_be_left_out() -> None:
    said = left_out(SPACES["mobile"], "10MFLOPs")
    assert said == {"rexnet_100": "no width multiplier brings it within 10MFLOPs"}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"schedule.end": 24}, "has to name every free value; stage1.depth is missing"),
        ({"schedule.end": 24, "stage*.depth": [1, 2, 3]}, "3 values for 2 names"),
        ({"stage*.debth": 1}, "stage*.debth: 0 values for 0 names"),
    ],
)
def test_nonsense_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says.replace("*", r"\*")):
        small(**entry)
    with pytest.raises(InputError, match="known: a mapping of names"):
        Space({**SMALL, "known": [1]}, "small.yaml")
