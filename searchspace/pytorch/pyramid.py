"""A network as a backbone: the maps of several resolutions that detectors and segmenters build on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from searchspace.arch import Arch
from searchspace.errors import InputError
from searchspace.pytorch.module import build


class Level(NamedTuple):
    """A map of the pyramid: its channels, the input pixels a pixel of it spans, and the part that puts it out."""

    channels: int
    reduction: int
    part: str


class Pyramid(nn.Module):
    """The last map before every halving, the largest first: images (N, 3, H, W) to maps (N, C, H / r, W / r).

    Parts and weights have the names that they have in `build(arch)`, without the head: `load_state_dict` takes a
    trained network's with `strict=False`. A stem that pools gives the map after its pool. `indices` chooses levels, as
    timm's `out_indices` does; what comes after the last of them is left out. Raises `InputError` for a level that is
    not there.
    """

    def __init__(self, arch: Arch, indices: Sequence[int] | None = None) -> None:
        super().__init__()
        every = levels(arch)
        chosen = range(len(every)) if indices is None else indices
        if not chosen or not all(-len(every) <= index < len(every) for index in chosen):
            raise InputError(f"indices {list(chosen)}: levels are 0 to {len(every) - 1}")
        self.levels = [every[index] for index in sorted({index % len(every) for index in chosen})]
        for name, part in build(arch).named_children():
            self.add_module(name, part)
            if name == self.levels[-1].part:
                break

    @property
    def channels(self) -> list[int]:
        return [level.channels for level in self.levels]

    @property
    def reductions(self) -> list[int]:
        return [level.reduction for level in self.levels]

    @property
    def feature_info(self) -> list[dict[str, int | str]]:
        """The levels as timm describes them."""
        return [
            {"num_chs": level.channels, "reduction": level.reduction, "module": level.part} for level in self.levels
        ]

    def forward(self, x: Tensor) -> list[Tensor]:
        wanted, maps = {level.part for level in self.levels}, []
        for name, part in self.named_children():
            x = part(x)
            if name in wanted:
                maps.append(x)
        return maps


def levels(arch: Arch) -> list[Level]:
    """The last part of every resolution, the largest map first."""
    reduction = arch.stem.stride * arch.stem.pool
    found = {reduction: Level(arch.stem.width, reduction, "stem")}
    for number, block in enumerate(arch.blocks, 1):
        reduction *= block.stride
        found[reduction] = Level(block.out_channels, reduction, f"block{number}")
    return list(found.values())
