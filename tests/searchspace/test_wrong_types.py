"""What is handed to Python's functions in place of what they take: accepted where it is clear, else one line."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
import searchspace
from searchspace import Arch, Budget, InputError, Space, build, cost, zoo
from searchspace.costs.network_cost import section_costs
from searchspace.space.preflight import preflight

SPACE = Space.load("mobile_small")
NETWORK = zoo("resnet18")


def test_a_budget_may_be_text_wherever_one_is_meant() -> None:
    budget, point = Budget.parse("40MFLOPs"), SPACE.random_point(random.Random(0))
    assert SPACE.sample(0, "40MFLOPs") == SPACE.sample(0, budget)
    assert SPACE.sample(0, ["40MFLOPs", "9MParams"]) == SPACE.sample(0, Budget.parse(["40MFLOPs", "9MParams"]))
    assert SPACE.sample_point(random.Random(1), "40MFLOPs") == SPACE.sample_point(random.Random(1), budget)
    assert SPACE.fit(point, "40MFLOPs") == SPACE.fit(point, budget)
    assert SPACE.reach("40MFLOPs", 0.97, random.Random(0)) == SPACE.reach(budget, 0.97, random.Random(0))
    assert preflight(SPACE, "40MFLOPs", sample=20) == preflight(SPACE, budget, sample=20)
    assert Budget.parse(budget) is budget
    assert Budget.parse(text for text in ("40MFLOPs", "9MParams")) == Budget.parse("40MFLOPs,9MParams")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SPACE.sample(0, 40_000_000), "budget 40000000: no text; a number with a prefix"),  # type: ignore[arg-type]
        (lambda: SPACE.sample(0, None), "budget None: no text"),  # type: ignore[arg-type]
        (lambda: SPACE.sample(0, "much"), "budget 'much'"),
        (lambda: Budget("300MFLOPs"), r'Budget\.parse\("300MFLOPs"\) makes a budget'),  # type: ignore[arg-type]
        (lambda: Budget(("300MFLOPs",)), r"Budget\.parse"),  # type: ignore[arg-type]
        (lambda: Budget(()), "at least one limit"),
        (lambda: cost("resnet50"), r"cost: an Arch is accepted, not 'resnet50'; zoo\(name\)"),  # type: ignore[arg-type]
        (lambda: cost(build(zoo("resnet18"))), "cost: an Arch is accepted, not a Sequential"),  # type: ignore[arg-type]
        (lambda: section_costs(SPACE), "cost: an Arch is accepted, not a Space"),  # type: ignore[arg-type]
        (lambda: build("resnet18"), "build: an Arch is accepted, not 'resnet18'"),  # type: ignore[arg-type]
        (lambda: build(SPACE), "build: an Arch is accepted, not a Space"),  # type: ignore[arg-type]
        (lambda: zoo(5), "network: a name of the zoo is accepted, as 'resnet18', not 5"),  # type: ignore[arg-type]
        (lambda: zoo(["resnet18"]), "network: a name of the zoo is accepted"),  # type: ignore[arg-type]
        (
            lambda: NETWORK.adapt(resolution="32"),
            "adapt: resolution: a whole number, at least 1, is accepted, not '32'",
        ),  # type: ignore[arg-type]
        (lambda: NETWORK.adapt(resolution=0), "adapt: resolution: a whole number, at least 1"),
        (lambda: NETWORK.adapt(smallest_map="2"), "adapt: smallest_map: a whole number"),  # type: ignore[arg-type]
        (lambda: NETWORK.adapt(relaxed_at="32"), "adapt: relaxed_at: a whole number"),  # type: ignore[arg-type]
        (lambda: build(None), "build: an Arch is accepted, not a NoneType"),  # type: ignore[arg-type]
    ],
)
def test_what_is_something_else_is_refused_in_a_line(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


def test_a_space_says_what_it_is() -> None:
    assert repr(SPACE) == f"Space('mobile_small.yaml': {len(SPACE.choices)} choices, {SPACE.size:.3g} points)"
    fixed = {"stem": {"width": 8}, "schedule": {"end": 16}, "stages": [{"block": "mbconv"}]}
    assert repr(Space(fixed, "mine")) == "Space('mine': no choices)"


def test_both_packages_say_that_they_are_typed() -> None:
    for package in (searchspace, nas):
        assert (Path(package.__file__).parent / "py.typed").is_file()
    assert isinstance(SPACE.sample(0, "40MFLOPs"), Arch)
