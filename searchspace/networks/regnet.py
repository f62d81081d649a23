"""RegNetX and RegNetY (Radosavovic et al. 2020, arXiv 2003.13678, Tables 8 and 9 of the appendix).

A network is six numbers: depth d, initial width w_0, slope w_a, quantisation w_m, group width g, and whether there is
squeeze and excitation (Y).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Literal

from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule, channels

X: dict[str, tuple[int, int, float, float, int]] = {  # d, w_0, w_a, w_m, g
    "regnet_x_400mf": (22, 24, 24.48, 2.54, 16),
    "regnet_x_800mf": (16, 56, 35.73, 2.28, 16),
    "regnet_x_1_6gf": (18, 80, 34.01, 2.25, 24),
    "regnet_x_3_2gf": (25, 88, 26.31, 2.25, 48),
    "regnet_x_8gf": (23, 80, 49.56, 2.88, 120),
    "regnet_x_16gf": (22, 216, 55.59, 2.1, 128),
    "regnet_x_32gf": (23, 320, 69.86, 2.0, 168),
}
Y: dict[str, tuple[int, int, float, float, int]] = {
    "regnet_y_400mf": (16, 48, 27.89, 2.09, 8),
    "regnet_y_800mf": (14, 56, 38.84, 2.4, 16),
    "regnet_y_1_6gf": (27, 48, 20.71, 2.65, 24),
    "regnet_y_3_2gf": (21, 80, 42.63, 2.66, 24),
    "regnet_y_8gf": (17, 192, 76.82, 2.19, 56),
    "regnet_y_16gf": (18, 200, 106.23, 2.48, 112),
    "regnet_y_32gf": (20, 232, 115.89, 2.53, 232),
}


def regnet(
    depth: int,
    w_0: float,
    w_a: float,
    w_m: float,
    group_width: int,
    se: float = 0.0,
    rounding: Literal["mobilenet", "nearest"] = "mobilenet",
) -> Network:
    """A RegNet from its generator's numbers; blocks of one quantised width are a stage.

    Widths are made multiples of the group width by MobileNetV2's rule, as torchvision does, or `nearest`, as pycls and
    timm do; X-400MF, Y-800MF and Y-8GF differ. The squeeze is a quarter of the block's input width.
    """
    schedule = Schedule("quantised", start=w_0, increment=w_a, ratio=w_m, divisor=group_width, rounding=rounding)
    depths = [len(list(run)) for _, run in groupby(channels(replace(schedule, divisor=1), [depth]))]
    stage = Stage("bottleneck", stride=2, expansion=1, group_width=group_width, se=se, se_from="input")
    return Network(
        stages=tuple(replace(stage, depth=n) for n in depths),
        schedule=schedule,
        stem=Stem(32),
        head=Head(),
        scale_stem="none",
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    **{name: partial(regnet, *numbers) for name, numbers in X.items()},
    **{name: partial(regnet, *numbers, se=0.25) for name, numbers in Y.items()},
}
