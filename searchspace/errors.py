"""The one error for input that a person can correct; entry points print it as one line and exit with 2."""

# What moves a terminal's cursor, colours, renames or hides, and what turns the direction of reading.
COMMANDS = [*range(9), *range(11, 32), *range(127, 160), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
WRITTEN_OUT = {number: repr(chr(number))[1:-1] for number in COMMANDS}


def harmless(text: str) -> str:
    """A text of anybody's for a terminal: what would command that, or mislead who reads it, is written out."""
    return text.translate(WRITTEN_OUT)


class InputError(ValueError):
    """What a person wrote is wrong: the message names the place, the value and what is accepted, in one line.

    It may quote what it was given, so control characters (line ends, terminal escapes) are written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: the line alone, as in a terminal."""
        return [f"{type(self).__name__}: {self}"]


class UnmetError(InputError):
    """A budget that no network of a space is within: all cost more."""


def reason(error: BaseException) -> str:
    """Why something that a user wrote failed, in one line."""
    said = next(iter(str(error).splitlines()), "no reason given")[:300]
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
