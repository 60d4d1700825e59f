"""Conditions as PromQL: thresholds without the noise of binary fractions, guards between whole numbers."""

from dataclasses import replace

import pytest

from probe.rules.alerts import alerts
from probe.rules.conditions import Below, Silent
from probe.rules.promql import bad_cells, matching, number
from tests.rules.fleets import HOUR, MINUTE, fleet


def test_a_budget_is_written_as_it_was_meant() -> None:
    assert number(1 - 0.995) == "0.005"
    assert number(14.4) == "14.4"
    assert number(8640.0) == "8640"


def test_names_are_quoted() -> None:
    assert matching(a='say "x"', b="é") == '{a="say \\"x\\"",b="é"}'


def test_guards_stand_between_whole_numbers() -> None:
    page = alerts(fleet())[0]
    text = bad_cells(replace(page, conditions=(Below(window=10 * MINUTE, ratio=0.9, runs=10, bad=3),)))
    assert "slo:sli_error:ratio_rate10m" in text and "> (1 - 0.9)" in text
    assert 'outcome="bad"}[10m])) > 2.5' in text
    assert 'outcome=~"good|bad"}[10m])) > 9.5' in text


def test_silence_is_not_about_an_objective() -> None:
    page = alerts(fleet())[0]
    with pytest.raises(TypeError):
        bad_cells(replace(page, conditions=(Silent(window=HOUR, share=0.5),)))
