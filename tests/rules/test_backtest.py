"""Patterns of failures do what their words say; rules over them find what is there; scores are what was counted."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from probe.model.clock import NS
from probe.rules.alerts import alerts
from probe.rules.backtest import GATES, OURS, Panel, Question, Result
from probe.rules.backtest_page import backtest_html
from probe.rules.backtest_report import Report, document, lasting, rounded, sentence
from probe.rules.conditions import Scope
from probe.rules.fleet import Fleet, Severity
from probe.rules.gathered import Cell, gathered
from probe.rules.history import About, History, Incident, Needs, Place, Seen, Series
from probe.rules.patterns import MONDAY, PATTERNS, parse_pattern
from probe.rules.recorded import Recorded, recorded
from probe.rules.replay import INTERVAL, Firing
from probe.rules.rivals import RIVALS
from probe.rules.score import score, total
from probe.rules.simulate import simulate
from probe.rules.told import Notice, Told, heard, in_a_row, notices, quieted
from probe.scenario.gates import parse_gate
from tests.rules.fleets import DAY, HOUR, MINUTE, fleet, two_ingests

DAYS = 6.0


def asked(made: Fleet, *patterns: str, days: float = DAYS, targets: tuple[float | None, ...] = (None,)) -> Report:
    panel = Panel(Question(fleet=made, rules=alerts, targets=targets))
    results: list[Result] = []
    budgets = []
    for text in patterns:
        more, spent = panel.over(simulate(made, parse_pattern(text), days=days, seed=3))
        results += more
        budgets += spent
    return Report(
        fleet=made.name, days=days, seed=3, interval=INTERVAL, targets=targets, results=tuple(results), budgets=tuple(budgets),
        spoken={name: rules.spoken for (name, _), rules in panel.rulesets.items()}, unreplayed=panel.unreplayed,
    )  # fmt: skip


def result(report: Report, rules: str) -> Result:
    return next(r for r in report.results if r.rules == rules)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_the_same_for_the_same_seed_and_its_truths_lie_within_the_month(name: str) -> None:
    made = two_ingests(every=10 * MINUTE)
    first, again, other = (simulate(made, parse_pattern(name), days=14, seed=seed) for seed in (7, 7, 8))
    for slo in made.slos:
        for a, b in zip(first.series[slo.name], again.series[slo.name], strict=True):
            assert (a.outcomes == b.outcomes).all() and (a.times == b.times).all()
    assert first.incidents == again.incidents is not None
    assert first.incidents is not None and (other.incidents != first.incidents or name == "noise")
    assert all(first.judged <= one.began < one.ended <= first.ended for one in first.incidents)
    assert len(first.incidents) == {"noise": 0, "deploys": 1, "campaign-night": 2}.get(name, PATTERNS[name].given.times)


def test_figures_of_a_pattern_can_be_changed_and_patterns_joined() -> None:
    chosen = parse_pattern("slow-burn:loss=5%,lasts=3d,times=2+noise:noise=0.2%")
    (burn, given), (noise, quiet) = chosen.parts
    assert (burn.name, noise.name, given.loss, given.lasts, given.times, quiet.noise) == (
        "slow-burn",
        "noise",
        0.05,
        3 * DAY,
        2,
        0.002,
    )
    assert "5% of runs" in chosen.spoken and "2 × 3d" in chosen.spoken
    history = simulate(fleet(), chosen, days=14, seed=1)
    assert history.incidents is not None and len(history.incidents) == 2 and history.name == chosen.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("regon-down", "did you mean region-down?"),
        ("xyz", "there are region-down"),
        ("noise:loud=1%", "a pattern has no 'loud'"),
        ("deploys:times=many", "write times=3"),
        ("deploys:times=100000", "write times=3"),
        ("deploys:lasts=5", "is not a duration"),
        ("deploys:lasts=0s", "longer than nothing"),
        ("deploys:loss=200%", "is not a ratio"),
    ],
)
def test_a_pattern_that_is_none_is_told_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_pattern(text)


def test_where_only_an_ingest_is_broken_one_page_names_it_and_viewers_that_never_came_are_not_bad() -> None:
    report = asked(two_ingests(), "ingest-down:times=1,noise=0%")
    ours = result(report, OURS)
    assert ours.history.incidents is not None
    (truth,) = ours.history.incidents
    (page,) = ours.pages
    assert page.slo == "room-start" and page.region == truth.place.publish_region
    assert page.places == (Place(publish_region=truth.place.publish_region),)
    assert ours.score.missed == ours.score.false_pages == 0
    first_frames = [s for s in ours.history.series["first-frame"] if s.cell.publish_region == truth.place.publish_region]
    assert all(Seen.BAD not in s.outcomes and Seen.NONE in s.outcomes for s in first_frames)
    assert sum(len(r.pages) for r in report.results if r.rules == "3-in-a-row") == 3  # one for each viewing region


def test_what_the_probe_does_to_itself_is_no_page_for_us_and_one_for_who_knows_nothing_of_taint() -> None:
    report = asked(two_ingests(), "brown-out:times=1,noise=0%", "agent-silent:times=1,noise=0%")
    brown, silent = report.histories
    for history in (brown, silent):
        ours = report.of(history, OURS, None)
        assert ours.score.missed == 0 and ours.score.false_pages == 0
    assert not report.of(brown, OURS, None).pages and report.of(brown, OURS, None).tickets
    assert report.of(brown, "below-95", None).score.false_pages
    assert report.of(silent, "below-95", None).score.missed == 1 and not report.of(silent, "below-95", None).pages
    assert {page.slo for page in report.of(silent, OURS, None).pages} == {"probe"}


def test_single_failures_wake_nobody_but_who_pages_by_a_short_window() -> None:
    report = asked(two_ingests(), "noise:noise=0.3%")
    assert not result(report, OURS).pages and not result(report, GATES).pages
    assert result(report, "below-95").score.false_pages == len(result(report, "below-95").pages) > 20


def test_gates_close_for_a_region_that_is_down_and_open_again() -> None:
    gates = result(asked(two_ingests(), "region-down:times=2,noise=0%"), GATES)
    assert gates.score.missed == 0 and gates.score.incidents == 2
    assert all(page.ended is not None for page in gates.pages)


def test_a_stricter_target_finds_a_slow_burn_sooner_and_static_thresholds_are_asked_once() -> None:
    report = asked(fleet(), "slow-burn:lasts=3d,noise=0%", days=8, targets=(0.98, 0.995))
    soon, late = report.total(OURS, 0.995), report.total(OURS, 0.98)
    assert soon.found_in is not None and (late.found_in is None or soon.found_in < late.found_in)
    assert [row for row in report.rows if row[0] == "below-95"] == [("below-95", None)]
    assert {b.target: b.spent["room-start"] for b in report.budgets}[0.995] > 1
    assert "ours at 99.5%" in [report.label(*row) for row in report.rows]
    assert report.label("below-95", None) == "below-95"


def shadowed(made: Fleet) -> Fleet:
    return replace(made, slos=(replace(made.slos[0], shadow=True), *made.slos[1:]))


def test_an_alert_in_shadow_pages_nobody_and_is_counted_apart() -> None:
    report = asked(shadowed(two_ingests()), "region-down:times=1,noise=0%")
    ours = result(report, OURS)
    assert "room-start" not in {page.slo for page in ours.pages}
    assert {notice.slo for notice in ours.shadow} == {"room-start"}
    (history,) = document(report)["histories"]
    assert history["results"][0]["would_have"]


# -- scores


EU = Place(region="eu")


def notice(began: int, ended: int | None, place: Place = EU, about: About = About.PLATFORM) -> Notice:
    return Notice(slo="s", region=place.region, about=about, places=(place,), alerts=("a",), began=began, ended=ended)


def truth(began: int, ended: int, needs: Needs = Needs.PAGE, about: About = About.PLATFORM) -> Incident:
    return Incident(name="x", began=began, ended=ended, place=Place(region="eu"), needs=needs, about=about)


def known(incidents: Sequence[Incident] | None) -> History:
    truths = None if incidents is None else tuple(incidents)
    return History(name="h", began=0, ended=14 * DAY, judged=7 * DAY, beats=(), series={}, incidents=truths)


def test_a_page_elsewhere_or_about_the_probe_finds_nothing_and_is_false() -> None:
    pages = [notice(10, 20, Place(region="us")), notice(10, 20, about=About.PROBE), notice(5 * HOUR, None)]
    found = score(known([truth(0, HOUR)]), pages, [])
    assert (found.incidents, found.missed, found.false_pages, found.pages_a_week) == (1, 1, 3, 3)


def test_a_page_after_the_incident_finds_it_no_more_but_is_not_false_for_half_an_hour() -> None:
    found = score(known([truth(0, HOUR)]), [notice(HOUR + 20 * MINUTE, None)], [])
    assert (found.missed, found.false_pages, found.took) == (1, 0, ())


def test_a_ticket_is_enough_where_triage_is_asked_for_and_not_where_a_page_is() -> None:
    ticket = notice(HOUR, 5 * HOUR)
    found = score(known([truth(0, 4 * HOUR, Needs.TRIAGE)]), [], [ticket])
    assert (found.missed, found.took, found.lingered, found.tickets) == (0, (HOUR,), (HOUR,), 1)
    assert score(known([truth(0, 4 * HOUR)]), [], [ticket]).missed == 1
    assert score(known([truth(0, 4 * HOUR, Needs.NOBODY)]), [ticket], []).false_pages == 1


def test_where_nobody_knows_what_was_true_no_page_is_called_false() -> None:
    found = score(known(None), [notice(0, 1)], [])
    assert (found.incidents, found.missed, found.false_pages, found.pages) == (None, None, None, 1)
    assert total([found]).incidents is None and sentence(found) == "1 pages a week"
    both = total([found, score(known([truth(0, HOUR)]), [notice(60, 70)], [])])
    assert (both.incidents, both.missed, both.pages, both.weeks) == (1, 0, 2, 2)


def told(began: int, ended: int | None, slo: str = "s", severity: Severity = Severity.P1) -> Told:
    return Told(
        alert="a", slo=slo, region="eu", severity=severity, about=About.PLATFORM, place=Place(), shadow=False,
        firing=Firing(began, began, ended),
    )  # fmt: skip


def test_what_returns_within_five_minutes_is_the_same_page_and_a_page_keeps_its_ticket_quiet() -> None:
    said = [told(0, 10), told(10 + 4 * MINUTE, 5 * MINUTE), told(HOUR, None), told(0, None, "other")]
    pages = notices(said, Severity.P1)
    assert [(p.slo, p.began) for p in pages] == [("other", 0), ("s", 0), ("s", HOUR)]
    tickets = notices([told(20, None, severity=Severity.P2), told(20, None, "third", Severity.P2)], Severity.P2)
    assert [t.slo for t in quieted(tickets, pages)] == ["third"]


def test_what_outlasts_the_page_of_a_room_that_does_not_start_is_told_then() -> None:
    def of(name: str, began: int, ended: int | None, region: str = "eu", publish: str = "") -> Told:
        slo, place = name.removesuffix("Page").removeprefix("RoomStart").lower(), Place(publish_region=publish)
        return replace(told(began, ended, slo), alert=name, region=region, place=place)

    page, frame = "RoomStartPage", "RoomStartFirstFramePage"

    def left(*said: Told, of_alert: str = frame) -> list[tuple[int, int | None]]:
        kept = heard(said, alerts(two_ingests()))
        assert [one for one in kept if one.alert == page] == [one for one in said if one.alert == page]
        return [(one.firing.began, one.firing.ended) for one in kept if one.alert == of_alert]

    assert left(of(page, 0, 100), of(frame, 10, 90), of(frame, 20, 100)) == []
    assert left(of(page, 0, None), of(frame, 10, None)) == []
    assert left(of(page, 0, 100), of(page, 100, 150), of(frame, 10, 200), of(frame, 20, None)) == [(150, 200), (150, None)]
    assert left(of(frame, 0, 90), of(page, 10, 100)) == [(0, 90)]
    assert left(of(page, 0, 9), of(frame, 10, 90)) == [(10, 90)]
    assert left(of(page, 0, None, "all"), of(frame, 10, 90), of(frame, 10, 90, "us", "us")) == []
    assert left(of(page, 0, None, "us", "us"), of(frame, 10, 90, "us"), of(frame, 10, 80, "us", "us")) == [(10, 90)]
    assert left(of(page, 0, None), of(frame, 10, 90, "us"), of(frame, 10, 80, "all")) == [(10, 90), (10, 80)]
    assert left(of(page, 0, None), of("RoomStartPaymentsPage", 10, 90), of_alert="RoomStartPaymentsPage") == [(10, 90)]


def test_failures_in_a_row_count_across_runs_that_say_nothing() -> None:
    made = fleet()
    outcomes = [Seen.BAD, Seen.NONE, Seen.BAD, Seen.TAINTED_BAD, Seen.GOOD, Seen.BAD, Seen.BAD, Seen.BAD]
    times = np.array([MONDAY + n * MINUTE for n in range(1, 9)])
    history = simulate(made, parse_pattern("noise"), days=1, seed=1)
    found = in_a_row(Series(made.slos[0].cells[0], times, np.array(outcomes, dtype=np.int8)), history.grid(INTERVAL), 3)
    assert [(f.began - MONDAY, f.ended and f.ended - MONDAY) for f in found] == [(4 * MINUTE, 5 * MINUTE), (8 * MINUTE, None)]


# -- the picture


def test_the_picture_stands_alone_and_says_who_was_woken() -> None:
    report = asked(two_ingests(), "region-down:times=1", "noise", days=4, targets=(0.99, 0.995))
    html = backtest_html(report)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html and "<script" not in html and "://" not in html
    for words in ("ours at 99.5%", "1 of 1 incidents found", "nothing starts for viewers in one region", "What this stands on"):
        assert words in html
    for number in re.findall(r'(?:x|width)="(-?[0-9.]+)%"', html):
        assert 0 <= float(number) <= 100


def test_names_of_a_fleet_are_escaped_and_gates_that_were_left_out_are_named() -> None:
    made = replace(fleet(), name="<b>fleet</b>")
    report = replace(asked(made, "noise", days=2), unreplayed={"s/gate": "no objective <i>"})
    html = backtest_html(report)
    assert "<b>fleet" not in html and "&lt;b&gt;fleet" in html and "s/gate is left out: no objective &lt;i&gt;" in html


def test_of_recorded_runs_the_picture_and_the_document_claim_no_truth() -> None:
    report = asked(two_ingests(), "region-down:times=1", days=4)
    bare = {id(r.history): replace(r.history, incidents=None) for r in report.results}
    results = tuple(
        replace(r, history=bare[id(r.history)], score=score(bare[id(r.history)], r.pages, r.tickets)) for r in report.results
    )
    budgets = tuple(replace(b, history=bare[id(b.history)]) for b in report.budgets)
    report = replace(report, results=results, budgets=budgets, seed=None)
    html = backtest_html(report)
    assert "not known of recorded runs" in html and "How soon" not in html
    made = document(report)
    assert "seed" not in made and "incidents" not in made["histories"][0] and "false_pages" not in made["totals"][0]


def test_the_document_holds_every_result_with_its_notices() -> None:
    made = document(asked(two_ingests(), "region-down:times=1", days=4))
    assert set(made["rules"]) == {OURS, GATES, "below-95", "3-in-a-row", "sloth", "sloth-split"}
    (history,) = made["histories"]
    (incident,) = history["incidents"]
    assert incident["needs"] == "page" and incident["about"] == "platform"
    ours = history["results"][0]
    assert ours["rules"] == OURS and ours["found_seconds"]["n"] == 1 and ours["paged"][0]["began_at"] > incident["began_at"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(45, "45 s"), (119, "119 s"), (120, "2 min"), (234, "3.9 min"), (7200, "2 h"), (10 * 86400, "10 d")]
)
def test_durations_are_said_as_people_do(seconds: int, said: str) -> None:
    assert lasting(seconds * 10**9) == said


def test_small_figures_keep_two_digits() -> None:
    assert [rounded(v) for v in (0, 0.123, 3.14, 12.6, 345.0)] == ["0", "0.12", "3.1", "13", "345"]


def test_what_can_wait_by_its_objective_pages_by_no_ruleset() -> None:
    made = fleet()
    first, *rest = made.slos
    panel = Panel(Question(fleet=replace(made, slos=(replace(first, page=False), *rest), gates=()), rules=alerts))
    for (name, _), ruleset in panel.rulesets.items():
        paging = {alert.slo.name for alert in ruleset.alerts if alert.slo and alert.severity is Severity.P1}
        assert first.name not in paging | {slo.name for slo in ruleset.slos}, name
        assert "payments" in paging | {slo.name for slo in ruleset.slos}, name


def test_rivals_are_asked_by_name() -> None:
    panel = Panel(Question(fleet=fleet(), rules=alerts, against=("sloth",)))
    assert {name for name, _ in panel.rulesets} == {OURS, GATES, "sloth", "sloth-split"} and set(RIVALS) == {"static", "sloth"}


# -- what is left over


def test_where_no_objective_watches_the_probe_its_own_alert_tells_of_taint() -> None:
    made = two_ingests()
    bare = replace(made, slos=tuple(slo for slo in made.slos if slo.service != "probe"))
    ours = result(asked(bare, "brown-out:times=1,noise=0%"), OURS)
    assert ours.score.missed == 0 and {name for ticket in ours.tickets for name in ticket.alerts} == {"ProbeTainted"}


def test_a_gate_that_cannot_be_replayed_is_left_out_and_named() -> None:
    made = fleet()
    blind = made.gates[0][1].model_copy(update={"name": "blind", "when": parse_gate("e2e_latency.p95[10m] > 5s")})
    report = asked(replace(made, gates=(*made.gates, ("room-start", blind))), "noise", days=1)
    assert list(report.unreplayed) == ["room-start/blind"]


def test_a_month_too_short_for_a_deploy_has_none() -> None:
    history = simulate(fleet(), parse_pattern("deploys:lasts=30d"), days=3, seed=1)
    assert history.incidents == ()


def test_cells_that_cannot_be_told_apart_by_region_are_everywhere() -> None:
    pooled = alerts(two_ingests())[0]
    pooled = replace(pooled, cells=("protocol",), scopes=(Scope.EVERYWHERE,))
    flags = np.array([False, True, False])
    cells = [Cell({"protocol": name}, flags & on, flags * 1.0) for name, on in (("whep", True), ("hls", False))]
    ((labels, place, found),) = gathered(pooled, cells, INTERVAL)
    assert labels == {"region": "all"} and place == Place() and found.tolist() == flags.tolist()
    assert not list(gathered(pooled, [replace(cells[1], bad=flags & False)], INTERVAL))


def test_one_path_alone_is_no_whole_and_what_ran_nowhere_does_not_count() -> None:
    page = replace(alerts(two_ingests())[0], settle=0)
    on, off = np.array([True]), np.array([False])

    def cell(publish: str, region: str, bad: bool, share: float) -> Cell:
        return Cell({"publish_region": publish, "region": region}, on if bad else off, np.array([share]))

    def said(*cells: Cell) -> list[dict[str, str]]:
        return [labels for labels, _, flags in gathered(page, cells, INTERVAL) if flags[0]]

    assert said(cell("eu", "eu", True, 1.0)) == [{"region": "eu"}]
    half = cell("eu", "eu", True, 1.0), cell("eu", "us", False, 0.5)
    assert said(*half, cell("us", "us", False, 0.0)) == [{"region": "eu", "publish_region": "eu"}]
    assert said(*half) == [{"region": "all"}]
    assert said(*half, cell("us", "us", False, float("nan"))) == [{"region": "all"}]
    assert said(cell("eu", "eu", True, 1.0), cell("eu", "us", False, 0.3), cell("us", "us", False, 0.0)) == [{"region": "eu"}]


def test_recorded_runs_take_the_turns_that_were_due_and_what_is_missing_is_silence() -> None:
    made = fleet()
    runs = [
        Recorded(n * MINUTE + (n % 3) * 5 * NS, "room-start", "eu", "eu", {("room-start", ""): Seen.GOOD}, tainted=n == 5)
        for n in range(1, 240)
        if not 100 <= n < 160
    ]
    stranger = Recorded(MINUTE, "other", "eu", "eu", {})
    history = recorded("h", made, [*runs, stranger], 0, 4 * HOUR)
    (eu,) = [beats for beats in history.beats if beats.region == "eu"]
    assert eu.made[:99].all() and not eu.made[101:158].any() and eu.made[160:238].all() and eu.tainted.sum() == 1
    (coverage,) = [one for one in history.series["measured"] if one.cell.region == "eu"]
    assert 58 <= int((coverage.outcomes == Seen.BAD).sum()) <= 62
    whole = {series.cell.region: len(series.times) for series in history.series["room-start"]}
    assert whole == {"eu": len(runs), "us": 0, "apac": 0}
