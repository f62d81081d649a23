"""Every primitive, norm, activation, position, shortcut, stem and head: the module is what its cost says.

`torch.utils.flop_counter` on meta tensors counts two for a multiply-add of convolutions and linear layers, and knows
nothing of this project.
"""

from typing import Any, get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from searchspace import Arch, InputError, Space, build, cost
from searchspace.blocks.blocks import Block, Shortcut, lower_block, stage_blocks
from searchspace.blocks.layers import Activation, Norm, leaves
from searchspace.pytorch.module import normalization

NORMS: list[dict[str, Any]] = [
    {"kind": "batch", "momentum": 0.01, "eps": 1e-3},
    {"kind": "layer", "eps": 1e-6},
    {"kind": "group", "groups": 1},
    {"kind": "group", "groups": 4},
    {"kind": "none"},
]
BLOCKS = stage_blocks()
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "expansion 1": {"expansion": 1},
    "expansion from the other side": {"expansion": 2, "expansion_from": "output", "groups": 4},
    "kernel 5": {"kernel": 5},
    "kernel 1": {"kernel": 1},
    "dilated": {"dilation": 2},
    "dilated kernel 5": {"dilation": 3, "kernel": 5},
    "groups": {"groups": 4},
    "group width": {"group_width": 8},
    "stride first": {"stride_at": "expand"},
    "squeeze": {"se": 0.25},
    "squeeze from input, before, with norm": {
        "se": 0.5,
        "se_from": "input",
        "se_position": "before",
        "se_norm": True,
        "se_gate": "hard_sigmoid",
        "se_act": "silu",
    },
    "squeeze without bias": {"se": 0.25, "se_bias": False},
    "squeeze in eights": {"se": 0.25, "se_divisor": 8},
    "bias": {"bias": True},
    "layer scale": {"layer_scale": 1e-6, "shortcut": "partial"},
    "bare projection": {"shortcut": "projection", "shortcut_norm": False},
    "projection with activation": {"shortcut": "projection", "shortcut_act": "relu"},
    "one norm": {"norm_at": ["spatial"]},
    "no norms": {"norm_at": []},
    "separate downsampling": {"downsample": "separate"},
    "max-pool": {"downsample": "pool"},
    "re-parametrised": {"branches": 2},
}


def network(stage: dict[str, Any], resolution: int = 33, **changes: Any) -> Arch:
    """Two blocks of this kind, the first with stride 2 from 16 to 24 channels, the second from 24 to 32."""
    data: dict[str, Any] = {
        "resolution": resolution,
        "num_classes": 10,
        "stem": {"width": 16, "stride": 1},
        "schedule": {"kind": "explicit", "widths": [24, 32, 32]},
        "stages": [{"depth": 3, "stride": 2, **stage}],
    }
    return Space({**data, **changes}).arch()


def check(arch: Arch) -> None:
    """Parameters, multiply-adds and shapes of the module are the computed ones."""
    spent, model = cost(arch), build(arch, deployed=True)
    assert sum(p.numel() for p in model.parameters()) == spent.params
    images = torch.zeros(2, arch.in_channels, arch.resolution, arch.resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model.eval()(images)
    assert logits.shape == (2, arch.num_classes)
    assert counter.get_total_flops() == 2 * 2 * spent.macs


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks(block: str, variant: str) -> None:
    check(network({"block": block, **VARIANTS[variant]}))


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_norms(block: str, norm: dict[str, Any]) -> None:
    check(
        network(
            {"block": block, "expansion": 2, "groups": 4, "norm": norm, "se": 0.5, "se_divisor": 8, "se_norm": True}
        )
    )


@pytest.mark.parametrize("act", get_args(Activation))
@pytest.mark.parametrize("position", ["expand_act", "spatial_act", "project_act", "add_act", "se_act"])
def test_activations_at_every_position(position: str, act: str) -> None:
    check(network({"block": "mbconv", "shortcut": "partial", "se": 0.25, "se_act": "relu", position: act}))


@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("block", BLOCKS)
def test_shortcuts(block: str, shortcut: str) -> None:
    arch = network({"block": block, "shortcut": shortcut})
    check(arch)
    third = arch.blocks[-1].shortcut
    assert third == ("none" if shortcut == "none" else "identity")


@pytest.mark.parametrize(
    ("block", "params"),
    [
        # plain convolutions with bias, without norm: depthwise separable, and the full 3×3 that it stands for
        (Block("mbconv", 32, 32, 64, groups=32, bias=True, norm_at=()), 2_432),
        (Block("fused_mbconv", 32, 32, 64, bias=True, norm_at=()), 18_496),
        # with batch norm and without bias: bottleneck (reduction 4), MBConv (expansion 4), MobileNetV1's unit
        (Block("bottleneck", 32, 16, 64, shortcut="projection"), 6_208),
        (Block("mbconv", 32, 128, 64, groups=128), 14_080),
        (Block("mbconv", 32, 32, 64, groups=32), 32 * 9 + 64 + 32 * 64 + 128),
        # k·k·C_in·n/g: a grouped convolution has a share of the full one's weights
        (Block("resnext", 256, 128, 256, groups=32, norm_at=()), 70_144),
        (Block("resnext", 256, 64, 256, norm_at=()), 69_632),
    ],
)
def test_parameters_by_hand(block: Block, params: int) -> None:
    layers = leaves(lower_block(block), (block.in_channels, 8, 8))
    assert sum(layer.params for layer, _ in layers) == params


def test_layer_norm_is_over_channels_and_one_group_over_all() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 5) * torch.arange(1, 6)
    by_pixel = normalization(6, Norm("layer"))(x)
    torch.testing.assert_close(by_pixel, torch.nn.LayerNorm(6)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    at_once = normalization(6, Norm("group", groups=1))(x)
    torch.testing.assert_close(at_once, torch.nn.functional.layer_norm(x, x.shape[1:]))
    assert (by_pixel - at_once).abs().max() > 0.1


STEMS: list[dict[str, Any]] = [
    {"kernel": 7, "stride": 2, "pool": 2},
    {"kernel": 4, "stride": 4, "bias": True, "act": "none", "norm": {"kind": "layer"}},
    {"kernel": 4, "stride": 4, "norm": {"kind": "batch"}},
    {"kernel": 16, "stride": 16, "norm": {"kind": "none"}, "bias": True},
    {"kernel": 3, "stride": 2, "act": "silu"},
    {"kernel": 4, "stride": 2},
    {"kernel": 2, "stride": 1},
]
HEADS: list[dict[str, Any]] = [
    {},
    {"pooled_norm": True, "norm": {"kind": "layer", "eps": 1e-6}},
    {"width": 64, "act": "silu", "dropout": 0.2},
    {"width": 64, "act": "hard_swish", "hidden": 48, "hidden_act": "hard_swish"},
    {"width": 64, "act": "relu6", "hidden": 48, "hidden_act": "relu6", "hidden_norm": True},
    {"hidden": 48, "norm": {"kind": "group", "groups": 8}, "hidden_norm": True},
]


@pytest.mark.parametrize("stem", STEMS, ids=str)
@pytest.mark.parametrize("resolution", [64, 71])
def test_stems(stem: dict[str, Any], resolution: int) -> None:
    check(network({"block": "basic"}, resolution, stem={"width": 16, **stem}))


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_heads(head: dict[str, Any]) -> None:
    check(network({"block": "basic"}, head=head))


@pytest.mark.parametrize(("block", "expansion"), [("conv", 1.0), ("fused_mbconv", 1.0), ("fused_mbconv", 4.0)])
def test_a_gate_on_a_block_s_output_is_there_however_few_layers_the_block_has(block: str, expansion: float) -> None:
    """Where one convolution is the whole block it was in the table, and in neither the cost nor the network."""

    def arch(se: float) -> Arch:
        stage = {"block": block, "depth": 1, "expansion": expansion, "se": se, "se_position": "output"}
        schedule = {"kind": "explicit", "widths": [16]}
        return Space({"resolution": 16, "stem": {"width": 16}, "schedule": schedule, "stages": [stage]}).arch()

    gated, plain = arch(0.25), arch(0.0)
    squeezed = gated.blocks[0].se
    assert squeezed
    assert cost(gated).params - cost(plain).params == 2 * 16 * squeezed.channels + squeezed.channels + 16
    assert sum(p.numel() for p in build(gated).parameters()) == cost(gated).params


def test_a_universal_block_without_its_middle_has_its_squeeze_all_the_same() -> None:
    """As timm's: behind the first 1×1. It was shown in the table, and neither counted nor built."""
    data = {"stem": {"width": 8}, "schedule": {"start": 8, "end": 8}, "resolution": 32, "num_classes": 10}
    stage = {"block": "universal", "kernel": 0, "first_kernel": 3, "expansion": 4.0}
    without, squeezed = (Space({**data, "stages": [{**stage, "se": se}]}).arch() for se in (0.0, 0.25))
    added = cost(squeezed).params - cost(without).params
    assert added == sum(p.numel() for p in build(squeezed).parameters()) - cost(without).params > 0


def test_a_first_kernel_that_takes_the_stride_overlaps() -> None:
    """One that is the stride has no padding, and beside a shortcut another map. A kernel after it takes the stride."""
    stage = {"block": "universal", "kernel": 0, "first_kernel": 3, "stride": 3, "shortcut": "projection"}
    with pytest.raises(InputError, match="stride: not the kernel 3"):
        network(stage)
    check(network({**stage, "kernel": 5}))
