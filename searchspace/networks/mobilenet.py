"""MobileNetV1 (arXiv 1704.04861), MobileNetV2 (arXiv 1801.04381), MnasNet-B1 (arXiv 1807.11626)."""

from __future__ import annotations

from collections.abc import Callable

from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

# Table 1 of each: (output channels, blocks, stride of the first)
V1 = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
# Table 2: (expansion t, channels c, repeats n, stride s)
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# Figure 7 without squeeze and excitation: (expansion, channels, repeats, stride, kernel)
MNASNET = (
    (1, 16, 1, 1, 3),
    (3, 24, 3, 2, 3),
    (3, 40, 3, 2, 5),
    (6, 80, 3, 2, 5),
    (6, 96, 2, 1, 3),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def mobilenet_v1(width_mult: float = 1.0) -> Network:
    """Depthwise 3×3 and 1×1, a norm and an activation after both, no shortcut: an `mbconv` that does not expand."""
    return Network(
        stages=tuple(
            Stage("mbconv", depth, stride, expansion=1, project_act="relu6", shortcut="none") for _, depth, stride in V1
        ),
        schedule=Schedule("stagewise", widths=tuple(float(width) for width, _, _ in V1), divisor=8),
        stem=Stem(32, act="relu6"),
        width_mult=width_mult,
    )


def mobilenet_v2(width_mult: float = 1.0) -> Network:
    """Inverted residuals with linear bottlenecks; the last convolution grows with the width and does not shrink."""
    return Network(
        stages=tuple(Stage("mbconv", n, s, expansion=t) for t, _, n, s in V2),
        schedule=Schedule("stagewise", widths=tuple(float(c) for _, c, _, _ in V2), divisor=8),
        stem=Stem(32, act="relu6"),
        head=Head(1280, act="relu6", dropout=0.2),
        width_mult=width_mult,
        scale_head="up",
    )


def mnasnet(width_mult: float = 1.0) -> Network:
    """MnasNet-B1, as torchvision has it: ReLU, slow batch norms, 1,280 channels before the pool at every width."""
    norm = Norm(momentum=0.0003)
    return Network(
        stages=tuple(
            Stage("mbconv", n, s, expansion=t, kernel=k, expand_act="relu", spatial_act="relu", norm=norm)
            for t, _, n, s, k in MNASNET
        ),
        schedule=Schedule("stagewise", widths=tuple(float(c) for _, c, _, _, _ in MNASNET), divisor=8),
        stem=Stem(32, norm=norm),
        head=Head(1280, norm=norm, dropout=0.2),
        width_mult=width_mult,
        scale_head="none",
        init="mnasnet",
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mnasnet1_0": mnasnet,
}
