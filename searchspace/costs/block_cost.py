"""Formulas of widths: what a block costs as a polynomial of its channels, worked out once for every kind of block.

A `Width` is a whole number that remembers its name. A block that is lowered with such widths has layers that count
themselves in names: 9 · hidden · 56 · 56. So a block's cost for any widths needs no second description of the block,
only arithmetic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from copy import copy
from fractions import Fraction
from typing import Any, NoReturn, Self, TypeVar

from searchspace.blocks.layers import number_of, share

Names = tuple[str, ...]
Factor = int | Fraction
Part = TypeVar("Part")


class Formula:
    """A polynomial of named widths with rational coefficients; `terms` maps the names of a product to its factor."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[Names, Factor]) -> None:
        self.terms = terms

    def __add__(self, other: int | Formula) -> Formula:
        terms = dict(self.terms)
        for names, factor in formula(other).terms.items():
            terms[names] = terms.get(names, 0) + factor
        return Formula(terms)

    __radd__ = __add__

    def __mul__(self, other: int | Formula) -> Formula:
        product: dict[Names, Factor] = {}
        for names, factor in self.terms.items():
            for more, times in formula(other).terms.items():
                key = tuple(sorted(names + more))
                product[key] = product.get(key, 0) + factor * times
        return Formula(product)

    __rmul__ = __mul__

    def __floordiv__(self, other: int | Formula) -> int | Formula:
        """Channels a group, of one group or of as many as there are channels."""
        if isinstance(other, Formula):
            return 1 if other.terms == self.terms else self._refuse(other)
        return self if other == 1 else self._refuse(other)

    def _refuse(self, other: Any = None) -> NoReturn:
        raise TypeError(f"{self}: a formula has sums and products; nothing else is known of it")

    __sub__ = __rsub__ = __truediv__ = __rtruediv__ = __rfloordiv__ = __mod__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __hash__ = _refuse

    def covers(self, other: Formula) -> bool:
        """Whether it is at least the other for all widths, as far as factors tell."""
        return all(self.terms.get(names, 0) >= factor for names, factor in other.terms.items())

    def __str__(self) -> str:
        """The formula in Python: over one common divisor, with what products share taken out of them."""
        divisor = math.lcm(*(factor.denominator for factor in self.terms.values()))
        text = _nest({names: int(factor * divisor) for names, factor in self.terms.items()})
        return f"({text})//{divisor}" if divisor > 1 else text


def _nest(terms: dict[Names, int]) -> str:
    """x·y + x·z as x·(y + z): fewer products."""
    common = Counter(name for names in terms for name in set(names))
    if not common:
        return str(terms.get((), 0))
    name = min(common, key=lambda known: (-common[known], known))
    inside, outside = {}, {}
    for names, factor in terms.items():
        if name in names:
            at = names.index(name)
            inside[names[:at] + names[at + 1 :]] = factor
        else:
            outside[names] = factor
    within = _nest(inside)
    product = name if within == "1" else f"{name}*({within})" if "+" in within else f"{name}*{within}"
    return f"{product}+{_nest(outside)}" if outside else product


# Pairs of a block's widths that it may compare: whether they are equal is part of what its formulas are known by.
COMPARED = ({"hidden", "width"}, {"width", "out"})


class Width(int):
    """A number of channels with a name; products are formulas.

    Only what is known by the formulas' keys may be asked of it: else the first network of a kind would decide for all.
    """

    name: str
    parity: bool  # whether the formulas' keys know if it is odd

    def __new__(cls, number: int, name: str, parity: bool = False) -> Self:
        made = super().__new__(cls, number)
        made.name, made.parity = name, parity
        return made

    def __add__(self, other: Any) -> Any:
        return formula(self) + other

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return formula(self) * other

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Any:
        """Channels a group; the validated block says that the groups divide the channels."""
        if isinstance(other, Groups):
            return other.width
        if isinstance(other, Width):
            if other.name == self.name:
                return 1
            raise TypeError(f"{self.name} // {other.name} is no polynomial")
        return self if other == 1 else Formula({(self.name,): Fraction(1, other)})

    def __sub__(self, other: int) -> Any:
        """What a share leaves of the channels: a width too, whose name is the expression that computes it."""
        if not isinstance(other, Width):
            self._refuse(other)
        return Width(number_of(self) - number_of(other), f"({self.name}-{other.name})")

    def share(self, parts: int, up: bool) -> Width:
        """See `layers.share`."""
        name = f"(-(-{self.name}//{parts}))" if up else f"max(1,{self.name}//{parts})"
        return Width(share(number_of(self), parts, up), name)

    def __mod__(self, other: int) -> int:
        """The remainder by 2, of a block that is declared to ask for it."""
        if other != 2 or not self.parity:
            raise TypeError(f"{self.name} % {other} differs from network to network of a kind")
        return number_of(self) % 2

    def __eq__(self, other: object) -> bool:
        name = other.name if isinstance(other, Width) else f"{other}"
        if not isinstance(other, Width) or (name != self.name and {self.name, name} not in COMPARED):
            raise TypeError(f"whether {self.name} and {name} are equal differs from network to network of a kind")
        return number_of(self) == number_of(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise TypeError(f"{self.name}: which number it is differs from network to network of a kind")

    def _refuse_order(self, other: Any) -> NoReturn:
        raise TypeError(f"{self.name}: which of two widths is larger differs from network to network of a kind")

    __lt__ = __le__ = __gt__ = __ge__ = _refuse_order

    def _refuse(self, other: Any) -> NoReturn:
        raise TypeError(f"{self.name}: a formula has sums, products and // by a number; nothing else is known of it")

    __rsub__ = __truediv__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __pow__ = __rpow__ = _refuse  # type: ignore[assignment]
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = _refuse
    __divmod__ = __rdivmod__ = _refuse

    def _refuse_alone(self, *_: Any) -> NoReturn:
        self._refuse(None)

    __neg__ = __abs__ = __invert__ = __float__ = __round__ = _refuse_alone
    __int__ = __trunc__ = __floor__ = __ceil__ = _refuse_alone


class Groups(int):
    """A number of groups that remembers the name of how many channels each has, so that it may itself be open."""

    width: Width

    def __new__(cls, number: int, width: Width) -> Self:
        made = super().__new__(cls, number)
        made.width = width
        return made

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError("groups: how many there are differs from network to network of a kind")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse


def with_named_widths(part: Part, **widths: Any) -> Part:
    """A block, stem or head with these fields in names. It was valid in numbers, which is not asked again."""
    made = copy(part)
    for field, width in widths.items():
        object.__setattr__(made, field, width)
    return made


def formula(number: int | Formula) -> Formula:
    if isinstance(number, Formula):
        return number
    if isinstance(number, Width):
        return Formula({(number.name,): 1})
    return Formula({(): number} if number else {})


def largest(numbers: Iterable[int | Formula]) -> list[Formula]:
    """The formulas of which one is the largest, whatever the widths: those that no other covers."""
    kept: list[Formula] = []
    for found in map(formula, numbers):
        if not any(other.covers(found) for other in kept):
            kept = [other for other in kept if not found.covers(other)] + [found]
    return kept


def function(names: Iterable[str], expressions: Iterable[str]) -> Callable[..., Any]:
    """Expressions of named widths as a function of these widths in this order, compiled: a call takes a microsecond."""
    made: Callable[..., Any] = eval(f"lambda {', '.join(names)}: ({', '.join(expressions)},)", {})
    return made
