"""Queries are read far enough to know what they ask for."""

from __future__ import annotations

import pytest

from probe.rules.queries import Selector, asked, exported, problems

KNOWN = exported()


@pytest.mark.parametrize(
    ("query", "names", "groups"),
    [
        ("up", ["up"], set()),
        ('sum by (a, b) (rate(x{c="}",d=~"$d"}[$__rate_interval]))', ["x"], {"a", "b"}),
        ("sum(x) without (instance) / on (job) group_left (z) y{}", ["x", "y"], {"instance", "job", "z"}),
        ("1 - x:y:z offset 5m and ignoring (a) (b > bool 2.5e3)", ["x:y:z", "b"], {"a"}),
        ('count({__name__="up",job="x"})', ["up"], set()),
        ("a or on () b unless c # d", ["a", "b", "c"], set()),
        ('label_replace(a, "to", "$1", "from", "(.*)")', ["a"], set()),
        ("max_over_time(a[1h:5m]) == inf or a{} * 1h30m", ["a", "a"], set()),
        ("a and group_left b", ["a", "b"], set()),
    ],
)
def test_series_and_groupings_are_found(query: str, names: list[str], groups: set[str]) -> None:
    found = asked(query)
    assert [selector.name for selector in found.selectors] == names
    assert found.groups == groups


def test_matchers_are_labels_and_strings_are_not() -> None:
    assert asked('x{a="b{c=1}",e!~`f`}').selectors == (Selector("x", frozenset({"a", "e"})),)


@pytest.mark.parametrize("query", ["sum(up", "sum(up))", 'up{job="x"', "up}", "(up}"])
def test_a_bracket_that_is_left_open_or_closes_nothing_is_told(query: str) -> None:
    [problem] = problems(query, KNOWN)
    assert query in problem and ("left open" in problem or "closes nothing" in problem)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("vector(1)", "no series"),
        ("sum(streamprobe_gone_total)", "nobody makes streamprobe_gone_total"),
        (
            "streamprobe_first_frame_seconds",
            "nobody makes streamprobe_first_frame_seconds",
        ),  # a histogram has no series of its name
        ('streamprobe_runs_total{phase="ice"}', "streamprobe_runs_total has no label phase"),
        ("sum by (phase) (streamprobe_runs_total)", "nothing there has the label phase"),
    ],
)
def test_what_cannot_be_answered_is_told(query: str, problem: str) -> None:
    assert problem in problems(query, KNOWN)[0]


def test_every_series_of_a_histogram_and_what_a_scrape_makes_is_known() -> None:
    query = (
        'histogram_quantile(0.9, sum by (le, protocol) (rate(streamprobe_first_frame_seconds_bucket{job="x"}[5m])))'
        " / streamprobe_first_frame_seconds_sum / streamprobe_first_frame_seconds_count * up"
    )
    assert problems(query, KNOWN) == []
