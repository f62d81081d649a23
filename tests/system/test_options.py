"""Options of networks that cost nothing: drop path, initial weights, what a batch norm needs; and the example file."""

import copy
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from searchspace import Arch, InputError, Space, build, cost, zoo
from searchspace.__main__ import main
from searchspace.blocks.blocks import BETWEEN_COLOUR, PLAIN_COLOUR, STRUCTURES, Block, stage_blocks
from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Output, Stem
from searchspace.figures import plot
from searchspace.networks import network
from searchspace.pytorch.module import StochasticDepth
from tests.support.paths import ROOT

README = ROOT / "searchspace" / "README.md"
EXAMPLE = Path(str(resources.files("searchspace") / "networks" / "example.yaml"))


def rates(name: str) -> list[float]:
    return [block.drop_path for block in zoo(name).blocks if block.type != "downsample"]


def test_convnext_s_last_block_drops_with_the_whole_rate() -> None:
    assert rates("convnext_tiny") == pytest.approx([0.1 * i / 17 for i in range(18)])


def test_efficientnet_s_rate_would_be_reached_one_block_later() -> None:
    assert rates("efficientnet_b0") == pytest.approx([0.2 * i / 16 for i in range(16)])


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.4), torch.ones(4000, 3, 2, 2)
    dropped = layer.train()(x)
    kept = dropped[:, 0, 0, 0] > 0
    assert torch.equal(dropped, (kept / 0.6)[:, None, None, None] * x)
    assert float(kept.float().mean()) == pytest.approx(0.6, abs=0.03)
    assert torch.equal(layer.eval()(x), x)


def test_stochastic_depth_may_drop_a_batch_at_once() -> None:
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.4, "batch").train(), torch.ones(3, 2, 1, 1)
    seen = [layer(x) for _ in range(1000)]
    assert all(torch.equal(y, torch.zeros_like(x)) or torch.equal(y, x / 0.6) for y in seen)
    assert sum(bool(y.any()) for y in seen) / 1000 == pytest.approx(0.6, abs=0.05)


def test_how_paths_are_dropped_is_part_of_a_network_only_where_they_are() -> None:
    by_row, by_batch = network("convnext_tiny"), replace(network("convnext_tiny"), drop_path_mode="batch")
    modes = {part.mode for part in build(by_batch.arch()).modules() if isinstance(part, StochasticDepth)}
    assert modes == {"batch"}
    assert by_batch.arch().digest != by_row.arch().digest
    assert replace(by_batch, drop_path=0.0).arch().digest == replace(by_row, drop_path=0.0).arch().digest


@pytest.mark.parametrize(
    ("name", "conv", "classifier", "bias"),
    [
        ("convnext_tiny", 0.02, 0.02, 0.0),
        ("efficientnet_b0", (2 / (1280 * 1)) ** 0.5, 1000**-0.5 / 3**0.5, 0.0),
        ("mobilenet_v2", (2 / (1280 * 1)) ** 0.5, 0.01, 0.0),
        ("resnet18", (2 / (512 * 9)) ** 0.5, 512**-0.5 / 3**0.5, 512**-0.5 / 3**0.5),
        ("rexnet_100", 185**-0.5 / 3**0.5, 1280**-0.5 / 3**0.5, 1280**-0.5 / 3**0.5),
        ("mnasnet1_0", (2 / 1280) ** 0.5, 1000**-0.5, 0.0),
    ],
)
def test_every_family_starts_from_its_own_weights(name: str, conv: float, classifier: float, bias: float) -> None:
    torch.manual_seed(0)
    parts = list(build(zoo(name)).modules())
    last = [part for part in parts if isinstance(part, nn.Conv2d)][-1]
    linear = [part for part in parts if isinstance(part, nn.Linear)][-1]
    if name == "resnet18":  # its last convolution but the shortcut
        last = [part for part in parts if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)][-1]
    assert float(last.weight.detach().std()) == pytest.approx(conv, rel=0.06)
    assert float(linear.weight.detach().std()) == pytest.approx(classifier, rel=0.06)
    assert float(linear.bias.detach().std()) == pytest.approx(bias, rel=0.06)


def test_what_is_left_to_pytorch_starts_as_pytorch_s() -> None:
    arch = Arch(Stem(64, bias=True), (Block("basic", 64, 64, 64, bias=True),), num_classes=50, init="torch")
    for part in build(arch).modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            theirs = copy.deepcopy(part)
            theirs.reset_parameters()
            for ours, fresh in ((part.weight, theirs.weight), (part.bias, theirs.bias)):
                assert ours is not None
                assert fresh is not None
                bound = part.weight[0].numel() ** -0.5
                for started in (ours, fresh):
                    assert 0.9 * bound < float(started.detach().abs().max()) <= bound


def test_how_a_network_starts_is_no_part_of_its_digest() -> None:
    data = zoo("resnet18").to_dict()
    assert data["init"] == "resnet"
    assert Arch.from_dict({**data, "init": "torch"}).digest == zoo("resnet18").digest


@pytest.mark.parametrize(
    ("name", "place"), [("rexnet_100", "block4.residual.body|block4"), ("rexnet_lite_100", "head.hidden_norm")]
)
def test_one_image_in_training_says_which_norm_and_what_to_do(name: str, place: str) -> None:
    model = build(zoo(name, num_classes=10, resolution=64))
    with pytest.raises(ValueError, match=rf"({place}).*batch of 2 or more"):
        model.train()(torch.randn(1, 3, 64, 64))
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 10)
    assert model.train()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_a_group_norm_says_so_too() -> None:
    data = Block("basic", 8, 8, 8, stride=2, norm=Norm("group", groups=8))
    model = build(Arch(Stem(8), (data,), resolution=4))
    with pytest.raises(ValueError, match=r"block1.*fewer groups"):
        model.eval()(torch.randn(1, 3, 4, 4))
    assert model(torch.randn(1, 3, 8, 8)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "features", "params"),
    [
        ("resnet50", (2048, 2), 23_508_032),  # torchvision's without its fc, and so below
        ("mobilenet_v3_large", (1280, 2), 4_202_032),
        ("convnext_tiny", (768, 2), 27_820_128),
        ("rexnet_100", (1280, 2), 3_515_873),
    ],
)
def test_a_network_may_end_before_its_classifier(name: str, features: tuple[int, int], params: int) -> None:
    torch.manual_seed(0)
    width, side = features
    whole = build(zoo(name, num_classes=7, resolution=64)).eval()
    vector, last_map = (zoo(name, resolution=64, output=output) for output in ("features", "map"))
    images = torch.randn(2, 3, 64, 64)
    backbone = build(vector).eval()
    backbone.load_state_dict({k: v for k, v in whole.state_dict().items() if "classifier" not in k})
    assert backbone(images).shape == (2, width)
    torch.testing.assert_close(whole.head.classifier(backbone(images)), whole(images))
    assert build(last_map).eval()(images).shape == (2, width if name != "mobilenet_v3_large" else 960, side, side)
    assert cost(vector).params == sum(p.numel() for p in backbone.parameters()) == params
    assert cost(last_map).params == sum(p.numel() for p in build(last_map).parameters())
    assert vector.digest == zoo(name, num_classes=3, resolution=64, output="features").digest


def test_a_network_without_a_classifier_gets_one_for_training() -> None:
    backbone = zoo("mobilenet_v2", output="map")
    assert backbone.adapt(resolution=64).head.output == "map"
    assert backbone.adapt(num_classes=10, resolution=64) == zoo("mobilenet_v2").adapt(10, 64)


@pytest.mark.parametrize("output", ["features", "map"])
def test_show_says_where_a_network_ends(output: Output, tmp_path: Path, capsys: Any) -> None:
    zoo("mobilenet_v2", output=output).save(tmp_path / "backbone.yaml")
    assert main(["show", str(tmp_path / "backbone.yaml")]) == 0
    printed = capsys.readouterr().out
    assert f"{output}, no classifier" in printed
    assert re.search(r"│ head +│ 1280 " if output == "features" else r"│ head +│ 1280×7×7 ", printed)


@pytest.mark.parametrize("name", ["rexnet_100", "convnext_tiny"])
def test_a_step_of_training_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = build(zoo(name, num_classes=10, resolution=32).adapt()).train()
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert losses[-1] < losses[0] - 0.1


def test_layer_norms_train_on_one_image() -> None:
    assert build(zoo("convnext_tiny", num_classes=10, resolution=32)).train()(torch.randn(1, 3, 32, 32)).shape == (
        1,
        10,
    )


def test_depth_multipliers_round_up() -> None:
    doubled = network("rexnet_100", depth_mult=2.0).arch()
    assert len(doubled.blocks) == 32
    assert cost(doubled).params == 8_905_238  # the official code's


def test_the_picture_names_what_it_shows(tmp_path: Path) -> None:
    """The words of a matplotlib SVG stand in its comments: cost, block types, real resolutions, both ends."""
    plot(Space.load(EXAMPLE).arch(), tmp_path / "network.svg", "example")
    words = re.findall("<!-- (.*?) -->", (tmp_path / "network.svg").read_text())
    assert words.count("stem") == words.count("head") == 1
    assert {"example: 1.317GFLOPs, 3.112MParams at 224 px", "fused_mbconv", "bottleneck"} < set(words)
    assert {"112", "56", "28", "14", "7"} < set(words)


def test_every_kind_of_block_has_a_colour_of_its_own() -> None:
    own = [STRUCTURES[block].colour for block in stage_blocks()]
    assert len({*own, PLAIN_COLOUR, BETWEEN_COLOUR}) == len(own) + 2


def test_the_readme_shows_the_example() -> None:
    (shown,) = re.findall(r"```yaml\n# mixed\.yaml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert shown == EXAMPLE.read_text("utf-8").partition("\n")[2]


def test_a_network_that_no_table_has(tmp_path: Path) -> None:
    arch = Space.load(EXAMPLE).arch()
    assert len(EXAMPLE.read_text().splitlines()) <= 20
    assert {block.type for block in arch.blocks} == {"fused_mbconv", "bottleneck"}
    widths = [block.out_channels for block in arch.blocks]
    assert widths == sorted(widths)
    model = build(arch.adapt(num_classes=10, resolution=64))
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 10)
    assert sum(p.numel() for p in build(arch).parameters()) == cost(arch).params
    arch.save(tmp_path / "arch.yaml")
    assert Arch.load(tmp_path / "arch.yaml") == arch


@pytest.mark.parametrize("shown", ["rexnet_100", "convnext_tiny", str(EXAMPLE)])
def test_show_prints_the_table_with_its_total_and_draws_it(shown: str, tmp_path: Path, capsys: Any) -> None:
    picture = tmp_path / "network.png"
    assert main(["show", shown, "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    arch = zoo(shown) if shown != str(EXAMPLE) else Space.load(EXAMPLE).arch()
    total = next(line for line in printed.splitlines() if "total" in line)
    assert f"{cost(arch).macs:,}" in total
    assert f"{cost(arch).params:,}" in total
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {picture}" in printed


def test_a_picture_is_written_where_it_is_said_and_nowhere_beside(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"plot .*images'?: cannot be written"):
        main(["show", "rexnet_100", "--plot", str(tmp_path / "images")])
    assert main(["show", "rexnet_100", "--plot", str(tmp_path / "picture")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "picture"]
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")
