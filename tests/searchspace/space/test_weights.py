"""Choices with weights: how often random networks have a value, and what a file may say."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from typing import Any

import pytest

from nas.samplers.domain import Domain
from searchspace import InputError, Space
from searchspace.space.choices import Options
from searchspace.space.preflight import preflight
from tests.searchspace.space.test_space import SMALL


def weighted(weights: Any) -> Space:
    data = copy.deepcopy(SMALL)
    data["stages"][0]["kernel"] = {"choice": [3, 5, 7], "weights": weights}
    return Space(data, "weighted")


def shares(values: list[Any]) -> dict[Any, float]:
    return {value: count / len(values) for value, count in Counter(values).items()}


def test_random_networks_have_a_value_as_often_as_its_weight_says() -> None:
    space, rng = weighted([6, 3, 1]), random.Random(0)
    drawn = [space.random_point(rng)["stage1.kernel"] for _ in range(3000)]
    assert shares(drawn) == pytest.approx({3: 0.6, 5: 0.3, 7: 0.1}, abs=0.03)
    domain = Domain(space.choices)
    drawn = [domain.draw(rng)["stage1.kernel"] for _ in range(3000)]
    assert shares(drawn) == pytest.approx({3: 0.6, 5: 0.3, 7: 0.1}, abs=0.03)
    drawn = [domain.mutate(domain.draw(rng), len(space.choices), rng)["stage1.kernel"] for _ in range(3000)]
    assert shares(drawn) == pytest.approx({3: 0.6, 5: 0.3, 7: 0.1}, abs=0.03)


def test_the_preflight_counts_by_the_weights() -> None:
    light, heavy = (preflight(weighted(weights), "100GFLOPs", band=0.0) for weights in ([1000, 1, 1], [1, 1, 1000]))
    assert light.quantile(0.5) < heavy.quantile(0.5)


def test_without_weights_draws_are_as_ever() -> None:
    options = Options([3, 5, 7])
    assert [options.draw(random.Random(seed)) for seed in range(20)] == [
        random.Random(seed).choice([3, 5, 7]) for seed in range(20)
    ]
    assert options.weights is None
    copied = pickle.loads(pickle.dumps(Options([1, 2], [3, 4])))
    assert (copied, copied.weights) == ((1, 2), (3.0, 4.0))


def test_what_is_left_of_a_choice_keeps_its_weights() -> None:
    space = weighted([6, 3, 1]).without(["5"])
    left = space.choices["stage1.kernel"]
    assert (left, left.weights) == ((3, 7), (6, 1))
    assert "stage1.kernel" not in weighted([6, 3, 1]).fix(["stage1.kernel=5"]).choices


WRONG = [[1, 2], [1, 2, 0], [1, 2, -1], [1, 2, "x"], [1, 2, True], 3, None, [1, 2, float("inf")]]


@pytest.mark.parametrize("weights", WRONG)
def test_weights_are_positive_numbers_one_per_value(weights: Any) -> None:
    with pytest.raises(InputError, match=r"stage1.kernel: weights: a number above 0 per choice"):
        weighted(weights)


def test_mobile_can_be_all_that_mobile_wide_can() -> None:
    mobile, wide = Space.load("mobile"), Space.load("mobile_wide")
    assert mobile.choices == wide.choices
    assert mobile.known == wide.known
    assert any(options.weights for options in mobile.choices.values())
    assert not any(options.weights for options in wide.choices.values())
    for block in ("mbconv", "fused_mbconv", "inverted", "bottleneck"):
        assert any(block in options for options in mobile.choices.values())
