"""A network beyond this project: as a backbone, in timm, exported and compiled by torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from searchspace import Arch, Budget, InputError, Space, build, zoo
from searchspace.pyramid import Pyramid
from tests.oracle import library

SPACES = ["mobile", "rexnet", "resnet", "convnext", "regnet"]
BUDGETS = {"resnet": "800MFLOPs", "convnext": "800MFLOPs"}


def sampled(space: str, seed: int = 0) -> Arch:
    return Space.load(space).sample(seed, Budget.parse(BUDGETS.get(space, "300MFLOPs")))


@pytest.mark.parametrize("space", SPACES)
def test_a_pyramid_has_the_maps_that_the_network_computes(space: str) -> None:
    arch = sampled(space)
    model, pyramid = build(arch).eval(), Pyramid(arch).eval()
    missing, unexpected = pyramid.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith("head.") for name in unexpected)
    images, seen = torch.randn(1, 3, 96, 128), {}
    for name, part in model.named_children():
        part.register_forward_hook(lambda part, inputs, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        model(images)
        maps = pyramid(images)
    assert pyramid.reductions == sorted(set(pyramid.reductions))
    assert pyramid.reductions[-1] == arch.total_stride
    for found, level in zip(maps, pyramid.levels, strict=True):
        assert torch.equal(found, seen[level.part])
        assert found.shape == (1, level.channels, -(-96 // level.reduction), -(-128 // level.reduction))


def test_levels_are_chosen_as_timm_chooses_them() -> None:
    arch = zoo("rexnet_100")
    assert Pyramid(arch, (1, 2, 3, 4)).reductions == [4, 8, 16, 32]
    assert Pyramid(arch, (-2, -1)).reductions == [16, 32]
    early = Pyramid(arch, [1])
    assert early.reductions == [4]
    assert "block16" not in dict(early.named_children())
    assert [info["num_chs"] for info in early.feature_info] == early.channels
    for wrong in ([5], [-6], []):
        with pytest.raises(InputError, match="levels are 0 to 4"):
            Pyramid(arch, wrong)


@pytest.fixture(scope="module")
def timm() -> Any:
    found = library("timm")
    importlib.import_module("searchspace.timm_models")
    return found


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_pyramid_is_described_as_timm_describes_its_own(name: str, timm: Any) -> None:
    mine = timm.create_model("searchspace", arch=name, features_only=True)
    own = timm.create_model(name, features_only=True).feature_info
    first = 1 if name == "resnet18" else 0  # timm also gives the map before the stem's pool
    assert mine.reductions == own.reduction()[first:]
    assert mine.channels == own.channels()[first:]


def test_timm_creates_our_networks(timm: Any, tmp_path: Path) -> None:
    arch = sampled("mobile")
    arch.save(tmp_path / "arch.yaml")
    state = build(arch).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    model = timm.create_model(
        "searchspace", arch=str(tmp_path / "arch.yaml"), checkpoint_path=str(tmp_path / "weights.safetensors")
    )
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    images = torch.randn(2, 3, 64, 64)
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(images), model.forward_head(model.forward_features(images)))
    assert timm.data.resolve_data_config(model=model)["input_size"] == (3, 224, 224)
    assert model.get_classifier().out_features == 1000
    other = timm.create_model("searchspace", arch=arch, num_classes=7)
    assert other(images).shape == (2, 7)
    assert other.get_classifier().in_features == other.num_features
    other.reset_classifier(5)
    assert (other(images).shape, other.num_classes) == ((2, 5), 5)
    other.reset_classifier(0)
    assert other(images).shape == (2, other.num_features)
    assert timm.create_model("searchspace", arch=arch, num_classes=0)(images).shape == (2, other.num_features)
    assert timm.create_model("searchspace", arch="mobilenet_v3_small", num_classes=3)(images).shape == (2, 3)
    for options in ({"pretrained": True}, {"drop_rate": 0.5}):
        with pytest.raises(InputError):
            timm.create_model("searchspace", arch=arch, **options)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["mobile", "convnext"])
def test_torch_exports_a_network_for_any_batch(space: str) -> None:
    arch = sampled(space).adapt(num_classes=10, resolution=64)
    model, images = build(arch).eval(), torch.randn(2, 3, 64, 64)
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    more = torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(exported(more), model(more), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("space", SPACES)
def test_torch_compiles_a_network_in_one_graph(space: str) -> None:
    arch = sampled(space).adapt(num_classes=10, resolution=64)
    model, images = build(arch).eval(), torch.randn(2, 3, 64, 64)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(images), model(images), atol=1e-4)
    torch._dynamo.reset()
