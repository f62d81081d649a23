"""Textbook networks at a budget, whether a space can express them or not: what a search has to beat.

Of every family the variant whose paper's cost is nearest to the budget, scaled in width, stem and last convolution
included, to meet it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from searchspace.budget import Budget
from searchspace.costs.network_cost import cost
from searchspace.document import plain
from searchspace.errors import InputError
from searchspace.format.network import Network
from searchspace.networks import NETWORKS, network
from searchspace.space.space import FIT_BAND, Candidate, Space

# The families in the order in which few trials take them, by their names in the zoo.
FAMILIES: dict[str, tuple[str, ...]] = {
    "rexnet": tuple(
        name for name in NETWORKS if name.startswith("rexnet_") and name[-3:].isdigit() and "lite" not in name
    ),
    "mobilenet_v2": ("mobilenet_v2",),
    "efficientnet": tuple(name for name in NETWORKS if name.startswith("efficientnet_b")),
    "mobilenet_v3": ("mobilenet_v3_small", "mobilenet_v3_large"),
    "mobilenet_v4": tuple(name for name in NETWORKS if name.startswith("mobilenet_v4_")),
    "regnet_y": tuple(name for name in NETWORKS if name.startswith("regnet_y_")),
    "resnet": tuple(name for name in NETWORKS if name.startswith("resnet")),
    "mnasnet": ("mnasnet1_0",),
}
RESNETS_FROM = 10**9  # multiply-adds from which a ResNet is one of the first choices
WIDTHS = [0.02, 8.0]
BANDS = (0.95, 0.9, 0.85)  # where widths in multiples of 8 come no nearer
DROPOUT = 0.2


def textbook(space: Space, budget: Budget, band: float = FIT_BAND) -> Iterator[tuple[str, Candidate]]:
    """The textbook networks within a budget by their names, for the space's images and classes; those that are known
    networks of the space, that it does not deploy, or that its layer times say nothing of, are left out."""
    own = {name.partition("@")[0] for name in space.known}
    for family in order(budget):
        names = FAMILIES[family]
        if own.isdisjoint(names) and (found := nearest(names, space, budget, band)):
            yield found


def order(budget: Budget) -> list[str]:
    """The families, the first choices first."""
    macs = max((limit.high for limit in budget.limits if limit.currency == "macs"), default=0)
    return sorted(FAMILIES, key=lambda family: not (family == "resnet" and macs >= RESNETS_FROM))


def nearest(names: tuple[str, ...], space: Space, budget: Budget, band: float) -> tuple[str, Candidate] | None:
    """The variant that has to be scaled least, scaled; None where none can be."""
    variants, apart = {name: deploy(name, space) for name in names}, dict[str, float]()
    table = space.latency_table(budget)
    for name, one in variants.items():
        with suppress(ValueError):  # its strides are too many for so few pixels
            arch = one.arch()
            if table is None or not table.missing(arch):
                apart[name] = abs(math.log(budget.share_used(cost(arch, table))))
    for name in sorted(apart, key=apart.__getitem__):
        if candidate := scale(variants[name], budget, (band, *(looser for looser in BANDS if looser < band)), space):
            return name, candidate
    return None


def deploy(name: str, space: Space) -> Network:
    """A network of the zoo as it would be deployed in the place of the space's."""
    found, like = network(name), space.network
    return replace(
        found,
        head=replace(found.head, dropout=DROPOUT),
        drop_path=0.0,
        resolution=space.resolutions[-1],
        num_classes=like.num_classes,
        in_channels=like.in_channels,
        smallest_map=like.smallest_map,
    )


def scale(found: Network, budget: Budget, bands: Sequence[float], space: Space) -> Candidate | None:
    """A network at the budget, all of it scaled by one width multiplier, within the first of these bands that its
    rounded widths allow; None where there is none."""
    data = {**plain(found), "width_mult": {"fit": WIDTHS}, "scale_stem": "both", "scale_head": "both"}
    if space.deployment and (width := space.deployment.rules.get("width")):
        data["schedule"] = {**data["schedule"], "divisor": math.lcm(found.schedule.divisor, width.multiple or 1)}
    try:
        wide = Space(data, "textbook")
    except InputError:
        return None
    table = space.latency_table(budget)
    wide = wide if table is None else wide.with_latencies(table)
    for wanted in bands:
        candidate = wide.fit({}, budget, wanted)
        if candidate is not None and space.deploys(candidate.arch):
            known = space.latency is not None and not space.latency.missing(candidate.arch)
            return candidate._replace(cost=cost(candidate.arch, space.latency if known else None))
    return None
