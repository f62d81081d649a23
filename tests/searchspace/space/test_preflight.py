"""What a budget leaves of a space is told in little time."""

from __future__ import annotations

import pytest

from searchspace import Space
from searchspace.space import preflight as module


def test_fewer_networks_are_tried_where_they_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space.load("mobile")
    monkeypatch.setattr(module, "FITTED_S", 0.0)
    found = module.preflight(space, "30MFLOPs", sample=100)
    assert found.tried == module.FEWEST_FITTED
    assert 0.9 <= found.fits <= 1
    monkeypatch.setattr(module, "FITTED_S", 60.0)
    assert module.preflight(space, "30MFLOPs", sample=30).tried == 30
