import random
from pathlib import Path
from typing import Any

import pytest

from nas.run import search_options
from searchspace import Budget, InputError, Space, zoo
from searchspace.document import write_yaml
from searchspace.space.deployment import Deployment, Rule, aspects, deployments
from searchspace.space.space import ready
from searchspace.space.textbook import textbook

BUDGETS = {"mcu": "20MFLOPs", "rexnet": "60MFLOPs"}
# Every block of the one is a convolution in groups, and norms of the other's come after a sum, before its stages.
UNDEPLOYABLE = {"regnet", "convnext"}


@pytest.fixture(scope="module", params=deployments())
def rules(request: pytest.FixtureRequest) -> Deployment:
    return Deployment.load(request.param)


@pytest.mark.parametrize("name", sorted(set(ready()) - UNDEPLOYABLE))
def test_every_network_of_a_narrowed_space_keeps_to_the_rules(name: str, rules: Deployment) -> None:
    space, budget = Space.load(name).deploy(rules), BUDGETS.get(name, "100MFLOPs")
    found = [space.fit(space.random_point(random.Random(seed)), budget, 0.85, seed) for seed in range(12)]
    made = [candidate.arch for candidate in found if candidate] + [space.sample(0, budget)]
    assert {rules.broken(arch) for arch in made} == {""}
    assert Space(space.data, space.source).deployment == rules  # as a run's config keeps it


@pytest.mark.parametrize("name", sorted(UNDEPLOYABLE))
def test_a_space_that_no_rule_leaves_anything_of_is_refused(name: str, rules: Deployment) -> None:
    why = {"regnet": "grouping grouped: depthwise", "convnext": "norm after no convolution: batch, none"}[name]
    with pytest.raises(InputError, match=f"deploy {rules.name}: {why} is accepted, since"):
        Space.load(name).deploy(rules)


def test_known_and_textbook_networks_keep_to_them_too(rules: Deployment) -> None:
    space = Space.load("mobile").deploy(rules)
    assert space.known == {}
    assert set(space.lacking) == {"rexnet_100"}
    found = dict(textbook(space, Budget.parse("300MFLOPs")))
    assert "mobilenet_v2" in found
    assert not {"efficientnet_b0", "mobilenet_v3_large"} & set(found)
    assert {rules.broken(candidate.arch) for candidate in found.values()} == {""}


@pytest.mark.parametrize(
    ("network", "broken"),
    [
        ("efficientnet_b0", "gate gate"),
        ("convnext_tiny", "activation gelu"),
        ("resnext50_32x4d", "grouping grouped"),
        ("rexnet_100", "gate gate"),
        ("mobilenet_v2", ""),
        ("resnet50", ""),
    ],
)
def test_what_networks_of_the_zoo_break(network: str, broken: str) -> None:
    assert Deployment.load("edgetpu").broken(zoo(network)).partition(":")[0] == broken


def test_a_fixed_value_becomes_what_the_rule_says_instead() -> None:
    space = Space.load("rexnet").deploy("edgetpu")
    seen = set(aspects(space.sample(0, "100MFLOPs")))
    assert ("activation", "relu6") in seen
    assert ("activation", "silu") not in seen
    assert not any(aspect == "gate" for aspect, _ in seen)
    assert space.data["stages"][2]["se"] == 0
    assert space.data["stem"]["act"] == "relu6"
    assert space.data["schedule"]["divisor"] == 8


def test_the_readme_says_every_rule(rules: Deployment) -> None:
    text = (Path(__file__).parents[3] / "searchspace" / "README.md").read_text()
    for aspect, rule in rules.rules.items():
        assert f"| `{rules.name}` | {aspect} | {rule} | {rule.because} | {rule.source} |" in text


def test_what_is_fixed_afterwards_has_to_keep_to_the_rules() -> None:
    space = Space.load("mobile").deploy("mobile")
    with pytest.raises(InputError, match=r"deploy mobile: activation silu: none, relu, relu6, hard_swish is accepted"):
        space.fix(["stem.act=silu"])
    assert space.fix(["stem.act=relu"]).deployment == space.deployment


def test_words_that_a_deployment_leaves_out_may_be_left_out_too() -> None:
    space = Space.load("mobile")
    narrow = search_options.narrow(space, None, "se,silu,bottleneck", "edgetpu")
    assert narrow.data == search_options.narrow(space, None, "bottleneck", "edgetpu").data
    with pytest.raises(InputError, match="without 'sillu': no free value has it"):
        search_options.narrow(space, None, "sillu", "edgetpu")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    write_yaml(path, {"name": "chip", "rules": {"kernel": {"most": 3, "because": "it has no other", "source": "us"}}})
    space = Space.load("mobile").deploy(path)
    assert not any(name.endswith(".kernel") and len(options) > 1 for name, options in space.choices.items())
    assert {seen for aspect, seen in aspects(space.sample(1, "100MFLOPs")) if aspect == "kernel"} == {1, 3}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "one of only, most and multiple is accepted"),
        ({"most": 3, "multiple": 8}, "one of only, most and multiple is accepted"),
        ({"most": -3}, "one of only, most and multiple is accepted"),
        ({"only": "relu"}, "a valid array, not"),
        ({"only": ["relu"]}, "depthwise kernel: a number as most or multiple is accepted"),
        ({"most": 3, "instead": 7}, "depthwise kernel: instead: at most 3 is accepted, not 7"),
        ({"multiple": 0}, "numbers above 0"),
    ],
)
def test_a_wrong_rule_is_one_line(tmp_path: Path, rule: dict[str, object], message: str) -> None:
    path = tmp_path / "chip.yaml"
    write_yaml(path, {"name": "chip", "rules": {"depthwise kernel": {**rule, "because": "x", "source": "y"}}})
    with pytest.raises(InputError, match=message) as caught:
        Deployment.load(path)
    assert "\n" not in str(caught.value)


def test_words_of_a_rule_are_those_of_the_grammar() -> None:
    with pytest.raises(ValueError, match=r"activation: .*relu6.* are accepted, not 'relux'"):
        Deployment("chip", {"activation": Rule("it has one", "us", only=("relux",))})
    with pytest.raises(ValueError, match="activation: instead: relu is accepted, not 'silu'"):
        Deployment("chip", {"activation": Rule("it has one", "us", only=("relu",), instead="silu")})


def test_a_deployment_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for given in ("edgetpus", str(tmp_path), ""):
        with pytest.raises(InputError, match="a file, or one of edgetpu, mcu, mobile is accepted"):
            Deployment.load(given)


def test_where_nothing_can_take_a_places_value_it_is_one_line() -> None:
    rules = Deployment("chip", {"activation": Rule("it has one", "us", only=("elu",))})
    with pytest.raises(InputError, match=r"deploy chip: stem\.act: elu is accepted, and the space offers none"):
        Space.load("mobile").deploy(rules)


def deployed(stages: list[Any], to: str = "mobile", **changes: Any) -> Space:
    data = {"stem": {"width": 32, "act": "relu6"}, "schedule": {"start": 16, "end": 48, "divisor": 8}}
    return Space({**data, "stages": stages, "resolution": 64, "num_classes": 10, **changes}).deploy(to)


def test_what_is_left_does_not_depend_on_the_order_of_choices() -> None:
    """A block's SiLU is its paper's default, for which the rule has another value, whichever kind stands first."""
    for kinds in (["mbconv", "fused_mbconv"], ["fused_mbconv", "mbconv"]):
        space = deployed([{"block": "mbconv"}, {"block": {"choice": kinds}, "stride": 2}])
        assert set(space.choices["stage2.block"]) == set(kinds)
        assert all(space.deploys(space.arch({"stage2.block": kind})) for kind in kinds)
    for kinds in (["bottleneck", "mbconv"], ["mbconv", "bottleneck"]):
        stage = {"block": {"choice": kinds}, "group_width": 8, "spatial_act": "relu6", "expand_act": "relu6"}
        space = deployed([stage, {**stage, "stride": 2}], to="edgetpu")
        assert all(set(options) == {"mbconv"} for name, options in space.choices.items() if name.endswith("block"))


def test_a_space_is_not_refused_for_its_first_network() -> None:
    """24 channels expanded by 2.5 are no multiple of 8, those expanded by 4 are; in both orders."""
    for expansions in ([2.5, 4.0], [4.0, 2.5]):
        stage = {"block": "mbconv", "expansion": {"choice": expansions}, "expand_act": "relu6", "spatial_act": "relu6"}
        space = deployed([{**stage, "stride": 2}], width_mult={"fit": [0.5, 4.0]})
        for seed in range(5):
            assert space.deploys(space.sample(seed, "3MFLOPs"))


def test_depthwise_kernels_that_share_out_the_channels_take_up_the_norm(rules: Deployment) -> None:
    """MixNet's: a concatenation of depthwise convolutions, before one batch norm of them all."""
    stage = {"block": "mbconv", "kernels": [3, 5]}
    arch = deployed([stage, {**stage, "stride": 2}], to=rules.name).arch()
    assert [block.kernels for block in arch.blocks] == [(3, 5), (3, 5)]
    assert rules.broken(arch) == ""


def test_what_breaks_a_rule_with_every_kind_of_block_is_not_on_offer() -> None:
    """`downsample: separate` puts a norm before a convolution; a `group_width` is not depthwise where it is heard."""
    space = Space.load("all").deploy("edgetpu").fix(["resolution=64"])
    assert {options for name, options in space.choices.items() if name.endswith(".downsample")} == {("block",)}
    assert {options for name, options in space.choices.items() if name.endswith(".group_width")} == {(None,)}
    assert len(space.choices["stage2.block"]) > 5
    found = [space.fit(space.random_point(random.Random(seed)), "60MFLOPs", seed=seed) for seed in range(12)]
    assert sum(candidate is not None for candidate in found) >= 3


def test_such_an_option_is_left_out_whichever_stands_first(rules: Deployment) -> None:
    own = {"downsample": ["separate", "block"], "group_width": [8, None, 16], "block": ["mbconv", "inverted"]}
    for order in (1, -1):
        free = {field: {"choice": options[::order]} for field, options in own.items()}
        stage = {"stride": 2, "expand_act": "relu6", "spatial_act": "relu6", **free}
        space = deployed([stage] * 2, to=rules.name)
        assert space.choices["stage1.downsample"] == space.choices["stage2.downsample"] == ("block",)
        assert space.choices["stage1.group_width"] == space.choices["stage2.group_width"] == (None,)
        assert set(space.choices["stage2.block"]) == {"mbconv", "inverted"}
