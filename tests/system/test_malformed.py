"""Malformed networks are refused when they are loaded, with the field named: none gets as far as torch."""

import copy
from typing import Any

import pytest

from searchspace import Arch, InputError, Space

MISSING = object()
NETWORK: dict[str, Any] = {
    "resolution": 64,
    "stem": {"width": 16},
    "schedule": {"kind": "stagewise", "widths": [16, 32]},
    "stages": [{"block": "mbconv", "depth": 1}, {"block": "bottleneck", "depth": 2, "stride": 2}],
    "head": {"width": 64},
}
ARCH: dict[str, Any] = {
    "resolution": 32,
    "stem": {"width": 16},
    "blocks": [
        {"type": "bottleneck", "in_channels": 16, "hidden": 8, "out_channels": 32, "shortcut": "projection"},
        {"type": "mbconv", "in_channels": 32, "hidden": 64, "out_channels": 32, "groups": 64, "se": {"channels": 8}},
    ],
}
BAD_NETWORKS: list[tuple[str, Any]] = [
    ("resolution", 1),
    ("resolution", 0),
    ("resolution", -64),
    ("resolution", 64.5),
    ("resolution", "64"),
    ("resolution", None),
    ("resolution", float("nan")),
    ("num_classes", 0),
    ("in_channels", 0),
    ("width_mult", 0),
    ("width_mult", -1.0),
    ("width_mult", float("inf")),
    ("depth_mult", 0.0),
    ("drop_path", 1.0),
    ("drop_path", -0.1),
    ("init", "xavier"),
    ("colour", "red"),
    ("stages", []),
    ("stages", None),
    ("stages", MISSING),
    ("stages", {"block": "mbconv"}),
    ("stages.0", None),
    ("stages.0.block", MISSING),
    ("stages.0.block", "transformer"),
    ("stages.0.block", "downsample"),
    ("stages.0.depth", 0),
    ("stages.0.depth", 1.5),
    ("stages.0.stride", 0),
    ("stages.0.stride", -2),
    ("stages.0.stride", 3),
    ("stages.0.kernel", 4),
    ("stages.0.kernel", 0),
    ("stages.0.expansion", 10**9),
    ("stages.0.expansion", 0),
    ("stages.0.expansion", "six"),
    ("stages.0.se", 1.5),
    ("stages.0.se", -0.25),
    ("stages.0.se_divisor", 0),
    ("stages.0.expand_act", "swish2"),
    ("stages.0.se_gate", "relu"),
    ("stages.0.shortcut", "highway"),
    ("stages.0.norm", {"kind": "instance"}),
    ("stages.0.norm", {"kind": "group", "groups": 5}),
    ("stages.0.norm", {"eps": 0.0}),
    ("stages.0.norm", {"momentum": 2.0}),
    ("stages.0.norm_at", ["everywhere"]),
    ("stages.0.layer_scale", -1.0),
    ("stages.0.dilation", 0),
    ("stages.0.widht", 3),
    ("stages.1.groups", 0),
    ("stages.1.group_width", 0),
    ("stages.1.group_width", -8),
    ("schedule", MISSING),
    ("schedule.kind", "cubic"),
    ("schedule.widths", [16]),
    ("schedule.widths", [16, 0]),
    ("schedule.widths", [16, -32]),
    ("schedule.widths", [16, "32"]),
    ("schedule.divisor", 0),
    ("schedule.ratio", 1.0),
    ("schedule", {"kind": "linear", "start": 16}),
    ("schedule", {"kind": "linear", "start": 16, "end": 8}),
    ("schedule", {"kind": "linear", "start": 16, "end": 32, "increment": 2}),
    ("schedule", {"kind": "linear", "start": 0, "end": 32}),
    ("schedule", {"kind": "piecewise", "end": 32, "slopes": []}),
    ("schedule", {"kind": "piecewise", "end": 32, "slopes": [-1.0]}),
    ("schedule", {"kind": "explicit"}),
    ("schedule", {"kind": "quantised", "start": 24}),
    ("schedule", {"kind": "quantised", "start": 0.5, "increment": 1}),
    ("stem", MISSING),
    ("stem.width", 0),
    ("stem.stride", 0),
    ("stem.kernel", 0),
    ("stem.pool", 0),
    ("stem.act", "tanh"),
    ("stem.norm", {"kind": "group", "groups": 3}),
    ("head.width", -1),
    ("head.dropout", 1.0),
    ("head.act", None),
    ("head.norm", {"kind": "group", "groups": 7}),
    ("head", {"pooled_norm": True, "norm": {"kind": "group", "groups": 7}}),
]
BAD_ARCHS: list[tuple[str, Any]] = [
    ("resolution", 1),
    ("blocks", []),
    ("blocks", MISSING),
    ("blocks.0", []),
    ("blocks.0.type", MISSING),
    ("blocks.0.type", "convolution"),
    ("blocks.0.in_channels", 0),
    ("blocks.0.in_channels", 17),
    ("blocks.0.hidden", 0),
    ("blocks.0.hidden", 8.5),
    ("blocks.1.out_channels", 0),
    ("blocks.0.groups", 3),
    ("blocks.0.stride", 0),
    ("blocks.0.stride", 3),
    ("blocks.0.kernel", 2),
    ("blocks.0.shortcut", "identity"),
    ("blocks.0.norm", {"kind": "group", "groups": 3}),
    ("blocks.0.drop_path", 1.5),
    ("blocks.0.layer_scale", -0.1),
    ("blocks.1.groups", 48),
    ("blocks.1.stride", True),
    ("blocks.1.se", {"channels": 0}),
    ("blocks.1.se", {}),
    ("blocks.1.se", 0.25),
    ("blocks.1", {"type": "max_pool", "in_channels": 32, "hidden": 32, "out_channels": 64}),
    ("blocks.1", {"type": "downsample", "in_channels": 32, "hidden": 32, "out_channels": 32, "shortcut": "identity"}),
    ("blocks.1", {"type": "downsample", "in_channels": 32, "hidden": 32, "out_channels": 32, "stride": 40}),
    ("blocks.1", {"type": "downsample", "in_channels": 32, "hidden": 32, "out_channels": 40, "groups": 16}),
]


def changed(data: dict[str, Any], place: str, wrong: Any) -> dict[str, Any]:
    made = copy.deepcopy(data)
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    node: Any = made
    for part in path:
        node = node[part]
    if wrong is MISSING:
        del node[last]
    else:
        node[last] = wrong
    return made


def names_of(cases: list[tuple[str, Any]]) -> list[str]:
    return [f"{place}={'MISSING' if wrong is MISSING else wrong}" for place, wrong in cases]


def test_what_they_are_changed_from_is_accepted() -> None:
    assert Space(NETWORK).arch().resolution == 64
    assert len(Arch.from_dict(ARCH).blocks) == 2


@pytest.mark.parametrize(("place", "wrong"), BAD_NETWORKS, ids=names_of(BAD_NETWORKS))
def test_a_malformed_network_is_refused(place: str, wrong: Any) -> None:
    with pytest.raises(InputError) as error:
        Space(changed(NETWORK, place, wrong))
    says_where(error.value, place)


@pytest.mark.parametrize(("place", "wrong"), BAD_ARCHS, ids=names_of(BAD_ARCHS))
def test_a_malformed_arch_is_refused(place: str, wrong: Any) -> None:
    with pytest.raises(InputError) as error:
        Arch.from_dict(changed(ARCH, place, wrong))
    says_where(error.value, place)


@pytest.mark.parametrize("data", [None, [], "mbconv", 3, {}])
def test_what_is_no_network_at_all_is_refused(data: Any) -> None:
    for load in (Space, Arch.from_dict):
        with pytest.raises(InputError):
            load(data)


def test_a_wrong_choice_in_a_space_is_refused() -> None:
    with pytest.raises(InputError, match=r"stage1: expansion"):
        Space(changed(NETWORK, "stages.0.expansion", {"choice": [3, 6, 7]}))


def test_even_kernels_may_not_use_up_the_map() -> None:
    tiny = {**ARCH, "resolution": 1, "stem": {"width": 16, "kernel": 2, "stride": 1}}
    with pytest.raises(InputError, match="resolution"):
        Arch.from_dict(tiny)


def test_widths_have_to_chain() -> None:
    with pytest.raises(InputError, match=r"blocks\.1\.in_channels: 24 channels come in, not 32"):
        Arch.from_dict(changed(ARCH, "blocks.0.out_channels", 24))


def says_where(error: InputError, place: str) -> None:
    """The message is one line with the field; a wrong mapping or number may be told by a field inside or beside it."""
    text, parts = str(error), place.split(".")
    beside = {"blocks.1": "out_channels|shortcut|resolution|groups", "schedule": "increment|end|widths|slopes|start"}
    beside |= {"stages.0": "stage1", "stages.0.stride": "stride", "head": "norm", "blocks.0": "0"}
    field = next(part for part in reversed(parts) if not part.isdigit())
    accepted = [field, *beside.get(place, field).split("|")]
    assert "\n" not in text
    assert any(word in text for word in accepted), text
