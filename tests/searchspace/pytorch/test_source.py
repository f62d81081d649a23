"""The standalone file is the network that `build` makes, in names, weights, outputs, gradients; and it reads well."""

from __future__ import annotations

import builtins
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from searchspace import Arch, Budget, Space, build, zoo
from searchspace.blocks.layers import Layer, NormKind
from searchspace.format.network import Network
from searchspace.networks import names
from searchspace.pytorch.source import expression, source
from searchspace.space.space import ready
from tests.support.paths import ROOT
from tests.support.strategies import networks

FAST = ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "rexnet_100", "rexnet_lite_100", "convnext_tiny"]
MOBILE = ["mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0", "efficientnet_b0", "rexnet_100"]


def standalone(code: str) -> nn.Module:
    """The network that a file defines, where nothing can be imported but torch and the standard library."""

    def only_torch(name: str, *rest: Any) -> Any:
        if name.split(".")[0] not in {"torch", *sys.stdlib_module_names}:
            raise ImportError(name)
        return builtins.__import__(name, *rest)

    namespace: dict[str, Any] = {
        "__name__": "model",
        "__builtins__": {**vars(builtins), "__import__": only_torch},
    }
    exec(compile(code, "model.py", "exec"), namespace)
    network: nn.Module = namespace["Network"]()
    return network


def same(arch: Arch, resolution: int | None = None) -> None:
    """Assert that the file's network is the built one, bit for bit."""
    torch.manual_seed(0)
    built = build(arch, deployed=True)
    torch.manual_seed(0)
    written = standalone(source(arch))
    ours, theirs = built.state_dict(), written.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "fresh weights"
    side = resolution or arch.resolution
    images = torch.randn(2, arch.in_channels, side, side, generator=torch.Generator().manual_seed(1))
    outputs, gradients = [], []
    for model in (built, written):
        torch.manual_seed(2)  # what dropout and stochastic depth drop
        model.train()(images).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
        with torch.no_grad():
            outputs.append(model.eval()(images))
    assert outputs[0].shape == (2, arch.num_classes)
    assert torch.equal(*outputs)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_random_networks(network: Network) -> None:
    same(network.arch())


@pytest.mark.parametrize("kind", get_args(NormKind))
@pytest.mark.parametrize("se_norm", [False, True])
def test_one_norm_everywhere(kind: str, se_norm: bool) -> None:
    stage = {
        "block": "mbconv",
        "depth": 3,
        "norm": {"kind": kind},
        "se": 0.5,
        "se_norm": se_norm,
        "shortcut": "partial",
    }
    norm = {"norm": {"kind": kind}}
    same(
        Space(
            {
                "resolution": 16,
                "stem": {"width": 8, **norm},
                "schedule": {"kind": "linear", "start": 8, "increment": 2},
                "stages": [stage],
                "head": {"width": 16, **norm},
            }
        ).arch()
    )


@pytest.mark.parametrize("name", FAST)
def test_the_zoo(name: str) -> None:
    same(zoo(name, num_classes=10), 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in FAST])
def test_the_whole_zoo(name: str) -> None:
    same(zoo(name, num_classes=10), 64)


@pytest.mark.parametrize("space", ready())
def test_networks_of_every_space(space: str) -> None:
    for seed in range(4):
        same(Space.load(space).sample(seed, Budget.parse("20MFLOPs")), 64)


@pytest.mark.slow
@pytest.mark.parametrize("space", ready())
def test_many_networks_of_every_space(space: str) -> None:
    for seed in range(20):
        same(Space.load(space).sample(seed, Budget.parse("300MFLOPs")), 64)


@pytest.mark.parametrize(
    ("output", "says"),
    [("logits", "logits (N, 1000)"), ("features", "features (N, 1280)"), ("map", "map (N, 1280, 7, 7)")],
)
def test_a_file_says_what_its_network_puts_out(output: str, says: str) -> None:
    arch = zoo("mobilenet_v2", output=output)
    code = source(arch)
    assert f"Images (N, 3, 224, 224) in, {says} out." in code
    assert ("num_classes" in code) == (output == "logits")
    small = replace(arch, resolution=64)
    with torch.no_grad():
        _, *shape = standalone(code).eval()(torch.zeros(2, 3, 64, 64)).shape
    assert f"{output} (N, {', '.join(map(str, shape))}) out." in source(small)


def test_it_traces_scripts_and_exports(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(source(zoo("rexnet_100", num_classes=10)))
    model = runpy.run_path(str(tmp_path / "model.py"))["Network"]().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(torch.fx.symbolic_trace(model)(images), expected)
        assert torch.equal(torch.export.export(model, (images,)).module()(images), expected)
        assert torch.equal(torch.jit.script(model)(images), expected)


def test_it_is_written_as_a_person_would(tmp_path: Path) -> None:
    """Formatted and without a remark by ruff, short, and every abbreviation is used."""
    sampled = {f"mobile{seed}": Space.load("mobile").sample(seed, Budget.parse("300MFLOPs")) for seed in range(5)}
    for name, arch in {**sampled, **{name: zoo(name) for name in names()}}.items():
        code = source(arch)
        (tmp_path / f"{name}.py").write_text(code)
        assert len(code.splitlines()) <= 230 or name not in {*sampled, *MOBILE}, name
        for helper in ("chain", "residual", "ConvNormAct", "SqueezeExcite", "ChannelPad", "StochasticDepth"):
            assert code.count(f"{helper}(") != 1, f"{name}: {helper} is defined and not used"
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_layer_is_no_guess() -> None:
    with pytest.raises(TypeError, match="no source for the layer"):
        expression(Layer(), None)  # type: ignore[arg-type]
