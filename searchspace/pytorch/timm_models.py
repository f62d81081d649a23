"""Networks of this project for timm: after importing this module, `timm.create_model("searchspace", arch=…)` makes one.

`arch` is an `Arch`, a file, an exported folder, or a name of the zoo. One entry for all of them: names like `resnet18`
are timm's own. Needs timm; nothing else in this package does. Where torch is without CUDA, timm imports only beside a
torchvision of the same kind (`pip install torchvision --index-url https://download.pytorch.org/whl/cpu`).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.models import FeatureInfo, checkpoint_seq, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from searchspace.arch import Arch
from searchspace.blocks.blocks import BETWEEN
from searchspace.errors import InputError
from searchspace.networks import names, zoo
from searchspace.pytorch.module import build
from searchspace.pytorch.pyramid import Level, Pyramid, levels

__all__ = ["searchspace"]

ARCH, WEIGHTS = "arch.yaml", "weights.safetensors"
OWN = "arch, num_classes, in_chans, drop_rate, drop_path_rate, img_size, global_pool, features_only and out_indices"
# What timm's scripts and loaders pass, at the values that change nothing here.
IDLE: dict[str, tuple[object, ...]] = {
    "drop_block_rate": (0, 0.0),
    "global_pool": ("avg",),
    "scriptable": (True, False),
    "exportable": (True, False),
    "no_jit": (True, False),
    "jit": (False,),
}


class Network(nn.Sequential):
    """`build(arch)` with what timm's scripts ask of a model; weights have the same names."""

    def __init__(self, arch: Arch, config: Mapping[str, Any]) -> None:
        super().__init__(OrderedDict(build(arch).named_children()))
        self.arch, self.num_classes = arch, arch.num_classes if arch.head.output == "logits" else 0
        self.num_features = self.head_hidden_size = arch.head.hidden or arch.head.width or arch.blocks[-1].out_channels
        self.feature_info = describe(levels(arch))
        self.grad_checkpointing = False
        self.default_cfg = self.pretrained_cfg = {
            "input_size": (arch.in_channels, arch.resolution, arch.resolution),
            "num_classes": self.num_classes,
            "architecture": "searchspace",
            "first_conv": "stem.conv",
            "classifier": "head.classifier",
            **config,
        }

    def forward(self, x: Tensor) -> Tensor:
        if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.forward_head(self.forward_features(x))
        for part in self:
            x = part(x)
        return x

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map before the head."""
        parts = list(self)[:-1]
        if self.grad_checkpointing:
            found: Tensor = checkpoint_seq(parts, x)
            return found
        for part in parts:
            x = part(x)
        return x

    def forward_head(self, x: Tensor) -> Tensor:
        logits: Tensor = self[-1](x)
        return logits

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The last maps of the chosen resolutions, as timm numbers them, and the last map before the head."""
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt {output_fmt}: NCHW is accepted")
        every = [level.part for level in levels(self.arch)]
        taken, last = feature_take_indices(len(every), indices)
        wanted, found = {every[index] for index in taken}, []
        for name, part in list(self.named_children())[:-1]:
            x = part(x)
            if name in wanted:
                found.append(x)
            if stop_early and intermediates_only and name == every[last]:
                break
        return found if intermediates_only else (x, found)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the stem and every block compute their maps again for the backward pass, and keep none."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Parameters from input to output, for layer-wise learning rates. Blocks know no stages to be `coarse` by."""
        return {"stem": r"^stem\.", "blocks": r"^block(\d+)\."}

    def get_classifier(self) -> nn.Module:
        """The last linear layer; without one, what timm has in its place."""
        return next((part for part in reversed(list(self[-1].modules())) if isinstance(part, nn.Linear)), nn.Identity())

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Another number of classes, with a new head."""
        if global_pool not in (None, "avg"):
            raise InputError(f"global_pool {global_pool}: avg is accepted")
        self.arch = classifying(self.arch, num_classes)
        self.num_classes, self.head = num_classes, build(self.arch).head


class Backbone(Pyramid):
    """A `Pyramid` that is described by timm's own `FeatureInfo`, with `channels()` and `reduction()`."""

    @property
    def feature_info(self) -> Any:
        return FeatureInfo(describe(self.levels), tuple(range(len(self.levels))))


def describe(maps: Sequence[Level]) -> list[dict[str, Any]]:
    return [{"num_chs": level.channels, "reduction": level.reduction, "module": level.part} for level in maps]


def classifying(arch: Arch, num_classes: int) -> Arch:
    """The network with as many classes, and a classifier where it had none; with 0, as timm has it, without one."""
    if num_classes == 0:
        return replace(arch, head=replace(arch.head, output="features"))
    return replace(arch, num_classes=num_classes, head=replace(arch.head, output="logits"))


def _dropping(arch: Arch, rate: float) -> Arch:
    return replace(arch, head=replace(arch.head, dropout=float(rate)))


def _dropping_paths(arch: Arch, rate: float) -> Arch:
    """Stochastic depth that grows linearly with the block's index and reaches `rate` in the last."""
    counted = [index for index, block in enumerate(arch.blocks) if block.type not in BETWEEN]
    rates = {index: float(rate) * number / max(1, len(counted) - 1) for number, index in enumerate(counted)}
    blocks = (replace(block, drop_path=rates.get(index, 0.0)) for index, block in enumerate(arch.blocks))
    return replace(arch, blocks=tuple(blocks))


def _resize(arch: Arch, size: int | Sequence[int]) -> Arch:
    height, *width = [size] if isinstance(size, int) else size
    if width not in ([], [height]):
        raise InputError(f"img_size {size}: a square is accepted")
    return replace(arch, resolution=height)


def _with_channels(arch: Arch, channels: int) -> Arch:
    return replace(arch, in_channels=channels)


MAPPED: dict[str, Callable[[Arch, Any], Arch]] = {
    "num_classes": classifying,
    "in_chans": _with_channels,
    "drop_rate": _dropping,
    "drop_path_rate": _dropping_paths,
    "img_size": _resize,
}


def find(given: Arch | str | Path) -> tuple[Arch, dict[str, Any]]:
    """The network, and where trained weights lie beside its file how images are prepared for them, as timm says it."""
    if isinstance(given, Arch) or given in names():
        return given if isinstance(given, Arch) else zoo(str(given)), {}
    path = Path(given) / ARCH if Path(given).is_dir() else Path(given)
    weights = path.parent / WEIGHTS
    return Arch.load(path), _preparation(weights) if path.name == ARCH and weights.is_file() else {}


def _preparation(weights: Path) -> dict[str, Any]:
    """`nas.train` keeps mean and standard deviation, of numbers from 0 to 255, in its weights."""
    try:
        with safe_open(weights, "pt") as file:
            notes = (file.metadata() or {}).get("trained")
        if notes is None:
            return {}
        trained = json.loads(notes)
        mean, std = (tuple(float(number) / 255 for number in trained[name]) for name in ("mean", "std"))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{weights}: not of a training ({' '.join(str(error).split())[:120]})") from None
    return {"mean": mean, "std": std, "crop_pct": 1.0, "interpolation": "bilinear"}


@register_model  # type: ignore[untyped-decorator]
def searchspace(pretrained: bool = False, arch: Arch | str | Path = "rexnet_100", **options: Any) -> nn.Module:
    """A network for `timm.create_model`, with timm's options as far as they mean something here.

    `num_classes` (0: no classifier), `in_chans`, `drop_rate`, `drop_path_rate` and `img_size` change the network;
    `features_only` and `out_indices` give its maps. Of an exported folder or its `arch.yaml`, `default_cfg` has the
    mean and standard deviation of its training. Raises `InputError` for `pretrained`, since no weights come with this
    project, and for options that would change a network in a way that no `Arch` says.
    """
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(name, None)
    if pretrained:
        raise InputError("pretrained: no weights come with these networks; checkpoint_path takes an export's")
    features_only, indices = options.pop("features_only", False), options.pop("out_indices", None)
    made, config = find(arch)
    for name, value in options.items():
        if name in MAPPED:
            made = _change(made, name, value)
        elif not any(value == idle and type(value) is type(idle) for idle in IDLE.get(name, ())):
            raise InputError(f"{name} {value!r}: {OWN} are accepted{_idle(name)}")
    return Backbone(made, indices) if features_only else Network(made, config)


def _change(arch: Arch, name: str, value: Any) -> Arch:
    try:
        return MAPPED[name](arch, value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} {value!r}: {error}") from None


def _idle(name: str) -> str:
    return f"; of {name} {' or '.join(map(repr, IDLE[name]))}" if name in IDLE else ""
