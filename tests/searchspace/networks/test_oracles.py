"""The same function, not only the same size: with torchvision's or timm's weights, our networks give their outputs.

Outputs of the fast ones are compared in float32 and gradients in float64, where they may not hide behind rounding.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from searchspace import Arch, build, zoo
from searchspace.format.schedule import Schedule
from searchspace.networks import names, network
from tests.support.oracle import copy, disturb, oracle
from tests.support.references import REFERENCES

TOLERANCE = 1e-4
RESOLUTION = 64
OPTIONS: dict[str, dict[str, Any]] = {
    "mobilenetv1_125": {"width_mult": 1.25},
    "mobilenetv2_050": {"width_mult": 0.5},
    "mobilenetv2_140": {"width_mult": 1.4},
    "mnasnet1_3": {"width_mult": 1.3},
    "regnetx_004": {"rounding": "nearest"},
    "regnety_008": {"rounding": "nearest"},
    "regnety_080": {"rounding": "nearest"},
    "resnet50 v1": {"stride_at": "expand"},
    "resnet101 v1": {"stride_at": "expand"},
}
TIMM = {
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv1_125": "mobilenet_v1",
    "mobilenetv2_050": "mobilenet_v2",
    "mobilenetv2_140": "mobilenet_v2",
    "regnetx_004": "regnet_x_400mf",
    "regnety_008": "regnet_y_800mf",
    "regnety_080": "regnet_y_8gf",
    "convnext_xlarge": "convnext_xlarge",
    **{f"mobilenetv4_conv_{size}": f"mobilenet_v4_conv_{size}" for size in ("small", "medium", "large")},
    **{f"rexnet_{size}": f"rexnet_{size}" for size in (100, 130, 150, 200, 300)},
}
REFERENCE = {name: name.partition(" ")[0] for name in REFERENCES}
TORCHVISION = {"mnasnet1_3": "mnasnet1_0"} | {n: n for n in names() if n not in (*TIMM.values(), *REFERENCE)}
TORCHVISION |= {n: n for n in ("mobilenet_v2", "regnet_x_400mf", "regnet_y_800mf", "regnet_y_8gf")}
FAST = [
    ("torchvision", "resnet18"),
    ("torchvision", "resnet50"),
    ("torchvision", "resnext50_32x4d"),
    ("timm", "mobilenetv1_100"),
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "mnasnet1_0"),
    ("torchvision", "mobilenet_v3_large"),
    ("torchvision", "efficientnet_b0"),
    ("torchvision", "efficientnet_v2_s"),
    ("torchvision", "regnet_x_400mf"),
    ("torchvision", "regnet_y_400mf"),
    ("timm", "regnetx_004"),
    ("torchvision", "convnext_tiny"),
    ("timm", "rexnet_100"),
    ("timm", "mobilenetv4_conv_small"),
    ("reference", "rexnet_lite_100"),
    ("reference", "rexnet_plain"),
    ("reference", "convnext_isotropic_small"),
    ("reference", "resnet50 v1"),
]
KNOWN = {"torchvision": TORCHVISION, "timm": TIMM, "reference": REFERENCE}
ALL = [(source, name) for source, known in KNOWN.items() for name in known]
SLOW = [pair for pair in ALL if pair not in FAST]


def both(source: str, name: str) -> tuple[nn.Module, nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Theirs and ours with the same disturbed weights, in evaluation, and the pairs of parameters."""
    theirs = oracle(source, name)
    disturb(theirs, RESOLUTION)
    known, options = KNOWN[source][name], OPTIONS.get(name, {})
    arch = dilated() if name == "resnet50 dilated" else zoo(known, resolution=RESOLUTION, **options)
    ours = build(arch)
    pairs = copy(theirs, ours, shortcut_first=source == "torchvision" and name.startswith("regnet"))
    return theirs.eval(), ours.eval(), pairs


def dilated() -> Arch:
    """ResNet-50 with dilations for strides: a stage's first block still has the dilation of the stage before."""
    whole = network("resnet50")
    first, second, third, fourth = whole.stages
    third, fourth = replace(third, stride=1), replace(fourth, stride=1, dilation=2)
    stages = (first, second, replace(third, depth=1), replace(third, depth=5, dilation=2))
    stages += (replace(fourth, depth=1), replace(fourth, depth=2, dilation=4))
    schedule = Schedule("stagewise", widths=(256, 512, 1024, 1024, 2048, 2048))
    return replace(whole, stages=stages, schedule=schedule, resolution=RESOLUTION).arch()


def difference(theirs: nn.Module, ours: nn.Module) -> float:
    images = torch.randn(2, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, given = theirs(images), ours(images)
    assert expected.std() > 0.3, "logits that hardly differ: the comparison would say little"
    return float((expected - given).abs().max())


@pytest.mark.parametrize(("source", "name"), FAST)
def test_outputs_and_gradients_agree(source: str, name: str) -> None:
    theirs, ours, pairs = both(source, name)
    assert difference(theirs, ours) <= TOLERANCE
    images = torch.randn(2, 3, RESOLUTION, RESOLUTION, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for model in (theirs, ours):
        (model.double()(images) ** 2).sum().backward()
    for expected, given in pairs:
        assert expected.grad is not None
        assert given.grad is not None
        torch.testing.assert_close(given.grad.flatten(), expected.grad.flatten(), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "name"), SLOW)
def test_outputs_agree(source: str, name: str) -> None:
    theirs, ours, _ = both(source, name)
    assert difference(theirs, ours) <= TOLERANCE


@pytest.mark.parametrize("change", ["eps", "act"])
def test_the_comparison_can_fail(change: str) -> None:
    theirs, ours, _ = both("torchvision", "mobilenet_v2")
    for part in ours.modules():
        if change == "act" and isinstance(part, nn.ReLU6):
            part.max_val = 7.0
        if change == "eps" and isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-3
    assert difference(theirs, ours) > TOLERANCE
