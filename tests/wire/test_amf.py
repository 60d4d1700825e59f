"""AMF0: what was written is read again, and nothing a server sends does more than fail."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.wire.amf import MAX_DEPTH, Broken, Value, decode, encode

_SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=40)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(min_size=1, max_size=20), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=80)
@given(st.lists(_VALUES, max_size=5))
def test_what_was_written_is_read_again(values: list[Value]) -> None:
    assert decode(encode(*values)) == values


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_broken(data: bytes) -> None:
    with contextlib.suppress(Broken):
        decode(data)


def test_a_long_string_has_its_own_type() -> None:
    assert decode(encode("x" * 70_000)) == ["x" * 70_000]


def test_an_ecma_array_a_typed_object_and_a_date_are_read_to_what_is_nearest() -> None:
    ecma = b"\x08\0\0\0\x63" + encode({"a": 1.0})[1:]
    typed = b"\x10\0\x03Foo" + encode({"b": 2.0})[1:]
    date = b"\x0b" + struct.pack(">d", 5.0) + b"\0\0"
    assert decode(ecma + typed + date + b"\x06") == [{"a": 1.0}, {"b": 2.0}, 5.0, None]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x03\0\1a" * 100_000, "too_large"),  # objects in objects
        (b"\x0a\0\0\0\x01" * 100_000, "too_large"),  # arrays in arrays
        (b"\x0a\xff\xff\xff\xff", "too_large"),
        (b"\x05" * 1_000_000, "too_large"),
        (b"\x03\0\1a\x05", "malformed"),  # no end
        (b"\x02\xff\xffx", "malformed"),
        (b"\x07\0\1", "malformed"),  # a reference
    ],
)
def test_what_is_nested_repeated_or_cut_off_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Broken) as caught:
        decode(data)
    assert caught.value.reason == reason


def test_nesting_that_people_use_is_read() -> None:
    value: Value = 1.0
    for _ in range(MAX_DEPTH - 1):
        value = {"a": value}
    assert decode(encode(value)) == [value]
