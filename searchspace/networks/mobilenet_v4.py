"""MobileNetV4's convolutional networks (Qin et al. 2024, arXiv 2404.10518, Tables 11 to 13)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

# A convolution: (kernel, stride, #out). A fused block: (kernel, stride, expansion, #out).
# A universal inverted bottleneck: (first kernel, second kernel, stride, expansion, #out), 0 where there is none.
Row = tuple[float, ...]

SMALL: tuple[Row, ...] = (
    (3, 2, 32),
    (1, 1, 32),
    (3, 2, 96),
    (1, 1, 64),
    (5, 5, 2, 3, 96),
    *((0, 3, 1, 2, 96),) * 4,
    (3, 0, 1, 4, 96),
    (3, 3, 2, 6, 128),
    (5, 5, 1, 4, 128),
    (0, 5, 1, 4, 128),
    (0, 5, 1, 3, 128),
    *((0, 3, 1, 4, 128),) * 2,
)
MEDIUM: tuple[Row, ...] = (
    (3, 2, 4, 48),
    (3, 5, 2, 4, 80),
    (3, 3, 1, 2, 80),
    (3, 5, 2, 6, 160),
    *((3, 3, 1, 4, 160),) * 2,
    (3, 5, 1, 4, 160),
    (3, 3, 1, 4, 160),
    (3, 0, 1, 4, 160),
    (0, 0, 1, 2, 160),
    (3, 0, 1, 4, 160),
    (5, 5, 2, 6, 256),
    (5, 5, 1, 4, 256),
    *((3, 5, 1, 4, 256),) * 2,
    (0, 0, 1, 4, 256),
    (3, 0, 1, 4, 256),
    (3, 5, 1, 2, 256),
    (5, 5, 1, 4, 256),
    *((0, 0, 1, 4, 256),) * 2,
    (5, 0, 1, 2, 256),
)
LARGE: tuple[Row, ...] = (
    (3, 2, 4, 48),
    (3, 5, 2, 4, 96),
    (3, 3, 1, 4, 96),
    (3, 5, 2, 4, 192),
    *((3, 3, 1, 4, 192),) * 3,
    (3, 5, 1, 4, 192),
    *((5, 3, 1, 4, 192),) * 5,
    (3, 0, 1, 4, 192),
    (5, 5, 2, 4, 512),
    *((5, 5, 1, 4, 512),) * 3,
    (5, 0, 1, 4, 512),
    (5, 3, 1, 4, 512),
    *((5, 0, 1, 4, 512),) * 2,
    (5, 3, 1, 4, 512),
    (5, 5, 1, 4, 512),
    *((5, 0, 1, 4, 512),) * 3,
)


def mobilenet_v4(rows: tuple[Row, ...], stem: int) -> Network:
    """A row of the paper's table a stage. Native resolutions: small 224, medium 256, large 384."""
    return Network(
        stages=tuple(map(_stage, rows)),
        schedule=Schedule("stagewise", widths=tuple(float(row[-1]) for row in rows), divisor=8),
        stem=Stem(stem),
        head=Head(960, hidden=1280, hidden_bias=False, hidden_norm=True, dropout=0.2),
    )


def _stage(row: Row) -> Stage:
    match row:
        case (kernel, stride, _):
            return Stage("conv", stride=int(stride), kernel=int(kernel))
        case (kernel, stride, expansion, _):
            return Stage(
                "fused_mbconv", stride=int(stride), kernel=int(kernel), expansion=expansion, spatial_act="relu"
            )
        case (first, second, stride, expansion, _):
            options = {"first_kernel": int(first)}
            return Stage("universal", stride=int(stride), kernel=int(second), expansion=expansion, options=options)
    raise ValueError(f"{row}: a row of three to five numbers is accepted")


NETWORKS: dict[str, Callable[..., Network]] = {
    "mobilenet_v4_conv_small": partial(mobilenet_v4, SMALL, 32),
    "mobilenet_v4_conv_medium": partial(mobilenet_v4, MEDIUM, 32),
    "mobilenet_v4_conv_large": partial(mobilenet_v4, LARGE, 24),
}
