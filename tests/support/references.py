"""Networks that torchvision and timm have no name for, put together from their classes or from plain layers.

ReXNet-lite, ReXNet (plain) and isotropic ConvNeXt are written from the facts of their papers and official code, where
there are any with timm's blocks; ResNet in its variants is torchvision's own, or that with its strides moved.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from tests.support.oracle import library

LITE_STEP = 164 / 15 * 16  # timm's RexNet adds a sixteenth of this a block


def rexnet(width: float) -> nn.Module:
    """ReXNetV1 at a width that timm has no name for."""
    return _rexnet(width_mult=width)


def rexnet_lite(width: float) -> nn.Module:
    """Multiples of 8, ReLU6, no gates; pool, 1×1 to 1,024, batch norm, ReLU6, dropout, classifier."""
    model: Any = _rexnet(final_chs=LITE_STEP, width_mult=width, se_ratio=0.0, ch_div=8, act_layer="relu6")
    hidden = nn.Conv2d(model.num_features, 1024, 1)
    pool = nn.AdaptiveAvgPool2d(1)
    model.head = nn.Sequential(
        pool, hidden, nn.BatchNorm2d(1024), nn.ReLU6(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, 1000)
    )
    return model  # type: ignore[no-any-return]


def _rexnet(**options: Any) -> Any:
    library("timm")
    from timm.models.rexnet import RexNet

    return RexNet(**options)


def rexnet_plain() -> nn.Module:
    """3×3 stem, then depthwise 3×3 + ReLU6 and 1×1 + SiLU to 96, 144, … 624 and 1,024 channels; pool, classifier."""
    widths = [*range(96, 625, 48), 1024]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU()]
    width = 32
    for out, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
        layers += [nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU()]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def convnext_isotropic(width: int, depth: int) -> nn.Module:
    """16×16 patches without a norm, `depth` blocks without layer scale, pool, layer norm, classifier."""
    library("timm")
    from timm.models.convnext import ConvNeXtBlock

    return nn.Sequential(
        nn.Conv2d(3, width, 16, 16),
        *(ConvNeXtBlock(width, ls_init_value=None) for _ in range(depth)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(width, eps=1e-6),
        nn.Linear(width, 1000),
    )


def resnet_v1(name: str) -> nn.Module:
    """torchvision's with the strides where the first paper has them, in the first 1×1 of a stage."""
    model: nn.Module = library("torchvision").models.get_model(name)
    for part in model.modules():
        if hasattr(part, "conv3"):
            part.conv1.stride, part.conv2.stride = part.conv2.stride, (1, 1)
    return model


def resnet_dilated() -> nn.Module:
    """torchvision's ResNet-50 with the strides of its last two stages taken as dilations."""
    made: nn.Module = library("torchvision").models.resnet50(replace_stride_with_dilation=[False, True, True])
    return made


REFERENCES: dict[str, Callable[[], nn.Module]] = {
    **{f"rexnet_{w:03}": partial(rexnet, w / 100) for w in (90, 110, 120, 140, 220)},
    **{f"rexnet_lite_{w}": partial(rexnet_lite, w / 100) for w in (100, 130, 150, 200)},
    "rexnet_plain": rexnet_plain,
    "convnext_isotropic_small": partial(convnext_isotropic, 384, 18),
    "convnext_isotropic_base": partial(convnext_isotropic, 768, 18),
    "convnext_isotropic_large": partial(convnext_isotropic, 1024, 36),
    "resnet50 v1": partial(resnet_v1, "resnet50"),
    "resnet101 v1": partial(resnet_v1, "resnet101"),
    "resnet50 dilated": resnet_dilated,
}
