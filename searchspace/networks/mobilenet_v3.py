"""MobileNetV3 (Howard et al. 2019, arXiv 1905.02244, Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from searchspace.blocks.layers import Activation, Norm
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

Row = tuple[int, int, int, bool, Literal["RE", "HS"], int]  # kernel, exp size, #out, SE, NL, s

LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
)
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, "RE", 2),
    (3, 72, 24, False, "RE", 2),
    (3, 88, 24, False, "RE", 1),
    (5, 96, 40, True, "HS", 2),
    (5, 240, 40, True, "HS", 1),
    (5, 240, 40, True, "HS", 1),
    (5, 120, 48, True, "HS", 1),
    (5, 144, 48, True, "HS", 1),
    (5, 288, 96, True, "HS", 2),
    (5, 576, 96, True, "HS", 1),
    (5, 576, 96, True, "HS", 1),
)
ACTIVATIONS: dict[str, Activation] = {"RE": "relu", "HS": "hard_swish"}
NORM = Norm(eps=1e-3, momentum=0.01)
STEM = 16


def mobilenet_v3(rows: tuple[Row, ...], last: int, features: int) -> Network:
    """One row of the paper's table a stage; its exp size is an expansion of the row's input.

    The squeeze is a quarter of the expanded width in multiples of 8 and the gate a hard sigmoid, as in torchvision.
    """
    inputs = [STEM, *(out for _, _, out, *_ in rows)]
    return Network(
        stages=tuple(_stage(row, width) for row, width in zip(rows, inputs, strict=False)),
        schedule=Schedule("stagewise", widths=tuple(float(out) for _, _, out, *_ in rows), divisor=8),
        stem=Stem(STEM, act="hard_swish", norm=NORM),
        head=Head(last, "hard_swish", NORM, hidden=features, hidden_act="hard_swish", dropout=0.2),
    )


def _stage(row: Row, width: int) -> Stage:
    kernel, exp_size, _, se, nl, stride = row
    act = ACTIVATIONS[nl]
    return Stage(
        "mbconv",
        stride=stride,
        kernel=kernel,
        expansion=exp_size / width,
        expand_act=act,
        spatial_act=act,
        se=0.25 if se else 0.0,
        se_divisor=8,
        se_gate="hard_sigmoid",
        norm=NORM,
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    "mobilenet_v3_large": partial(mobilenet_v3, LARGE, last=960, features=1280),
    "mobilenet_v3_small": partial(mobilenet_v3, SMALL, last=576, features=1024),
}
