from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspace.format.schedule import Schedule, channels, round_channels

REXNET_DEPTHS = [1, 2, 2, 3, 3, 5]


def test_rexnet_widths_round_half_to_even() -> None:
    """REFERENCE: 38.5, 83.5, 128.5 and 173.5 become 38, 84, 128 and 174."""
    by_increment = Schedule(start=16, increment=180 / 16)
    expected = [16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185]
    assert channels(by_increment, REXNET_DEPTHS) == expected
    assert channels(Schedule(start=16, end=184.75), REXNET_DEPTHS) == expected
    wider = [21, 35, 50, 65, 79, 94, 109, 123, 138, 152, 167, 182, 196, 211, 226, 240]
    assert channels(by_increment, REXNET_DEPTHS, 1.3) == wider


def test_piecewise_follows_its_slopes() -> None:
    late = Schedule(kind="piecewise", start=10, end=50, slopes=(0, 0, 0, 1))
    assert channels(late, [9]) == [10, 10, 10, 10, 10, 10, 10, 30, 50]
    even = Schedule(kind="piecewise", start=10, end=50, slopes=(2, 2))
    assert channels(even, [9]) == channels(Schedule(start=10, end=50), [9])
    flat = Schedule(kind="piecewise", start=10, end=50, slopes=(0, 0))
    assert channels(flat, [3]) == [10, 10, 10]


def test_stagewise_takes_its_stage_from_the_middle() -> None:
    assert channels(Schedule(kind="stagewise", start=10, end=50), [1, 3, 1]) == [10, 30, 30, 30, 50]
    assert channels(Schedule(kind="stagewise", widths=(8, 16)), [2, 1], 2.0) == [16, 16, 32]


def test_explicit_names_every_block() -> None:
    assert channels(Schedule(kind="explicit", widths=(3, 4, 5)), [1, 2]) == [3, 4, 5]
    with pytest.raises(ValueError, match="one a block, 4 in all, not 3"):
        channels(Schedule(kind="explicit", widths=(3, 4, 5)), [2, 2])


def test_no_width_is_rounded_below_the_least() -> None:
    """MobileNet at a quarter, with its code's least depth of 8 and of 16."""
    widths = (32.0, 64.0, 128.0)
    assert channels(Schedule("stagewise", widths=widths, divisor=8), [1, 1, 1], 0.1) == [8, 8, 16]
    assert channels(Schedule("stagewise", widths=widths, divisor=8, min_width=16), [1, 1, 1], 0.1) == [16, 16, 16]
    assert channels(Schedule("stagewise", widths=widths, min_width=10), [1, 1, 1], 0.1) == [10, 10, 13]


@given(st.floats(0.1, 5000), st.sampled_from([1, 4, 8, 16]))
def test_rounding_loses_at_most_ten_percent(width: float, divisor: int) -> None:
    rounded = round_channels(width, divisor)
    assert rounded >= max(1, divisor)
    assert rounded % divisor == 0
    assert divisor == 1 or rounded >= 0.9 * width


@given(
    st.sampled_from(["linear", "piecewise", "stagewise"]),
    st.floats(1, 50),
    st.floats(0, 300),
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.floats(0.1, 4),
    st.sampled_from([1, 8]),
)
def test_widths_never_decrease(
    kind: str, start: float, rise: float, slopes: list[int], depths: list[int], multiplier: float, divisor: int
) -> None:
    schedule = Schedule(kind, start, start + rise, slopes=tuple(slopes), divisor=divisor)  # type: ignore[arg-type]
    widths = channels(schedule, depths, multiplier)
    assert len(widths) == sum(depths)
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "one of end and increment"),
        ({"end": 20, "increment": 1}, "one of end and increment"),
        ({"start": 20, "end": 10}, "may not decrease"),
        ({"increment": -1}, "may not decrease"),
        ({"kind": "explicit"}, "lists one a block"),
        ({"end": 20, "slopes": ()}, "slopes"),
        ({"end": 20, "slopes": (-1.0,)}, "slopes"),
        ({"end": 20, "divisor": 0}, "divisor"),
        ({"start": 0, "end": 20}, "above 0"),
    ],
)
def test_refuses(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Schedule(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["linear", "piecewise"])
def test_widths_are_not_ignored(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"give one of end and increment .*; a {kind} one reads no widths"):
        Schedule(kind=kind, widths=(16, 24, 40))  # type: ignore[arg-type]
    assert channels(Schedule(kind=kind, start=8, end=8, widths=(16, 24, 40)), [1, 1]) == [8, 8]  # type: ignore[arg-type]
