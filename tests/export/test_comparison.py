"""A comparison as people and programs read it: words, verdict.json, JUnit, console, the report and its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from rich.console import Console

from probe import export
from probe.export.compared_words import headline, name_of, ranked, tallied, words_of
from probe.export.console import plain_lines, summary, verdict_line
from probe.export.forest import forest
from probe.export.junit import junit_xml
from probe.export.report import report_html
from probe.export.results import Evaluation
from probe.export.verdict_json import verdict_document
from probe.judge.compare import compare
from probe.judge.compare_figures import RunFigures
from probe.model.comparison import About, Change, Comparison, Place
from tests.export import sample
from tests.export.compared import HERE, HLS, WHEP, comparison, evaluation, runs

SCHEMA = json.loads((Path(export.__file__).parent / "verdict.schema.json").read_text())


def plain(text: str) -> str:
    return text


def said(found: Comparison, about: About) -> str:
    return next(words_of(one, found) for one in found.differences if one.about == about)


def test_what_is_worse_says_by_how_much_how_sure_that_is_and_where_the_time_goes() -> None:
    assert said(comparison(), WHEP) == (
        "first frame over WHEP is 300 ms slower (95 %: 260 ms to 340 ms, in 64 of 64 pairs of runs): 280 ms before, 580 ms now; "
        "of it signal 300 ms; worse"
    )


def test_what_is_better_says_so_the_same_way() -> None:
    found = compare(runs("1.5", 0.3), runs("1.4", 0.0))
    assert said(found, WHEP).startswith("first frame over WHEP is 300 ms quicker (95 %: 260 ms to 340 ms, in 64 of 64 pairs")
    assert headline(found).startswith("not worse than 1.5: 1 better, ")


def test_what_is_the_same_says_how_far_apart_it_may_be() -> None:
    assert said(comparison(slower=0.0), WHEP) == (
        "first frame over WHEP is the same: 280 ms before, 280 ms now; 95 %: at most 40 ms apart, and 100 ms would matter"
    )


def test_what_cannot_be_told_says_why_and_what_would_tell() -> None:
    words = said(comparison(), HLS)
    assert words.startswith("first frame over HLS cannot be told: 3.28 s before, 4.30 s now; 1.02 s slower")
    assert "and 328 ms would matter; about" in words and words.endswith("runs on each side would tell")
    alone = compare(runs("1.4", 0)[:1], runs("1.5", 0)[:1])
    assert said(alone, WHEP).endswith("; 1 run before and 1 now are too few")
    assert headline(alone) == (
        "whether it is worse than 1.4 cannot be told: 1 run before, 1 now is too few; from 5 runs on each side on a difference "
        "can be shown"
    )


def test_shares_of_runs_are_told_in_runs_and_points() -> None:
    found = comparison(slower=0, noise=0, good=1)
    assert said(found, About("start", "whep")) == (
        "viewers’ start over WHEP: 8 of 8 runs good before, 1 of 8 now; 88 points fewer (95 %: 40 to 98); worse"
    )
    calm = comparison(slower=0, noise=0)
    assert said(calm, About("start", "whep")) == (
        "viewers’ start over WHEP: 8 of 8 runs good before, 8 of 8 now; cannot be told: up to 32 points fewer would look like "
        "this, and 10 would matter"
    )
    back = compare(runs("1.5", 0, good=1), runs("1.4", 0))
    assert "88 points more (95 %: 40 to 98); better" in said(back, About("start", "whep"))
    many = [RunFigures(run_id=str(n), place=HERE, good={About("auth"): True}) for n in range(40)]
    assert said(compare(many, many), About("auth")) == "service auth: 40 of 40 runs good before, 40 of 40 now; the same"


def test_what_looks_worse_and_is_not_shown_is_what_the_headline_says() -> None:
    found = compare(runs("1.4", 0, 0.1)[:4], runs("1.5", 0.5, 0.1)[:4])
    assert found.change is Change.CANNOT_TELL
    assert headline(found).startswith("whether it is worse than 1.4 cannot be told: first frame over WHEP cannot be told: ")
    assert "it looks 500 ms slower" in headline(found)


def test_with_nothing_to_compare_the_headline_says_what_was_missing() -> None:
    found = compare([], runs("1.5", 0))
    assert headline(found) == (
        "whether it is worse than the runs before cannot be told: nothing can be compared (room-start eu → eu: no run before)"
    )
    assert tallied(found) == "nothing can be compared; 0 runs before, 0 now" and forest(found) is None


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (About("e2e_latency", "ll-hls", "rtmp", "android-4g"), "end-to-end latency over LL-HLS of RTMP on android-4g"),
        (About("step_seconds", step="login"), "step login"),
        (About("payment"), "service payment"),
    ],
)
def test_indicators_have_names(about: About, name: str) -> None:
    assert name_of(about) == name


def test_where_there_are_several_places_each_indicator_says_which() -> None:
    us = Place("room-start", "eu", "us")
    two = [*runs("1", 0), *(replace(one, place=us) for one in runs("1", 0))]
    names = {words_of(one, found).split(" is ")[0] for found in [compare(two, two)] for one in found.of(Change.SAME)}
    assert "first frame over WHEP (eu → us)" in names
    other = [*runs("1", 0), *(replace(one, place=Place("b", "eu", "eu")) for one in runs("1", 0))]
    found = compare(other, other)
    assert any("(b, eu → eu)" in words_of(one, found) for one in found.differences)


def test_what_is_worse_stands_first_and_what_tells_nothing_last() -> None:
    order = [one.change for one in ranked(comparison())]
    assert order[0] is Change.WORSE and order[-1] is Change.CANNOT_TELL


# -- the files


@pytest.mark.parametrize(
    "found", [comparison(), comparison(slower=0), compare([], []), compare(runs("a", 0)[:1], runs("b", 1)[:1])]
)
def test_verdict_json_has_all_of_it_and_validates(found: Comparison) -> None:
    document = verdict_document(evaluation(found), plain)
    jsonschema.validate(document, SCHEMA)
    made = document["comparison"]
    assert made["change"] == found.change.value and made["words"] == headline(found)
    assert len(made["differences"]) == len(found.differences)
    assert document["checks"][-1]["name"] == "compare"


def test_verdict_json_gives_programs_numbers() -> None:
    made = verdict_document(evaluation(), plain)["comparison"]["differences"][0]
    assert (made["indicator"], made["protocol"], made["unit"], made["change"]) == ("first_frame", "whep", "seconds", "worse")
    assert (made["shift"], made["low"], made["high"]) == pytest.approx((0.3, 0.26, 0.34))
    assert (made["pairs_larger"], made["pairs"], made["runs_before"], made["runs_after"]) == (64, 64, 8, 8)


def test_without_a_comparison_nothing_is_said_of_one() -> None:
    document = verdict_document(sample.healthy(), plain)
    assert "comparison" not in document and "forest" not in report_html(sample.healthy(), plain)


def test_junit_fails_where_the_comparison_decides_and_only_tells_where_it_does_not() -> None:
    def suite(of: Evaluation) -> ET.Element:
        (found,) = [one for one in ET.fromstring(junit_xml(of, plain)) if one.get("name") == "compared"]
        return found

    decided, advised = suite(evaluation()), suite(evaluation(decides=False))
    assert (decided.get("failures"), advised.get("failures")) == ("2", "0")
    assert decided.get("tests") == "5" and int(decided.get("skipped") or 0) == 2
    assert "worse than 2026.10.9" in (advised.findtext("system-out") or "")


def test_the_console_says_the_whole_and_each_that_is_not_as_it_was() -> None:
    lines = plain_lines(evaluation(comparison(good=1)), plain)
    at = next(i for i, line in enumerate(lines) if line.startswith("compared: worse than 2026.10.9: "))
    assert lines[at].endswith(", and 1 more") and "viewers’ start over WHEP" in lines[at] + lines[at + 1]
    assert lines[at + 2] == "  All runs before are of one occasion."
    calm = plain_lines(evaluation(comparison(slower=0)), plain)
    assert any(
        line.startswith("compared: not worse than 2026.10.9: 2 the same, 2 cannot be told (8 runs before") for line in calm
    )


def test_a_terminal_shows_the_same() -> None:
    console = Console(file=StringIO(), width=300)
    console.print(summary(evaluation(comparison(good=1)), plain))
    assert "compared: worse than 2026.10.9: " in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_verdict_line_gives_the_reason() -> None:
    assert verdict_line(evaluation(), plain).startswith("no-go (fail): worse than it was; ")


def test_the_report_draws_each_against_what_people_feel() -> None:
    page = report_html(evaluation(), plain)
    assert "Compared with 2026.10.9" in page and page.count('<rect class="zone"') == 4
    assert "first frame over WHEP is 300 ms slower" in page.replace("\u00a0", " ")
    assert "All runs before are of one occasion." in page and "1 not comparable" in page


def test_the_picture_is_in_units_of_what_matters_and_ends_at_its_edges() -> None:
    found = comparison(noise=9.0)
    drawn = forest(found)
    assert drawn is not None
    assert [tick.label for tick in drawn.ticks] == ["better", "no difference", "worse"]
    rows = {row.label: row for row in drawn.rows}
    worse = rows["first frame over WHEP"]
    assert worse.state == "worse" and worse.low is not None and worse.low > drawn.zone[0] + drawn.zone[1]
    far = rows["first frame over HLS"]
    assert far.at <= 100 and far.high == 100 and far.beyond == (False, True)
    lone = forest(compare(runs("a", 0)[:1], runs("b", 1)[:1]))
    assert lone is not None and all(row.low is None for row in lone.rows if "WHEP" in row.label and "start" not in row.label)


def test_a_release_that_is_markup_stays_text() -> None:
    found = compare(runs("<script>alert(1)</script>", 0), runs("b", 0.3))
    assert "<script>" not in report_html(evaluation(found), plain)
