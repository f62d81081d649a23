"""Costs and budgets: "300MFLOPs", "5MParams", "250-300M", "12ms", "64kB int8", parsed, printed and compared.

One multiply-add is one FLOP, counted for convolutions and linear layers: FLOPs, MACs and MAdds are three names of one
number here, as in the papers of MobileNet, EfficientNet and ReXNet. `searchspace.register_cost` adds costs of the
user's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from searchspace.errors import InputError

Currency = str  # a field of `Cost`, or the name of a cost of the user's own

UNITS: dict[str, Currency] = {
    "": "macs",
    "flop": "macs",
    "flops": "macs",
    "mac": "macs",
    "macs": "macs",
    "madd": "macs",
    "madds": "macs",
    "param": "params",
    "params": "params",
    "parameters": "params",
    "activations": "activations",
    "acts": "activations",
    "b": "peak_memory_bytes",
    "bflash": "flash_bytes",
}
NAMES: dict[Currency, str] = {
    "macs": "FLOPs",
    "params": "Params",
    "activations": "Activations",
    "peak_memory_bytes": "B",
    "latency_ms": "ms",
    "flash_bytes": "BFlash",
    "int8_arena_bytes": "B int8",
    "int8_flash_bytes": "BFlash int8",
}
DEPLOYED: tuple[Currency, ...] = ("flash_bytes", "int8_arena_bytes", "int8_flash_bytes")
# What a budget in bytes means for each type of numbers; float32 is what it means where no type is said.
DTYPES: dict[str, dict[Currency, Currency]] = {
    "float32": {},
    "int8": {"peak_memory_bytes": "int8_arena_bytes", "flash_bytes": "int8_flash_bytes"},
}
INT8 = tuple(DTYPES["int8"].values())
BYTES = (*DTYPES["int8"], *INT8)


@dataclass(frozen=True, slots=True)
class OwnCost:
    """A cost of the user's own: what `of` says of an `Arch`, in a unit. Above 0, and no less for a wider network."""

    unit: str
    of: Callable[[Any], float]


OWN_COSTS: dict[str, OwnCost] = {}
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
LONG_MS = 10_000.0
PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"k": 2**10, "m": 2**20, "g": 2**30}  # of KiB, MiB, GiB
SHOWN = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3), ("", 1))
ACCEPTED = (
    "a number with a prefix k, M, G and a unit FLOPs, Params, Activations, B (memory) or BFlash (weights), as in "
    "300MFLOPs or 64KiB, or a time, as in 12ms,"
)
PATTERN = re.compile(
    r"(?P<low>[0-9.]+(?:e[+-]?[0-9]+)?)(?:-(?P<high>[0-9.]+(?:e[+-]?[0-9]+)?))?(?P<prefix>[kmgt]?)(?P<unit>[a-zµ]*)"
    r"(?P<int8>int8)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one network costs, for one image at its resolution (see `costs.cost` for what is counted).

    `latency_ms` is predicted for one batch on one device (see `latency.py`), None where no device is meant. `own` has
    the costs of the user's own, by name. `flash_bytes` are of float32; the bytes of trials from before there were
    budgets in them are None.
    """

    macs: int
    params: int
    activations: int
    peak_memory_bytes: int
    latency_ms: float | None = None
    own: tuple[tuple[str, float], ...] = ()
    flash_bytes: int | None = None
    int8_arena_bytes: int | None = None
    int8_flash_bytes: int | None = None

    def of(self, currency: Currency) -> float | None:
        """One of the costs; None where it is not known."""
        found: float | None = dict(self.own).get(currency) if currency not in NAMES else getattr(self, currency)
        return found

    @property
    def peak_memory_mb(self) -> float:
        return self.peak_memory_bytes / 1e6


@dataclass(frozen=True, slots=True)
class Limit:
    """One currency between two bounds, both included; `low` is 0 where only a ceiling was given.

    Bounds are whole numbers but for latency, which is in milliseconds, and costs of the user's own.
    """

    currency: Currency
    high: float
    low: float = 0

    def of(self, cost: Cost) -> float:
        """The cost in this currency; `InputError` for a latency where the cost has none."""
        spent = cost.of(self.currency)
        if spent is None and self.currency != "latency_ms":
            raise InputError(f"budget {self}: {self.currency} of this network is not known here; --plugin registers it")
        if spent is None:
            raise InputError(
                f"budget {self}: latency is of a device, and no table of a device's layer times is loaded here; "
                "python -m nas.search and python -m nas.measure make and load one"
            )
        return spent

    def __str__(self) -> str:
        if self.currency == "latency_ms":
            return f"{self.low:.15g}-{self.high:.15g}ms" if self.low else f"{self.high:.15g}ms"
        high = amount(self.high, self.currency, digits=15)
        if self.low == 0:
            return high
        factor = next(factor for prefix, factor in SHOWN if self.high >= factor or factor == 1)
        return f"{self.low / factor:.15g}-{high}"


@dataclass(frozen=True, slots=True)
class Budget:
    """One or several limits; a network has to keep all of them. The first is the one that candidates are fitted to."""

    limits: tuple[Limit, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.limits, tuple) or not all(isinstance(limit, Limit) for limit in self.limits):
            raise InputError(f'Budget({self.limits!r}): Budget.parse("300MFLOPs") makes a budget of text')
        if not self.limits:
            raise InputError("Budget(()): at least one limit is accepted")

    @classmethod
    def parse(cls, texts: Budget | str | Iterable[str]) -> Budget:
        """Budgets as people write them, units in any case; raises `InputError` saying what is accepted.

        What is a budget already stays as it is.
        """
        if isinstance(texts, Budget):
            return texts
        written = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else [texts]
        if not written or not all(isinstance(text, str) for text in written):
            raise InputError(f"budget {texts!r}: no text; {ACCEPTED} is accepted")
        limits = tuple(parse_limit(part) for text in written for part in re.split(r",|\band\b", text))
        currencies = [limit.currency for limit in limits]
        if len(set(currencies)) < len(currencies):
            raise InputError(f"budget {', '.join(written)}: one limit a currency; give a range for two bounds")
        return cls(limits)

    def of_dtype(self, dtype: str) -> Budget:
        """The same with its bytes in numbers of this type; `InputError` for one that is not known, or has no bytes."""
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: {', '.join(DTYPES)} is accepted")
        meant = DTYPES[dtype]
        if dtype == "float32" and (others := [limit for limit in self.limits if limit.currency in INT8]):
            raise InputError(f"dtype float32: the budget {others[0]} is of int8")
        if meant and not any(limit.currency in BYTES for limit in self.limits):
            raise InputError(f"dtype {dtype}: only budgets in bytes have one, as in 64kB or 256kBFlash; not {self}")
        return Budget(tuple(replace(one, currency=meant.get(one.currency, one.currency)) for one in self.limits))

    @property
    def limits_latency(self) -> bool:
        return any(limit.currency == "latency_ms" for limit in self.limits)

    @property
    def counts_macs(self) -> bool:
        """Whether it limits multiply-adds, and beside them nothing that counting alone does not tell."""
        currencies = {limit.currency for limit in self.limits}
        return "macs" in currencies and not (self.limits_latency or self.limits_own)

    @property
    def limits_own(self) -> bool:
        """Whether it limits a cost of the user's own, which no formula counts."""
        return any(limit.currency not in NAMES for limit in self.limits)

    def admits(self, cost: Cost) -> bool:
        return all(limit.low <= limit.of(cost) <= limit.high for limit in self.limits)

    def share_used(self, cost: Cost) -> float:
        """The tightest limit's share that a cost takes: at most 1 for a network that keeps every ceiling."""
        return max(limit.of(cost) / limit.high for limit in self.limits)

    def scale(self, share: float) -> Budget:
        """The same limits, each ceiling at this share of itself."""
        if share == 1:
            return self
        return Budget(tuple(replace(limit, high=type(limit.high)(limit.high * share)) for limit in self.limits))

    def share_reached(self, cost: Cost) -> float:
        """As `used`, but below the least share of every admitted cost where a lower bound is missed, for solvers."""
        used = self.share_used(cost)
        missing = min((limit.of(cost) / limit.low for limit in self.limits if limit.low), default=1.0)
        return used if missing >= 1 or used > 1 else missing * max(limit.low / limit.high for limit in self.limits)

    def violation(self, cost: Cost) -> str:
        """Which limits a cost breaks, for messages; empty where it breaks none."""
        broken = [limit for limit in self.limits if not limit.low <= limit.of(cost) <= limit.high]
        return ", ".join(f"{amount(limit.of(cost), limit.currency)} is outside {limit}" for limit in broken)

    def amounts(self, spent: Cost | Sequence[float]) -> str:
        """A cost, or a number for each limit, as people read it in every limited currency: `1MParams and 30MFLOPs`."""
        numbers = [limit.of(spent) for limit in self.limits] if isinstance(spent, Cost) else spent
        limited = zip(numbers, self.limits, strict=True)
        return " and ".join(amount(number, limit.currency) for number, limit in limited)

    def __str__(self) -> str:
        return " and ".join(str(limit) for limit in self.limits)


def parse_limit(text: str) -> Limit:
    joined = "".join(text.split())
    named = re.fullmatch(r"(\w+)<=([^<=]+)", joined)
    if named is not None:
        return _own_limit(named[1], named[2], text)
    match = PATTERN.fullmatch(joined)
    if match is None:
        raise InputError(f"budget {text!r}: {ACCEPTED} is accepted")
    prefix, unit = match["prefix"].lower(), match["unit"].lower()
    if match["int8"]:
        return Budget((parse_limit(joined[: joined.lower().rindex("int8")]),)).of_dtype("int8").limits[0]
    if (time := MILLISECONDS.get(prefix + unit)) is not None:
        return limit_of("latency_ms", [quantity(number, time, text) for number in numbers(match)], text)
    if (own := own_unit(prefix + unit)) is not None:
        name, factor = own
        return limit_of(name, [quantity(number, factor, text) for number in numbers(match)], text)
    factor = PREFIXES[prefix]
    if unit.startswith("ib") and prefix in BINARY:
        factor, unit = BINARY[prefix], unit[1:]
    if unit not in UNITS and (prefix + unit) in UNITS:
        factor, prefix, unit = 1, "", prefix + unit
    if unit not in UNITS:
        written = match["prefix"] + match["unit"]
        units = "".join(f" or {own.unit}" for own in OWN_COSTS.values())
        raise InputError(
            f"budget {text!r}: unknown unit {written!r}{units}; {ACCEPTED} is accepted (--plugin FILE registers costs)"
        )
    if not prefix and not unit:
        raise InputError(f"budget {text!r}: no unit; {ACCEPTED} is accepted")
    bounds = [round(quantity(number, factor, text, least=1)) for number in numbers(match)]
    return limit_of(UNITS[unit], bounds, text)


def _own_limit(name: str, amounts: str, text: str) -> Limit:
    """The limit that `name<=5k` or `name<=3-5` says."""
    if name not in OWN_COSTS:
        there = ", ".join(OWN_COSTS) or "none, and --plugin FILE registers some"
        raise InputError(f"budget {text!r}: no cost of your own is called {name!r}; there is {there}")
    match = PATTERN.fullmatch(amounts)
    if match is None or match["unit"] or match["int8"]:
        raise InputError(f"budget {text!r}: {name}<= and a number with a prefix k, M, G is accepted, as in {name}<=5k")
    factor = PREFIXES[match["prefix"].lower()]
    return limit_of(name, [quantity(number, factor, text) for number in numbers(match)], text)


def own_unit(written: str) -> tuple[str, int] | None:
    """The cost of the user's own whose unit is written, in lower case and with a prefix, and what the prefix means."""
    for name, own in OWN_COSTS.items():
        unit = own.unit.lower()
        prefix = written.removesuffix(unit)
        if written.endswith(unit) and prefix in PREFIXES:
            return name, PREFIXES[prefix]
    return None


def unit_of(currency: Currency) -> str:
    """What stands behind an amount."""
    return NAMES[currency] if currency in NAMES else OWN_COSTS[currency].unit if currency in OWN_COSTS else currency


def numbers(match: re.Match[str]) -> list[str]:
    """The one or two numbers of a budget, lower bound first."""
    return [number for number in (match["low"], match["high"]) if number]


def limit_of(currency: Currency, bounds: Sequence[float], text: str) -> Limit:
    if list(bounds) != sorted(bounds):
        raise InputError(f"budget {text!r}: the range is turned round; write the lower bound first")
    return Limit(currency, bounds[-1], bounds[0] if len(bounds) == 2 else 0)


def quantity(number: str, factor: float, text: str, least: float = 1e-6) -> float:
    try:
        value = float(number) * factor
    except ValueError:
        raise InputError(f"budget {text!r}: {number!r} is no number; {ACCEPTED} is accepted") from None
    if not math.isfinite(value) or value < least:
        raise InputError(f"budget {text!r}: a finite amount is accepted, of at least {least:g}")
    return value


def amount(value: float, currency: Currency, digits: int = 4) -> str:
    """A cost as people read it: 299.3MFLOPs, 12.35ms."""
    if currency == "latency_ms":
        return f"{value / 1000:.{digits}g}s" if value >= LONG_MS else f"{value:.{digits}g}ms"
    prefix, factor = next((prefix, factor) for prefix, factor in SHOWN if value >= factor or factor == 1)
    return f"{value / factor:.{digits}g}{prefix}{unit_of(currency)}"
