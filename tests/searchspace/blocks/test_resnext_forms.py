"""ResNeXt's three forms of one block are one function (Xie et al. 2017, Figure 3), and its two shallow ones are not.

Forms (a) and (b) are written in plain torch: (a) adds up `CARDINALITY` separate paths, (b) concatenates them before one
last 1×1. Ours is (c), a grouped convolution. In (a) the last batch norm follows the sum, as the paper's footnote says.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchspace import Arch, build, cost
from searchspace.blocks.blocks import Block, lower_block
from searchspace.blocks.layers import Conv, leaves
from searchspace.blocks.stem_head import Stem
from searchspace.networks.resnet import resnext_shallow
from searchspace.pytorch.module import module

CARDINALITY, WIDTH, OUTSIDE = 32, 4, 256


@pytest.fixture
def block() -> nn.Module:
    """Ours, in evaluation, with running statistics and affines that do something."""
    torch.manual_seed(0)
    data = Block(
        "resnext", OUTSIDE, CARDINALITY * WIDTH, OUTSIDE, groups=CARDINALITY, shortcut="identity", add_act="relu"
    )
    made = module(lower_block(data)).double()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return made.eval()


def paths(block: nn.Module, x: Tensor) -> list[Tensor]:
    """What every path of forms (a) and (b) has before its last convolution: 1×1 to four channels, 3×3 on those four."""
    reduce, spatial, _ = (part for name, part in block.residual.body.named_children())
    found = []
    for path in range(CARDINALITY):
        own = slice(path * WIDTH, (path + 1) * WIDTH)
        narrow = F.relu(normalised(F.conv2d(x, reduce.conv.weight[own]), reduce.norm, own))
        found.append(F.relu(normalised(F.conv2d(narrow, spatial.conv.weight[own], padding=1), spatial.norm, own)))
    return found


def normalised(x: Tensor, norm: nn.BatchNorm2d, own: slice) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return F.batch_norm(
        x, norm.running_mean[own], norm.running_var[own], norm.weight[own], norm.bias[own], eps=norm.eps
    )


def form_a(block: nn.Module, x: Tensor) -> Tensor:
    last = block.residual.body.project
    own = [last.conv.weight[:, path * WIDTH : (path + 1) * WIDTH] for path in range(CARDINALITY)]
    summed = sum((F.conv2d(p, w) for p, w in zip(paths(block, x), own, strict=True)), torch.zeros_like(x))
    return F.relu(x + normalised(summed, last.norm, slice(None)))


def form_b(block: nn.Module, x: Tensor) -> Tensor:
    last = block.residual.body.project
    return F.relu(x + normalised(F.conv2d(torch.cat(paths(block, x), 1), last.conv.weight), last.norm, slice(None)))


def test_the_three_forms_are_one_function(block: nn.Module) -> None:
    x = torch.randn(2, OUTSIDE, 9, 9, dtype=torch.float64)
    ours = block(x)
    assert ours.std() > 0.1
    for form in (form_a, form_b):
        torch.testing.assert_close(form(block, x), ours, rtol=0, atol=1e-10)


def weights(block: Block) -> int:
    return sum(
        layer.weights for layer, _ in leaves(lower_block(block), (block.in_channels, 8, 8)) if isinstance(layer, Conv)
    )


@pytest.mark.parametrize(("hidden", "groups", "count"), [(64, 1, 73_728), (128, 1, 147_456), (128, 32, 4_608)])
def test_the_shallow_wide_block_is_dense_and_twice_a_basic_one(hidden: int, groups: int, count: int) -> None:
    assert weights(Block("basic", 64, hidden, 64, groups=groups)) == count


def test_32_paths_of_depth_two_are_one_dense_block() -> None:
    """Figure 4: a sum of 32 paths 64→4→64 is the dense 64→128→64, so nothing is grouped in the paper's shallow form."""
    torch.manual_seed(0)
    first, second = torch.randn(128, 64, 3, 3).double(), torch.randn(64, 128, 3, 3).double()
    x = torch.randn(2, 64, 7, 7).double()
    dense = F.conv2d(F.relu(F.conv2d(x, first, padding=1)), second, padding=1)
    own = [slice(path * WIDTH, (path + 1) * WIDTH) for path in range(CARDINALITY)]
    split = [F.conv2d(F.relu(F.conv2d(x, first[o], padding=1)), second[:, o], padding=1) for o in own]
    torch.testing.assert_close(torch.stack(split).sum(0), dense)


def test_the_shallow_networks_have_their_names_apart() -> None:
    wide, grouped = resnext_shallow(18, "wide").arch(), resnext_shallow(18, "grouped").arch()
    assert [b.hidden for b in wide.blocks] == [b.hidden for b in grouped.blocks]
    assert {b.groups for b in wide.blocks} == {1}
    assert {b.groups for b in grouped.blocks} == {32}
    assert cost(grouped).params < cost(wide).params


@pytest.mark.parametrize(("cardinality", "width"), [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)])
def test_table_2_keeps_the_complexity(cardinality: int, width: int) -> None:
    """Cardinality and width trade at about 70k weights a block (Xie et al. 2017, Table 2 and equation 4)."""
    data = Block("resnext", 256, cardinality * width, 256, groups=cardinality)
    assert weights(data) == cardinality * (256 * width + 9 * width * width + width * 256)
    assert weights(data) == pytest.approx(70_000, rel=0.03)
    assert build(Arch(Stem(256), (data,), resolution=8))
