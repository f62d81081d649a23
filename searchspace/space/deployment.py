"""What compilers and processors ask of networks, as files: `--deploy edgetpu` narrows a space to what runs there well.

A rule is about one aspect of a network, such as its nonlinearities or its kernels, and says why it is there. It is
applied twice: to the values that a space offers, and to the layers of every network that is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from searchspace import presets
from searchspace.arch import Arch, lower
from searchspace.blocks.blocks import Shortcut
from searchspace.blocks.layers import (
    Activate,
    Activation,
    ChannelConv,
    Conv,
    Gate,
    Gating,
    Layer,
    Normalize,
    NormKind,
    PadChannels,
    Parallel,
    steps,
)
from searchspace.document import parse, read_yaml, value
from searchspace.errors import InputError
from searchspace.space.choices import Scalar

Aspect = Literal["activation", "gate", "kernel", "depthwise kernel", "norm", "grouping", "shortcut", "width"]
FOLDER = "deployments"
UNFOLDED = "after no convolution"  # a norm that no convolution takes up
Seen = str | int
# The values of a space's file, by their names, that an aspect is about; what they do not say shows in the layers.
NAMES: dict[Aspect, tuple[str, ...]] = {
    "activation": ("*.act", "*.expand_act", "*.spatial_act", "*.project_act", "*.add_act", "*.hidden_act"),
    "gate": ("*.se",),
    "kernel": ("*.kernel", "*.first_kernel"),
    "depthwise kernel": ("stage*.kernel", "stage*.first_kernel"),
    "norm": ("*.norm.kind",),
    "grouping": (),
    "shortcut": ("*.shortcut",),
    "width": ("schedule.divisor",),
}

# What an aspect may be in words; of the others in numbers.
WORDS: dict[Aspect, set[str]] = {
    "activation": {*get_args(Activation), *get_args(Gating)},
    "gate": {"none", "gate"},
    "norm": {*get_args(NormKind), UNFOLDED},
    "grouping": {"depthwise", "grouped"},
    "shortcut": set(get_args(Shortcut)),
}


@value
class Rule:
    """What an aspect of a network may be: `only` some of its words, a number of at `most`, a `multiple` of some number.
    Where a space offers nothing else, `instead` is taken. `because` says why, and `source` where that stands."""

    because: str
    source: str
    only: tuple[str, ...] = ()
    most: int = 0
    multiple: int = 0
    instead: str | int | float | None = None

    def __post_init__(self) -> None:
        if [bool(self.only), self.most > 0, self.multiple > 0].count(True) != 1 or min(self.most, self.multiple) < 0:
            raise ValueError("only: one of only, most and multiple is accepted, numbers above 0")

    def admits(self, seen: Seen) -> bool:
        if self.only:
            return seen in self.only
        return isinstance(seen, (int, float)) and (seen <= self.most if self.most else seen % self.multiple == 0)

    def __str__(self) -> str:
        """`relu, relu6`, `at most 5`, `multiples of 8`."""
        return ", ".join(self.only) or (f"at most {self.most}" if self.most else f"multiples of {self.multiple}")


@value
class Deployment:
    """The rules of a compiler or processor, one per aspect that it is particular about."""

    name: str
    rules: Mapping[Aspect, Rule]
    about: str = ""

    def __post_init__(self) -> None:
        for aspect, rule in self.rules.items():
            strange = sorted(set(rule.only) - WORDS[aspect]) if aspect in WORDS else []
            if strange:
                raise ValueError(
                    f"rules: {aspect}: {', '.join(sorted(WORDS[aspect]))} are accepted, not {strange[0]!r}"
                )
            if aspect not in WORDS and rule.only:
                raise ValueError(f"rules: {aspect}: a number as most or multiple is accepted, not only")
            if rule.instead is not None and not rule.admits(as_seen(aspect, rule.instead)):
                raise ValueError(f"rules: {aspect}: instead: {rule} is accepted, not {rule.instead!r}")

    @classmethod
    def load(cls, given: str | Path) -> Deployment:
        """One by its name, or a file of somebody's own; `InputError` where there is none or it is wrong."""
        path = presets.find("deploy", FOLDER, given)
        data, lines = read_yaml(path)
        return parse(cls, data, path.name, lines)

    def broken(self, arch: Arch) -> str:
        """Which rule a network breaks first, and why that is one: `activation silu: relu, relu6 is accepted, since …`;
        "" where it keeps to all."""
        found = list(dict.fromkeys(aspects(arch)))
        for aspect, rule in self.rules.items():
            for what, seen in found:
                if what == aspect and not rule.admits(seen):
                    return f"{aspect} {seen}: {rule} is accepted, since {rule.because}"
        return ""

    def __str__(self) -> str:
        """`mobile: activation none, relu, relu6; kernel at most 5`."""
        return f"{self.name}: {'; '.join(f'{aspect} {rule}' for aspect, rule in self.rules.items())}"

    def rule_of(self, name: str) -> tuple[Aspect, Rule] | None:
        """The aspect that a value of a space's file is about, and its rule; None where no rule is about it."""
        for aspect, rule in self.rules.items():
            if any(fnmatchcase(name, pattern) for pattern in NAMES[aspect]):
                return aspect, rule
        return None

    def admits(self, name: str, written: Any) -> bool:
        """Whether a value of a space's file keeps to the rules."""
        found = self.rule_of(name)
        return found is None or found[1].admits(as_seen(found[0], written))

    def replaces(self, name: str) -> bool:
        """Whether a rule names what takes the place of a value of a space's file."""
        found = self.rule_of(name)
        return found is not None and found[1].instead is not None and self.admits(name, found[1].instead)

    def instead(self, name: str) -> Scalar:
        """What a value of a space's file becomes that does not; `InputError` where nothing can take its place."""
        aspect, rule = self.rule_of(name) or ("", None)
        if rule is None or not self.admits(name, rule.instead):
            raise InputError(f"deploy {self.name}: {name}: {rule} is accepted, and the space offers none ({aspect})")
        return rule.instead


def aspects(arch: Arch) -> Iterator[tuple[Aspect, Seen]]:
    """Everything that a rule may be about, layer by layer; the classifier's width is the classes' and no choice."""
    before: Layer | None = None
    for layer, _ in steps(lower(arch), (arch.in_channels, arch.resolution, arch.resolution)):
        match layer:
            case Conv():
                yield "kernel", layer.kernel
                yield "width", layer.out_channels
                if layer.groups > 1:
                    yield "depthwise kernel", layer.kernel
                    yield "grouping", "depthwise" if layer.groups == layer.in_channels else "grouped"
            case Activate():
                yield "activation", layer.function
            case Normalize():
                yield "norm", layer.norm.kind if _folds_norm(before) else UNFOLDED
            case Gate() | ChannelConv():
                yield "gate", "gate"
            case PadChannels():
                yield "shortcut", "partial"
        before = layer


def _folds_norm(before: Layer | None) -> bool:
    """Whether a norm behind a layer is taken up by it: by a convolution, or by several that share out its channels."""
    if isinstance(before, Parallel) and before.join == "concat":
        return all(branch.parts and isinstance(branch.parts[-1][1], Conv) for branch in before.branches)
    return isinstance(before, Conv)


def as_seen(aspect: Aspect, written: Any) -> Seen:
    """What a value of a file means for an aspect: any squeeze but 0 is a gate."""
    if aspect == "gate":
        return "gate" if written else "none"
    return 0 if written is None and "kernel" in aspect else "none" if written is None else written


def deployments() -> list[str]:
    """The names of the deployments that are known."""
    return presets.names(FOLDER)
