"""YAML as plain data with places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.scenario.text import MAX_VALUES, Place, parse, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("~", None), ("null", None), ("", None), ("true", True), ("false", False), ("yes", "yes"), ("5", 5), ("-5", -5)),
        *(("0o7", "0o7"), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("2026-01-01", "2026-01-01"), ("1:30", "1:30")),
        *(("5s", "5s"), ("9" * 30, float("9" * 30)), ("٥", "٥")),
    ],
)
def test_scalars_follow_the_core_schema(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_every_value_and_key_knows_its_place():
    document = parse('a: 1\nb:\n  - "x"\n  - {c: d}\ne: >\n  folded\n  text\n', "f")
    assert document.data == {"a": 1, "b": ["x", {"c": "d"}], "e": "folded text\n"}
    assert document.values["b", 0] == Place(3, 5, 1)
    assert document.keys["b", 1, "c"] == Place(4, 6)
    assert document.values["b", 1, "c"] == Place(4, 9, 0)
    assert document.values[("e",)].quote is None


def test_an_alias_is_expanded_and_copied():
    document = parse("a: &x {b: [1, 2]}\nc: *x\n", "f")
    assert document.data["c"] == document.data["a"]
    assert document.data["c"] is not document.data["a"]


def test_a_plain_list_of_too_many_values_is_refused():
    document = parse("[" + "1," * (MAX_VALUES + 1) + "]", "f")
    assert document.data is None
    assert str(document.mistakes[0]).endswith(f"holds more than {MAX_VALUES} values, aliases expanded")


@given(st.text(max_size=200))
def test_any_text_is_data_or_a_mistake(text):
    document = parse(text, "f")
    assert document.data is None or not document.mistakes or "duplicate" in str(document.mistakes[0])


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#\n ,$", max_size=60))
def test_any_punctuation_is_data_or_a_mistake(text):
    parse(text, "f")
