from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from searchspace import Arch, Budget, InputError, Space, build, cost, zoo
from searchspace.blocks.blocks import Block
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network
from tests.support.strategies import networks

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
BLOCK = Block("mbconv", 8, 48, 8, groups=48, shortcut="identity")
ARCH = Arch(Stem(8), (BLOCK, BLOCK), Head(width=32), resolution=32, num_classes=5)


@FEW
@given(networks())
def test_round_trips(network: Network) -> None:
    arch = network.arch()
    again = Arch.from_dict(json.loads(json.dumps(arch.to_dict())))
    assert again == arch
    assert again.digest == arch.digest


def test_saves_and_loads(tmp_path: Path) -> None:
    ARCH.save(tmp_path / "a.yaml", "a title")
    assert Arch.load(tmp_path / "a.yaml") == ARCH


def test_digest_is_stable() -> None:
    """Pinned: digests are written into studies, so they may not change between versions or processes."""
    code = "from tests.searchspace.test_arch import ARCH; print(ARCH.digest)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == ARCH.digest == "98fe116fbaa95b4f"


@pytest.mark.parametrize(
    "same",
    [
        replace(BLOCK, type="bottleneck"),  # the same three convolutions by another name
        replace(BLOCK, type="inverted"),
        replace(BLOCK, shortcut="partial"),  # equal widths: nothing to pad
        replace(BLOCK, stride_at="expand"),  # no stride to place
    ],
)
def test_equal_networks_have_equal_digests(same: Block) -> None:
    assert replace(ARCH, blocks=(same, BLOCK)).digest == ARCH.digest


@pytest.mark.parametrize(
    "other",
    [
        replace(BLOCK, kernel=5),
        replace(BLOCK, hidden=24, groups=24),
        replace(BLOCK, expand_act="silu"),
        replace(BLOCK, spatial_act="none"),
        replace(BLOCK, project_act="gelu"),
        replace(BLOCK, add_act="relu"),
        replace(BLOCK, shortcut="none"),
    ],
)
def test_different_networks_have_different_digests(other: Block) -> None:
    assert replace(ARCH, blocks=(other, BLOCK)).digest != ARCH.digest


def test_digest_covers_the_ends() -> None:
    changed = [
        replace(ARCH, resolution=33),
        replace(ARCH, num_classes=6),
        replace(ARCH, in_channels=1),
        replace(ARCH, stem=replace(ARCH.stem, act="gelu")),
        replace(ARCH, head=replace(ARCH.head, dropout=0.5)),
    ]
    assert len({arch.digest for arch in (ARCH, *changed)}) == 6


@FEW
@given(networks())
def test_the_proxy_has_the_same_weights_but_the_classifier(network: Network) -> None:
    arch = network.arch()
    proxy = arch.adapt(num_classes=arch.num_classes + 1, resolution=16)
    ours, theirs = build(arch).state_dict(), build(proxy).state_dict()
    different = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert ours.keys() == theirs.keys()
    assert different == {"head.classifier.weight", "head.classifier.bias"}


def test_the_proxy_keeps_a_map() -> None:
    arch = Space.load("mobile").sample(0, Budget.parse("300MFLOPs"))
    for resolution in (8, 16, 32, 64, 65):
        proxy = arch.adapt(10, resolution)
        assert cost(proxy).macs < cost(arch).macs
        model = build(proxy).eval()
        maps: list[torch.Size] = []
        model.head.pool.register_forward_pre_hook(lambda _, x, maps=maps: maps.append(x[0].shape))  # type: ignore[union-attr]
        assert model(torch.zeros(2, 3, resolution, resolution)).shape == (2, 10)
        assert maps[0][-1] >= 2
    assert arch.adapt(resolution=224) == arch


@FEW
@given(networks())
def test_builds_trains_and_traces(network: Network) -> None:
    arch = network.arch()
    model = build(arch)
    images = torch.randn(2, 3, arch.resolution, arch.resolution)
    if min(images.shape[-1] // arch.total_stride, 2) == 2:
        model(images).square().sum().backward()
    model.eval()
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(images), model(images))


def test_exports() -> None:
    arch = Space.load("rexnet").sample(1, Budget.parse("60MFLOPs")).adapt(10, 64)
    model = build(arch).eval()
    image = (torch.randn(1, 3, 64, 64),)
    torch.testing.assert_close(torch.export.export(model, image).module()(*image), model(*image))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "stem: is missing"),
        ([], "an object"),
        ({"stem": {"width": 8}, "blocks": []}, "blocks: a network has at least one"),
        ({"stem": {"width": 8}, "blocks": [{"type": "mbconf"}]}, r"blocks\.0\.type: basic, "),
        ({"stem": {"width": 0}, "blocks": []}, "width: at least 1, not 0"),
        ({"stem": {"width": "8"}, "blocks": []}, r"stem\.width: a valid integer, not \"8\""),
        ({**ARCH.to_dict(), "resolution": 1}, "resolution: at least the total stride 2, not 1"),
        ({**ARCH.to_dict(), "colour": 1}, "colour: no such field"),
        ({**ARCH.to_dict(), "stem": {"width": 9}}, r"blocks\.0\.in_channels: 9 channels come in, not 8"),
    ],
)
def test_refuses(data: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Arch.from_dict(data)


def test_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("stem: {width: 8}\nblocks:\n- {type: mbconv, in_channels: 8,\n   hidden: -1, out_channels: 8}\n")
    with pytest.raises(InputError, match=r"bad\.yaml:3: blocks\.0: hidden: at least 1, not -1"):
        Arch.load(path)
    path.write_text("stem: {width: 8\nblocks: 3\n")
    with pytest.raises(InputError, match=r"bad\.yaml:\d: not YAML"):
        Arch.load(path)


def test_counting_needs_no_torch() -> None:
    code = (
        "import sys; from searchspace import Budget, Space, cost; "
        "import nas.search, nas.study.study, nas.workers.tuner, nas.report;"
        "Space.load('mobile').sample(0, Budget.parse('300MFLOPs')); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["convnext_tiny", "resnet18", "efficientnet_b0"])
def test_no_proxy_ends_in_a_single_pixel(name: str) -> None:
    """Layers that make patches leave out what is over: 63 px with strides of 32 are one pixel, not two."""
    for resolution in range(32, 72):
        for smallest in (2, 3):
            adapted = zoo(name).adapt(10, resolution=resolution, smallest_map=smallest)
            assert adapted.last_side >= smallest


@pytest.mark.parametrize("name", ["convnext_tiny", "resnet18"])
def test_a_relaxed_layer_that_makes_patches_shortens_the_map(name: str) -> None:
    """A kernel of 2 or 4 whose stride has become 1 takes a pixel."""
    for resolution in range(12, 33):
        for smallest in (2, 3, 4):
            assert zoo(name).adapt(10, resolution=resolution, smallest_map=smallest).last_side >= smallest


@pytest.mark.parametrize(("stride", "pixels"), [(3, 64), (5, 60), (7, 100)])
@pytest.mark.parametrize("downsample", ["separate", "merge", "pool"])
def test_patches_of_an_odd_stride_leave_out_what_is_over(stride: int, pixels: int, downsample: str) -> None:
    stages = [{"block": "convnext", "stride": stride, "downsample": downsample}, {"block": "basic", "stride": 2}]
    stem = {"width": 8, "stride": 4, "pool": 2}
    file = {"stem": stem, "schedule": {"start": 8, "end": 16}, "stages": stages, "num_classes": 10}
    for resolution in range(pixels - 20, pixels + 20):
        arch = Space({**file, "resolution": resolution, "smallest_map": 2}).arch()
        assert arch.last_side >= 2
        assert Space({**file, "resolution": 224}).arch().adapt(10, resolution).last_side >= 2


def test_no_network_of_a_space_has_a_map_that_its_file_excludes() -> None:
    for pixels in (100, 120, 124):
        space = Space.load("convnext").fix([f"resolution={pixels}"])
        assert space.sample(0, "300MFLOPs").last_side >= space.network.smallest_map
