"""The gate language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.scenario.gates import COMPARISONS, Expression, GateSyntaxError, Term, parse_gate
from probe.scenario.indicators import GATED, INDICATORS, Unit


def test_the_sentence_of_the_design_reads_as_it_should():
    expression = parse_gate("room_start[10m] < 90% and failures >= 3 for 2m")
    first, second = expression.terms
    assert (first.indicator, first.window, first.comparison, first.value, first.unit) == (
        "room_start",
        600 * 10**9,
        "<",
        0.9,
        "ratio",
    )
    assert (second.indicator, second.window, second.comparison, second.value, second.unit) == ("failures", None, ">=", 3, "count")
    assert expression.hold == 120 * 10**9
    assert str(expression) == "room_start[10m] < 90% and failures >= 3 for 2m"


def test_spaces_are_free():
    assert parse_gate(" first_frame . p95 [ 10m ]>=1.5s and\n failures>3 ") == parse_gate(
        "first_frame.p95[10m] >= 1500ms and failures > 3"
    )


@pytest.mark.parametrize(
    ("comparison", "met"),
    [("<", (True, False, False)), ("<=", (True, True, False)), (">", (False, False, True)), (">=", (False, True, True))],
)
def test_a_term_is_met_by_base_units(comparison, met):
    (term,) = parse_gate(f"first_frame.max {comparison} 2s").terms
    assert tuple(term.meets(v) for v in (1.9, 2.0, 2.1)) == met


def windows() -> st.SearchStrategy[int]:
    return st.integers(1, 10**16)


@st.composite
def terms(draw) -> Term:
    indicator = draw(st.sampled_from([INDICATORS[name] for name in GATED]))
    quantile, amount = "", 0
    match indicator.unit:
        case Unit.SECONDS:
            quantile = draw(st.one_of(st.integers(1, 99).map(lambda n: f"p{n}"), st.just("max")))
            amount = draw(st.integers(0, 10**15))
        case Unit.RATIO:
            amount = draw(st.integers(0, 10**6).map(lambda n: n / 10**6))
        case Unit.COUNT:
            amount = draw(st.integers(0, 10**9))
    return Term(
        indicator=indicator.name,
        quantile=quantile,
        window=draw(st.none() | windows()),
        comparison=draw(st.sampled_from(COMPARISONS)),
        unit=indicator.unit,
        amount=amount,
    )


@given(
    st.builds(
        lambda found, hold: Expression(terms=tuple(found), hold=hold),
        st.lists(terms(), min_size=1, max_size=4),
        st.none() | windows(),
    )
)
def test_an_expression_printed_and_parsed_is_the_same(expression):
    assert parse_gate(str(expression)) == expression


@given(st.text(alphabet="abdfnor_ .[]<>=0123456789%ms", max_size=60))
def test_any_text_is_an_expression_or_a_located_error(text):
    try:
        parse_gate(text)
        at = 0
    except GateSyntaxError as error:
        at = error.at
    assert 0 <= at <= len(text)
