"""Every network of the zoo has exactly the parameters, multiply-adds and activations of its reference."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from searchspace import Arch, InputError, build, cost, zoo
from searchspace.format.schedule import Schedule, channels
from searchspace.networks import names, network
from tests.support.paths import SUPPORT

GOLDEN = list(csv.DictReader((SUPPORT / "golden" / "models.csv").read_text("utf-8").splitlines()))
ONE_A_FAMILY = [
    "resnet18",
    "resnext50_32x4d",
    "mobilenet_v1",
    "mobilenet_v2",
    "mnasnet1_0",
    "mobilenet_v3_small",
    "mobilenet_v4_conv_small",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "convnext_tiny",
    "convnext_isotropic_small",
    "rexnet_100",
    "rexnet_lite_100",
    "rexnet_plain",
]


def options(row: dict[str, str]) -> dict[str, Any]:
    pairs = (pair.split("=") for pair in row["options"].split())
    return {name: json.loads(value) for name, value in pairs}


@pytest.mark.parametrize("row", GOLDEN, ids=[f"{row['source']} {row['resolution']}" for row in GOLDEN])
def test_costs_are_the_reference_s(row: dict[str, str]) -> None:
    spent = cost(zoo(row["name"], resolution=int(row["resolution"]), **options(row)))
    assert (spent.params, spent.macs) == (int(row["params"]), int(row["macs"]))
    if row["activations"]:
        assert spent.activations == int(row["activations"])


def test_every_name_has_a_golden_row() -> None:
    assert {row["name"] for row in GOLDEN} == set(names())


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_the_built_module_has_these_parameters(name: str) -> None:
    arch = zoo(name)
    assert sum(p.numel() for p in build(arch).parameters()) == cost(arch).params


@pytest.mark.parametrize("name", names())
def test_every_network_survives_its_file(name: str, tmp_path: Path) -> None:
    arch = zoo(name, num_classes=10, resolution=64)
    arch.save(tmp_path / "arch.yaml")
    assert Arch.load(tmp_path / "arch.yaml") == arch
    assert (arch.num_classes, arch.resolution, zoo(name).resolution) == (10, 64, 224)


def test_no_digest_of_the_zoo_moves() -> None:
    """Digests are written into studies. A new option has a default that leaves all of these as they are."""
    digests = {name: zoo(name).digest for name in names()}
    first = "".join(digest for name, digest in digests.items() if "_v4_" not in name)
    assert hashlib.sha256(first.encode()).hexdigest()[:16] == "45fe91eb8c92fcf8"
    assert hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:16] == "d62c7971c05f2797"


def test_a_network_takes_images_of_as_many_channels_as_are_asked_for() -> None:
    grey = zoo("resnet18", in_channels=1)
    assert cost(grey).params == cost(zoo("resnet18")).params - 2 * 64 * 7 * 7
    with torch.no_grad():
        assert build(grey).eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 1000)


def test_rexnet_s_widths_round_halves_to_even() -> None:
    widths = [block.out_channels for block in zoo("rexnet_100").blocks]
    assert widths == [16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185]
    added = [index for index, block in enumerate(zoo("rexnet_100").blocks, 1) if block.shortcut == "partial"]
    assert added == [3, 5, 7, 8, 9, 10, 11, 13, 14, 15, 16]


def test_regnet_s_schedule_has_both_roundings() -> None:
    numbers = {"kind": "quantised", "start": 24, "increment": 24.48, "ratio": 2.54, "divisor": 16}
    depths = [1, 2, 7, 12]
    torchvision = channels(Schedule(**numbers), depths)
    assert sorted(set(torchvision)) == [32, 64, 160, 400]
    assert sorted(set(channels(Schedule(**numbers, rounding="nearest"), depths))) == [32, 64, 160, 384]
    assert [s.depth for s in network("regnet_x_400mf").stages] == depths


def test_the_v1_stride_saves_multiply_adds_and_no_parameters() -> None:
    original, usual = cost(zoo("resnet50", stride_at="expand")), cost(zoo("resnet50"))
    assert (original.params, original.macs < usual.macs) == (usual.params, True)


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("resnet5", {}, "resnet50"),
        ("", {}, "no such name"),
        ("resnet50", {"width": 3}, "stride_at"),
        ("rexnet_lite_100", {"kernel_conf": "33"}, "kernel_conf"),
        ("mobilenet_v2", {"width_mult": -1.0}, "width_mult"),
        ("rexnet_100", {"width_mult": 0.0}, "rexnet_100"),
        ("resnet18", {"resolution": 16}, "resolution"),
        ("resnet18", {"resolution": 0}, "resolution"),
        ("resnet18", {"num_classes": 0}, "num_classes"),
        ("resnet18", {"num_classes": None}, "num_classes: a whole number, not None"),
        ("resnet18", {"num_classes": 10.0}, "num_classes: a whole number, not 10.0"),
        ("resnet18", {"num_classes": True}, "num_classes: a whole number, not True"),
        ("resnet18", {"resolution": "64"}, "resolution: a whole number, not '64'"),
        ("mobilenet_v2", {"width_mult": "1"}, "of the wrong type"),
        ("resnet18", {"output": "top"}, "output is one of logits, features, map"),
        ("mobilenet_v2", {"width_mult": 1e9}, "width_mult: above 0 and at most 1,000"),
        ("mobilenet_v2", {"width_mult": 900.0}, "hidden: at most 65,536"),
        ("rexnet_100", {"depth_mult": 99.0}, "stages: at most 1,000 blocks, not 1584"),
    ],
)
def test_what_the_zoo_does_not_have_is_said_in_a_line(name: str, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        zoo(name, **wrong)
    assert "\n" not in str(error.value)
