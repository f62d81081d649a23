"""Options of networks that cost nothing: drop path, initial weights, what a batch norm needs; and the example file."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from searchspace import Arch, Space, build, cost, zoo
from searchspace.__main__ import main
from searchspace.module import StochasticDepth
from searchspace.networks import network

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


@pytest.mark.parametrize(
    ("name", "conv", "classifier"),
    [
        ("convnext_tiny", 0.02, 0.02),
        ("efficientnet_b0", (2 / (1280 * 1)) ** 0.5, 1000**-0.5 / 3**0.5),
        ("mobilenet_v2", (2 / (1280 * 1)) ** 0.5, 0.01),
        ("resnet18", (2 / (512 * 9)) ** 0.5, 512**-0.5 / 3**0.5),
        ("rexnet_100", 185**-0.5 / 3**0.5, 1280**-0.5 / 3**0.5),
        ("mnasnet1_0", (2 / 1280) ** 0.5, 1000**-0.5),
    ],
)
def test_every_family_starts_from_its_own_weights(name: str, conv: float, classifier: float) -> None:
    torch.manual_seed(0)
    parts = list(build(zoo(name)).modules())
    last = [part for part in parts if isinstance(part, nn.Conv2d)][-1]
    linear = [part for part in parts if isinstance(part, nn.Linear)][-1]
    if name == "resnet18":  # its last convolution but the shortcut
        last = [part for part in parts if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)][-1]
    assert float(last.weight.detach().std()) == pytest.approx(conv, rel=0.06)
    assert float(linear.weight.detach().std()) == pytest.approx(classifier, rel=0.06)
    assert linear.bias.abs().max() == 0


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
