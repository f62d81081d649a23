"""`from_module` and `from_timm`: a network of somebody else's as an `Arch`."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import torch
from torch import nn

from searchspace.arch import Arch
from searchspace.blocks.layers import Conv, leaves
from searchspace.errors import InputError, reason
from searchspace.pytorch.module import build
from searchspace.pytorch.reading.graph import layers_of
from searchspace.pytorch.reading.modules import UnreadableError, evaluating
from searchspace.pytorch.reading.recognise import arch_of
from searchspace.pytorch.reading.weights import copy_weights

SIDE = 96  # pixels of the images on which a network and what was read of it are compared, and more where some are over
CLOSE = 1e-4  # of the largest output: rounding alone makes some 1e-6


def from_module(module: nn.Module, resolution: int = 224) -> Arch:
    """The `Arch` of a PyTorch module that has one batch of images as input, at `resolution` pixels.

    It is read from the operations of its forward pass: convolutions, norms, nonlinearities, pools, and branches that
    are added, multiplied or put one after the other. `build` of it, with `copy_weights(module, …)`, gives the same
    outputs: that is tried, on images of which strides leave over what they do at this resolution, unless the module is
    on the meta device and has no weights. Raises `InputError`, which names the part that has no place in the grammar
    (attention, for one).

    A module with branches that can be folded into one convolution (RepVGG, MobileOne) is read with them: `build` trains
    them, and `cost` counts the deployed network, as it does of every `Arch`. One that is folded already is read as the
    plain network that it is.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"from_module: a torch.nn.Module is accepted, not a {type(module).__name__}")
    try:
        items = layers_of(module)
        parts = (leaf for item in items for leaf, _ in leaves(item.layer, (1, 1, 1)))
        first = next((part for part in parts if isinstance(part, Conv)), None)
        if first is None:
            raise UnreadableError("it has no convolution")
        arch = arch_of(items, first.in_channels, resolution)
        _check(module, arch)
    except InputError:
        raise
    except ValueError as error:
        raise UnreadableError(f"{reason(error)}") from None
    except (RuntimeError, TypeError, AttributeError, LookupError) as error:  # of what nobody foresaw in its forward
        raise UnreadableError(f"its operations cannot be followed ({reason(error)})") from None
    return arch


def from_timm(name: str, **options: Any) -> Arch:
    """The `Arch` of a network of timm, by its name there, at the resolution that timm gives it.

    `options` are those of `timm.create_model`, such as `num_classes` or `in_chans`. Raises `InputError` for a name that
    timm does not know, and for a network with a part that has no place in the grammar. Needs timm.
    """
    timm = _timm()
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3, 0.0))
        raise InputError(f"timm:{name}: no such name in timm; the nearest are {near}")
    try:
        module = timm.create_model(name, **options)
        return from_module(module, module.default_cfg["input_size"][-1])
    except InputError as error:
        raise InputError(f"timm:{name}: {error}") from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"timm:{name}: cannot be made ({reason(error)})") from None


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise InputError("timm is not installed: pip install timm") from None
    except RuntimeError as error:  # a torchvision for CUDA beside a torch without it
        raise InputError(
            f"timm cannot be imported ({reason(error)[:80]}): it needs a torchvision of the same kind as torch "
            "(pip install torchvision --index-url https://download.pytorch.org/whl/cpu)"
        ) from None


def _check(module: nn.Module, arch: Arch) -> None:
    """`UnreadableError` unless the network that was read has as many parameters, and computes the same: where strides
    leave nothing over, and where they leave over what they do at its resolution, as pools do that round down."""
    parameters = list(module.parameters())
    with torch.device(parameters[0].device):
        network = build(arch).to(parameters[0]).eval()
    found, read = (sum(one.numel() for one in part.parameters()) for part in (module, network))
    if found != read:
        raise UnreadableError(f"it has {found:,} parameters, and {read:,} of them were read")
    if any(parameter.is_meta for parameter in parameters):
        return
    copy_weights(module, network)
    for side in sorted({SIDE, SIDE + (arch.resolution - SIDE) % arch.total_stride}):
        with torch.no_grad(), evaluating(module):
            images = torch.randn(2, arch.in_channels, side, side, generator=torch.Generator().manual_seed(0))
            wanted, given = (part(images.to(parameters[0])) for part in (module, network))
        if not isinstance(wanted, torch.Tensor):
            raise UnreadableError(f"it returns a {type(wanted).__name__}, and logits alone are accepted")
        if wanted.shape != given.shape or not bool((wanted - given).abs().max() <= CLOSE * wanted.abs().max()):
            raise UnreadableError(f"what was read of it computes something else on images of {side} px")
