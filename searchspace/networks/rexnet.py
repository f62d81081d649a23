"""ReXNet (Han et al. 2021, arXiv 2007.00992): V1 and lite as in the official code, plain as in the paper's Table A1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil

from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

# The last five of six stages; the first is one block without expansion.
DEPTHS = (1, 2, 2, 3, 3, 5)
STRIDES = (1, 2, 2, 2, 1, 2)
FIRST = 16.0
# ReXNet (plain): a step of 48 a block, MobileNetV1's strides, 1,024 channels at the end
PLAIN = (*range(96, 625, 48), 1024)
PLAIN_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def rexnet(width_mult: float = 1.0, depth_mult: float = 1.0, se: bool = True) -> Network:
    """ReXNetV1: the block index adds 180 / 16 channels, rounded half to even, so the last of ×1.0 has 185.

    SiLU after the first 1×1 only, ReLU6 after the gate (paper, section 3), squeeze and excitation from the third stage
    with a norm inside. Below ×1 the stem and the first block keep their width and only the increments shrink.
    """
    ratio = 1 / 12 if se else 0.0
    blocks = sum(ceil(depth * depth_mult) for depth in DEPTHS)
    return Network(
        stages=tuple(
            Stage(
                "mbconv",
                depth,
                stride,
                expansion=1 if index == 0 else 6,
                expand_act="silu",
                se=ratio if index > 1 else 0.0,
                se_position="before",
                se_norm=True,
                shortcut="partial",
            )
            for index, (depth, stride) in enumerate(zip(DEPTHS, STRIDES, strict=True))
        ),
        schedule=Schedule(start=FIRST / min(1.0, width_mult), increment=180 / blocks),
        stem=Stem(32, act="silu"),
        head=Head(1280, act="silu", dropout=0.2),
        width_mult=width_mult,
        depth_mult=depth_mult,
        scale_stem="up",
        init="torch",
    )


def rexnet_lite(width_mult: float = 1.0, kernel_conf: str = "333333", fix_head_stem: bool = False) -> Network:
    """ReXNet-lite (official code only): ReLU6, no squeeze, multiples of 8, 164 / 15 channels a block.

    `kernel_conf` has a kernel a stage. `fix_head_stem` keeps the stem and the last convolution at their ×1.0 width.
    """
    if len(kernel_conf) != len(DEPTHS) or not kernel_conf.isdigit():
        raise ValueError(f"kernel_conf: {len(DEPTHS)} digits, as in 355555, not {kernel_conf!r}")
    stages = zip(DEPTHS, STRIDES, kernel_conf, strict=True)
    return Network(
        stages=tuple(
            Stage("mbconv", depth, stride, expansion=6 if index else 1, kernel=int(kernel), shortcut="partial")
            for index, (depth, stride, kernel) in enumerate(stages)
        ),
        schedule=Schedule(
            start=FIRST / min(1.0, width_mult), increment=164 / (sum(DEPTHS) - 1), divisor=8, rounding="twice"
        ),
        stem=Stem(32, act="relu6"),
        head=Head(1280, act="relu6", hidden=1024, hidden_act="relu6", hidden_norm=True, dropout=0.2),
        width_mult=width_mult,
        scale_stem="none" if fix_head_stem else "up",
        scale_head="none" if fix_head_stem else "up",
        init="torch",
    )


def rexnet_plain() -> Network:
    """MobileNetV1's blocks on a linear schedule, without shortcuts, SiLU after the 1×1s.

    The paper's drawing (114 for 144, other strides, a 1,280-channel convolution) contradicts its Table A1; this is the
    network of the table, 3.4M parameters and 0.56B multiply-adds.
    """
    return Network(
        stages=tuple(
            Stage("mbconv", stride=s, expansion=1, project_act="silu", shortcut="none") for s in PLAIN_STRIDES
        ),
        schedule=Schedule("explicit", widths=tuple(float(width) for width in PLAIN)),
        stem=Stem(32, act="silu"),
        init="torch",
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    "rexnet_plain": rexnet_plain,
    **{
        f"rexnet_{w:03}": partial(rexnet, width_mult=w / 100) for w in (90, 100, 110, 120, 130, 140, 150, 200, 220, 300)
    },
    **{f"rexnet_lite_{w}": partial(rexnet_lite, width_mult=w / 100) for w in (100, 130, 150, 200)},
}
