"""Observations → result."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.judge import fold, sums
from probe.judge.fold import taints_between
from probe.model.clock import MS, NS
from probe.model.observation import AnswerBegan, Available, CutOutcome, Freeze, HealthSample, Note, StageDone, from_json, to_json
from probe.model.outcome import Done, Failed, Skipped
from probe.model.stage import Phase, Stage
from probe.model.verdict import SessionResult
from tests.judge.story import Story, healthy

ICE = Failed(Phase.ICE, "timeout")


def session(story: Story, name: str) -> SessionResult:
    return next(s for s in fold(story.facts).sessions if s.name == name)


def test_a_whole_run_is_told():
    result = fold(healthy().finish())
    assert isinstance(result.outcome, Done) and result.ended is not None
    assert [s.name for s in result.sessions] == ["p", "w1", "w2", "w3", "h1", "h2"]
    assert [s.step for s in result.steps] == ["login", "publish", "view", "chat"]
    (viewer,) = (s for s in result.sessions if s.name == "w1")
    assert viewer.took == 200 * MS == sum(viewer.stages.values())
    assert viewer.stages == {Stage.SIGNAL: 100 * MS, Stage.FIRST_FRAME: 100 * MS}
    assert (viewer.ending, viewer.facts, viewer.taints) == ("planned", {"codec": "h264"}, frozenset())


@given(st.randoms(use_true_random=False))
def test_order_and_repetition_are_no_matter(rng: random.Random):
    facts = healthy().cut("w1").restored("w1").resumed("w1").finish()
    shuffled = [*facts, *rng.sample(facts, 10)]
    rng.shuffle(shuffled)
    assert fold(shuffled) == fold(facts)


def test_a_log_cut_off_knows_what_the_answer_of_an_endless_body_said():
    story = Story().begin("x", "http-flv").start("x")
    began = AnswerBegan(purpose="http-flv", request_id="i", status=200, edge="edge-b", cache="hit", took=5 * MS)
    story._tell(began, "x")
    (session,) = fold(story.facts).sessions
    assert session.outcome is None and not session.requests
    assert [(a.edge, a.status) for a in session.answers] == [("edge-b", 200)]
    assert from_json(to_json(story.facts[-1])) == story.facts[-1]


def test_a_log_cut_off_leaves_what_had_begun_in_flight():
    story = Story().publisher().begin("w1").start("w1").begin("w2").step("gift", None)
    result = fold(story.facts)
    assert result.ended is None and result.outcome is None
    told = {s.name: s for s in result.sessions}
    assert told["w1"].outcome is None and told["w1"].took == 200 * MS
    assert told["w2"].outcome is None and told["w2"].started is None
    assert result.steps[-1].outcome is None and result.steps[-1].took is None
    assert sums(result.sessions).clean["in_flight"] == 2


@given(st.integers(0, 40))
def test_every_prefix_of_a_run_folds(length: int):
    facts = healthy().cut("w1").restored("w1").resumed("w1").finish()
    result = fold(facts[: max(1, length)])
    assert sums(result.sessions).attempts == len(result.sessions)


def test_without_its_beginning_nothing_can_be_folded():
    with pytest.raises(ValueError, match="its beginning is missing"):
        fold(healthy().finish()[1:])
    with pytest.raises(ValueError, match="its beginning is missing"):
        fold([])


def test_two_runs_are_not_one():
    from dataclasses import replace

    other = replace(healthy().facts[0], run="other", seq=99)
    with pytest.raises(ValueError, match="observations of two runs"):
        fold([*healthy().facts, other])


def test_facts_of_a_session_whose_beginning_was_lost_belong_to_nobody():
    story = Story().start("ghost").window("ghost").cut("ghost").end("ghost")
    assert fold(story.facts).sessions == ()


def test_requests_belong_to_their_session_and_else_to_the_run():
    story = Story().begin("w1").request("w1").request("login", edge="", purpose="login")
    result = fold(story.facts)
    assert len(result.sessions[0].requests) == 1
    assert [r.purpose for r in result.requests] == ["login"]


def test_slices_of_reconnects_are_not_of_the_start():
    story = Story().begin("w1").start("w1")
    story._tell(StageDone(stage=Stage.ICE, began=0, took=NS, attempt=1), "w1")
    assert Stage.ICE not in session(story, "w1").stages


def test_notes_availability_and_freezes_are_kept():
    story = Story().begin("w1").start("w1")
    story._tell(Note(text="DELETE was answered 405"))
    story._tell(Available(protocol="hls", took=NS))
    story._tell(Freeze(began=0, took=NS, rule="w3c"), "w1")
    result = fold(story.facts)
    assert [n.text for n in result.notes] == ["DELETE was answered 405"]
    assert result.available == {("", "hls"): NS}
    assert len(result.sessions[0].freezes) == 1


def test_a_step_never_reached_has_no_taints_and_no_duration_of_its_own():
    story = Story().unwell(NS, "loop_lag").done("chat", Skipped("not_reached"), kind="websocket")
    (step,) = fold(story.facts).steps
    assert (step.taints, step.span_id, step.began) == (frozenset(), "", 10 * NS)


# -- cuts


def test_a_cut_is_its_beginning_its_restoration_and_its_end():
    story = Story().begin("w1").start("w1").cut("w1").wait(2 * NS).restored("w1").wait(NS).resumed("w1").end("w1")
    (cut,) = session(story, "w1").cuts
    assert cut.restored is not None and cut.ended is not None
    assert (cut.restored - cut.began, cut.ended - cut.began) == (2 * NS, 3 * NS)
    assert (cut.outcome, cut.outage, cut.reconnect, cut.attempts) == (CutOutcome.RESTARTED, 3 * NS, NS, 1)


def test_cuts_of_two_steps_are_two():
    story = Story().begin("w1").start("w1")
    story.cut("w1", step="a").restored("w1", step="a").resumed("w1", step="a", outage=1)
    story.cut("w1", "flap", step="b").restored("w1", "flap", step="c").resumed("w1", kind="flap", step="b", outage=2)
    a, b = session(story, "w1").cuts
    assert (a.step, a.outage, b.step, b.outage, b.restored) == ("a", 1, "b", 2, None)


def test_a_cut_that_the_record_does_not_see_the_end_of_has_no_outcome():
    story = Story().begin("w1").start("w1").cut("w1").unwell(NS, "loop_lag").wait(NS).unwell(NS, "throttled")
    (cut,) = session(story, "w1").cuts
    assert cut.outcome is None and cut.ended is None
    assert cut.taints == {"throttled"}


def test_an_interruption_that_nobody_made_began_with_its_outage():
    story = Story().begin("w1").start("w1").window("w1").wait(3 * NS)
    story.resumed("w1", kind="unplanned", step="", outage=2 * NS, reconnect=None)
    (cut,) = session(story, "w1").cuts
    assert cut.ended is not None and cut.ended - cut.began == 2 * NS


@pytest.mark.parametrize("windows", [0, 1])
def test_an_interruption_that_never_ended_began_with_the_last_good_picture(windows):
    story = Story().begin("w1").start("w1")
    if windows:
        story.window("w1").window("w1", verified=0)
    good = story.clock.now() - windows * NS
    story.wait(5 * NS).resumed("w1", CutOutcome.FAILED, kind="unplanned", step="", outage=None, reconnect=None)
    assert session(story, "w1").cuts[0].began == good


# -- taints

SAMPLES = [HealthSample(at=10, took=5, loop_lag=1, taints=("a",)), HealthSample(at=20, took=10, loop_lag=1, taints=("b",))]


@pytest.mark.parametrize(
    ("began", "ended", "taints"),
    [(0, 5, ""), (0, 6, "a"), (6, 7, "a"), (9, 11, "ab"), (10, 20, "b"), (20, 30, ""), (7, 7, "a"), (30, 30, "")],
)
def test_a_taint_is_of_whatever_its_interval_overlaps(began, ended, taints):
    assert taints_between(SAMPLES, began, ended) == set(taints)


def test_a_start_is_tainted_by_its_own_time_alone():
    before = Story().wait(NS).unwell(NS, "lag").begin("w1").start("w1").end("w1")
    during = Story().begin("w1").start("w1").unwell(100 * MS, "lag").end("w1")
    after = Story().begin("w1").start("w1").wait(NS).unwell(NS, "lag").end("w1")
    assert [session(s, "w1").taints for s in (before, during, after)] == [set(), {"lag"}, set()]


def test_a_start_that_failed_or_never_ended_is_tainted_up_to_there():
    failed = Story().begin("w1").wait(NS).unwell(NS, "lag").end("w1", ICE, "").wait(NS).unwell(NS, "late")
    flying = Story().begin("w1").wait(NS).unwell(NS, "lag")
    assert [session(s, "w1").taints for s in (failed, flying)] == [{"lag"}, {"lag"}]


# -- sums


def test_every_attempt_is_in_exactly_one_box():
    from probe.model.outcome import Aborted, Cancelled

    story = (
        Story()
        .viewer("a")
        .viewer("b", ICE)
        .viewer("c", Skipped("unsupported"))
        .viewer("d", Cancelled())
        .viewer("e", Aborted("bug"))
    )
    story.begin("f").wait(NS)
    story.begin("g").wait(NS).unwell(NS, "lag").start("g").end("g")
    found = sums(fold(story.facts).sessions)
    assert found.clean == {"done": 1, "failed": 1, "skipped": 1, "cancelled": 1, "aborted": 1, "in_flight": 0}
    assert found.tainted["done"] == 1 and found.tainted["in_flight"] == 1
    assert (found.attempts, found.measured, found.ratio) == (7, 2, 0.5)
    assert found.as_json()["attempts"] == 7 and found.as_json()["done"] == 2


def test_of_nothing_there_is_no_ratio():
    assert sums([]).ratio is None
