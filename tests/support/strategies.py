"""Random networks for property tests: every block type and option, at small and odd resolutions."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st

from searchspace.blocks.blocks import all_options, stage_blocks, structure
from searchspace.blocks.layers import Activation
from searchspace.format.network import Network, Stage, parse_network

ACTS = st.sampled_from(get_args(Activation))
NORMS = st.sampled_from([{"kind": "batch"}, {"kind": "layer"}, {"kind": "group"}, {"kind": "none"}, {"eps": 1e-3}])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


# The fields that accept numbers or values; those that accept some words, or true and false, are read off `Stage`.
NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "expansion": st.floats(0.3, 6),
    "kernel": st.sampled_from([1, 3, 5, 7]),
    "groups": st.sampled_from([1, 2, 4]),
    "group_width": st.sampled_from([1, 2, 3, 8]),
    "dilation": st.sampled_from([1, 2]),
    "se": st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    "expand_groups": st.sampled_from([1, 2]),
    "project_groups": st.sampled_from([1, 4]),
    "shortcut_kernel": st.sampled_from([1, 3]),
    "kernels": st.sampled_from([[3], [3, 5], [3, 5, 7]]),
    "se_divisor": st.sampled_from([1, 4]),
    "se_min": st.sampled_from([1, 5]),
    "hidden_min": st.sampled_from([1, 12]),
    "norm": NORMS,
    "norm_at": st.sampled_from([[], ["spatial"], ["expand", "project"]]),
    "layer_scale": st.sampled_from([0.0, 1e-6]),
    "branches": st.sampled_from([0, 1, 3]),
}
ALWAYS = {"depth": st.integers(1, 3), "stride": st.sampled_from([1, 2])}


def accepted(name: str, hint: Any) -> st.SearchStrategy[Any]:
    """Values that a stage's field accepts: a field that is new is drawn too, or has to be named in `NUMBERS`."""
    (inside,) = (one for one in get_args(hint) if one is not type(None))
    if name in NUMBERS:
        return NUMBERS[name]
    return st.booleans() if inside is bool else st.sampled_from(get_args(inside))


def any_stage() -> st.SearchStrategy[dict[str, Any]]:
    """A stage of any kind of block that is declared, with any of its fields and options."""
    hints = get_type_hints(Stage)
    optional = {name: hint for name, hint in hints.items() if name not in ("block", "options", *ALWAYS)}
    return st.fixed_dictionaries(
        {"block": st.sampled_from(stage_blocks()), **ALWAYS},
        optional={
            **{name: accepted(name, hint) for name, hint in optional.items()},
            **{name: st.sampled_from(values) for name, values in all_options().items()},
        },
    )


SCHEDULE = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["linear", "piecewise", "stagewise"]),
            "start": st.integers(4, 16),
            "end": st.integers(16, 40),
            "slopes": st.lists(st.integers(0, 3), min_size=1, max_size=4),
            "divisor": st.sampled_from([1, 4, 8]),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("linear"), "start": st.integers(4, 16), "increment": st.floats(0, 5)}),
)
STEM = st.fixed_dictionaries(
    {"width": st.integers(4, 20), "kernel": st.sampled_from([3, 4, 7]), "stride": st.sampled_from([1, 2, 4])},
    optional={
        "act": ACTS,
        "norm": NORMS,
        "bias": st.booleans(),
        "pool": st.sampled_from([1, 2]),
        "branches": st.sampled_from([0, 1]),
    },
)
HEAD = st.fixed_dictionaries(
    {},
    optional={
        "width": st.sampled_from([0, 48]),
        "act": ACTS,
        "pooled_norm": st.booleans(),
        "hidden": st.sampled_from([0, 24]),
        "hidden_norm": st.booleans(),
        "dropout": st.sampled_from([0.0, 0.2]),
    },
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network in stages, at a resolution that its total stride leaves something of."""
    stages = draw(st.lists(any_stage(), min_size=1, max_size=4))
    for stage in stages:
        if "groups" in stage:
            stage.pop("group_width", None)
        if not structure(stage["block"]).mixes:
            stage.pop("kernels", None)
        if stage.get("norm") == {"kind": "group"}:
            stage["se_norm"] = False  # on one squeezed channel torch refuses: there is nothing to normalise over
    data = {
        "stages": stages,
        "schedule": draw(SCHEDULE),
        "stem": draw(STEM),
        "head": draw(HEAD),
        "num_classes": draw(st.integers(2, 12)),
        "width_mult": draw(st.floats(0.5, 2)),
        "drop_path": draw(st.sampled_from([0.0, 0.2])),
    }
    stride = data["stem"]["stride"] * data["stem"].get("pool", 1) * 2 ** sum(s["stride"] == 2 for s in stages)
    data["resolution"] = draw(st.integers(2 * stride, 2 * stride + 67))
    return parse_network(data)


__all__ = ["HEAD", "SCHEDULE", "STEM", "Stage", "any_stage", "networks"]
