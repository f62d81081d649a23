"""A network beyond this project: as a backbone, in timm, exported and compiled by torch."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from searchspace import Arch, Budget, InputError, Space, build, zoo
from searchspace.pytorch.pyramid import Pyramid
from tests.support.oracle import library
from tests.support.paths import ROOT

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
    importlib.import_module("searchspace.pytorch.timm_models")
    return found


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_pyramid_is_described_as_timm_describes_its_own(name: str, timm: Any) -> None:
    mine = timm.create_model("searchspace", arch=name, features_only=True)
    own = timm.create_model(name, features_only=True).feature_info
    first = 1 if name == "resnet18" else 0  # timm also gives the map before the stem's pool
    assert mine.reductions == mine.feature_info.reduction() == own.reduction()[first:]
    assert mine.channels == mine.feature_info.channels() == own.channels()[first:]
    chosen = timm.create_model("searchspace", arch=name, features_only=True, out_indices=(1, -1)).feature_info
    assert chosen.reduction() == [mine.reductions[1], 32]
    assert chosen.module_name() == [mine.feature_info.info[1]["module"], mine.feature_info.info[-1]["module"]]


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


TRAIN_PY = {"in_chans": 3, "drop_rate": 0.0, "drop_path_rate": None, "drop_block_rate": None, "global_pool": None}
TRAIN_PY |= {"bn_momentum": None, "bn_eps": None, "scriptable": False, "checkpoint_path": "", "pretrained": False}


def test_timm_s_scripts_pass_what_they_pass_to_any_model(timm: Any) -> None:
    arch = zoo("rexnet_100", num_classes=5)
    model = timm.create_model("searchspace", arch=arch, num_classes=7, **TRAIN_PY)
    assert model.arch == replace(arch, num_classes=7, head=replace(arch.head, dropout=0.0))
    grey = timm.create_model("searchspace", arch=arch, in_chans=2, drop_rate=0.4, drop_path_rate=0.3, img_size=96)
    assert (grey.arch.in_channels, grey.arch.head.dropout, grey.arch.resolution) == (2, 0.4, 96)
    assert [block.drop_path for block in grey.arch.blocks] == pytest.approx([0.3 * i / 15 for i in range(16)])
    assert grey.default_cfg["input_size"] == (2, 96, 96)
    assert grey(torch.randn(2, 2, 64, 64)).shape == (2, 5)
    idle = {"drop_block_rate": 0.0, "global_pool": "avg", "exportable": True}
    assert timm.create_model("searchspace", arch=arch, **idle).arch == arch


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pretrained": True}, "no weights come with"),
        ({"act_layer": "silu"}, "act_layer 'silu': arch, num_classes, in_chans, drop_rate, .* are accepted"),
        ({"drop_block_rate": 0.1}, "of drop_block_rate 0 or 0.0"),
        ({"global_pool": "max"}, "of global_pool 'avg'"),
        ({"drop_rate": 1.5}, "drop_rate 1.5: dropout: a probability below 1"),
        ({"drop_path_rate": -0.5}, "drop_path_rate -0.5: drop_path: a probability"),
        ({"in_chans": 0}, "in_chans 0: in_channels: "),
        ({"img_size": (96, 128)}, "a square is accepted"),
        ({"img_size": 8}, "at least the total stride 32"),
        ({"drop_rate": "much"}, "drop_rate 'much': "),
    ],
)
def test_options_that_no_arch_says_are_refused(options: dict[str, Any], says: str, timm: Any) -> None:
    with pytest.raises(InputError, match=says):
        timm.create_model("searchspace", arch="mobilenet_v2", **options)


def test_a_network_without_a_classifier_has_timm_s_identity(timm: Any) -> None:
    model = timm.create_model("searchspace", arch="mobilenet_v3_small", num_classes=0)
    assert isinstance(model.get_classifier(), torch.nn.Identity)
    assert model.num_classes == 0
    model.reset_classifier(3, "avg")
    assert model.get_classifier().out_features == 3


def test_maps_between_are_those_of_the_backbone(timm: Any) -> None:
    arch = zoo("mobilenet_v3_small", num_classes=4)
    model = timm.create_model("searchspace", arch=arch).eval()
    backbone = timm.create_model("searchspace", arch=arch, features_only=True).eval()
    backbone.load_state_dict(model.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last, maps = model.forward_intermediates(images)
        few = model.forward_intermediates(images, indices=[0, -2], stop_early=True, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(maps, backbone(images), strict=True))
        assert torch.equal(last, model.forward_features(images))
    assert torch.equal(few[0], maps[0])
    assert torch.equal(few[1], maps[-2])


def test_checkpointing_changes_memory_and_nothing_else(timm: Any) -> None:
    model = timm.create_model("searchspace", arch=zoo("mobilenet_v3_small", num_classes=4)).eval()
    images, gradients = torch.randn(2, 3, 64, 64), []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        model.zero_grad()
        model(images).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_learning_rates_decay_towards_the_stem(timm: Any) -> None:
    model = timm.create_model("searchspace", arch="mobilenet_v2")
    groups = importlib.import_module("timm.optim").param_groups_layer_decay(model, layer_decay=0.5)
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    first, last = (scale[id(model.get_parameter(name))] for name in ("stem.conv.weight", "head.classifier.weight"))
    assert last == 1
    assert first < scale[id(next(model.block1.parameters()))] < scale[id(next(model.block9.parameters()))] < last


def test_a_trained_folder_brings_its_preparation_to_timm(timm: Any, tmp_path: Path) -> None:
    arch = zoo("mobilenet_v3_small", num_classes=2, resolution=64)
    arch.save(tmp_path / "arch.yaml")
    state = build(arch).state_dict()
    trained = {"mean": [51.0, 102.0, 153.0], "std": [25.5, 51.0, 255.0]}
    save_file(state, tmp_path / "weights.safetensors", {"trained": json.dumps(trained)})
    for given in (tmp_path, str(tmp_path / "arch.yaml")):
        found = timm.data.resolve_data_config(model=timm.create_model("searchspace", arch=given))
        assert found["mean"] == pytest.approx((0.2, 0.4, 0.6))
        assert found["std"] == pytest.approx((0.1, 0.2, 1.0))
        assert (found["input_size"], found["crop_pct"], found["interpolation"]) == ((3, 64, 64), 1.0, "bilinear")
    save_file(state, tmp_path / "weights.safetensors", {"trained": "[" * 100_000})
    with pytest.raises(InputError, match="not of a training"):
        timm.create_model("searchspace", arch=tmp_path)


def test_a_network_is_scripted(timm: Any) -> None:
    """By itself and as timm's, which `validate.py --torchscript` asks for."""
    arch, images = sampled("mobile").adapt(num_classes=3, resolution=64), torch.randn(2, 3, 64, 64)
    for model in (build(arch).eval(), timm.create_model("searchspace", arch=arch, scriptable=True).eval()):
        with torch.no_grad():
            assert torch.equal(torch.jit.script(model)(images), model(images))


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


def test_torch_is_imported_where_module_py_says() -> None:
    package = ROOT / "searchspace"
    importing = {
        path.name for path in package.rglob("*.py") if re.search(r"^(from|import) torch\b", path.read_text(), re.M)
    }
    reading = {"graph.py", "modules.py", "read.py", "weights.py"}
    assert importing == {"module.py", "initialise.py", "pyramid.py", "timm_models.py", *reading}
    told = "from searchspace.pytorch import module"
    building = {path.name for path in package.rglob("*.py") if told in path.read_text()}
    assert building == {"source.py"}
    for name in importing - {"module.py"} | building:
        assert f"`{name}`" in (package / "pytorch" / "module.py").read_text()
