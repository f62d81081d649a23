"""Known networks, a table a family in its paper's terms: `zoo(name)` is the `Arch`, `network(name)` its stages."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from searchspace.arch import Arch
from searchspace.blocks.stem_head import Output
from searchspace.errors import InputError
from searchspace.format.network import Network
from searchspace.networks import convnext, efficientnet, mobilenet, mobilenet_v3, mobilenet_v4, regnet, resnet, rexnet

NETWORKS: dict[str, Callable[..., Network]] = {
    **resnet.NETWORKS,
    **mobilenet.NETWORKS,
    **mobilenet_v3.NETWORKS,
    **mobilenet_v4.NETWORKS,
    **efficientnet.NETWORKS,
    **regnet.NETWORKS,
    **convnext.NETWORKS,
    **rexnet.NETWORKS,
}


def names() -> list[str]:
    """Every name that `zoo` knows, in the order of its families."""
    return list(NETWORKS)


def network(name: str, **options: Any) -> Network:
    """A known network as stages and a schedule; the options are those of its family's function.

    ResNets take `stride_at="expand"` (v1), MobileNetV1, V2, MnasNet and ReXNets `width_mult`, ReXNet-lite
    `kernel_conf` and `fix_head_stem`, RegNets `rounding="nearest"` (pycls, timm). `InputError` says what is accepted.
    """
    if not isinstance(name, str):
        raise InputError(f"network: a name of the zoo is accepted, as {next(iter(NETWORKS))!r}, not {name!r:.80}")
    if name not in NETWORKS:
        raise InputError(f"network {name!r}: no such name in the zoo; the nearest are {', '.join(nearest_names(name))}")
    family = NETWORKS[name]
    accepted = inspect.signature(family).parameters
    for option in options:
        if option not in accepted:
            raise InputError(f"network {name!r}: no option {option!r}; {', '.join(accepted) or 'none'} is accepted")
    try:
        return family(**options)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"network {name!r}: {error}") from None
    except TypeError as error:
        raise InputError(f"network {name!r}: an option is of the wrong type ({error})") from None


def nearest_names(name: str) -> list[str]:
    """The three names most like one, those that begin with it first: of `rexnet_10` rexnet_100."""

    def distance(known: str) -> tuple[bool, float, str]:
        return not known.startswith(name), -difflib.SequenceMatcher(None, known, name).ratio(), known

    return sorted(NETWORKS, key=distance)[:3]


def zoo(
    name: str,
    num_classes: int = 1000,
    resolution: int | None = None,
    output: Output = "logits",
    in_channels: int = 3,
    **options: Any,
) -> Arch:
    """A known network at `resolution` pixels, 224 by default also where the paper uses another, for images of so many
    channels; see `network`.

    `output` leaves out the classifier: `features` (N, C) of the pooled map, or the last `map` (N, C, h, w) itself.
    """
    stages = network(name, **options)
    if output not in get_args(Output):
        raise InputError(f"network {name!r}: output is one of {', '.join(get_args(Output))}, not {output!r}")
    head = replace(stages.head, output=output)
    size = 224 if resolution is None else resolution
    try:
        return replace(stages, head=head, num_classes=num_classes, resolution=size, in_channels=in_channels).arch()
    except ValueError as error:
        raise InputError(f"network {name!r}: {error}") from None
