"""Optuna's own tests of samplers, run over ours.

Left out is what no sampler of given choices does: sampling floats and integers jointly (`RelativeSamplerTestCase`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from nas.samplers import INNER
from tests.nas.samplers.test_samplers import make

SEVERAL = {name: partial(make, name) for name in ("random", "tpe", "nsga2")}
SINGLE = {"predictor": partial(make, "predictor")} | {name: partial(INNER[name], 0) for name in ("evolution", "local")}


@pytest.fixture
def sampler(request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
    """What makes a sampler; Optuna's tests suggest parameters of their own beside its choices."""
    made: Callable[[], BaseSampler] = (SINGLE | SEVERAL)[request.param]
    return made


@pytest.mark.parametrize("sampler", [*SINGLE, *SEVERAL], indirect=True)
class TestBasic(BasicSamplerTestCase):
    sampler = None


@pytest.mark.parametrize("sampler", [*SEVERAL], indirect=True)
class TestSeveralObjectives(MultiObjectiveSamplerTestCase):
    sampler = None


@pytest.mark.parametrize("sampler", [*SINGLE], indirect=True)
class TestOneObjective(SingleOnlySamplerTestCase):
    sampler = None
