"""Formulas of widths against plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspace.blocks.layers import share
from searchspace.costs.block_cost import Formula, Groups, Width, formula, function, largest

NUMBERS = st.integers(1, 1000)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_sums_and_products_are_those_of_the_numbers(a: int, b: int, factor: int) -> None:
    def computed(x: int, y: int) -> int:
        return 3 * x * (y + factor) + sum([x, 2 * y, 1]) + x * 0

    made = str(computed(Width(5, "x"), Width(7, "y")))
    assert function(["x", "y"], [made])(a, b) == (computed(a, b),)


@given(st.integers(1, 50), st.sampled_from([1, 2, 3, 8]))
def test_channels_a_group_are_exact(times: int, groups: int) -> None:
    made = 9 * (Width(24, "x") // groups) * Width(24, "x")
    x = times * groups
    assert function(["x"], [str(formula(made))])(x) == (9 * (x // groups) * x,)


@given(st.integers(1, 100), st.sampled_from([2, 3, 4]), st.booleans())
def test_shares_of_any_width_and_what_they_leave_are_exact(x: int, parts: int, up: bool) -> None:
    """Of widths that do not divide too, and of shares of shares."""

    def computed(width: Any) -> Any:
        some = share(width, parts, up)
        return 9 * some * some + (width - some) * share(some, 2) + width

    assert function(["x"], [str(computed(Width(24, "x")))])(x) == (computed(x),)
    assert computed(Width(24, "x")).terms.keys() >= {("x",)}


@given(st.integers(1, 50), st.sampled_from([1, 2, 3, 8]))
def test_a_group_width_may_be_open(times: int, groups: int) -> None:
    made = 9 * (Width(24, "x") // Groups(3, Width(8, "g"))) * Width(24, "x")
    x = times * groups
    assert function(["x", "g"], [str(formula(made))])(x, times) == (9 * (x // groups) * x,)


def test_what_is_no_polynomial_is_refused() -> None:
    with pytest.raises(TypeError, match="x // y is no polynomial"):
        Width(24, "x") // Width(24, "y")


@pytest.mark.parametrize(
    "made", [lambda x: x - 1, lambda x: 48 - x, lambda x: x / 2, lambda x: 1 / x, lambda x: 48 // x, lambda x: x**2]
)
def test_what_would_forget_the_name_is_refused(made: Callable[[Width], Any]) -> None:
    with pytest.raises(TypeError, match="x: a formula has sums"):
        made(Width(24, "x"))


@pytest.mark.parametrize(
    "asked",
    [
        lambda hidden, width, out: hidden > width,
        lambda hidden, width, out: max(hidden, 64),
        lambda hidden, width, out: hidden == out,
        lambda hidden, width, out: hidden != out,
        lambda hidden, width, out: hidden + width > 64,
        lambda hidden, width, out: hidden == 48,
        lambda hidden, width, out: hidden != 64,
        lambda hidden, width, out: hidden == Groups(48, Width(1, "group_width")),
        lambda hidden, width, out: hidden in (64, 72),
        lambda hidden, width, out: hidden in {64, 72},
        lambda hidden, width, out: {64: 3}.get(hidden, 5),
        lambda hidden, width, out: {128: 3}.get(2 * hidden, 5),
        lambda hidden, width, out: hidden == 2 * width,
        lambda hidden, width, out: 2 * width == hidden,
        lambda hidden, width, out: 2 * width == 32,
        lambda hidden, width, out: Groups(2, width) == 1,
        lambda hidden, width, out: Groups(2, width) > 1,
        lambda hidden, width, out: (hidden + width) // 2,
        lambda hidden, width, out: hidden % 2,
        lambda hidden, width, out: hidden & 1,
        lambda hidden, width, out: math.sqrt(hidden),
    ],
)
def test_what_differs_within_a_kind_of_block_is_refused(asked: Callable[..., Any]) -> None:
    """Else the formula of the first block of a kind, which is remembered, would be wrong for the next."""
    widths = [Width(number, name) for number, name in ((48, "hidden"), (16, "width"), (16, "out"))]
    assert widths[0] != widths[1] == widths[2]  # which the kind says
    with pytest.raises(TypeError, match=r"differs from network to network|nothing else is known"):
        asked(*widths)


def test_a_block_that_is_declared_to_ask_is_told_whether_a_width_is_odd() -> None:
    assert [Width(number, "hidden", parity=True) % 2 for number in (7, 8)] == [1, 0]
    with pytest.raises(TypeError, match="hidden % 4 differs from network to network"):
        Width(8, "hidden", parity=True) % 4


def test_only_what_may_be_largest_is_kept() -> None:
    x, y = formula(Width(1, "x")), formula(Width(1, "y"))
    kept = largest([x, 2 * x, y, x + y, 2 * x, 7])
    assert {str(found) for found in kept} == {"x*2", "x+y", "7"}
    assert isinstance(kept[0], Formula)
