"""What weights a network starts from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from searchspace import build, zoo


@pytest.mark.parametrize(("name", "bound"), [("efficientnet_b0", 1000**-0.5), ("mnasnet1_0", math.sqrt(3 / 1000))])
@pytest.mark.parametrize("classes", [10, 1000])
def test_a_classifier_starts_alike_however_many_classes_there_are(name: str, bound: float, classes: int) -> None:
    """By the papers' rule for 1,000 classes that of ten started ten times as wide, with a loss of 8 in place of 2.3."""
    *_, classifier = (part for part in build(zoo(name, num_classes=classes)).modules() if isinstance(part, nn.Linear))
    largest = float(classifier.weight.detach().abs().max())
    assert 0.99 * bound < largest <= bound
    assert float(classifier.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    "name",
    ["efficientnet_b0", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v4_conv_small", "rexnet_100"],
)
def test_no_network_is_sure_of_anything_before_it_is_trained(name: str) -> None:
    torch.manual_seed(0)
    model = build(zoo(name, num_classes=10, resolution=64).adapt(10, 64)).train()
    loss = nn.functional.cross_entropy(model(torch.randn(32, 3, 64, 64)), torch.arange(32) % 10)
    assert float(loss.detach()) < math.log(10) + 0.6
