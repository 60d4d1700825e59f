"""Indicators, gates and objectives over hand-told runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.export.figures import MEDIA_PURPOSES
from probe.judge import fold, judge, objective_runs
from probe.judge.indicators import MEDIA, Select, measure, quantile, room_start, viewers
from probe.model.clock import MS, NS, Wall
from probe.model.observation import CutOutcome, Freeze, Observation, Role
from probe.model.outcome import Aborted, Done, Failed, Skipped
from probe.model.stage import Phase
from probe.model.verdict import RunResult, Verdict
from probe.scenario.indicators import GATED, INDICATORS
from probe.scenario.produced import Produced
from probe.scenario.schema import Gate, Objective
from tests.judge.story import Story, healthy

ICE = Failed(Phase.ICE, "timeout")
NOW = Wall(0, None)


def value(story: Story, indicator: str, q: str = "", select: Select = Select()) -> float | None:  # noqa: B008 - frozen
    return measure([fold(story.facts)], indicator, q, select).value


# -- quantiles


@pytest.mark.parametrize(
    ("samples", "name", "expected"),
    [
        ([], "p50", None),
        ([5], "p1", 5),
        ([1, 2, 3, 4], "p50", 2),
        ([4, 1, 3, 2], "p75", 3),
        ([1, 2, 3, 4], "p76", 4),
        ([1, 2], "max", 2),
    ],
)
def test_a_quantile_is_the_nearest_rank(samples, name, expected):
    assert quantile(samples, name) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(1, 99))
def test_a_quantile_is_the_smallest_sample_with_that_share_at_or_below_it(samples, q):
    found = quantile(samples, f"p{q}")
    assert found in samples
    assert sum(s <= found for s in samples) * 100 >= q * len(samples)
    assert sum(s < found for s in samples) * 100 < q * len(samples)


# -- ratios


def test_every_indicator_that_a_gate_can_ask_for_can_be_measured():
    result = fold(healthy().finish())
    for name in GATED:
        unit = INDICATORS[name].unit
        assert measure([result], name, "p95" if unit == "seconds" else "").unit == unit


def test_starts_count_done_and_failed_untainted():
    story = Story().publisher().viewer("a").viewer("b", ICE).viewer("c", Skipped("unsupported")).viewer("d", Aborted("bug"))
    story.wait(NS).viewer("e", ICE).unwell(NS // 10, "lag")
    assert value(story, "start") == 0.5
    assert value(story, "publisher_start") == 1
    assert value(story, "taint_ratio") == 1 / 6
    assert (value(story, "attempts"), value(story, "failures")) == (6, 1)


def test_failures_count_sessions_and_service_steps_and_not_the_steps_that_sessions_tell():
    story = Story().viewer("a", ICE).done("view", ICE, kind="view").step("chat", Failed(Phase.CHAT, "not_seen"), service="chat")
    assert value(story, "failures") == 2
    assert value(story, "failures", select=Select(protocol="whep")) == 1


def test_first_frame_is_of_those_that_had_one():
    story = Story().viewer("a", took=100 * MS).viewer("b", took=300 * MS).viewer("c", ICE)
    assert (value(story, "first_frame", "p50"), value(story, "first_frame", "max")) == (0.1, 0.3)


def test_a_selection_takes_one_protocol_or_region():
    story = Story().viewer("a").viewer("b", ICE, "hls").viewer("c", ICE, region="us")
    assert value(story, "start", select=Select(protocol="whep", region="local")) == 1
    assert value(story, "start", select=Select(region="mars")) is None


def test_services_are_judged_by_their_steps():
    story = (
        Story()
        .step("a", service="gift")
        .step("b", Failed(Phase.GIFT, "counted_twice"), service="gift")
        .step("c", Skipped("x"), service="gift")
    )
    assert (value(story, "gift"), value(story, "payment")) == (0.5, None)


def test_cuts_count_for_reconnect_and_their_times_only_where_told():
    story = Story()
    for name in "abc":
        story.begin(name).start(name).cut(name)
    story.resumed("a").resumed("b", CutOutcome.UNAFFECTED, outage=None, reconnect=None).resumed(
        "c", CutOutcome.FAILED, outage=None, reconnect=None
    )
    assert value(story, "reconnect") == 2 / 3
    assert (value(story, "reconnect_seconds", "p95"), value(story, "outage_seconds", "max")) == (1, 3)


def test_crash_free_counts_sessions_with_a_first_frame_up_to_our_own_cut():
    story = Story().viewer("fine").viewer("never", ICE)
    story.begin("crashed").start("crashed").crash("crashed")
    story.begin("cut").start("cut").cut("cut").wait(NS).crash("cut")
    story.begin("ours").start("ours").end("ours", Aborted("bug"), "")
    story.begin("flying").start("flying")
    story.begin("unwell").start("unwell").window("unwell").wait(NS).unwell(NS, "lag").crash("unwell")
    assert value(story, "crash_free") == 2 / 3
    assert measure([fold(story.facts)], "crash_free").n == 3


def test_of_a_picture_that_was_away_at_the_end_neither_crash_nor_return_nor_outage_is_known():
    story = Story().viewer("fine").begin("x").start("x").wait(4 * NS).away("x", 3 * NS)
    assert measure([fold(story.facts)], "crash_free").n == 1
    assert measure([fold(story.facts)], "reconnect").n == 0
    assert measure([fold(story.facts)], "outage_seconds", "max").n == 0


def test_latencies_count_up_to_our_own_cut():
    story = Story().begin("a").start("a").window("a", 0.1, 0.2).cut("a").window("a", 9.0)
    assert value(story, "e2e_latency", "max") == 0.2
    assert value(Story().begin("a").start("a").cut("a", "drop").window("a", 9.0), "e2e_latency", "max") == 9.0


def test_latency_leaves_out_the_seconds_in_which_the_probe_was_unwell():
    story = Story().begin("a").start("a").window("a", 0.1).wait(NS).window("a", 3.0).unwell(NS // 2, "loop_lag")
    assert value(story.window("a", 0.2), "e2e_latency", "max") == 0.2


def frozen(*, buffered: bool = False, rule: str = "w3c", taint: bool = False, cut: bool = False) -> float | None:
    """Ten seconds of viewing with one second frozen in the middle."""
    story = Story().begin("a", buffered=buffered).start("a").wait(5 * NS)
    story._tell(Freeze(began=story.clock.now() - NS, took=NS, rule=rule), "a")
    if taint:
        story.unwell(NS, "lag")
    if cut:
        story.cut("a")
    return value(story.wait(5 * NS).end("a"), "freeze_ratio")


def test_freezing_is_a_share_of_the_time_watched():
    assert frozen() == 0.1
    assert frozen(cut=True) == 0.2
    assert frozen(taint=True) == 0
    assert frozen(rule="fixed_500ms") == 0
    assert frozen(buffered=True, rule="rebuffer") == 0.1
    assert value(Story().begin("a"), "freeze_ratio") is None
    assert value(Story().begin("a").start("a").window("a"), "freeze_ratio") == 0


def test_an_edge_that_knows_no_delete_has_failed_no_media_request():
    """A goodbye answered 405 through a CDN was once an edge error of WHEP; an FLV refused by one was in no metric."""
    story = Story().begin("v").start("v").request("v", 405, purpose="whep end").request("v", 201, purpose="whep")
    story.begin("f", "http-flv").request("f", 503, purpose="http-flv")
    assert value(story, "edge_errors") == 1.0
    assert value(story, "edge_errors", select=Select(protocol="whep")) is None
    assert MEDIA == MEDIA_PURPOSES


def test_edge_errors_are_of_media_requests_up_to_our_own_cut():
    story = (
        Story()
        .begin("a")
        .start("a")
        .request("a")
        .request("a", 503)
        .request("a", 0, edge="")
        .request("a", edge="", purpose="signal")
    )
    story.request("a", failure=Failed(Phase.SEGMENT, "empty")).cut("a").wait(1).request("a", 500)
    assert value(story, "edge_errors") == 0.75


# -- room start


def start(story: Story) -> str:
    outcome, taints = room_start(fold(story.facts))
    return ("in_flight" if outcome is None else outcome.kind) + ("~" if taints else "")


def path(login: object = None, *, publisher: object = None) -> Story:
    story = Story().step("login", login or Done())  # type: ignore[arg-type]
    return story.publisher(publisher or Done()).done("publish", Done(), kind="publish")  # type: ignore[arg-type]


def viewed(story: Story) -> Story:
    return story.done("view", Done(), kind="view")


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        (viewed(path().viewer("a")), "done"),
        (viewed(path().viewer("a", ICE).viewer("b")), "done"),
        (viewed(path().viewer("a")).step("chat", ICE), "done"),
        (viewed(path().viewer("a").unwell(NS // 10, "lag")), "done~"),
        (viewed(path().viewer("a", ICE).viewer("b", ICE)), "failed"),
        (viewed(path().wait(NS).viewer("a", ICE).unwell(NS // 10, "lag")), "failed~"),
        (viewed(path(ICE)), "failed"),
        (viewed(path(publisher=ICE)), "failed"),
        (viewed(path(Skipped("not_reached")).viewer("a", Aborted("bug"))), "aborted"),
        (viewed(path(publisher=Skipped("unsupported"))), "skipped"),
        (viewed(path().step("extra", ICE, optional=True).viewer("a", Skipped("unsupported"))), "skipped"),
        (viewed(path().viewer("a", ICE, optional=True)), "failed"),
        (viewed(path().wait(NS).viewer("a", ICE, optional=True).unwell(NS // 10, "lag")), "failed~"),
        (path().begin("a").step("view", None, kind="view"), "in_flight"),
        (path().begin("a").start("a").step("view", None, kind="view"), "done"),
        (path(), "in_flight"),
    ],
)
def test_a_room_starts_when_its_publisher_and_a_viewer_do(story, expected):
    assert start(story) == expected


def test_a_journey_that_plans_no_room_starts_none():
    story = Story().step("login")
    story.finish()
    assert start(story) == "skipped"
    assert value(story, "room_start") is None
    assert value(viewed(path().viewer("a")), "room_start") == 1


# -- gates


def gate(when: str, **more: object) -> Gate:
    return Gate.model_validate({"name": "g", "when": when, "action": "hold", "owner": "boss", **more})


def checked(story: Story, *gates: Gate) -> list[tuple[str, Verdict]]:
    checks = judge(fold(story.finish()), gates, NOW).checks
    return [(c.name, c.result) for c in checks if c.name.startswith("g")]


BAD = healthy().viewer("x", ICE).viewer("y", ICE)


@pytest.mark.parametrize(
    ("when", "more", "expected"),
    [
        ("start < 90%", {}, Verdict.FAIL),
        ("start < 90%", {"severity": "warn"}, Verdict.WARN),
        ("start < 50%", {}, Verdict.PASS),
        ("start[10m] < 90% and failures >= 30 for 2m", {}, Verdict.FAIL),
        ("failures >= 30", {}, Verdict.PASS),
        ("failures >= 2", {}, Verdict.FAIL),
        ("start < 90% and attempts >= 100", {}, Verdict.FAIL),
        ("start < 90% and first_frame.p95 > 2s", {}, Verdict.PASS),
        ("start < 90% and e2e_latency.p95 > 2s", {}, Verdict.INCONCLUSIVE),
        ("start > 90% and e2e_latency.p95 > 2s", {}, Verdict.PASS),
        ("start < 90%", {"min_n": 20}, Verdict.INCONCLUSIVE),
    ],
)
def test_a_gate_over_one_run(when, more, expected):
    assert checked(BAD, gate(when, **more)) == [("g", expected)]


def test_a_gate_may_be_asked_of_each_protocol():
    assert checked(BAD, gate("start < 90%", by="protocol")) == [("g/hls", Verdict.PASS), ("g/whep", Verdict.FAIL)]
    assert checked(Story().step("x"), gate("start < 90%", by=["region", "protocol", "publish_region"])) == [
        ("g", Verdict.INCONCLUSIVE)
    ]


def test_a_gate_s_check_says_what_it_stands_on():
    found = judge(fold(BAD.finish()), [gate("start[10m] < 90% and failures >= 3 for 2m")], NOW).checks[-1]
    assert (found.value, found.unit, found.n, found.window, found.threshold) == (
        5 / 7,
        "ratio",
        7,
        "10m",
        "start[10m] < 90% and failures >= 3 for 2m",
    )
    assert (found.owner, found.action, found.region, found.min_n) == ("boss", "hold", "local", 1)


def test_a_verdict_that_only_a_gate_gave_is_explained_by_it():
    judged = judge(fold(healthy().finish()), [gate("first_frame.p95 > 1ms")], NOW)
    assert judged.result is Verdict.FAIL
    assert judged.cause is not None and judged.cause.words == "g: first_frame.p95 > 1ms"
    judged = judge(fold(healthy().finish()), [gate("e2e_latency.p95 > 1ms")], NOW)
    assert judged.cause is not None and judged.cause.words == "g: e2e_latency stands on 0 of at least 1"


# -- objectives


def promised(indicator: str, **bound: str) -> Objective:
    return Objective.model_validate({"name": "o", "indicator": indicator, "target": "99%", "window": "30d", **bound})


def runs(facts: list[Observation] | RunResult, indicator: str, **bound: str) -> dict[str, str]:
    """Judged in the cells of a plan whose viewers are those that came."""
    result = facts if isinstance(facts, RunResult) else fold(facts)
    seen = frozenset(s.protocol for s in viewers(result)) or frozenset({"whep"})
    produced = Produced(published=frozenset({"whip"}), viewed=seen, coded=seen, cut=seen, services=frozenset({indicator}))
    cells = [(promised(indicator, **bound), protocol) for protocol in produced.cells(indicator)]
    return {r.protocol: r.outcome for r in objective_runs(result, cells)}


def test_a_run_is_good_when_every_viewer_of_a_protocol_is():
    assert runs(BAD.facts, "start") == {"whep": "bad", "hls": "good"}
    assert runs(healthy().facts, "start") == {"whep": "good", "hls": "good"}
    assert runs(healthy().facts, "crash_free") == {"whep": "good", "hls": "good"}


def test_a_room_start_needs_one_viewer_and_has_no_protocol():
    assert runs(viewed(path().viewer("a", ICE).viewer("b")).facts, "room_start") == {"": "good"}
    assert runs(viewed(path(ICE)).facts, "room_start") == {"": "bad"}


def test_where_nothing_counts_a_run_is_neither():
    story = Story().viewer("a", Skipped("unsupported")).viewer("b", ICE, "hls").unwell(NS // 10, "lag")
    assert runs(story.facts, "start") == {"hls": "inconclusive", "whep": "inconclusive"}
    assert runs(story.facts, "payment") == {"": "inconclusive"}
    assert runs(story.facts, "reconnect") == {"hls": "inconclusive", "whep": "inconclusive"}


def test_first_frame_counts_failures_as_bad():
    assert runs(Story().viewer("a", took=NS).facts, "first_frame", within="1s") == {"whep": "good"}
    assert runs(Story().viewer("a", took=NS).viewer("b", took=NS + 1).facts, "first_frame", within="1s") == {"whep": "bad"}
    assert runs(Story().viewer("a").viewer("b", ICE).facts, "first_frame", within="1s") == {"whep": "bad"}


def test_latency_is_each_viewer_s_own_quantile():
    story = Story().begin("a").start("a").window("a", *[0.1] * 19, 9.0).begin("b").start("b")
    assert runs(story.facts, "e2e_latency", within="500ms") == {"whep": "good"}
    assert runs(story.window("b", 0.6).facts, "e2e_latency", within="500ms") == {"whep": "bad"}


@pytest.mark.parametrize(
    ("outcome", "outage", "reconnect", "expected"),
    [
        (CutOutcome.RESTARTED, 3 * NS, NS, ("bad", "good")),
        (CutOutcome.UNAFFECTED, None, None, ("good", "good")),
        (CutOutcome.FAILED, None, None, ("bad", "bad")),
        (CutOutcome.RESTARTED, NS, None, ("good", "inconclusive")),
    ],
)
def test_outage_and_reconnect_have_their_own_thresholds(outcome, outage, reconnect, expected):
    facts = Story().begin("a").start("a").cut("a").resumed("a", outcome, outage=outage, reconnect=reconnect).facts
    assert (runs(facts, "outage_seconds", within="2s")["whep"], runs(facts, "reconnect_seconds", within="2s")["whep"]) == expected


def test_a_picture_that_has_been_away_for_too_long_already_is_bad_and_one_that_has_not_is_not_known():
    facts = Story().begin("a").start("a").wait(4 * NS).away("a", 3 * NS).facts
    assert runs(facts, "outage_seconds", within="2s")["whep"] == "bad"
    assert runs(facts, "outage_seconds", within="4s")["whep"] == "inconclusive"


def test_publishers_are_judged_by_their_protocol():
    assert runs(healthy().facts, "publisher_start") == {"whip": "good"}
    assert fold(healthy().facts).sessions[0].role is Role.PUBLISHER


def test_the_judgement_carries_the_objectives():
    cells = [(promised("start"), protocol) for protocol in ("hls", "whep")]
    judged = judge(fold(healthy().finish()), (), NOW, cells=cells)
    assert [(r.slo, r.region, r.publish_region, r.protocol) for r in judged.objectives] == [
        ("o", "local", "local", p) for p in ("hls", "whep")
    ]
