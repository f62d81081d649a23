"""ConvNeXt (Liu et al. 2022, arXiv 2201.03545, section 3 and Table 9), isotropic too (section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from searchspace.blocks.layers import Norm
from searchspace.blocks.stem_head import Head, Stem
from searchspace.format.network import Network, Stage
from searchspace.format.schedule import Schedule

LAYER_NORM = Norm("layer", eps=1e-6)
STRIDES = (1, 2, 2, 2)
# widths, depths, drop path
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "convnext_tiny": ((96, 192, 384, 768), (3, 3, 9, 3), 0.1),
    "convnext_small": ((96, 192, 384, 768), (3, 3, 27, 3), 0.4),
    "convnext_base": ((128, 256, 512, 1024), (3, 3, 27, 3), 0.5),
    "convnext_large": ((192, 384, 768, 1536), (3, 3, 27, 3), 0.5),
    "convnext_xlarge": ((256, 512, 1024, 2048), (3, 3, 27, 3), 0.5),
}
# width, depth, drop path
ISOTROPIC: dict[str, tuple[int, int, float]] = {
    "convnext_isotropic_small": (384, 18, 0.1),
    "convnext_isotropic_base": (768, 18, 0.2),
    "convnext_isotropic_large": (1024, 36, 0.5),
}


def convnext(widths: tuple[int, ...], depths: tuple[int, ...], drop_path: float) -> Network:
    """Patchify stem, a separate downsampling layer before every stage but the first, layer scale, drop path."""
    return Network(
        stages=tuple(Stage("convnext", depth, stride) for depth, stride in zip(depths, STRIDES, strict=True)),
        schedule=Schedule("stagewise", widths=tuple(float(width) for width in widths)),
        stem=Stem(widths[0], kernel=4, stride=4, act="none", norm=LAYER_NORM, bias=True),
        head=Head(norm=LAYER_NORM, pooled_norm=True),
        drop_path=drop_path,
        init="convnext",
    )


def isotropic(width: int, depth: int, drop_path: float) -> Network:
    """ViT's 16×16 patches and one stage at 14×14; no norm after the stem, no layer scale."""
    return Network(
        stages=(Stage("convnext", depth, layer_scale=0.0),),
        schedule=Schedule("stagewise", widths=(float(width),)),
        stem=Stem(width, kernel=16, stride=16, act="none", norm=Norm("none"), bias=True),
        head=Head(norm=LAYER_NORM, pooled_norm=True),
        drop_path=drop_path,
        init="convnext",
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    **{name: partial(convnext, *size) for name, size in SIZES.items()},
    **{name: partial(isotropic, *size) for name, size in ISOTROPIC.items()},
}
