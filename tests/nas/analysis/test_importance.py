from __future__ import annotations

import random
from typing import Any

import pytest

from nas.analysis.importance import FEWEST, Importances, factor, importances
from nas.trial import TrialRecord
from nas.views import figures
from nas.views.page import weights
from searchspace import Space
from tests.support.records import record

SPACE = Space.load("mobile")


def trials(number: int, effect: Any, seed: int = 0) -> list[TrialRecord]:
    """Random points with an accuracy that `effect` gives, and noise."""
    rng, made = random.Random(seed), []
    for index in range(number):
        point = SPACE.random_point(rng)
        accuracy = 0.5 + effect(point) + rng.gauss(0, 0.01)
        made.append(record(index, score=accuracy, point=point))
    return made


def kernels(point: dict[str, Any]) -> float:
    return sum(0.02 * (point[f"stage{i}.kernel"] > 3) for i in range(1, 7))


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("stage3.expansion", "expansion"),
        ("stage12.block", "block"),
        ("schedule.slope2", "schedule"),
        ("stem.act", "nonlinearity"),
        ("stage1.spatial_act", "nonlinearity"),
        ("stage2.se_position", "se"),
        ("stage1.norm.kind", "norm"),
        ("budget_share", "budget_share"),
    ],
)
def test_a_parameter_has_a_factor(parameter: str, said: str) -> None:
    assert factor(parameter) == said


def test_what_decides_comes_first_and_the_rest_is_not_told_from_noise() -> None:
    found = importances(trials(120, kernels))
    first, *rest = found.factors
    assert (first.factor, first.low > 0.05) == ("kernel", True)
    assert found.explained > 0.2
    assert all(first.low > other.high for other in rest)
    assert {f.factor for f in found.factors} == {factor(name) for name in SPACE.choices}
    assert found.sentence.startswith("From 120 trials (R² 0.")
    assert "kernel 0." in found.sentence
    page = weights(found)
    assert page.count("<tr>") == 1 + len(found.factors)
    assert "kernel" in figures.svg(figures.importance(found))


def test_noise_is_called_noise() -> None:
    found = importances(trials(60, lambda point: 0.0))
    assert found.sentence.endswith("nothing that can be told from noise.")


def test_few_trials_say_nothing() -> None:
    found = importances(trials(FEWEST - 1, kernels))
    assert found == Importances(FEWEST - 1)
    assert found.sentence == f"Too few trials to say ({FEWEST - 1} of the {FEWEST} that it takes)."
    assert weights(found) == f"<p>{found.sentence}</p>"
    assert importances([]).trials == 0


def test_is_the_same_again() -> None:
    some = trials(FEWEST, kernels)
    assert importances(some) == importances(some)
