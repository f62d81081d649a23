"""Augmentations of a full training: mixup, cutmix and RandAugment, on whole batches on the device.

Every draw comes from torch's own generators, whose states a checkpoint keeps.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.config import TrainConfig
from searchspace.errors import InputError

RGB = 3
OPERATIONS = 2  # RandAugment's n; its m is the strength in the recipe

Policy = Callable[[Tensor], Tensor]


def check(config: TrainConfig, channels: int) -> None:
    """`InputError` where a recipe's augmentations are not to be had for images of so many channels."""
    if not config.randaugment:
        return
    if channels != RGB:
        raise InputError(f"randaugment: changes colours, so images of {RGB} channels are accepted, not {channels}")
    if importlib.util.find_spec("kornia") is None:
        raise InputError("randaugment needs kornia: pip install 'cnn-budget-search[train]'")


def randaugment(strength: int) -> Policy:
    """kornia's RandAugment for batches (N, 3, H, W) in 0…255: two operations drawn for every batch.

    0 changes nothing. `InputError` where kornia is missing.
    """
    if not strength:
        return lambda images: images
    check(TrainConfig(randaugment=strength), RGB)
    from kornia.augmentation.auto import RandAugment

    policy = RandAugment(n=OPERATIONS, m=strength)
    return lambda images: policy(images.float() / 255).clamp(0, 1) * 255


def mix_pairs(x: Tensor, labels: Tensor, num_classes: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Images mixed in pairs, and the shares of their classes (N, num_classes); as they are where the recipe mixes none.

    Mixup (Zhang et al. 2018) adds whole images, cutmix (Yun et al. 2019) pastes a box of one into the other; where the
    recipe has both, a coin decides for every batch.
    """
    kinds = [(kind, alpha) for kind, alpha in ((_mixup, config.mixup), (_cutmix, config.cutmix)) if alpha > 0]
    if not kinds:
        return x, labels
    mix, alpha = kinds[int(torch.rand(()) * len(kinds))]
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x)).to(x.device, non_blocking=True)
    x, share = mix(x, x[partner], share)
    shares = F.one_hot(labels, num_classes).to(x.dtype)
    return x, share * shares + (1 - share) * shares[partner]


def _mixup(x: Tensor, other: Tensor, share: float) -> tuple[Tensor, float]:
    return share * x + (1 - share) * other, share


def _cutmix(x: Tensor, other: Tensor, share: float) -> tuple[Tensor, float]:
    """A box that covers about 1 - share of the image is the other's; the share that is left of x is exact."""
    height, width = x.shape[2:]
    side = (1 - share) ** 0.5
    top, left = (int(torch.randint(size, ())) for size in (height, width))
    up, over = round(height * side / 2), round(width * side / 2)
    rows, columns = slice(max(0, top - up), top + up), slice(max(0, left - over), left + over)
    cut = x.clone()
    cut[:, :, rows, columns] = other[:, :, rows, columns]
    area = cut[0, 0, rows, columns].numel()
    return cut, 1 - area / (height * width)
