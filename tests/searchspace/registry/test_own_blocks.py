"""Blocks of the user's own: everywhere that the package's are, and refused in one line where they could not be."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from searchspace import Arch, InputError, Space, build, cost, register_block
from searchspace.__main__ import main
from searchspace.blocks.blocks import (
    STRUCTURES,
    Block,
    expand,
    lower_block,
    project,
    sequential,
    stage_blocks,
    unit,
)
from searchspace.blocks.layers import Conv, Layer, Sequential
from searchspace.costs.network_cost import count_layers, formula_cost
from searchspace.format.reference import keys
from searchspace.pytorch.source import source
from searchspace.registry import plugins
from searchspace.registry.blocks import MODULES_OWN, PACKAGE, check, forget
from searchspace.table import summary, table
from tests.support.paths import ROOT
from tests.support.strategies import any_stage, networks

OPTIONS: dict[str, list[Any]] = {"start_kernel": [0, 3, 5], "middle_kernel": [3, 0, 5]}
STAGES = [
    {"depth": 2, "start_kernel": {"choice": [0, 3]}},
    {"block": {"choice": ["uib", "mbconv"]}, "stride": 2, "start_kernel": 5, "middle_kernel": {"choice": [0, 3]}},
]
SPACE = {
    "width_mult": {"fit": [0.1, 4]},
    "stem": {"width": 8},
    "schedule": {"start": 8, "end": 24},
    "defaults": {"block": "uib"},
    "stages": STAGES,
    "resolution": 32,
    "num_classes": 10,
}


def uib(b: Any) -> Sequential:
    at_start, in_middle = (1, b.stride) if b.middle_kernel else (b.stride, 1)
    at_expand = 1 if b.start_kernel or b.middle_kernel else b.stride
    start = Conv(b.in_channels, b.in_channels, b.start_kernel, at_start, b.in_channels)
    middle = Conv(b.hidden, b.hidden, b.middle_kernel, in_middle, b.hidden)
    return sequential(
        ("start", unit(b, "spatial", start, "none") if b.start_kernel else None),
        ("expand", expand(b, b.in_channels, at_expand)),
        ("middle", unit(b, "spatial", middle, b.spatial_act, b.se) if b.middle_kernel else None),
        ("project", project(b, b.hidden)),
    )


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """What a test registers goes with it."""
    before = dict(STRUCTURES)
    yield
    STRUCTURES.clear()
    STRUCTURES.update(before)
    forget()


@pytest.fixture
def registered() -> None:
    register_block("uib", expansion=4.0, options=OPTIONS, colour="#a6761d")(uib)


@pytest.mark.parametrize("name", [name for name in PACKAGE if name in stage_blocks()])
def test_the_package_declares_its_own_blocks_by_the_same_rules(name: str) -> None:
    check(name)


@pytest.mark.usefixtures("registered")
def test_every_view_has_the_block(tmp_path: Path) -> None:
    space = Space(SPACE)
    assert space.choices["stage1.start_kernel"] == (0, 3)
    arch = space.sample(seed=3, budget="2MFLOPs")
    arch.save(tmp_path / "arch.yaml")
    assert Arch.load(tmp_path / "arch.yaml") == arch
    model, image = build(arch).eval(), torch.randn(1, 3, 32, 32)
    assert sum(p.numel() for p in model.parameters()) == cost(arch).params
    alone: dict[str, Any] = {}
    exec(source(arch), alone)
    network = alone["Network"]()
    network.load_state_dict(model.state_dict())
    assert torch.equal(network.eval()(image), model(image))
    assert "uib" in summary(arch)
    fixed = space.fix(["stage1.start_kernel=3", "stage1.middle_kernel=5", "stage2.block=uib", "stage2.middle_kernel=0"])
    assert {row.kernel for row in table(fixed.arch()) if row.operator == "uib"} == {"3×3 dw + 5×5 dw", "5×5 s2 dw"}
    assert "2×uib k3/5" in summary(fixed.arch())
    told = {key.name: (key.accepted, key.default) for key in keys("stage")}
    assert told["start_kernel"] == ("0, 3, 5", "uib: 0")
    assert told["block"][0].endswith("uib")


@pytest.mark.usefixtures("registered")
def test_options_tell_networks_apart_and_their_costs_too() -> None:
    fixed = {**SPACE, "width_mult": 1, "stages": [{"start_kernel": {"choice": [0, 3, 5]}, "middle_kernel": 3}]}
    space = Space(fixed)
    archs = [space.arch({"stage1.start_kernel": kernel}) for kernel in (0, 3, 5)]
    assert len({arch.digest for arch in archs}) == 3
    for kernel, arch in zip((0, 3, 5), archs, strict=True):
        assert space.cost({"stage1.start_kernel": kernel}) == cost(arch)
    assert archs[0].blocks[0].options == {"start_kernel": 0, "middle_kernel": 3}
    mbconv = Space(
        {**fixed, "stages": [{"block": "mbconv", "expansion": 4, "expand_act": "relu", "spatial_act": "relu"}]}
    )
    assert mbconv.arch().digest == archs[0].digest


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
@pytest.mark.usefixtures("registered")
def test_random_networks_have_it_and_their_formulas_hold(network: Any) -> None:
    for block in network.arch().blocks:
        tree = lower_block(block)
        counted = count_layers(tree, (block.in_channels, 16, 16))
        arch_cost = formula_cost(block, 16)
        assert arch_cost[:4] == (counted.macs, counted.params, counted.activations, counted.peak)


@pytest.mark.usefixtures("registered")
def test_the_strategies_draw_it() -> None:
    drawn = any_stage().wrapped_strategy if hasattr(any_stage(), "wrapped_strategy") else any_stage()
    assert "'uib'" in repr(drawn)
    assert "start_kernel" in repr(drawn)


def test_declared_twice_alike_is_once_and_otherwise_refused() -> None:
    for _ in range(2):
        register_block("uib", options=OPTIONS)(uib)
    with pytest.raises(InputError, match=r"^block 'uib': another declaration has this name; give another$"):
        register_block("uib", expansion=2.0, options=OPTIONS)(uib)
    with pytest.raises(InputError, match="another declaration has this name"):
        register_block("mbconv")(uib)
    assert STRUCTURES["uib"].paper == {}


def test_a_cell_of_a_notebook_that_is_run_again_declares_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)

    def thin(b: Any) -> Sequential:
        return sequential(("project", last(b, b.in_channels)))

    def broken(b: Any) -> Sequential:
        return sequential(("a b", last(b, b.in_channels)))

    register_block("mine", options=OPTIONS)(as_in_main(uib))
    space = {**SPACE, "width_mult": 1, "stages": [{"block": "mine"}]}
    before = cost(Space(space).arch())
    with pytest.raises(InputError, match="a part is called 'a b'"):
        register_block("mine")(as_in_main(broken))
    assert cost(Space(space).arch()) == before
    with pytest.raises(InputError, match="another declaration has this name"):
        register_block("mine")(thin)  # of another module
    register_block("mine")(as_in_main(thin))
    register_block("other")(thin)
    assert cost(Space(space).arch()) == cost(Space({**space, "stages": [{"block": "other"}]}).arch()) != before
    with pytest.raises(InputError, match="another declaration has this name"):
        register_block("mbconv")(as_in_main(thin))


def test_a_script_does_not_declare_a_block_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "script.py", raising=False)
    register_block("mine", options=OPTIONS)(as_in_main(uib))
    with pytest.raises(InputError, match="another declaration has this name"):
        register_block("mine", expansion=2.0, options=OPTIONS)(as_in_main(uib))


def as_in_main(function: Any) -> Any:
    """A function as a script or a notebook declares it."""
    copied = FunctionType(function.__code__, function.__globals__, function.__name__, None, function.__closure__)
    copied.__module__ = "__main__"
    return copied


def declared(body: Any = None, **changes: Any) -> None:
    register_block(changes.pop("name", "own"), **changes)(body or (lambda b: inverted(b, b.hidden)))


def inverted(b: Any, hidden: Any) -> Sequential:
    return sequential(("expand", unit(b, "expand", Conv(b.in_channels, hidden), "relu")), ("project", last(b, hidden)))


def last(b: Any, hidden: Any, stride: int = 0) -> Sequential:
    return unit(b, "project", Conv(hidden, b.out_channels, 3, stride or b.stride), "none")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda b: b.out_channels == 64, "whether out and 64 are equal differs"),
        (lambda b: b.hidden == 64, "whether hidden and 64 are equal differs"),
        (lambda b: b.hidden != 64, "whether hidden and 64 are equal differs"),
        (lambda b: b.hidden in (64, 72), "whether hidden and 64 are equal differs"),
        (lambda b: int(b.hidden) == 64, "hidden: a formula has sums"),
        (lambda b: math.ceil(b.out_channels) > 64, "out: a formula has sums"),
        (lambda b: b.hidden in {64, 72}, "hidden: which number it is differs"),
        (lambda b: {64: True}.get(b.hidden, False), "hidden: which number it is differs"),
        (lambda b: b.hidden == 2 * b.in_channels, r"whether hidden and width\*2 are equal differs"),
        (lambda b: 3 * b.hidden == 2 * b.in_channels, r"hidden\*3: a formula has sums"),
        (lambda b: b.groups == 1, "groups: how many there are differs"),
    ],
)
def test_a_block_that_asks_which_number_a_width_is_is_refused(asked: Callable[[Any], bool], says: str) -> None:
    """Its formula is that of the first network of a kind, and would be wrong for the next."""

    def body(b: Any) -> Sequential:
        conv = Conv(b.in_channels, b.hidden, 3 if asked(b) else 5)
        return sequential(("expand", unit(b, "expand", conv, "relu")), ("project", last(b, b.hidden)))

    with pytest.raises(InputError, match=rf"^block 'own': its cost is no polynomial of its widths \({says}.*\)$"):
        declared(body, grouping="depthwise", grouped="hidden")


def test_a_block_that_declares_no_expansion_has_one() -> None:
    declared()
    data = {"stem": {"width": 8}, "schedule": {"start": 8, "end": 16}, "resolution": 32}
    silent, said = (Space({**data, "stages": [{"block": "own", **more}]}) for more in ({}, {"expansion": 1}))
    assert silent.arch() == said.arch()
    space = Space({**data, "stages": [{"block": {"choice": ["mbconv", "own"]}}]})
    for name, hidden in (("mbconv", 48), ("own", 8)):
        assert space.arch({"stage1.block": name}).blocks[0].hidden == hidden


class Shuffle(Layer):
    pass


def twice(b: Block) -> Sequential:
    """Of two parts of one name a module keeps the second, where the cost has both."""
    return sequential(("conv", Conv(b.in_channels, b.in_channels, 3)), ("conv", Conv(b.in_channels, b.in_channels)))


@pytest.mark.parametrize(
    ("body", "changes", "says"),
    [
        (lambda b: inverted(b, int(b.hidden) // 2), {}, r"no polynomial of its widths \(hidden: a formula has sums"),
        (
            lambda b: inverted(b, math.gcd(b.hidden, b.out_channels)),
            {},
            "its cost is no polynomial of its widths: widths 1",
        ),
        (lambda b: inverted(b, max(b.hidden, b.out_channels)), {}, r"no polynomial of its widths \(.* larger differs"),
        (lambda b: inverted(b, b.hidden / 2), {}, "its cost is no polynomial"),
        (lambda b: inverted(b, b.hidden + b.hidden % 2), {}, r"no polynomial of its widths \(hidden % 2 differs"),
        (lambda b: sequential(("project", last(b, b.in_channels, 1))), {}, r"at stride 2, \(24, 28, 28\) becomes"),
        (lambda b: sequential(("expand", expand(b, b.in_channels))), {}, r"becomes .* and not \(40, 28, 28\)"),
        (lambda b: None, {}, "its function returns sequential"),
        (lambda b: sequential(("shuffle", Shuffle()), ("project", last(b, b.in_channels))), {}, "not Shuffle"),
        (lambda b: sequential(("a b", last(b, b.in_channels))), {}, "a part is called 'a b'"),
        (lambda b: sequential(("scale", last(b, b.in_channels))), {}, "a part is called 'scale'"),
        (lambda b: sequential(("half", last(b, b.in_channels))), {}, "'half', as something of every torch.nn.Module"),
        (lambda b: sequential(("inner", twice(b)), ("project", last(b, b.in_channels))), {}, "'conv': .*, each once$"),
        (lambda b: b.nothing, {}, "AttributeError: a block has no 'nothing'"),
        (lambda b: 1 / 0, {}, "ZeroDivisionError"),
        (None, {"expansio": 3.0}, r"expansio: no such field; did you mean expansion\?"),
        (None, {"expansion": 7.0}, "expansion: from 0.01 to 6, not 7.0"),
        (None, {"kernel": "3"}, 'kernel: .* not "3"'),
        (None, {"colour": "red"}, "colour: six hexadecimal digits"),
        (None, {"options": {"kernel": [1]}}, "'kernel' is a field of all blocks"),
        (None, {"options": {"x": []}}, "options: x: a list of"),
        (None, {"options": {"x": [1.5]}}, "options: x: a list of"),
        (None, {"options": {"x": [1, 1]}}, "options: x: a value is listed twice"),
        (None, {"name": "a b"}, "block 'a b': a name of letters"),
        (None, {"name": "max_pool"}, "another declaration has this name"),
    ],
)
def test_refuses_in_one_line(body: Any, changes: dict[str, Any], says: str) -> None:
    before = dict(STRUCTURES)
    with pytest.raises(InputError, match=says) as caught:
        declared(body, **changes)
    assert "\n" not in str(caught.value)
    assert before == STRUCTURES


@pytest.mark.usefixtures("registered")
def test_an_option_has_the_same_values_in_every_kind() -> None:
    with pytest.raises(InputError, match="start_kernel is of uib too, which accepts 0, 3, 5; give another name"):
        declared(options={"start_kernel": [1, 3]})
    declared(options={"start_kernel": [0, 3, 5]})


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"block": "uibb"}, r'stage1\.block: basic, .*, uib is accepted, not "uibb"; did you mean uib\? \(--plugin'),
        ({"block": "max_pool"}, r"stage1\.block: basic, "),
        ({"start_kernel": 4}, r"stage1: start_kernel: 0, 3, 5 is accepted, not 4"),
        ({"start_kernel": True}, r"start_kernel: 0, 3, 5 is accepted, not True"),
        ({"start_kernel": "x"}, r"start_kernel: 0, 3, 5 is accepted, not 'x'"),
        ({"start_kernal": 3}, r"stage1\.start_kernal: no such field"),
    ],
)
def test_a_file_is_refused_in_one_line(stage: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Space({**SPACE, "stages": [stage]})


@pytest.mark.usefixtures("registered")
def test_a_block_is_refused_for_options_that_it_has_not() -> None:
    with pytest.raises(ValueError, match=r"options\.start_kernel: none is accepted"):
        Block("mbconv", 8, 8, 8, options={"start_kernel": 3})
    with pytest.raises(ValueError, match=r"start_kernel: 0, 3, 5 is accepted, not 4"):
        Block("uib", 8, 8, 8, options={"start_kernel": 4})


PLUGIN = """
from searchspace import register_block
from searchspace.blocks.blocks import expand, project, sequential, spatial

@register_block("slim", expansion=2.0, options={"twice": [False, True]})
def slim(b):
    return sequential(
        ("spatial", spatial(b, b.in_channels, b.hidden, b.stride)),
        ("again", spatial(b, b.hidden, b.hidden, 1) if b.twice else None),
        ("project", project(b, b.hidden)),
    )
"""
NETWORK = """
stem: {width: 8}
schedule: {start: 8, end: 16}
resolution: 32
stages:
  - {block: slim, stride: 2, twice: true}
"""


def test_a_command_reads_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, network = tmp_path / "slim_block.py", tmp_path / "net.yaml"
    plugin.write_text(PLUGIN)
    network.write_text(NETWORK)
    with pytest.raises(InputError, match=r'net.yaml:6: stage1.block: .* is accepted, not "slim" \(--plugin FILE'):
        main(["show", str(network)])
    assert main(["show", str(network), "--plugin", str(plugin)]) == 0
    assert "│ slim" in capsys.readouterr().out
    assert main(["keys", "stage", "--plugin", str(plugin)]) == 0
    assert "twice" in capsys.readouterr().out
    assert plugins.sources() == (str(plugin),)
    assert not plugins.has_sourceless()
    moved = plugin.rename(tmp_path / "elsewhere.py")
    plugins.load(str(plugin))  # it is loaded already
    with pytest.raises(
        InputError, match=r"another.py: there is no such file; where it has been moved, --plugin NEW/PLACE/another"
    ):
        plugins.load(str(tmp_path / "another.py"))
    plugins.load(str(moved))  # registers the same


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1 +", r"cannot be imported \(SyntaxError: .*\)$"),
        ("\nraise RuntimeError('why')", r"cannot be imported \(RuntimeError: why, line 2\)$"),
        ("import no_such_module", r"cannot be imported \(ModuleNotFoundError: .*, line 1\)$"),
        (PLUGIN.replace("expansion=2.0", "expansion=9.0"), r"bad_\d.py: block 'slim': .*expansion: from"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / f"bad_{len(text) % 10}.py"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        plugins.load(str(path))
    assert "\n" not in str(caught.value)


def test_a_module_is_a_plugin_too() -> None:
    with pytest.raises(InputError, match=r"^plugin no.such.module: cannot be imported \(ModuleNotFoundError"):
        plugins.load("no.such.module")
    plugins.load("json")


def test_other_processes_count_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, space = tmp_path / "counted_block.py", tmp_path / "space.yaml"
    plugin.write_text(PLUGIN)
    space.write_text("width_mult: {fit: [0.1, 4]}\n" + NETWORK.replace("true", "{choice: [true, false]}"))
    words = ["describe", str(space), "--plugin", str(plugin), "--budget", "1MFLOPs", "--points", "20000"]
    assert main(words) == 0
    assert "20,000 random points" in capsys.readouterr().out


def cnn(kernel: int, stride: int) -> dict[str, Any]:
    """MobileNetV4's convolution, norm and nonlinearity."""
    said = {"block": "fused_mbconv", "expansion": 1, "spatial_act": "relu", "shortcut": "none"}
    return {**said, "kernel": kernel, "stride": stride}


def test_the_readmes_block_makes_mobilenet_v4(tmp_path: Path) -> None:
    """MobileNetV4-Conv-S (Qin et al. 2024, Table 5) has as many multiply-adds as timm's mobilenetv4_conv_small."""
    readme = (ROOT / "searchspace" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# my_blocks\.py\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "readme_blocks.py").write_text(code)
    plugins.load(str(tmp_path / "readme_blocks.py"))
    rows = [(5, 5, 3, 2, 1), (0, 3, 2, 1, 4), (3, 0, 4, 1, 1)]
    rows += [(3, 3, 6, 2, 1), (5, 5, 4, 1, 1), (0, 5, 4, 1, 1), (0, 5, 3, 1, 1), (0, 3, 4, 1, 2)]
    names = ("start", "middle", "expansion", "stride", "depth")
    stages = [cnn(3, 2), cnn(1, 1), cnn(3, 2), cnn(1, 1)]
    stages += [{"block": "uib", **dict(zip(names, row, strict=True))} for row in rows]
    widths = [32, 32, 96, 64, *[96] * 3, *[128] * 5]
    schedule = {"kind": "stagewise", "widths": widths}
    network = {"stem": {"width": 32}, "schedule": schedule, "stages": stages, "head": {"width": 960, "hidden": 1280}}
    assert cost(Space(network).arch()).macs == 186_005_568


def test_two_plugins_of_one_name_are_two(tmp_path: Path) -> None:
    paths = []
    for name in ("slim", "thin"):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "same_name.py")
        paths[-1].write_text(PLUGIN.replace('"slim"', f'"{name}"'))
        plugins.load(str(paths[-1]))
    assert plugins.sources() == tuple(map(str, paths))


def test_names_that_every_module_has_are_refused() -> None:
    """As many as PyTorch has: a part that is called so cannot be built."""
    assert {name for name in dir(torch.nn.Sequential()) if not name.startswith("_")} <= MODULES_OWN
