"""Networks of others are read from their forward passes, and compute the same when they are built again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional

from searchspace import Arch, InputError, Space, build, copy_weights, cost, from_module, zoo
from searchspace.__main__ import main
from searchspace.arch import lower
from searchspace.blocks.layers import Blur, leaves
from searchspace.format.network import Network
from searchspace.networks import names
from searchspace.pytorch.module import fold
from searchspace.space.lookup import network
from tests.support.oracle import library
from tests.support.strategies import networks

# One of every family, and of every part of the grammar that only some have.
TIMM = {
    "efficientnet_lite0": "mbconv",
    "efficientnet_b0_gn": "mbconv",
    "tf_efficientnetv2_b0": "fused_mbconv",
    "mobilenet_edgetpu_v2_xs": "fused_mbconv",
    "mixnet_s": "mbconv",
    "mobilenetv3_small_050": "mbconv",
    "mobilenetv4_conv_small": "universal",
    "mobilenetv4_conv_aa_medium": "universal",
    "lcnet_050": "mbconv",
    "fbnetc_100": "mbconv",
    "tinynet_e": "mbconv",
    "hardcorenas_d": "mbconv",
    "resnet18d": "basic",
    "resnetblur18": "basic",
    "resnetaa34d": "basic",
    "seresnet18": "basic",
    "ecaresnet26t": "bottleneck",
    "seresnext26d_32x4d": "resnext",
    "regnety_002": "resnext",
    "convnext_atto_ols": "convnext",
    "convnextv2_atto": "convnext",
    "rexnet_100": "mbconv",
    "starnet_s050": "star",
    "repvgg_a0": "conv",
    "mobileone_s0": "mbconv",
    "ghostnet_050": "ghost",
    "fasternet_t0": "faster",
}
# Of our own networks one of every family, which its larger ones are more or wider blocks of.
FAMILIES = [
    *("resnet18", "resnet50", "resnext50_32x4d", "regnet_x_400mf", "regnet_y_400mf"),
    *("mobilenet_v1", "mobilenet_v2", "mnasnet1_0", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("mobilenet_v4_conv_small", "mobilenet_v4_conv_medium", "efficientnet_b0", "efficientnet_v2_s"),
    *("rexnet_plain", "rexnet_100", "rexnet_lite_100"),
]
TORCHVISION = ("mobilenet_v2", "resnet18", "regnet_x_400mf")
# Whole families of timm 1.0.31, by module or by the beginning of the name, and what of them is not read.
UNREAD = {
    "efficientnet": "efficientnet_cc_b0_4e efficientnet_cc_b0_8e efficientnet_cc_b1_8e efficientnet_h_b5 "
    "efficientnet_x_b3 efficientnet_x_b5 gc_efficientnetv2_rw_t test_efficientnet_evos tf_efficientnet_cc_b0_4e "
    "tf_efficientnet_cc_b0_8e tf_efficientnet_cc_b1_8e",
    "mobilenetv3": "mobilenetv4_hybrid_large mobilenetv4_hybrid_large_075 mobilenetv4_hybrid_medium "
    "mobilenetv4_hybrid_medium_075",
    "hardcorenas": "",
    "resnet": "ecaresnet50d_pruned ecaresnet101d_pruned senet154",
    "regnet": "regnetv_040 regnetv_064",
    "convnext": "convnext_atto_rms convnext_zepto_rms convnext_zepto_rms_ols test_convnext test_convnext2",
    "rexnet": "",
    "starnet": "",
    "repvgg": "repvgg_d2se",
    "mobileone": "",
    # The second and third version have attention.
    "ghostnet": "ghostnetv2_100 ghostnetv2_130 ghostnetv2_160 "
    "ghostnetv3_050 ghostnetv3_100 ghostnetv3_130 ghostnetv3_160",
    "fasternet": "",
}


def kinds(arch: Arch) -> set[str]:
    return {block.type for block in arch.blocks}


@pytest.mark.parametrize("name", TIMM)
def test_timm_s_networks_compute_the_same(name: str) -> None:
    assert TIMM[name] in kinds(compared(library("timm").create_model(name)))


@pytest.mark.parametrize("size", ["x0_5", "x1_0", "x1_5", "x2_0"])
def test_torchvision_s_shufflenets_compute_the_same(size: str) -> None:
    module = library("torchvision").models.get_model(f"shufflenet_v2_{size}")
    arch = compared(module)
    assert kinds(arch) == {"shuffle"}
    with torch.device("meta"):
        assert multiply_adds(module.to("meta"), 64) == cost(arch).macs


def test_shares_of_widths_that_do_not_divide_are_the_authors() -> None:
    """GhostNet cuts a channel off, and FasterNet rounds the part down that it convolves."""
    timm = library("timm").models
    ghosts = (timm.ghostnet.GhostBottleneck(*widths) for widths in ((9, 25, 15), (15, 31, 21, 5, 2)))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(21, 5))
    arch = compared(nn.Sequential(nn.Conv2d(3, 9, 3, 2, 1, bias=False), nn.BatchNorm2d(9), nn.ReLU(), *ghosts, *head))
    assert [(block.in_channels, block.hidden, block.out_channels) for block in arch.blocks] == [
        (9, 25, 15),
        (15, 31, 21),
    ]
    faster = compared(timm.fasternet.FasterNet(embed_dim=42, depths=(1, 1, 1, 1), feature_dim=64, num_classes=5))
    assert [block.in_channels for block in faster.blocks if block.type == "faster"] == [42, 84, 168, 336]


def compared(module: nn.Module) -> Arch:
    """What is read of a module, once its costs and its outputs are shown to be equal, as trained and as deployed.

    `from_module` compares outputs itself; here the weights are no fresh ones, and the comparison is close.
    """
    module.eval()
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, 0.0, 0.1)
            part.running_mean.normal_(0.0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr]
    arch = from_module(module, 64)
    ours = build(arch).eval()
    copy_weights(module, ours)
    folded = as_deployed(module)
    assert sum(parameter.numel() for parameter in folded.parameters()) == cost(arch).params
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted, *given = (network(images) for network in (module, ours, fold(ours), folded))
    assert all((wanted - one).abs().max() <= 1e-4 * wanted.abs().max() for one in given)
    if folded is not module:  # whose branches are gone: a plain network
        plain = from_module(folded, 64)
        assert (cost(plain).params, cost(plain).macs) == (cost(arch).params, cost(arch).macs)
        copy_weights(folded, other := build(plain).eval())
        with torch.no_grad():
            assert (wanted - other(images)).abs().max() <= 1e-4 * wanted.abs().max()
    return arch


@pytest.mark.slow
@pytest.mark.parametrize("family", UNREAD)
def test_all_but_a_few_of_timm_s_networks_are_read(family: str) -> None:
    """Parameters and multiply-adds too; on the meta device, where nothing is computed."""
    timm = library("timm")
    said = {}
    for name in timm.list_models(module=family) or timm.list_models(f"{family}_*"):
        with torch.device("meta"):
            module = timm.create_model(name).eval()
        side = module.default_cfg["input_size"][-1]
        try:
            arch = from_module(module, side)
        except InputError as error:
            said[name] = str(error)
        else:
            with torch.device("meta"):
                module = as_deployed(module)
            assert sum(parameter.numel() for parameter in module.parameters()) == cost(arch).params
            assert multiply_adds(module, side) == cost(arch).macs - blurred(arch), name
    for name, why in said.items():
        print(f"{name}: {why}")
    assert set(said) == set(UNREAD[family].split())


def as_deployed(module: nn.Module) -> nn.Module:
    """A network of timm with its branches folded by timm itself, if it has any."""
    if not any(hasattr(part, "reparameterize") for part in module.modules()):
        return module
    folded: nn.Module = library("timm").utils.model.reparameterize_model(module)
    return folded


def multiply_adds(module: nn.Module, side: int) -> int:
    """Those of convolutions and linear layers, by their outputs."""
    counted = []
    channels = next(part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d))

    def count(part: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(part.weight, Tensor)
        counted.append(output.numel() * (part.weight.shape[1] if output.dim() == 2 else part.weight[0].numel()))

    for part in module.modules():
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            part.register_forward_hook(count)
    with torch.no_grad():
        module(torch.empty(2, channels, side, side, device="meta"))  # of one image a group may be one number
    return sum(counted) // 2


def blurred(arch: Arch) -> int:
    """The multiply-adds of fixed filters, which timm has no module of PyTorch's for."""
    shape = (arch.in_channels, arch.resolution, arch.resolution)
    return sum(leaf.macs(at) for leaf, at in leaves(lower(arch), shape) if isinstance(leaf, Blur))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_s_networks_are_the_zoo_s(name: str) -> None:
    read = from_module(library("torchvision").models.get_model(name))
    assert (cost(read).params, cost(read).macs) == (cost(zoo(name)).params, cost(zoo(name)).macs)
    assert kinds(read) <= {*kinds(zoo(name)), "resnext", "basic"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_zoo_is_read_as_it_is(name: str) -> None:
    check_read(zoo(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in names() if not n.startswith("convnext_") and n not in FAMILIES])
def test_the_whole_zoo_is_read_as_it_is(name: str) -> None:
    check_read(zoo(name))


def check_read(arch: Arch) -> None:
    """On the meta device, where nothing is computed; a layer scale's first value is lost there."""
    with torch.device("meta"):
        module = build(arch)
    assert from_module(module, arch.resolution).digest == arch.digest


@settings(max_examples=15, deadline=None)
@given(networks())
def test_random_networks_are_read_or_refused_in_one_line(network: Network) -> None:
    arch = network.arch()
    try:
        read = from_module(build(arch), arch.resolution)
    except InputError as error:
        read, said = None, str(error)
    if read is None:
        assert said
        assert "\n" not in said
    else:
        assert as_trained(read) == as_trained(arch)


def as_trained(arch: Arch) -> tuple[int, int]:
    """Parameters and multiply-adds with all branches: a convolution with a projection beside it may be one or two."""
    with torch.device("meta"):
        module = build(arch).eval()
    return sum(parameter.numel() for parameter in module.parameters()), multiply_adds(module, arch.resolution)


class Own(nn.Module):
    """A user's network, written as people write them."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda x: x, kernel: int | tuple[int, int] = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, kernel, padding="same" if kernel != 3 else 1), nn.BatchNorm2d(8))
        self.last = nn.Linear(8, 5)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.body(x))
        return self.last(self.between(x).mean((2, 3)))


def test_a_module_of_one_s_own_is_read_and_left_as_it_was() -> None:
    module = Own().train()
    module.stem[1].eval()  # a frozen norm
    arch = from_module(module, 32)
    copy_weights(module, build(arch))
    assert [part.training for part in (module, module.stem, module.stem[1], module.body)] == [True, True, False, True]
    assert (arch.in_channels, arch.num_classes, arch.resolution) == (1, 5, 32)
    assert [(block.type, block.shortcut, block.add_act) for block in arch.blocks] == [("conv", "identity", "relu")]


class BodyFirst(Own):
    """Its body is made before its stem, and with other channels."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.last, self.between = nn.Linear(8, 5), nn.Identity()


def test_what_runs_first_says_how_many_channels_come_in() -> None:
    assert from_module(BodyFirst(), 32) == from_module(Own(), 32)


@pytest.mark.parametrize(("rounds_up", "pixels"), [(False, 96), (False, 100), (True, 98)])
def test_a_pool_that_rounds_down_is_read_where_nothing_is_left_over(rounds_up: bool, pixels: int) -> None:
    pool = nn.AvgPool2d(2, ceil_mode=rounds_up)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), pool, nn.Conv2d(8, 8, 3, 1, 1)]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    assert from_module(module, pixels).last_side == module[:4](torch.zeros(1, 3, pixels, pixels)).shape[-1]
    if not rounds_up:
        with pytest.raises(InputError, match="what was read of it computes something else on images of 98 px"):
            from_module(module, 98)


@pytest.mark.parametrize("gamma", [-0.25, 0.0, 0.25])
def test_a_trained_layer_scale_is_read_whatever_its_sign(gamma: float) -> None:
    stage = {"block": "convnext", "depth": 2, "expansion": 2.0}
    data = {"stem": {"width": 8}, "schedule": {"start": 8, "end": 8}, "resolution": 32, "num_classes": 10}
    trained = build(Space({**data, "stages": [stage]}).arch())
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if name.endswith("gamma"):
                parameter.uniform_(-1, 1).flatten()[0] = gamma
    arch = from_module(trained, 32)
    assert {block.layer_scale for block in arch.blocks} == {abs(gamma) or 1e-6}


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: Own(lambda x: x.roll(1, 1)), "forward: an operation roll"),
        (lambda: Own(lambda x: x * 2), "a product with 2"),
        (lambda: Own(lambda x: functional.gelu(x, approximate="tanh")), "gelu with approximate tanh, not none"),
        (lambda: Own(nn.Softplus(2.0)), "softplus with beta 2.0, not 1"),
        (lambda: Own(kernel=(1, 3)), "1×3"),
        (lambda: Own(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
        (lambda: nn.Linear(4, 4), "it has no convolution"),
        (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)), "does not begin with a convolution"),
    ],
)
def test_what_has_no_place_is_named_in_one_line(module: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        from_module(module())
    assert "\n" not in str(caught.value)


class ReLU(nn.Module):
    """It is called as one of PyTorch's, and is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)


def test_what_only_looks_like_a_layer_is_refused() -> None:
    module = Own()
    module.stem[2] = ReLU()
    with pytest.raises(InputError, match="computes something else"):
        from_module(module)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(InputError, match=r"weights: .* layers have weights in the module"):
        copy_weights(Own(), build(zoo("resnet18")))


def test_show_takes_timm_s_names(capsys: pytest.CaptureFixture[str]) -> None:
    library("timm")
    assert main(["show", "timm:mobilenetv4_conv_small"]) == 0
    assert "186MFLOPs, 3.774MParams" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"timm:resnet19: no such name in timm; the nearest are resnet1"):
        network("timm:resnet19")
    with pytest.raises(InputError, match=r"^timm:vit_tiny_patch16_224: "):
        network("timm:vit_tiny_patch16_224")


class Returning(nn.Module):
    """Convolutions and a classifier; what is returned of logits and features is given."""

    def __init__(self, forward: Callable[[Tensor, Tensor], object], **norm: object) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm = nn.BatchNorm2d(8, **norm)  # type: ignore[arg-type]
        self.head, self.forwarded = nn.Linear(8, 4), forward

    def forward(self, x: Tensor) -> object:
        features = functional.relu(self.norm(self.conv(functional.relu(self.stem(x)))))
        return self.forwarded(self.head(features.mean((2, 3))), features)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Returning(lambda logits, features: logits, momentum=None), "momentum is None"),
        (Returning(lambda logits, features: (logits, features)), "it returns a tuple, and logits alone are accepted"),
        (Returning(lambda logits, features: logits + features[:, :4].mean()), "forward: a mean of dimensions"),
        (
            Returning(lambda logits, features: torch.add(input=logits, other=logits)),
            "its operations cannot be followed",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(module: nn.Module, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        from_module(module, 32)
    assert "\n" not in str(caught.value)
