"""The common factor of what failed."""

from __future__ import annotations

import pytest

from probe.judge import Cause, fold, judge
from probe.judge.cause import common_cause, silent_cause, why_inconclusive
from probe.model.clock import NS, Wall
from probe.model.observation import CutOutcome
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from tests.judge.story import Story, healthy

ICE = Failed(Phase.ICE, "timeout")
SEGMENT = Failed(Phase.SEGMENT, "http_503")


def cause(*stories: Story) -> Cause:
    found = common_cause([fold(s.finish()) for s in stories])
    assert found is not None
    return found


def inconclusive(story: Story, outcome: Outcome = Done()) -> Cause:  # noqa: B008 - an outcome is frozen
    found = judge(fold(story.finish(outcome)), (), Wall(0, None)).cause
    assert found is not None
    return found


def test_a_protocol_that_failed_alone_is_named():
    found = cause(Story().publisher().viewer("a", ICE).viewer("b", ICE).viewer("c", protocol="hls"))
    assert found.fields == {"protocol": "whep", "role": "viewer", "phase": "ice", "reason": "timeout"}
    assert found.words == "2 of 2 whep viewers failed: ice/timeout"


def test_an_edge_that_failed_alone_is_named():
    story = Story().publisher()
    for name, edge in (("a", "edge-a"), ("b", "edge-b"), ("c", "edge-a")):
        bad = edge == "edge-b"
        story.begin(name, "hls").request(name, 503 if bad else 200, edge=edge)
        story.end(name, SEGMENT, "") if bad else story.start(name).end(name)
    found = cause(story)
    assert found.fields == {"edge": "edge-b", "phase": "segment", "reason": "http_503"}
    assert found.words == "1 of 1 attempts at edge-b failed: segment/http_503"


def test_a_region_that_failed_alone_is_named():
    found = cause(Story("eu").viewer("a"), Story("us").viewer("a", ICE), Story("us").viewer("a", ICE))
    assert found.fields["region"] == "us"
    assert "in us" in found.words


def test_a_service_that_failed_is_named_with_its_one_detail():
    found = cause(healthy().step("gift", Failed(Phase.GIFT, "counted_twice", "2 in the ledger"), service="gift"))
    assert found.fields == {"service": "gift", "phase": "gift", "reason": "counted_twice"}
    assert found.words == "1 of 1 gift steps failed: gift/counted_twice (2 in the ledger)"


def test_a_cut_that_nobody_came_back_from_is_named():
    story = Story()
    for name in "ab":
        story.begin(name).start(name).cut(name).resumed(
            name, CutOutcome.FAILED, failure=Failed(Phase.RECONNECTING, "timeout")
        ).crash(name)
    found = cause(story)
    assert found.fields == {"cut": "rebind", "phase": "reconnecting", "reason": "timeout"}
    assert found.words == "2 of 2 attempts after a rebind failed: reconnecting/timeout"


def test_a_crash_is_told_by_how_it_ended():
    found = cause(Story().begin("a").start("a").crash("a"))
    assert found.fields["reason"] == "frozen"
    assert found.words.startswith("1 of 1 whep viewers failed"), "its start went well, and it is one viewer"


def test_the_common_factor_tells_how_many_of_how_many_attempts_share_it():
    found = cause(healthy().viewer("x", ICE).viewer("y", ICE))
    assert (found.fields["protocol"], found.count, found.of) == ("whep", 2, 5)
    assert found.words.startswith("2 of 5 whep viewers failed")
    assert (inconclusive(healthy(), Cancelled()).count, inconclusive(healthy(), Cancelled()).of) == (None, None)


def test_one_phase_with_several_reasons_is_told_with_the_most_frequent():
    failed = [Failed(Phase.ICE, "failed"), ICE, ICE]
    story = Story().publisher()
    for i, failure in enumerate(failed):
        story.viewer(f"v{i}", failure)
    found = cause(story)
    assert found.fields == {"protocol": "whep", "role": "viewer", "phase": "ice"}
    assert found.words == "3 of 3 whep viewers failed, most often (2) ice/timeout"


def test_failures_that_share_nothing_are_counted():
    found = cause(Story().publisher().viewer("a").viewer("b", ICE).step("chat", Failed(Phase.CHAT, "not_seen"), service="chat"))
    assert found.fields == {}
    assert found.words.startswith("2 of 4 attempts failed, most often (1)")


def test_tainted_failures_and_what_went_well_have_no_cause():
    assert common_cause([fold(healthy().finish())]) is None
    assert common_cause([fold(Story().viewer("a", ICE).unwell(NS, "lag").finish())]) is None


def test_an_optional_failure_is_told_of_a_warning():
    found = inconclusive(healthy().viewer("x", ICE, optional=True))
    assert found.words == "1 of 4 whep viewers failed: ice/timeout"


@pytest.mark.parametrize(
    ("story", "outcome", "words"),
    [
        (healthy(), Cancelled(), "the run was cancelled"),
        (healthy(), Aborted("deadline"), "the probe gave up: deadline"),
        (healthy(), Aborted(), "the probe gave up"),
        (healthy().viewer("x", Aborted("KeyError: x")), Done(), "the probe itself broke: KeyError: x"),
        (healthy().viewer("x", Aborted()), Done(), "the probe itself broke"),
        (healthy().viewer("x", ICE).unwell(NS // 10, "lag"), Done(), "the probe was unwell (lag) while attempts failed"),
        (healthy().viewer("x", Skipped("unsupported", "High only"), "srt"), Done(), "unsupported: High only"),
        (healthy().viewer("x", Skipped("unsupported"), "srt"), Done(), "unsupported"),
        (healthy().begin("x"), Done(), "start view/whep: 1 of 4: still in flight when the record ends"),
    ],
)
def test_what_kept_an_answer_away_is_said(story, outcome, words):
    assert inconclusive(story, outcome).words == words


def test_of_optional_viewers_nobody_asks_whether_they_heard():
    def listened(story: Story, name: str, sounds: int, *, optional: bool = False) -> Story:
        story.begin(name, sound=True, optional=optional).start(name)
        for _ in range(4):
            story.window(name, sounds=sounds)
        return story.end(name)

    story = listened(listened(Story().publisher(), "hears", 1), "deaf", 0, optional=True)
    assert silent_cause([fold(story.facts)]) is None
    found = silent_cause([fold(listened(story, "silent", 0).finish())])
    assert found is not None
    assert (found.count, found.of, found.words[:6]) == (1, 2, "1 of 2")


def test_a_cut_lost_while_unwell_is_blamed_on_the_probe():
    story = healthy().begin("x").start("x").cut("x").wait(NS).unwell(NS, "lag").resumed("x", CutOutcome.FAILED).crash("x")
    assert inconclusive(story).fields == {"taint": "lag"}


def test_steps_not_reached_are_no_cause():
    assert why_inconclusive([fold(Story().step("x", Skipped("not_reached")).finish())]) is None
