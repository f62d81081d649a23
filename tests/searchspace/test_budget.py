from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspace import Budget, Cost, InputError
from searchspace.budget import OWN_COSTS, Limit, OwnCost, amount

COST = Cost(macs=299_000_000, params=4_000_000, activations=5_000_000, peak_memory_bytes=6_000_000)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("300MFLOPs", Limit("macs", 300_000_000)),
        ("300mflops", Limit("macs", 300_000_000)),
        ("300 M FLOPs", Limit("macs", 300_000_000)),
        ("0.3GFLOPs", Limit("macs", 300_000_000)),
        ("0.3GMACs", Limit("macs", 300_000_000)),
        ("300M", Limit("macs", 300_000_000)),
        ("3e8FLOPs", Limit("macs", 300_000_000)),
        ("5MParams", Limit("params", 5_000_000)),
        ("6MActivations", Limit("activations", 6_000_000)),
        ("20MB", Limit("peak_memory_bytes", 20_000_000)),
        ("250-300MFLOPs", Limit("macs", 300_000_000, 250_000_000)),
        ("12ms", Limit("latency_ms", 12.0)),
        ("2.5 MS", Limit("latency_ms", 2.5)),
        ("10-12ms", Limit("latency_ms", 12.0, 10.0)),
        ("800us", Limit("latency_ms", 0.8)),
        ("1.5s", Limit("latency_ms", 1500.0)),
        ("20KiB", Limit("peak_memory_bytes", 20 * 1024)),
        ("1.5 MiB", Limit("peak_memory_bytes", 1_572_864)),
        ("512KiBFlash", Limit("flash_bytes", 524_288)),
        ("1MBFlash", Limit("flash_bytes", 1_000_000)),
        ("320kB int8", Limit("int8_arena_bytes", 320_000)),
        ("100-320kb INT8", Limit("int8_arena_bytes", 320_000, 100_000)),
        ("64kB int 8", Limit("int8_arena_bytes", 64_000)),
        ("256KiBFlash int8", Limit("int8_flash_bytes", 262_144)),
    ],
)
def test_accepts(text: str, limit: Limit) -> None:
    assert Budget.parse(text) == Budget((limit,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("banana", "300MFLOPs"),
        ("300", "no unit"),
        ("-300MFLOPs", "as in 300MFLOPs"),
        ("0MFLOPs", "a finite amount is accepted, of at least 1"),
        ("inf", "as in 300MFLOPs"),
        ("1e999MFLOPs", "a finite amount"),
        ("nanMFLOPs", "as in 300MFLOPs"),
        ("300-200MFLOPs", "turned round"),
        ("300MFLIPs", "unknown unit 'MFLIPs'"),
        ("12 minutes", "unknown unit 'minutes'"),
        ("0ms", "of at least 1e-06"),
        ("1e999ms", "a finite amount"),
        ("12-10ms", "turned round"),
        ("", "as in 300MFLOPs"),
        ("1.2.3MFLOPs", "no number"),
        ("64KiFLOPs", "unknown unit 'KiFLOPs'"),
        ("64kX", "unknown unit 'kX'"),
        ("iB", "as in 300MFLOPs"),
        ("5iB", "unknown unit 'iB'"),
        ("12ms int8", "only budgets in bytes"),
        ("300MFLOPs int8", "only budgets in bytes"),
    ],
)
def test_refuses_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        Budget.parse(text)
    assert "\n" not in str(refused.value)


def test_several_at_once_and_the_tightest_decides() -> None:
    budget = Budget.parse(["300MFLOPs", "5MParams"])
    assert budget == Budget.parse("300MFLOPs,5MParams")
    assert budget.admits(COST)
    assert budget.share_used(COST) == pytest.approx(299 / 300)
    assert not Budget.parse(["300MFLOPs", "3MParams"]).admits(COST)
    with pytest.raises(InputError, match="one limit a currency"):
        Budget.parse(["300MFLOPs", "200MFLOPs"])


def test_a_range_that_is_missed_is_below_all_that_is_admitted() -> None:
    budget = Budget.parse(["90-100FLOPs", "50-100Params"])
    assert budget.share_used(Cost(80, 95, 1, 1)) == 0.95
    assert budget.share_reached(Cost(80, 95, 1, 1)) == pytest.approx(0.9 * 80 / 90)
    assert budget.share_reached(Cost(90, 60, 1, 1)) == 0.9
    assert budget.share_reached(Cost(80, 101, 1, 1)) == 1.01


def test_bounds_are_included() -> None:
    assert Budget.parse("299MFLOPs").admits(COST)
    assert Budget.parse("299-300MFLOPs").admits(COST)
    assert not Budget.parse("298.999999MFLOPs").admits(COST)
    assert Budget.parse("200MFLOPs").violation(COST) == "299MFLOPs is outside 200MFLOPs"


@given(st.integers(1, 10**13), st.integers(0, 10**13), st.sampled_from(["macs", "params", "peak_memory_bytes"]))
def test_printed_limits_parse_back(high: int, low: int, currency: str) -> None:
    limit = Limit(currency, high, low if low <= high else 0)  # type: ignore[arg-type]
    assert Budget.parse(str(limit)) == Budget((limit,))


@given(st.floats(1e-3, 1e5), st.floats(0, 1))
def test_printed_times_parse_back(high: float, share: float) -> None:
    limit = Limit("latency_ms", float(f"{high:.12g}"), float(f"{high * share:.12g}") if share > 0.01 else 0)
    assert Budget.parse(str(limit)) == Budget((limit,))


def test_latency_is_a_currency_like_the_others() -> None:
    budget, timed = Budget.parse("300MFLOPs,12ms"), replace(COST, latency_ms=12.5)
    assert str(budget) == "300MFLOPs and 12ms"
    assert budget.violation(timed) == "12.5ms is outside 12ms"
    assert budget.share_used(timed) == pytest.approx(12.5 / 12)
    assert not budget.admits(timed)
    assert budget.admits(replace(COST, latency_ms=12.0))
    assert not Budget.parse("10-12ms").admits(replace(COST, latency_ms=9.9))
    with pytest.raises(InputError, match=r"budget 12ms: latency is of a device.*nas\.measure"):
        budget.admits(COST)


def test_amounts_read_well() -> None:
    assert [amount(n, "macs") for n in (12, 1_500, 299_264_431, 6_200_000_000)] == [
        "12FLOPs",
        "1.5kFLOPs",
        "299.3MFLOPs",
        "6.2GFLOPs",
    ]
    assert [amount(n, "latency_ms") for n in (0.04567, 12.3456, 1234.0, 45678.0)] == [
        "0.04567ms",
        "12.35ms",
        "1234ms",
        "45.68s",
    ]


@pytest.mark.parametrize("given", [300_000_000, [], [300], None])
def test_what_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="no text; a number with a prefix"):
        Budget.parse(given)


def test_a_budget_is_read_as_it_is_printed() -> None:
    budget = Budget.parse(["250-300MFLOPs", "5MParams"])
    assert Budget.parse(str(budget)) == budget


def test_a_type_of_numbers_says_what_bytes_are_of() -> None:
    budget = Budget.parse(["64kB", "256kBFlash", "8MFLOPs"])
    assert budget.of_dtype("float32") == budget
    int8 = budget.of_dtype("int8")
    assert [limit.currency for limit in int8.limits] == ["int8_arena_bytes", "int8_flash_bytes", "macs"]
    assert f"{int8}" == "64kB int8 and 256kBFlash int8 and 8MFLOPs"
    assert int8.of_dtype("int8") == int8 == Budget.parse(str(int8))


@pytest.mark.parametrize(
    ("text", "dtype", "says"),
    [
        ("8MFLOPs", "int8", "only budgets in bytes have one"),
        ("64kB int8", "float32", "64kB int8 is of int8"),
        ("64kB", "int4", "float32, int8 is accepted"),
    ],
)
def test_refuses_a_type_of_numbers(text: str, dtype: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Budget.parse(text).of_dtype(dtype)


def test_a_range_below_one_of_a_cost_of_ones_own_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OWN_COSTS, "joule", OwnCost("Jl", lambda arch: 0.3))
    assert str(Budget.parse("0.2-0.5Jl")) == "0.2-0.5Jl"
