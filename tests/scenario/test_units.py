"""Quantities and their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.scenario.units import describe, format_duration, format_ratio, parse_duration, parse_rate, parse_ratio


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5s", 5 * 10**9),
        ("1m30s", 90 * 10**9),
        ("250ms", 250 * 10**6),
        ("1.5s", 1_500_000_000),
        ("30d", 30 * 86_400 * 10**9),
        ("0s", 0),
        ("7us", 7000),
    ],
)
def test_a_duration_is_nanoseconds(text, ns):
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "30s1m", "1s1s", "5x", "1e3s", "٥s", "9" * 30 + "s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration; write for example 5s"):
        parse_duration(text)


@given(st.integers(0, 10**18))
def test_a_duration_printed_and_parsed_is_the_same(ns):
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("text", "bits"), [("800kbps", 800_000), ("2.5Mbps", 2_500_000), ("1Gbps", 10**9), ("64bps", 64), ("1mbps", 10**6)]
)
def test_a_rate_is_bits_a_second(text, bits):
    assert parse_rate(text) == bits


@pytest.mark.parametrize("text", ["", "800", "800kb", "kbps", "800 kbps", "-1kbps", "1KBps"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="is not a bitrate"):
        parse_rate(text)


@given(st.integers(0, 100_000_000))
def test_a_ratio_printed_and_parsed_is_the_same(millionths):
    ratio = parse_ratio(f"{millionths / 10**6:.6f}%")
    assert parse_ratio(format_ratio(ratio)) == ratio


@pytest.mark.parametrize("text", ["", "99", "101%", "100.1%", "-1%", "99.5 %", "%"])
def test_what_is_no_ratio_is_refused(text):
    with pytest.raises(ValueError, match="is not a ratio from 0% to 100%"):
        parse_ratio(text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        ({}, "a mapping"),
        ([], "a list"),
        (True, "true"),
        (5, "5"),
        ("x", "'x'"),
        ("x" * 99, "'" + "x" * 56 + "…'"),
    ],
)
def test_a_value_is_described_and_never_printed_at_length(value, words):
    assert describe(value) == words
