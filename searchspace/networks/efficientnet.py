"""EfficientNet (Tan & Le 2019, arXiv 1905.11946, Table 1) and EfficientNetV2 (arXiv 2104.00298, Table 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

Row = tuple[int, int, int, int, int]  # expansion, kernel, stride, output channels, repeats
RowV2 = tuple[Literal["fused_mbconv", "mbconv"], int, int, int, int, int]  # block, then as above

B0: tuple[Row, ...] = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
# Compound scaling: width, depth, dropout, and the resolution that the paper trains at (not the zoo's default).
SCALED: dict[str, tuple[float, float, float, int]] = {
    "efficientnet_b0": (1.0, 1.0, 0.2, 224),
    "efficientnet_b1": (1.0, 1.1, 0.2, 240),
    "efficientnet_b2": (1.1, 1.2, 0.3, 260),
    "efficientnet_b3": (1.2, 1.4, 0.3, 300),
    "efficientnet_b4": (1.4, 1.8, 0.4, 380),
    "efficientnet_b5": (1.6, 2.2, 0.4, 456),
    "efficientnet_b6": (1.8, 2.6, 0.5, 528),
    "efficientnet_b7": (2.0, 3.1, 0.5, 600),
}
V2_S: tuple[RowV2, ...] = (
    ("fused_mbconv", 1, 3, 1, 24, 2),
    ("fused_mbconv", 4, 3, 2, 48, 4),
    ("fused_mbconv", 4, 3, 2, 64, 4),
    ("mbconv", 4, 3, 2, 128, 6),
    ("mbconv", 6, 3, 1, 160, 9),
    ("mbconv", 6, 3, 2, 256, 15),
)
V2_M: tuple[RowV2, ...] = (
    ("fused_mbconv", 1, 3, 1, 24, 3),
    ("fused_mbconv", 4, 3, 2, 48, 5),
    ("fused_mbconv", 4, 3, 2, 80, 5),
    ("mbconv", 4, 3, 2, 160, 7),
    ("mbconv", 6, 3, 1, 176, 14),
    ("mbconv", 6, 3, 2, 304, 18),
    ("mbconv", 6, 3, 1, 512, 5),
)
V2_L: tuple[RowV2, ...] = (
    ("fused_mbconv", 1, 3, 1, 32, 4),
    ("fused_mbconv", 4, 3, 2, 64, 7),
    ("fused_mbconv", 4, 3, 2, 96, 7),
    ("mbconv", 4, 3, 2, 192, 10),
    ("mbconv", 6, 3, 1, 224, 19),
    ("mbconv", 6, 3, 2, 384, 25),
    ("mbconv", 6, 3, 1, 640, 7),
)


def efficientnet(name: str) -> Network:
    """B0 scaled; B5 to B7 have torchvision's slower batch norms. Native resolutions: `SCALED`."""
    width, depth, dropout, _ = SCALED[name]
    norm = Norm(eps=1e-3, momentum=0.01) if width >= 1.6 else Norm()
    rows: list[RowV2] = [("mbconv", *row) for row in B0]
    return _network(rows, 32, norm, dropout, width, depth)


def efficientnet_v2(rows: tuple[RowV2, ...], dropout: float) -> Network:
    """Fused blocks first, without squeeze and excitation. Native resolutions: S 384, M and L 480."""
    return _network(list(rows), rows[0][4], Norm(eps=1e-3), dropout)


def _network(
    rows: list[RowV2], stem: int, norm: Norm, dropout: float, width: float = 1.0, depth: float = 1.0
) -> Network:
    """The squeeze is a quarter of the block's input, its inside SiLU too; drop path grows to 0.2 as p · i / N."""
    return Network(
        stages=tuple(_stage(row, norm) for row in rows),
        schedule=Schedule("stagewise", widths=tuple(float(row[4]) for row in rows), divisor=8),
        stem=Stem(stem, act="silu", norm=norm),
        head=Head(1280, "silu", norm, dropout=dropout),
        width_mult=width,
        depth_mult=depth,
        drop_path=0.2,
        drop_path_reached="next",
        init="efficientnet",
    )


def _stage(row: RowV2, norm: Norm) -> Stage:
    block, expansion, kernel, stride, _, repeats = row
    return Stage(
        block,
        repeats,
        stride,
        expansion=expansion,
        kernel=kernel,
        expand_act="silu",
        spatial_act="silu",
        se=0.25 if block == "mbconv" else 0.0,
        se_from="input",
        se_act="silu",
        norm=norm,
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    **{name: partial(efficientnet, name) for name in SCALED},
    "efficientnet_v2_s": partial(efficientnet_v2, V2_S, dropout=0.2),
    "efficientnet_v2_m": partial(efficientnet_v2, V2_M, dropout=0.3),
    "efficientnet_v2_l": partial(efficientnet_v2, V2_L, dropout=0.4),
}
