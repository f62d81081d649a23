"""Networks of this project for timm: after importing this module, `timm.create_model("searchspace", arch=…)` makes one.

`arch` is an `Arch`, a file, or a name of the zoo. One entry for all of them: names like `resnet18` are timm's own.
Needs timm; nothing else in this package does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from searchspace.arch import Arch
from searchspace.errors import InputError
from searchspace.module import build
from searchspace.networks import names, zoo
from searchspace.pyramid import Pyramid, levels

__all__ = ["searchspace"]


class Network(nn.Sequential):
    """`build(arch)` with what timm's scripts ask of a model; weights have the same names."""

    def __init__(self, arch: Arch) -> None:
        super().__init__(OrderedDict(build(arch).named_children()))
        self.arch, self.num_classes = arch, arch.num_classes
        self.num_features = self.head_hidden_size = arch.head.hidden or arch.head.width or arch.blocks[-1].out_channels
        self.feature_info = [
            {"num_chs": level.channels, "reduction": level.reduction, "module": level.part} for level in levels(arch)
        ]
        self.default_cfg = self.pretrained_cfg = {
            "input_size": (arch.in_channels, arch.resolution, arch.resolution),
            "num_classes": arch.num_classes,
            "architecture": "searchspace",
        }

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map before the head."""
        for part in list(self)[:-1]:
            x = part(x)
        return x

    def forward_head(self, x: Tensor) -> Tensor:
        logits: Tensor = self[-1](x)
        return logits

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return [part for part in self[-1].modules() if isinstance(part, nn.Linear)][-1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Another number of classes, with a new head."""
        self.arch = classifying(self.arch, num_classes)
        self.num_classes, self.head = num_classes, build(self.arch).head


def classifying(arch: Arch, num_classes: int) -> Arch:
    """The network with as many classes, and a classifier where it had none; with 0, as timm has it, without one."""
    if num_classes == 0:
        return replace(arch, head=replace(arch.head, output="features"))
    return replace(arch, num_classes=num_classes, head=replace(arch.head, output="logits"))


@register_model  # type: ignore[untyped-decorator]
def searchspace(pretrained: bool = False, arch: Arch | str | Path = "rexnet_100", **options: Any) -> nn.Module:
    """A network for `timm.create_model`; `num_classes`, `features_only` and `out_indices` as timm has them.

    Raises `InputError` for `pretrained`, since no weights come with this project, and for other options.
    """
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(name, None)
    if pretrained:
        raise InputError("pretrained: no weights come with these networks; checkpoint_path takes an export's")
    found = arch if isinstance(arch, Arch) else zoo(arch) if arch in names() else Arch.load(Path(arch))
    if (classes := options.pop("num_classes", None)) is not None:
        found = classifying(found, classes)
    features_only, indices = options.pop("features_only", False), options.pop("out_indices", None)
    if options:
        raise InputError(f"{', '.join(options)}: arch, num_classes, features_only and out_indices are accepted")
    return Pyramid(found, indices) if features_only else Network(found)
