"""Random networks for property tests: every block type and option, at small and odd resolutions."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from searchspace.blocks.layers import Activation
from searchspace.document import parse
from searchspace.format.network import PAPER_DEFAULTS, Network, Stage

ACTS = st.sampled_from(get_args(Activation))
NORMS = st.sampled_from([{"kind": "batch"}, {"kind": "layer"}, {"kind": "group"}, {"kind": "none"}, {"eps": 1e-3}])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


STAGE = st.fixed_dictionaries(
    {"block": st.sampled_from(list(PAPER_DEFAULTS)), "depth": st.integers(1, 3), "stride": st.sampled_from([1, 2])},
    optional={
        "expansion": st.floats(0.3, 6),
        "kernel": st.sampled_from([1, 3, 5, 7]),
        "group_width": st.sampled_from([1, 2, 3, 8]),
        "groups": st.sampled_from([1, 2, 4]),
        "dilation": st.sampled_from([1, 2]),
        "stride_at": st.sampled_from(["spatial", "expand"]),
        "expand_act": ACTS,
        "spatial_act": ACTS,
        "project_act": ACTS,
        "add_act": ACTS,
        "se": st.sampled_from([0.0, 0.1, 0.25, 1.0]),
        "se_from": st.sampled_from(["hidden", "input"]),
        "se_position": st.sampled_from(["after", "before"]),
        "se_gate": st.sampled_from(["sigmoid", "hard_sigmoid"]),
        "se_norm": st.booleans(),
        "shortcut": st.sampled_from(["none", "identity", "projection", "partial"]),
        "norm": NORMS,
        "norm_at": st.sampled_from([[], ["spatial"], ["expand", "project"]]),
        "bias": st.booleans(),
        "layer_scale": st.sampled_from([0.0, 1e-6]),
        "downsample": st.sampled_from(["block", "separate", "pool"]),
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
    optional={"act": ACTS, "norm": NORMS, "bias": st.booleans(), "pool": st.sampled_from([1, 2])},
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
    stages = draw(st.lists(STAGE, min_size=1, max_size=4))
    for stage in stages:
        if "groups" in stage:
            stage.pop("group_width", None)
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
    return parse(Network, data)


__all__ = ["HEAD", "SCHEDULE", "STAGE", "STEM", "Stage", "networks"]
