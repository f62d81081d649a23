"""Analytic costs against what torch and fvcore count on the built module, over random networks of every block."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nas.workers.evaluate import AuditError, audit
from searchspace import Arch, Budget, InputError, Space, build, cost, from_module, zoo
from searchspace.arch import lower, sections
from searchspace.blocks.blocks import Block, GateForm, SqueezeExcite, lower_block
from searchspace.blocks.layers import Sequential
from searchspace.blocks.stem_head import Head, Output, Stem
from searchspace.budget import Cost
from searchspace.costs.network_cost import Part, count_layers, outline_cost, section_costs
from searchspace.format.network import Network
from searchspace.networks import names
from searchspace.space.space import ready
from tests.support.strategies import networks

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def counted(arch: Arch) -> tuple[int, int]:
    """(multiply-adds, parameters) of the built module, by torch's own counter on meta tensors.

    Of two images: group norm refuses one where a group is one number.
    """
    model = build(arch, deployed=True).eval().to("meta")
    images = torch.zeros(2, arch.in_channels, arch.resolution, arch.resolution, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // 4, sum(p.numel() for p in model.parameters())


@FEW
@given(networks())
def test_equals_what_torch_counts(network: Network) -> None:
    arch = network.arch()
    assert counted(arch) == (cost(arch).macs, cost(arch).params)


@pytest.mark.parametrize("stride", [2, 3, 4, 5])
@pytest.mark.parametrize("downsample", ["separate", "merge"])
@pytest.mark.parametrize("resolution", [60, 61, 75, 98])
def test_patchifying_convolutions_are_never_padded(stride: int, downsample: str, resolution: int) -> None:
    """Also where all others are padded as TensorFlow does, in the stem too."""
    stages = [{"block": "mbconv", "stride": 2}, {"block": "convnext", "stride": stride, "downsample": downsample}]
    data = {"schedule": {"start": 8, "end": 16}, "stages": stages, "padding": "same", "resolution": resolution}
    for kernel in (stride, 3):
        arch = Space({**data, "num_classes": 10, "stem": {"width": 8, "kernel": kernel, "stride": stride}}).arch()
        found = cost(arch)
        assert counted(arch) == (found.macs, found.params)
        whole = count_layers(lower(arch), (3, resolution, resolution))
        assert (whole.macs, 4 * whole.peak) == (found.macs, found.peak_memory_bytes)
        assert cost(from_module(build(arch), resolution)) == found
        assert build(arch)[:-1](torch.zeros(2, 3, resolution, resolution)).shape[-1] == arch.last_side


@settings(FEW, max_examples=15)
@given(networks())
def test_equals_what_fvcore_counts(network: Network) -> None:
    arch = network.arch()
    audit(build(arch, deployed=True), arch, cost(arch))


def test_the_audit_names_both_numbers() -> None:
    arch = Space.load("rexnet").sample(0, Budget.parse("50MFLOPs")).adapt(10, 32)
    right = cost(arch)
    wrong = Cost(right.macs + 1, right.params, right.activations, right.peak_memory_bytes)
    with pytest.raises(AuditError, match=rf"{right.macs + 1} MACs .* {right.macs} MACs"):
        audit(build(arch, deployed=True), arch, wrong)


@pytest.mark.parametrize("name", ["mobile", "rexnet"])
@pytest.mark.parametrize("seed", range(4))
def test_every_sample_is_inside_by_an_independent_count(name: str, seed: int) -> None:
    budget = Budget.parse("300MFLOPs")
    macs, _ = counted(Space.load(name).sample(seed, budget))
    assert 0.97 * 300e6 <= macs <= 300e6


def test_mobilenet_v2_by_hand() -> None:
    """Params, MACs and activations as torchvision's mobilenet_v2 has them."""
    blocks: list[Block] = []
    width = 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for t, c, n, s in table:
        for stride in [s] + [1] * (n - 1):
            same = stride == 1 and width == c
            shortcut = "identity" if same else "none"
            blocks.append(Block("mbconv", width, width * t, c, 3, stride, groups=width * t, shortcut=shortcut))
            width = c
    spent = cost(Arch(Stem(32), tuple(blocks), Head(width=1280)))
    assert (spent.macs, spent.params, spent.activations) == (300_774_272, 3_504_872, 6_679_112)


def test_peak_memory_of_a_residual_block_by_hand() -> None:
    """While the 1×1 to 24 channels runs, the block's input (4), and both its sides (4 → 24) are there: input once."""
    block = Block("bottleneck", 4, 24, 4, shortcut="identity")
    arch = Arch(Stem(4, stride=1), (block,), Head(), resolution=8, num_classes=2)
    held = 4 + 24 + 24  # the input survives for the addition while 3×3 maps 24 to 24 channels
    assert cost(arch).peak_memory_bytes == 4 * held * 8 * 8


def test_a_partial_shortcut_of_equal_widths_pads_nothing() -> None:
    """An Arch may say `partial` for equal widths; what it costs must not depend on what was counted before."""

    def arch(width: int) -> Arch:
        return Arch(Stem(16), (Block("bottleneck", 16, 4, width, shortcut="partial"),), resolution=32)

    for width in (16, 24, 16):
        assert section_costs(arch(width)) == walked(arch(width))


@pytest.mark.parametrize("form", ["squeeze", "eca"])
def test_a_ghost_block_of_odd_width_is_not_counted_as_one_of_even_width(form: GateForm) -> None:
    """Of an odd width it cuts a channel off, which its gate does not see; whatever was counted before."""
    gate = SqueezeExcite(3, position="after", form=form)

    def arch(hidden: int, out: int) -> Arch:
        block = Block("ghost", 10, hidden, out, groups=hidden, se=gate, shortcut="separable", shortcut_kernel=3)
        return Arch(Stem(10), (block,), Head(), resolution=33, num_classes=2)

    for odd in ((5, 7), (5, 8), (6, 7)):
        for hidden, out in ((6, 8), odd, (6, 8)):
            assert section_costs(arch(hidden, out)) == walked(arch(hidden, out))


def walked(arch: Arch) -> list[Part]:
    """The cost of every section, layer by layer, without formulas."""
    shape = (arch.in_channels, arch.resolution, arch.resolution)
    parts = []
    for section in sections(arch):
        parts.append(count_layers(section, shape))
        shape = section.output(shape)
    return parts


@settings(FEW, max_examples=200)
@given(networks(), st.sampled_from(get_args(Output)))
def test_formulas_equal_a_walk_over_the_layers(network: Network, output: Output) -> None:
    network = replace(network, head=replace(network.head, output=output))
    arch = network.arch()
    assert section_costs(arch) == walked(arch)
    assert outline_cost(network.outline()) == cost(arch)


@pytest.mark.parametrize("name", names())
def test_formulas_equal_a_walk_over_a_known_network(name: str) -> None:
    for arch in (zoo(name), zoo(name).adapt(num_classes=10, resolution=97)):
        assert section_costs(arch) == walked(arch)


def test_a_block_is_lowered_once_for_all_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every further network of the same kinds of blocks is only arithmetic."""
    space = Space.load("rexnet")
    point = space.random_point(random.Random(0))
    space.cost(point)
    monkeypatch.setattr("searchspace.costs.network_cost.lower_block", None)
    assert space.cost(point, 0.7).macs < space.cost(point, 1.3).macs


@pytest.mark.parametrize("name", ["regnet", "resnet"])
def test_group_widths_make_no_new_kinds_of_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bottleneck's formula holds for any number of groups, so that each is not lowered anew."""
    space = Space.load(name).fix(["stage*.block=bottleneck"])
    lowered: list[Block] = []

    def lowering(block: Block) -> Sequential:
        lowered.append(block)
        return lower_block(block)

    monkeypatch.setattr("searchspace.costs.network_cost._COUNTS", {})
    monkeypatch.setattr("searchspace.costs.network_cost.lower_block", lowering)
    point = space.random_point(random.Random(0))
    for group_width in space.choices["stage1.group_width"] * 2:
        for width_mult in (0.5, 1.0, 2.0):
            space.cost({**point, **{f"stage{i}.group_width": group_width for i in range(1, 5)}}, width_mult)
    assert len(lowered) <= 20


@pytest.mark.slow
@settings(FEW, max_examples=10_000)
@given(networks())
def test_equals_what_torch_counts_at_length(network: Network) -> None:
    arch = network.arch()
    assert counted(arch) == (cost(arch).macs, cost(arch).params)


@pytest.mark.slow
@settings(FEW, max_examples=1_000)
@given(networks())
def test_equals_what_fvcore_counts_at_length(network: Network) -> None:
    arch = network.arch()
    try:
        audit(build(arch, deployed=True), arch, cost(arch))
    except ValueError as error:  # a group norm over one number, which no single image can run
        if "group norm cannot run" not in str(error):
            raise
        reject()


@pytest.mark.slow
@pytest.mark.parametrize("side", [224, 225, 97, 32])
@pytest.mark.parametrize("name", ready())
def test_every_space_equals_what_torch_counts(name: str, side: int) -> None:
    """Random networks of every ready space, also at odd resolutions; one in ten by fvcore too."""
    space, rng = Space.load(name).fix([f"resolution={side}", "num_classes=10"]), random.Random(side)
    for number in range(50):
        arch = space.arch(space.random_point(rng), rng.uniform(0.1, 0.6))
        assert counted(arch) == (cost(arch).macs, cost(arch).params)
        if number % 10 == 0:
            audit(build(arch, deployed=True), arch, cost(arch))


def test_what_was_counted_before_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point is refused, or costs the same, with nothing remembered and with everything."""
    stage = {"block": "mbconv", "depth": 3, "stride": 2, "norm": {"kind": "group", "groups": 8}}
    data = {"stem": {"width": 16}, "schedule": {"start": 16, "end": {"choice": [48, 64]}}, "stages": [stage]}
    space = Space({**data, "width_mult": {"fit": [0.5, 4.0]}}, "grouped")
    asked = [({"schedule.end": end}, width) for end in (48, 64) for width in (0.7, 1.0, 1.3, 1000.0, 5000.0)]

    def answers() -> list[object]:
        found: list[object] = []
        for point, width in asked:
            try:
                found.append(space.cost(point, width))
            except InputError as error:
                found.append(str(error))
        return found

    warm = answers()
    monkeypatch.setattr("searchspace.costs.network_cost._COUNTS", {})
    cold = []
    for point, width in asked:
        monkeypatch.setattr("searchspace.costs.network_cost._COUNTS", {})
        cold.append(space.cost(point, width) if width < 1000 else "refused")
    assert answers() == warm
    assert [a if not isinstance(a, str) else "refused" for a in warm] == cold
