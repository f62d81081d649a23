"""Costs of the user's own: budgets, fitted widths and pre-flights in them, and what is refused in one line."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from searchspace import Arch, Budget, InputError, Space, cost, register_cost, zoo
from searchspace.__main__ import main
from searchspace.blocks.layers import Conv, Linear, leaves
from searchspace.budget import OWN_COSTS, amount
from searchspace.costs.latency import placed
from searchspace.space.preflight import preflight
from tests.searchspace.space.test_space import SMALL

ARCH = zoo("mobilenet_v2", num_classes=10, resolution=64)


def weight_bytes(arch: Arch) -> float:
    """One byte per weight of a convolution, four per number of a linear layer."""
    found = (leaf for section, shape in placed(arch) for leaf, _ in leaves(section, shape))
    return sum(leaf.weights if isinstance(leaf, Conv) else 4 * leaf.params * isinstance(leaf, Linear) for leaf in found)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = dict(OWN_COSTS)
    yield
    OWN_COSTS.clear()
    OWN_COSTS.update(before)


@pytest.fixture
def registered() -> None:
    register_cost("weight_bytes", unit="WB")(weight_bytes)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("text", ["200kWB", "0.2mwb", "weight_bytes<=200k", "weight_bytes <= 200000", "200000WB"])
def test_a_budget_in_it(text: str) -> None:
    budget = Budget.parse(text)
    assert str(budget) == "200kWB"
    assert Budget.parse(str(budget)) == budget
    assert Budget.parse(f"{text} and 30MFLOPs").limits_own
    assert not Budget.parse("30MFLOPs").limits_own
    assert amount(cost(ARCH).of("weight_bytes") or 0, "weight_bytes").endswith("MWB")


@pytest.mark.usefixtures("registered")
def test_ranges_and_small_numbers() -> None:
    assert str(Budget.parse("weight_bytes<=150-200k")) == "150-200kWB"
    assert str(Budget.parse("150-200kWB")) == "150-200kWB"
    assert Budget.parse("0.25WB").limits[0].high == 0.25


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("space", ["rexnet", "resnet"])
def test_every_sample_is_inside_such_a_budget(space: str) -> None:
    small = Space.load(space).fix(["resolution=64", "num_classes=10"])
    for seed in range(3):
        arch = small.sample(seed, "400kWB")
        assert 0.97 * 400_000 <= weight_bytes(arch) <= 400_000
        assert cost(arch).own == (("weight_bytes", weight_bytes(arch)),)


@pytest.mark.usefixtures("registered")
def test_choices_are_changed_where_no_width_is_solved_for() -> None:
    data = {
        "stem": {"width": 8},
        "schedule": {"start": 8, "end": {"choice": [12, 16, 24, 32, 48]}},
        "stages": [{"block": "mbconv", "expansion": {"choice": [1, 2, 4, 6]}, "depth": {"choice": [1, 2, 3]}}] * 2,
        "num_classes": 10,
        "resolution": 32,
    }
    for seed in range(5):
        candidate = Space(data).sample_point(random.Random(seed), "8kWB")
        assert weight_bytes(candidate.arch) <= 8000
    found = preflight(Space(data), "8kWB", sample=200)
    assert found.costs[0] == min(found.costs) > 0
    assert found.fits > 0


@pytest.mark.usefixtures("registered")
def test_describe_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "rexnet", "--budget", "3MWB", "--points", "50"]) == 0
    said = capsys.readouterr().out
    assert "could be fitted to 3MWB" in said


def test_twice_alike_is_once() -> None:
    for _ in range(2):
        register_cost("weight_bytes", unit="WB")(weight_bytes)
    with pytest.raises(InputError, match=r"^cost 'weight_bytes': another function has this name; give another$"):
        register_cost("weight_bytes", unit="WB")(lambda arch: 1.0)
    with pytest.raises(InputError, match="another function has this name"):
        register_cost("weight_bytes", unit="WBB")(weight_bytes)


def test_a_cell_of_a_notebook_that_is_run_again_registers_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    cells = [lambda arch: 1.0, lambda arch: 2.0, lambda arch: 1e9 / cost(arch).params]
    for cell in cells:
        cell.__module__ = "__main__"
    of(cells[0])
    of(cells[1], unit="YY")
    assert cost(ARCH).own == (("mine", 2.0),)
    with pytest.raises(InputError, match="a wider network has to cost as much"):
        of(cells[2])
    with pytest.raises(InputError, match="another function has this name"):
        of(lambda arch: 3.0)  # of another module
    assert cost(ARCH).own == (("mine", 2.0),)
    assert Budget.parse("5YY")


def of(function: Callable[[Any], Any], name: str = "mine", unit: str = "XX") -> None:
    register_cost(name, unit=unit)(function)


@pytest.mark.parametrize(
    ("function", "names", "says"),
    [
        (lambda arch: -1.0, {}, "cost 'mine': a finite number above 0 is accepted, not -1.0"),
        (lambda arch: 0, {}, "above 0 is accepted, not 0"),
        (lambda arch: math.nan, {}, "above 0 is accepted, not nan"),
        (lambda arch: math.inf, {}, "above 0 is accepted, not inf"),
        (lambda arch: None, {}, "cost 'mine': TypeError"),
        (lambda arch: arch.nothing, {}, "cost 'mine': AttributeError: 'Arch' object has no attribute 'nothing'"),
        (lambda arch: 1e9 / cost(arch).params, {}, "mobilenet_v2 costs .* at width 0.25 and .* at 0.5"),
        (3, {}, "a function of an Arch is accepted"),
        (cost, {"name": "macs"}, "the package counts what has this name"),
        (cost, {"name": "latency"}, "the package counts what has this name"),
        (cost, {"name": "a b"}, "a name of letters"),
        (cost, {"name": []}, "a name of letters"),
        (cost, {"unit": ""}, "unit: two letters or more"),
        (cost, {"unit": "B/s"}, "unit: two letters or more"),
        (cost, {"unit": "KB"}, "unit: KB is read as another unit with its prefix"),
        (cost, {"unit": "ms"}, "unit: ms is read as another unit"),
        (cost, {"unit": "MACs"}, "unit: MACs is read as another unit"),
    ],
)
def test_refuses_in_one_line(function: Any, names: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        of(function, **names)
    assert "\n" not in str(caught.value)
    assert not OWN_COSTS


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5XY", r"unknown unit 'XY'.* or WB"),
        ("volume<=5", r"no cost of your own is called 'volume'; there is weight_bytes"),
        ("weight_bytes<=", r"is accepted"),
        ("weight_bytes<=5ms", r"weight_bytes<= and a number with a prefix k, M, G is accepted"),
        ("weight_bytes<=-5", r"is accepted"),
        ("200-100kWB", "the range is turned round"),
        ("1WB", "cannot be met: networks of small.yaml cost"),
    ],
)
def test_a_budget_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Space(SMALL | {"width_mult": {"fit": [0.5, 2.0]}}, "small.yaml").sample(0, Budget.parse(text))


def test_a_cost_that_is_not_registered_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown unit 'kWB'.*\(--plugin FILE registers costs\)"):
        Budget.parse("5kWB")
    with pytest.raises(InputError, match="there is none, and --plugin FILE registers some"):
        Budget.parse("weight_bytes<=5")


def test_one_that_fails_later_is_one_line() -> None:
    register_cost("fussy", unit="FU")(lambda arch: 5.0 if arch.num_classes == 1000 else -5.0)
    with pytest.raises(InputError, match=r"^cost fussy: a finite number above 0 is accepted, not -5.0$"):
        cost(ARCH)
