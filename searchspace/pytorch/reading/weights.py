"""`copy_weights(module, network)`: a module's weights in the network that was built of what was read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from searchspace.errors import InputError
from searchspace.pytorch.reading.graph import layers_of

BUFFERS = ("running_mean", "running_var")


def copy_weights(module: nn.Module, network: nn.Module) -> None:
    """Give `network`, which is `build(from_module(module))`, the weights and running statistics of `module`.

    Both then compute the same. `InputError` where they do not have the same layers.
    """
    sources = [source for item in layers_of(module) for source in item.sources]
    targets = [part for part in network.modules() if any(True for _ in part.parameters(recurse=False))]
    if len(sources) != len(targets):
        raise InputError(f"weights: {len(sources)} layers have weights in the module, {len(targets)} in the network")
    parameters = dict(module.named_parameters())
    for source, target in zip(sources, targets, strict=True):
        for name, tensor in _tensors(target).items():
            given = torch.cat([_tensor_of(module, parameters, path, name) for path in source])
            if given.numel() != tensor.numel():
                raise InputError(
                    f"weights: {source[0]} has a {name} of {tuple(given.shape)}, not {tuple(tensor.shape)}"
                )
            with torch.no_grad():
                tensor.copy_(given.reshape(tensor.shape))


def _tensors(part: nn.Module) -> dict[str, Tensor]:
    """What a layer has learnt and counted."""
    found: dict[str, Tensor] = dict(part.named_parameters(recurse=False))
    return found | {name: tensor for name, tensor in part.named_buffers(recurse=False) if name in BUFFERS}


def _tensor_of(module: nn.Module, parameters: Mapping[str, Tensor], path: str, name: str) -> Tensor:
    """The tensor of this name of a module, or the parameter that the path is."""
    if path in parameters:  # a layer scale that is a parameter of its block
        return parameters[path].detach().flatten()
    part = module.get_submodule(path)
    inner: Sequence[nn.Module] = [part, *part.children()]  # an ECA has its convolution inside
    owner = next((one for one in inner if getattr(one, name, None) is not None), None)
    if owner is None:
        raise InputError(f"weights: {path} has no {name}")
    found: Tensor = getattr(owner, name)
    return found.detach()
