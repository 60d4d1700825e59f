"""What makes a run good, by objective; and that a run counts once in each of its cells, whatever becomes of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.drivers.table import protocols
from probe.export.prometheus import MetricsSink
from probe.export.zeros import series
from probe.judge import fold, judge, objective_runs
from probe.judge.objectives import untold
from probe.model.clock import MS, NS, Wall
from probe.model.ids import new_run_ids
from probe.model.observation import Freeze, Role, Window
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.plan import Plan
from probe.planning import make_plan
from probe.run.judged import count
from probe.scenario.load import loads
from probe.scenario.produced import EDGE_PROTOCOLS
from probe.scenario.schema import Objective
from tests.judge.story import Story, healthy

NOW = Wall(0, None)
ICE = Failed(Phase.ICE, "timeout")
BUSY = Failed(Phase.PLAYLIST, "http_503")
TEXT = """
scenario: story
owner: me
regions: [local, eu]
platform: {url: "http://platform"}
journey:
  - login: {http: POST /login, service: auth}
  - room: {http: POST /rooms, keep: {room: id}}
  - publish: {via: whip, url: "/rooms/${room}/whip"}
  - view: [{via: whep}, {via: hls}]
  - chat: {websocket: "/rooms/${room}/chat", send: "hello ${run.id}", seen_by: viewers}
  - gift: {http: POST /gifts}
  - payment: {http: POST /payments}
  - moderate: {http: POST /flags, service: moderation}
  - cut: {of: whep, kind: rebind, for: 2s}
objectives:
  - {name: room-start, indicator: room_start, target: 99%, window: 30d}
  - {name: start, indicator: start, target: 99%, window: 30d}
  - {name: live, indicator: publisher_start, target: 99%, window: 30d}
  - {name: first-frame, indicator: first_frame, within: 2s, target: 95%, window: 30d}
  - {name: back, indicator: reconnect, target: 95%, window: 30d}
  - {name: soon-back, indicator: reconnect_seconds, within: 3s, target: 95%, window: 30d}
  - {name: away, indicator: outage_seconds, within: 5s, target: 95%, window: 30d}
  - {name: crash-free, indicator: crash_free, target: 99%, window: 30d}
  - {name: live-edge, indicator: e2e_latency, within: 1s, target: 95%, window: 30d}
  - {name: smooth, indicator: freeze_ratio, at_most: 2%, target: 95%, window: 30d}
  - {name: sharp, indicator: bitrate, at_least: 400kbps, target: 95%, window: 30d}
  - {name: edge-success, indicator: edge_errors, at_most: 1%, target: 99%, window: 30d}
  - {name: login, indicator: auth, target: 99%, window: 30d}
  - {name: rooms, indicator: room, target: 99%, window: 30d}
  - {name: payments, indicator: payment, target: 99%, window: 30d}
  - {name: chat, indicator: chat, target: 99%, window: 30d}
  - {name: gifts, indicator: gift, target: 99%, window: 30d}
  - {name: flags, indicator: moderation, target: 99%, window: 30d}
  - {name: probe-well, indicator: taint_ratio, at_most: 20%, target: 95%, window: 30d}
  - {name: made, indicator: coverage, target: 95%, window: 30d}
  - {name: europe, indicator: start, target: 90%, window: 30d, regions: eu}
  - {name: whep-start, indicator: start, target: 90%, window: 30d, protocols: whep}
"""
SCENARIO = loads(TEXT, env={})
PLAN = make_plan(SCENARIO, "local", 1, new_run_ids(0, random.Random(0)), mode="scheduled")


def told(story: Story, name: str) -> dict[str, str]:
    """Outcomes of one objective by protocol."""
    return {run.protocol: run.outcome for run in objective_runs(fold(story.facts), PLAN.cells) if run.slo == name}


# -- cells


def test_a_plan_knows_its_cells_from_what_its_journey_does():
    cells: dict[str, list[str]] = {}
    for objective, protocol in PLAN.cells:
        cells.setdefault(objective.name, []).append(protocol)
    assert cells["room-start"] == cells["payments"] == cells["probe-well"] == [""]
    assert cells["start"] == cells["smooth"] == ["hls", "whep"]
    assert cells["live"] == ["whip"]
    assert cells["back"] == cells["soon-back"] == ["whep"]  # nobody cuts those of HLS
    assert cells["edge-success"] == ["hls"]  # WebRTC has no requests to edges
    assert cells["whep-start"] == ["whep"]
    assert "made" not in cells  # of the inventory, not of a run
    assert "europe" not in cells
    there = make_plan(SCENARIO, "eu", 1, new_run_ids(0, random.Random(0)))
    assert [p for o, p in there.cells if o.name == "europe"] == ["hls", "whep"]


def test_every_series_of_objectives_stands_at_zero_before_a_run_and_none_is_born_by_one():
    declared = {tuple(sorted(labels.items())) for name, labels in series(PLAN, {}) if name == "objective_runs_total"}
    assert len(declared) == 3 * len(PLAN.cells)
    sink = MetricsSink()
    result = fold(healthy().finish())
    count(sink, result, judge(result, (), NOW, cells=PLAN.cells))
    began = {"scenario": "story", "mode": "smoke", "publish_region": "local", "region": "local"}
    born = {key for key in _counted(sink) if dict(key).items() >= began.items()}
    assert {tuple(sorted({**dict(key), "mode": "scheduled"}.items())) for key in born} <= declared


# -- the invariant

_OUTCOMES = st.sampled_from([Done(), ICE, BUSY, Skipped("unsupported"), Aborted("bug"), Cancelled(), None])


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """A run that went however it went: cut off anywhere, unwell or not, with or without its viewers."""
    story = Story(mode="scheduled")
    for name, service in (("login", "auth"), ("room", "room")):
        story.step(name, draw(_OUTCOMES), service=service)
    if draw(st.booleans()):
        story.begin("p", "whip", role=Role.PUBLISHER).start("p")
        story.done("publish", Done(), kind="publish")
    for i in range(draw(st.integers(0, 4))):
        session, protocol = f"v{i}", draw(st.sampled_from(["whep", "hls", "dash"]))  # dash: not planned at all
        story.begin(session, protocol)
        if draw(st.booleans()):
            story.start(session, draw(st.integers(1, 4)) * NS)
            story.window(session, draw(st.floats(0.01, 3)))
            if draw(st.booleans()):
                story.request(session, draw(st.sampled_from([200, 503])))
            if draw(st.booleans()):
                story.cut(session)
            story.end(session) if draw(st.booleans()) else story.crash(session)
        elif (outcome := draw(_OUTCOMES)) is not None:
            story.end(session, outcome, "")
        if draw(st.booleans()):
            story.unwell(NS, "loop_lag")
    for service in ("chat", "gift", "payment", "moderation"):
        if draw(st.booleans()):
            story.step(service, draw(_OUTCOMES), service=service)
    if draw(st.booleans()):
        ends: tuple[Outcome, ...] = (Done(), Aborted("bug"), Cancelled())
        story.finish(draw(st.sampled_from(ends)))
    return story


def _counted(sink: MetricsSink) -> Counter[tuple[tuple[str, str], ...]]:
    found: Counter[tuple[tuple[str, str], ...]] = Counter()
    for family in sink.registry.collect():
        for sample in family.samples:
            if sample.name == "streamprobe_objective_runs_total":
                found[tuple(sorted(sample.labels.items()))] += int(sample.value)
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(stories(), min_size=1, max_size=3), st.integers(0, 1), st.integers(0, 1))
def test_every_scheduled_run_counts_exactly_once_in_each_cell(made: list[Story], unjudged: int, lost: int):
    """Judged, not judged by a bug of ours, or lost with its worker: the outcomes of each cell add up to the runs."""
    sink = MetricsSink()
    for story in made:
        result = fold(story.facts)
        count(sink, result, judge(result, (), NOW, cells=PLAN.cells))
    broken = fold(Story(mode="scheduled").facts)
    for _ in range(unjudged):
        judgement = replace(judge(broken, (), NOW), objectives=tuple(untold(broken, PLAN.cells)))
        count(sink, broken, judgement)
    for _ in range(lost):
        sink.count_unjudged(PLAN)
    cells: Counter[tuple[str, str]] = Counter()
    for labels, value in _counted(sink).items():
        one = dict(labels)
        assert one["mode"] == "scheduled"
        cells[one["slo"], one["protocol"]] += value
    assert cells == {(o.name, p): len(made) + unjudged + lost for o, p in PLAN.cells}


def test_viewers_that_never_came_to_try_are_inconclusive_and_not_absent():
    story = Story().step("login", Failed(Phase.AUTH, "http_401"), service="auth")
    for name, kind in (("publish", "publish"), ("view", "view")):
        story.done(name, Skipped("not_reached"), kind=kind)
    story.finish()
    assert told(story, "start") == {"hls": "inconclusive", "whep": "inconclusive"}
    assert told(story, "first-frame") == {"hls": "inconclusive", "whep": "inconclusive"}
    assert told(story, "room-start") == {"": "bad"}  # whatever fails on the way is a room that did not start
    assert told(story, "login") == {"": "bad"}
    assert told(story, "gifts") == {"": "inconclusive"}


# -- what is good


def test_a_first_frame_objective_counts_failures_as_bad():
    assert told(Story().viewer("a").viewer("b", ICE), "first-frame")["whep"] == "bad"
    assert told(Story().viewer("a", took=2 * NS), "first-frame")["whep"] == "good"
    assert told(Story().viewer("a", took=2 * NS + MS), "first-frame")["whep"] == "bad"


def _frozen(share: float) -> Story:
    story = Story().begin("a").start("a").wait(10 * NS)
    story._tell(Freeze(began=story.clock.now() - 5 * NS, took=int(share * 10 * NS), rule="w3c"), "a")
    return story.end("a")


@pytest.mark.parametrize(("share", "expected"), [(0.0, "good"), (0.02, "good"), (0.021, "bad")])
def test_a_freeze_objective_holds_each_viewer_s_share_of_frozen_time(share: float, expected: str):
    assert told(_frozen(share), "smooth") == {"whep": expected, "hls": "inconclusive"}


def test_one_frozen_viewer_of_many_makes_the_run_bad():
    story = _frozen(0.5)
    for name in "bcdefghij":
        story.begin(name).start(name).wait(10 * NS).end(name)
    assert told(story, "smooth")["whep"] == "bad"


def _sent(story: Story, session: str, bits: int, media: float = 1.0) -> Story:
    story.clock.advance(NS)
    story._tell(Window(took=NS, decoded=30, verified=30, bytes=bits // 8, media_seconds=media), session)
    return story


def test_a_bitrate_floor_is_of_all_a_viewer_was_sent_and_not_of_a_second():
    story = Story().begin("a").start("a")
    assert told(_sent(_sent(story, "a", 700_000), "a", 100_000), "sharp")["whep"] == "good"
    assert told(_sent(story, "a", 300_000), "sharp")["whep"] == "bad"
    assert told(Story().begin("a").start("a").wait(NS), "sharp")["whep"] == "inconclusive"


def test_a_bitrate_is_bits_of_media_time_up_to_our_own_cut_and_without_seconds_of_an_unwell_probe():
    story = _sent(Story().begin("a").start("a"), "a", 2_400_000, media=6.0)  # a segment of six seconds in one
    assert told(story, "sharp")["whep"] == "good"
    _sent(story, "a", 8).unwell(NS, "loop_lag")
    assert told(story, "sharp")["whep"] == "good"
    assert told(_sent(story.wait(NS).cut("a"), "a", 8), "sharp")["whep"] == "good"
    assert told(_sent(story.wait(NS), "a", 8), "sharp")["whep"] == "good"


def test_an_edge_objective_allows_a_share_of_the_requests_to_fail():
    story = Story().begin("a", "hls").start("a")
    for _ in range(99):
        story.request("a")
    assert told(story.request("a", 503), "edge-success") == {"hls": "good"}
    assert told(story.request("a", 503), "edge-success") == {"hls": "bad"}
    assert told(Story().begin("a", "hls").request("a", purpose="auth"), "edge-success") == {"hls": "inconclusive"}


def test_tainted_attempts_count_in_the_taint_objective_alone():
    story = Story().viewer("a").wait(NS).viewer("b").unwell(NS // 10, "loop_lag")
    assert told(story, "probe-well") == {"": "bad"}  # one of two
    assert told(story, "start")["whep"] == "good"
    for name in "cdef":
        story.wait(NS).viewer(name)
    assert told(story, "probe-well") == {"": "good"}  # one of six
    assert told(Story().step("login", service="auth"), "probe-well") == {"": "inconclusive"}


@pytest.mark.parametrize(
    ("name", "service"),
    [("payments", "payment"), ("chat", "chat"), ("gifts", "gift"), ("flags", "moderation"), ("rooms", "room"), ("login", "auth")],
)
def test_a_service_s_objective_goes_by_its_steps(name: str, service: str):
    assert told(Story().step("x", service=service), name) == {"": "good"}
    assert told(Story().step("x", service=service).step("y", ICE, service=service), name) == {"": "bad"}
    assert told(Story().step("x", Skipped("not_reached"), service=service), name) == {"": "inconclusive"}


# -- one truth of what is measured


def test_protocols_with_edges_are_viewers_protocols_whose_media_are_requests_of_their_own():
    viewers = set(protocols(Role.VIEWER))
    assert viewers >= EDGE_PROTOCOLS
    assert viewers - EDGE_PROTOCOLS == {"whep", "rtmp", "srt", "ws-flv"}, "a new protocol is on one side or the other"


def _plan(text: str) -> Plan:
    return make_plan(loads(text, env={}), "local", 1, new_run_ids(0, random.Random(0)))


def test_an_objective_that_the_file_admits_has_a_cell_in_the_plan():
    for objective in SCENARIO.objectives:
        planned = [p for o, p in PLAN.cells if o.name == objective.name]
        assert planned or objective.indicator == "coverage" or "local" not in (objective.regions or ("local",))


def test_an_objective_says_in_words_what_it_is_for():
    assert {o.name: o.meaning for o in SCENARIO.objectives}["sharp"] == "every viewer was sent at least 400kbps of media"
    assert (
        Objective.model_validate(
            {"name": "a", "indicator": "payment", "target": "99%", "window": "30d", "service": "checkout"}
        ).of_service
        == "checkout"
    )
