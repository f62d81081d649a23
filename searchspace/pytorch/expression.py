"""Calls laid out as code, as ruff lays them out. Apart from `source.py`, which knows networks and no line lengths."""

from __future__ import annotations

from dataclasses import dataclass

LINE_LENGTH = 120
INDENT = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A call; an argument without a name is positional. `tall` puts every argument on a line of its own."""

    function: str
    arguments: tuple[tuple[str, Expression], ...] = ()
    tall: bool = False

    @property
    def flat(self) -> str:
        return f"{self.function}({', '.join(map(_argument, self.arguments))})"

    @property
    def breaks(self) -> bool:
        """Whether it cannot stand in one line, however short it is."""
        return self.tall or any(isinstance(value, Call) and value.breaks for _, value in self.arguments)


Expression = Call | str


def _argument(argument: tuple[str, Expression]) -> str:
    name, value = argument
    return _name(name) + (value.flat if isinstance(value, Call) else value)


def _name(name: str) -> str:
    return f"{name}=" if name else ""


def lines(expression: Expression, before: str, after: str, indent: int) -> list[str]:
    """An expression between two texts, indented: in one line, else its arguments in one line, else one a line."""
    margin, inner = " " * indent, " " * (indent + INDENT)
    if isinstance(expression, str):
        return [f"{margin}{before}{expression}{after}"]
    whole = f"{margin}{before}{expression.flat}{after}"
    opened, closed = f"{margin}{before}{expression.function}(", f"{margin}){after}"
    if not expression.breaks:
        if len(whole) <= LINE_LENGTH:
            return [whole]
        together = inner + ", ".join(map(_argument, expression.arguments))
        if len(together) <= LINE_LENGTH:
            return [opened, together, closed]
    one_a_line = [lines(value, _name(name), ",", indent + INDENT) for name, value in expression.arguments]
    return [opened, *(line for argument in one_a_line for line in argument), closed]
