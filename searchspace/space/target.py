"""Boards as files: how much memory a network may take there. `--target stm32f746` is a space and two budgets."""

from __future__ import annotations

from pathlib import Path

from searchspace import presets
from searchspace.budget import Budget, Limit
from searchspace.document import parse, read_yaml, value
from searchspace.errors import InputError


@value
class Target:
    """A board with a microcontroller. `ram` and `flash` are what there is of each, as texts (`320KiB`): of RAM the
    largest piece without a gap, since the arena is one. `source` says where that stands.

    `reserve_ram` is for the stack, the firmware's own data and the scratch buffers of processor-specific kernels;
    `reserve_flash` for the firmware with TensorFlow Lite Micro and its kernels. Both are allowances, not measured.
    """

    name: str
    ram: str
    flash: str
    source: str
    processor: str = ""
    reserve_ram: str = "24KiB"
    reserve_flash: str = "96KiB"

    def __post_init__(self) -> None:
        for own in ("ram", "flash"):
            whole, kept = (bytes_of(field, getattr(self, field)) for field in (own, f"reserve_{own}"))
            if kept >= whole:
                raise ValueError(f"reserve_{own}: less than {own}, {getattr(self, own)}, not {kept:,} bytes")

    @property
    def budget(self) -> Budget:
        """The bytes that are left for an int8 network: the arena, and the file in flash."""
        left = [bytes_of(own, getattr(self, own)) - bytes_of(own, getattr(self, f"reserve_{own}")) for own in OWN]
        return Budget((Limit("int8_arena_bytes", left[0]), Limit("int8_flash_bytes", left[1])))

    @classmethod
    def load(cls, given: str | Path) -> Target:
        """A board by its name, or a file of somebody's own; `InputError` where there is none or it is wrong."""
        path = presets.find("target", FOLDER, given)
        data, lines = read_yaml(path)
        return parse(cls, data, path.name, lines)


FOLDER = "targets"
OWN = ("ram", "flash")
SPACE = "mcu"  # what a target is searched in, unless a space is given
RULES = "mcu"  # the deployment whose rules its networks keep to, unless another is given


def bytes_of(field: str, text: str) -> int:
    """Bytes of 320KiB; `ValueError` for what is none."""
    try:
        (limit,) = Budget.parse(text).limits
    except (InputError, ValueError):
        limit = Limit("", 0)
    if limit.currency != "peak_memory_bytes" or limit.low:
        raise ValueError(f"{field}: bytes are accepted, as in 320KiB, not {text!r}")
    return int(limit.high)


def boards() -> list[str]:
    """The names of the boards that are known."""
    return presets.names(FOLDER)
