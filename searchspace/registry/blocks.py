"""`register_block`: a kind of block of the user's own. The declaration is the one of the package's (see `declare`)."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

from searchspace.arch import forget_blocks
from searchspace.blocks import layers as primitives
from searchspace.blocks.blocks import (
    BETWEEN,
    PLAIN_COLOUR,
    STRUCTURES,
    Block,
    Layers,
    Option,
    Structure,
    declare,
    lower_block,
)
from searchspace.blocks.layers import Layer, Parallel, Sequential
from searchspace.costs.network_cost import count_layers, forget_formulas, formula_cost
from searchspace.document import parse, plain
from searchspace.errors import InputError, reason
from searchspace.format.network import Stage, block_defaults, check_expansion, with_defaults
from searchspace.format.resolve import block
from searchspace.registry.functions import replaces, source_of

PACKAGE = tuple(STRUCTURES)
# What the function of a kind of block is tried on: more would not tell more.
MOST_OPTIONS, SIDE = 64, 28
WIDTHS = ((24, 40), (15, 21), (40, 24), (24, 24), (15, 15))
# Names that a module or its source gives a meaning.
# What every torch.nn.Sequential has, so that no part of one can be called so.
MODULES_OWN = frozenset(
    re.findall(
        r"\w+",
        """
        T_destination add_module append apply bfloat16 buffers call_super_init children compile cpu cuda double
        dump_patches eval extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule
        half insert ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters
        parameters pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
        register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
        register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
        register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
        to_empty train training type xpu zero_grad
        """,
    )
)
TAKEN = ("act", "body", "drop_path", "forward", "scale", "self", "shortcut", "training")
PRIMITIVES = tuple(
    one for one in vars(primitives).values() if isinstance(one, type) and issubclass(one, Layer) and one is not Layer
)


def register_block(
    name: str,
    *,
    divides: bool = False,
    grouping: Literal["given", "depthwise", "none"] = "none",
    grouped: Literal["hidden", "in_channels", ""] = "",
    colour: str = PLAIN_COLOUR,
    options: Mapping[str, Sequence[Option]] | None = None,
    **paper: Any,
) -> Callable[[Layers], Layers]:
    """Register a kind of block under a name, by the function that writes its layers.

        @register_block("ghost", options={"ratio": [2, 4]}, expansion=2.0, spatial_act="relu")
        def ghost(b):
            return sequential(("expand", …), ("project", …))

    `options` are fields of its own, each with the values that it accepts, the default first: `b.ratio` in the function,
    `ratio: 4` or `ratio: {choice: [2, 4]}` in a file. All other keywords are what the paper chooses, as fields of a
    stage (`python -m searchspace keys stage`). For `divides`, `grouping` and `grouped` see `Structure`.

    The function is tried at once. Raises `InputError` where its cost is no polynomial of its widths, where its output
    does not have the block's width or does not follow its stride, and for a name that another declaration has, unless
    that is of the same notebook.
    """

    def add(layers: Layers) -> Layers:
        before = STRUCTURES.get(name) if isinstance(name, str) else None
        try:
            declare(name, divides=divides, grouping=grouping, grouped=grouped, colour=colour, options=options, **paper)(
                layers
            )
            if before is not None and not (same(before, STRUCTURES[name]) or replaces(layers, before.layers)):
                raise InputError("another declaration has this name; give another")
            forget()
            check(name)
        except Exception as error:
            STRUCTURES.pop(name, None)
            if before is not None:
                STRUCTURES[name] = before
            forget()
            raise InputError(f"block {name!r:.80}: {reason(error)}") from None
        return layers

    return add


def check(name: str) -> None:
    """`InputError` or another exception where a declared kind of block is none that works everywhere."""
    kind = STRUCTURES[name]
    if not name.isidentifier() or name in BETWEEN:
        raise InputError("a name of letters, digits and _ is accepted")
    if not re.fullmatch(r"#[0-9a-f]{6}", kind.colour):
        raise InputError(f"colour: six hexadecimal digits as in {PLAIN_COLOUR} are accepted, not {kind.colour!r}")
    for option, accepted in kind.options.items():
        _check_option(name, option, accepted)
    stage = parse(Stage, {"block": name, **plain(dict(kind.paper))})
    if stage.expansion is not None:
        check_expansion(stage.expansion)
    for b in samples(name):
        _check_block(b)


def _check_option(name: str, option: str, accepted: tuple[Option, ...]) -> None:
    if not option.isidentifier() or option in {field.name for field in (*fields(Stage), *fields(Block))}:
        raise InputError(f"options: {option!r} is a field of all blocks; give another name")
    if not accepted or not all(isinstance(one, (bool, int, str)) for one in accepted):
        raise InputError(f"options: {option}: a list of whole numbers, words, true or false is accepted")
    if len(set(map(repr, accepted))) < len(accepted):
        raise InputError(f"options: {option}: a value is listed twice")
    for other, kind in STRUCTURES.items():
        if kind.options.get(option, accepted) != accepted:
            values = ", ".join(map(str, kind.options[option]))
            raise InputError(f"options: {option} is of {other} too, which accepts {values}; give another name")


def samples(name: str) -> Iterator[Block]:
    """Blocks of a kind with all options, at both strides and several widths."""
    options = STRUCTURES[name].options
    combined = (dict(zip(options, values, strict=True)) for values in itertools.product(*options.values()))
    for index, chosen in enumerate(itertools.islice(combined, MOST_OPTIONS)):
        for stride, expansion in itertools.product((1, 2), {block_defaults(name)["expansion"], 1.0}):
            given = {"block": name, "stride": stride, "expansion": expansion, "downsample": "block", **chosen}
            for se in (0.0, 0.25) if not index else (0.0,):
                choices = with_defaults({**given, "se": se})
                yield from (block((choices, stride, width, out)) for width, out in WIDTHS)


def _check_block(b: Block) -> None:
    """A block's layers are known ones, its output is as all blocks' is, and its formula counts what its layers do."""
    body = STRUCTURES[b.type].layers(b)
    if not isinstance(body, Sequential):
        raise InputError(f"its function returns sequential(…) of named layers, not {type(body).__name__}")
    _check_layers(body, TAKEN)
    tree, entered = lower_block(b), (b.in_channels, SIDE, SIDE)
    wanted, found = (b.out_channels, SIDE // b.stride, SIDE // b.stride), tree.output(entered)
    if found != wanted:
        described = f"stride {b.stride}" + "".join(f", {name} {value}" for name, value in b.options.items())
        raise InputError(f"at {described}, {entered} becomes {found}, and not {wanted} (channels, height, width)")
    counted = count_layers(tree, entered)
    try:
        computed = formula_cost(b, SIDE)
    except TypeError as error:
        raise InputError(f"its cost is no polynomial of its widths ({error})") from None
    if computed != (*counted[:-1], found[1]):
        raise InputError(
            f"its cost is no polynomial of its widths: widths {b.in_channels}, {b.hidden}, {b.out_channels} cost "
            f"{counted.macs:,} multiply-adds, and {computed[0]:,} by the formula of other widths"
        )


def _check_layers(layer: Layer, taken: Sequence[str] = ()) -> None:
    """The layers are known ones, and their parts can be attributes of a module, as they are in PyTorch."""
    if not isinstance(layer, PRIMITIVES):
        raise InputError(f"the layers of searchspace.blocks.layers are accepted, not {type(layer).__name__}")
    names = [name for name, _ in layer.parts] if isinstance(layer, Sequential) else []
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name in taken or names.count(name) > 1:
            also = f", none of {', '.join(taken)}" if taken else ""
            raise InputError(f"a part is called {name!r}: an identifier, each once{also}")
        if name in MODULES_OWN:
            raise InputError(f"a part is called {name!r}, as something of every torch.nn.Module is; give another name")
    branches = layer.branches if isinstance(layer, Parallel) else ()
    parts = [part for _, part in layer.parts] if isinstance(layer, Sequential) else []
    for inner in (getattr(layer, "body", None), getattr(layer, "shortcut", None), *branches, *parts):
        if inner is not None:
            _check_layers(inner)


def same(one: Structure, other: Structure) -> bool:
    """Whether two declarations say the same; of a file that was loaded twice they do."""
    return replace(one, layers=other.layers) == other and source_of(one.layers) == source_of(other.layers)


def forget() -> None:
    """Nothing that was worked out under other declarations is remembered."""
    block_defaults.cache_clear()
    forget_blocks()
    forget_formulas()
