"""Plans of an arena: no two maps that are alive together overlap, and no plan is below what is alive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas.bundle.arena import ALIGNMENT, Lifetime, least, place, plan, size_of


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    """A chain of maps, some of which are read again later."""
    sizes = draw(st.lists(st.integers(1, 5000), min_size=2, max_size=14))
    return [
        Lifetime(size, max(step - 1, 0), step + draw(st.sampled_from((0, 0, 1, 2)))) for step, size in enumerate(sizes)
    ]


@given(lifetimes())
def test_no_maps_overlap(maps: list[Lifetime]) -> None:
    offsets = plan(maps)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    for i, (one, low) in enumerate(zip(maps, offsets, strict=True)):
        for other, begin in zip(maps[:i], offsets[:i], strict=True):
            together = one.first <= other.last and other.first <= one.last
            assert not together or low + one.size <= begin or begin + other.size <= low
    assert size_of(maps, offsets) >= least(maps)


def test_a_better_plan_than_the_largest_first() -> None:
    """The maps of a strided block without and one with a shortcut, as TensorFlow Lite Micro's own planner places them:
    a quarter more than is alive."""
    sizes = (12, 16, 4, 4, 8, 8, 4, 4)
    lasts = (1, 2, 3, 7, 5, 6, 7, 8)
    maps = [Lifetime(1024 * size, step, last) for step, (size, last) in enumerate(zip(sizes, lasts, strict=True))]
    greedy = place(maps, sorted(range(len(maps)), key=lambda i: -maps[i].span))
    assert size_of(maps, plan(maps)) == least(maps) <= size_of(maps, greedy)
