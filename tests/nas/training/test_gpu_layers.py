"""Layers by Triton's kernels are PyTorch's: carried out by Triton's interpreter, and compiled for GPUs that are not
here. Where Triton is not installed (`make oracles` brings it) these tests are skipped, and fail where CI runs them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.training import gpu_layers
from nas.training.gpu_layers import DoneBefore, TritonDepthwise, TritonNorm, use_triton_layers, why_not
from nas.training.trainer import Training
from searchspace import Budget, Space, build
from tests.support.oracle import library

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # in what is not kept
ACTIVATIONS = nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish


@pytest.fixture
def kernels() -> ModuleType:
    library("triton")
    return gpu_layers.own_kernels()


def with_batch_statistics(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.track_running_stats = False
    return model


@pytest.mark.parametrize(
    ("images", "channels", "side", "kernel", "stride", "dilation"),
    [
        (2, 17, 9, 3, 1, 1),
        (2, 34, 8, 5, 2, 1),
        (1, 40, 7, 7, 1, 1),
        (2, 6, 9, 3, 2, 2),
        (3, 64, 1, 3, 1, 1),
        (1, 12, 2, 5, 2, 1),
    ],
)
def test_a_depthwise_convolution_and_its_gradients_are_pytorchs(
    kernels: ModuleType, images: int, channels: int, side: int, kernel: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(images, channels, side, side + 1, requires_grad=True)
    weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
    padding = dilation * (kernel // 2), dilation * (kernel // 2)
    right = F.conv2d(x, weight, None, stride, padding, dilation, channels)
    gradient = torch.randn_like(right)
    dx, dweight = torch.autograd.grad(right, (x, weight), gradient)
    with torch.no_grad():
        how = kernels.taps_of(weight), (kernel, kernel), stride, padding, dilation
        found, gradients = kernels.depthwise(x, *how), kernels.depthwise_gradients(gradient, x, *how)
    for ours, theirs in zip((found, *gradients), (right, dx, dweight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["none", "relu", "relu6", "silu", "hard_swish"])
@pytest.mark.parametrize(("images", "channels", "side"), [(3, 17, 9), (5, 40, 8), (70, 6, 2), (4, 64, 1)])
def test_a_norm_and_the_nonlinearity_after_it_are_pytorchs_also_where_the_mean_is_large(
    kernels: ModuleType, images: int, channels: int, side: int, kind: str
) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(images, channels, side, side) + 100).requires_grad_()
    weight, bias = (torch.randn(channels, requires_grad=True) for _ in range(2))
    exact = x.double(), weight.double(), bias.double()
    right = gpu_layers.FUNCTIONS[kind](F.batch_norm(exact[0], None, None, *exact[1:], True, 0.0, 1e-5))
    gradient = torch.randn_like(right)
    theirs = torch.autograd.grad(right, (x, weight, bias), gradient)
    with torch.no_grad():
        y, mean, scale = kernels.normalize(x, weight, bias, 1e-5, kind)
        ours = kernels.normalize_gradients(gradient.float(), x, weight, bias, mean, scale, kind)
    for found, wanted in zip((y, *ours), (right.float(), *theirs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=3e-4)


def test_parts_cover_every_row_once_and_are_few_enough_for_the_kernel_that_adds_them(kernels: ModuleType) -> None:
    for rows in (1, 31, 128, 129, 16_000, 65_536, 3_000_001):
        for tile in (32, 128):
            for others in (1, 3, 500):
                number, each = kernels.parts_of(rows, tile, others, torch.device("cpu"))
                assert number <= kernels.MOST_PARTS
                assert each % tile == 0
                assert (number - 1) * each < rows <= number * each


@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.GELU])
def test_layers_train_and_score_as_those_they_replace(kernels: ModuleType, activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, 5, 2, 2, groups=6), nn.BatchNorm2d(6), activation(), nn.Conv2d(6, 4, 1))
    nn.init.normal_(plain[1].weight, 2.0)
    other = copy.deepcopy(plain)
    use_triton_layers(other)
    fused = activation in ACTIVATIONS
    assert [type(part) for part in other[:3]] == [TritonDepthwise, TritonNorm, DoneBefore if fused else activation]
    assert list(other.state_dict()) == list(plain.state_dict())
    x = 3 * torch.randn(4, 6, 9, 9)
    answers: list[Tensor] = []
    for model in (plain, other):
        with_batch_statistics(model)(x).square().sum().backward()
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.track_running_stats = True
        model(x)  # the statistics that scoring reads are PyTorch's own
        answers.append(model.eval()(x))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-4)
    for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-2 if "0." in name else 1e-3)
    torch.testing.assert_close(other.state_dict()["1.running_var"], plain.state_dict()["1.running_var"])


def test_a_network_that_has_left_the_gpu_needs_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(gpu_layers, "own_kernels", lambda: pytest.fail("used on a CPU"))
    model = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6), nn.ReLU())
    other = copy.deepcopy(model)
    use_triton_layers(other)
    x = torch.randn(4, 6, 8, 8)
    for each in (with_batch_statistics(model), with_batch_statistics(other)):
        each(x)
    torch.testing.assert_close(other(x), model(x))
    torch.testing.assert_close(other.eval()(x), model.eval()(x))


def test_a_norm_in_two_places_keeps_the_nonlinearities_after_it() -> None:
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(nn.Sequential(norm, nn.ReLU()), nn.Sequential(norm, nn.SiLU()))
    use_triton_layers(model)
    assert norm.kind == "none"
    assert [type(part) for part in model.modules()].count(DoneBefore) == 0


def test_a_searched_network_is_the_same_with_them(kernels: ModuleType) -> None:
    arch = Space.load("mobile").sample(0, Budget.parse("30MFLOPs")).adapt(10, 16)
    model = with_batch_statistics(build(replace(arch, head=replace(arch.head, dropout=0.0))))
    other = copy.deepcopy(model)
    use_triton_layers(other)
    kinds = [type(part) for part in other.modules()]
    assert min(kinds.count(kind) for kind in (TritonDepthwise, TritonNorm, DoneBefore)) > 5
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(other(x), model(x), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(other.eval()(x), model.eval()(x), rtol=1e-4, atol=1e-4)


def test_why_they_cannot_be_used_is_said_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> ModuleType:
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(gpu_layers, "own_kernels", missing)
    why_not.cache_clear()
    why = why_not("cpu")
    why_not.cache_clear()
    assert why == "ModuleNotFoundError: No module named 'triton'"
    random = np.random.default_rng(0)
    split = Split.of(random.integers(0, 256, (40, 3, 16, 16), np.uint8), np.arange(40) % 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    training = Training(network, split, TrainConfig(epochs=1, batch_size=8), 0, "cpu")
    assert training.notes == ()
    training.why_no_kernels = why
    assert training.notes == (f"trained without Triton's kernels: {why}",)
    assert [epoch.number for epoch in training] == [1]


def test_the_interpreter_says_that_they_can_be_used(kernels: ModuleType) -> None:
    why_not.cache_clear()
    assert why_not("cpu") == ""
    why_not.cache_clear()


def test_every_kernel_compiles_for_an_a100_and_an_h100_and_reads_aligned_channels_at_once(
    kernels: ModuleType, tmp_path: Path
) -> None:
    program = """
        import triton
        from triton.backends.compiler import GPUTarget
        from nas.training import triton_kernels as own

        sixteen, numbers = "*bf16", "*fp32"
        sixteens = {"x", "y", "gradient", "taps", "dx"}
        values = {"STRIDE": 2, "DOWN": 3, "ACROSS": 3, "PIXELS": 64, "CHANNELS": 16}
        values |= {"ROWS": 128, "LANES": 32, "PARTS": 128}
        pointers = sixteens | {"parts", "mean", "scale", "weight", "bias", "dweight", "dbias"}
        for name in ("_depthwise", "_depthwise_images", "_depthwise_weights", "_sums", "_normalize", "_gradient_sums",
                     "_gradients"):
            kernel = getattr(own, name)
            for capability, vector in ((80, 1), (90, 8)):
                types = {
                    one: "constexpr" if one.isupper() else sixteen if one in sixteens else numbers if one in pointers
                    else "fp32" if one == "epsilon" else "i32"
                    for one in kernel.arg_names
                }
                places = dict(enumerate(kernel.arg_names))
                constants = {(at,): {**values, "VECTOR": vector}[one] for at, one in places.items() if one.isupper()}
                aligned = {(at,): [["tt.divisibility", 16]] for at, one in places.items() if one in pointers}
                source = triton.compiler.ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
                made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
                print(name, vector, made.asm["ptx"].count("ld.global.v4"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loads = [line.split() for line in done.stdout.splitlines()]
    assert len(loads) == 14
    assert all(int(number) > 0 for _, vector, number in loads if vector == "8"), done.stdout
