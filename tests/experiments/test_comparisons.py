"""Statistics, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from experiments import comparisons


def test_two_groups() -> None:
    """Five values all above five others: one of 252 ways to divide them is as far apart, and its mirror image."""
    low, high = [1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]
    assert comparisons.shuffled(high, low) == pytest.approx(2 / 252)
    assert comparisons.shuffled(low, low) == 1
    assert comparisons.shuffled(high * 4, low * 4) < 0.001
    difference, below, above = comparisons.apart(high, low)
    assert (difference, above - difference) == (5, pytest.approx(1.860 * 1, abs=1e-3))  # t of 8 degrees of freedom
    assert below == pytest.approx(2 * difference - above)
    assert comparisons.apart([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert comparisons.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
