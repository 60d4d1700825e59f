"""The truth table: what a run's facts are worth."""

from __future__ import annotations

import pytest

from probe.judge import fold, judge
from probe.judge.verdict import join
from probe.model.clock import NS, Wall
from probe.model.observation import CutOutcome, Observation, Role
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.model.verdict import Check, Verdict
from probe.scenario.schema import Gate
from tests.judge.story import Story, healthy

NOW = Wall(0, None)
ICE = Failed(Phase.ICE, "timeout")
CHAT = Failed(Phase.CHAT, "not_seen")
BACK = Failed(Phase.RECONNECTING, "timeout")
NOT_REACHED = Skipped("not_reached")


def verdict(story: Story, outcome: Outcome = Done()) -> Verdict:  # noqa: B008 - an outcome is frozen
    return judge(fold(story.finish(outcome)), (), NOW).result


def check(facts: list[Observation], name: str, *gates: Gate) -> Check:
    return next(c for c in judge(fold(facts), gates, NOW, owner="me").checks if c.name == name)


def played(story: Story, *names: str) -> Story:
    for name in names:
        story.begin(name).start(name).window(name)
    return story


STORIES: dict[str, tuple[Story, Outcome, Verdict]] = {
    "all well": (healthy(), Done(), Verdict.PASS),
    "a step failed": (healthy().step("gift", CHAT), Failed(Phase.CHAT, "not_seen"), Verdict.FAIL),
    "an optional step failed": (healthy().step("gift", CHAT, optional=True), Done(), Verdict.WARN),
    "a finally step failed": (healthy().step("end", CHAT, final=True), Done(), Verdict.FAIL),
    "a step failed while unwell": (healthy().step("gift", CHAT).unwell(NS, "lag"), CHAT, Verdict.INCONCLUSIVE),
    "a step failed while well": (healthy().wait(NS).unwell(NS, "lag").wait(NS).step("gift", CHAT), CHAT, Verdict.FAIL),
    "a step was skipped": (healthy().step("gift", Skipped("unsupported", "x")), Done(), Verdict.INCONCLUSIVE),
    "an optional step was skipped": (healthy().step("gift", Skipped("x"), optional=True), Done(), Verdict.PASS),
    "a step aborted": (healthy().step("gift", Aborted("bug")), Done(), Verdict.INCONCLUSIVE),
    "a step cancelled": (healthy().step("gift", Cancelled()), Cancelled(), Verdict.INCONCLUSIVE),
    "a step in flight": (healthy().step("gift", None), Done(), Verdict.INCONCLUSIVE),
    "login failed": (Story().step("login", ICE).done("view", NOT_REACHED, kind="view"), ICE, Verdict.FAIL),
    "one viewer failed": (healthy().viewer("w9", ICE), Done(), Verdict.FAIL),
    "an optional viewer failed": (healthy().viewer("w9", ICE, optional=True), Done(), Verdict.WARN),
    "an optional protocol unsupported": (
        healthy().viewer("x", Skipped("unsupported"), "srt", optional=True), Done(), Verdict.PASS,
    ),
    "one viewer failed while unwell": (healthy().viewer("w9", ICE).unwell(NS // 10, "lag"), Done(), Verdict.INCONCLUSIVE),
    "a protocol unsupported": (healthy().viewer("x", Skipped("unsupported"), "srt"), Done(), Verdict.INCONCLUSIVE),
    "a viewer aborted": (healthy().viewer("x", Aborted("bug")), Done(), Verdict.INCONCLUSIVE),
    "a viewer in flight": (healthy().begin("x"), Done(), Verdict.INCONCLUSIVE),
    "a protocol only while unwell": (healthy().viewer("x", Done(), "srt").unwell(NS // 10, "lag"), Done(), Verdict.INCONCLUSIVE),
    "one of four while unwell": (healthy().viewer("w9").unwell(NS // 10, "lag"), Done(), Verdict.PASS),
    "the publisher while unwell": (Story().publisher().unwell(NS // 10, "lag").wait(NS).viewer("a"), Done(), Verdict.PASS),
    "the publisher failed": (Story().publisher(ICE).done("view", NOT_REACHED, kind="view"), ICE, Verdict.FAIL),
    "fail beats inconclusive": (healthy().viewer("a", ICE).step("x", Aborted("bug")), Done(), Verdict.FAIL),
    "inconclusive beats warn": (
        healthy().viewer("a", ICE, optional=True).step("x", Aborted("bug")), Done(), Verdict.INCONCLUSIVE,
    ),
    "a session crashed": (played(healthy(), "x").wait(NS).crash("x"), Done(), Verdict.FAIL),
    "an optional session crashed": (healthy().begin("x", optional=True).start("x").crash("x"), Done(), Verdict.WARN),
    "a session crashed while unwell": (
        played(healthy(), "x").wait(NS).unwell(NS, "lag").crash("x"), Done(), Verdict.INCONCLUSIVE,
    ),
    "a session still playing": (played(healthy(), "x"), Done(), Verdict.INCONCLUSIVE),
    "interrupted and healed": (
        played(healthy(), "x").wait(3 * NS).resumed("x", kind="unplanned", step="", reconnect=None).end("x"),
        Done(), Verdict.WARN,
    ),
    "interrupted and healed while unwell": (
        played(healthy(), "x").wait(3 * NS).unwell(NS, "lag").resumed("x", kind="unplanned", step="").end("x"),
        Done(), Verdict.PASS,
    ),
    "cut and back": (played(healthy(), "x").cut("x").wait(NS).restored("x").resumed("x").end("x"), Done(), Verdict.PASS),
    "cut and unaffected": (
        played(healthy(), "x").cut("x").wait(NS).resumed("x", CutOutcome.UNAFFECTED, outage=None, reconnect=None).end("x"),
        Done(), Verdict.PASS,
    ),
    "cut and gone": (
        played(healthy(), "x").cut("x").wait(NS).resumed("x", CutOutcome.FAILED, failure=BACK).crash("x"), Done(), Verdict.FAIL,
    ),
    "cut and gone while unwell": (
        played(healthy(), "x").cut("x").wait(NS).unwell(NS, "lag").resumed("x", CutOutcome.FAILED, failure=BACK).crash("x"),
        Done(), Verdict.INCONCLUSIVE,
    ),
    "cut and back while unwell": (
        played(healthy(), "x").cut("x").wait(NS).unwell(NS, "lag").resumed("x").end("x"), Done(), Verdict.INCONCLUSIVE,
    ),
    "cut, and not told": (played(healthy(), "x").cut("x").wait(NS).end("x"), Done(), Verdict.INCONCLUSIVE),
    "the run aborted": (healthy(), Aborted("the run's deadline of 60 s passed"), Verdict.INCONCLUSIVE),
    "the run aborted without a word": (healthy(), Aborted(), Verdict.INCONCLUSIVE),
    "the run was cancelled": (healthy(), Cancelled(), Verdict.INCONCLUSIVE),
    "nothing was tried": (Story(), Done(), Verdict.INCONCLUSIVE),
    "only skips": (Story().step("x", NOT_REACHED), Done(), Verdict.INCONCLUSIVE),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_a_run_is_worth(name):
    story, outcome, expected = STORIES[name]
    assert verdict(story, outcome) is expected


def test_a_record_that_ends_before_the_run_is_inconclusive():
    judged = judge(fold(healthy().facts), (), NOW)
    assert judged.result is Verdict.INCONCLUSIVE
    assert judged.cause is not None and judged.cause.words == "the record ends before the run did"


def test_a_group_tells_how_many_and_why():
    facts = healthy().viewer("w8", ICE).viewer("w9", ICE).finish()
    found = check(facts, "start view/whep")
    assert (found.result, found.value, found.n, found.min_n, found.unit) == (Verdict.FAIL, 3 / 5, 5, 1, "ratio")
    assert (found.reason, found.phase, found.subject) == ("2 of 5: ice/timeout", "ice", "view")
    assert (found.owner, found.region) == ("me", "local")


def test_a_step_tells_its_time_and_its_failure():
    facts = healthy().step("gift", Failed(Phase.GIFT, "counted_twice", "2 in the ledger"), service="gift").finish()
    login, gift = check(facts, "step login"), check(facts, "step gift")
    assert (login.value, login.unit, login.n) == (0.1, "seconds", 1)
    assert (gift.result, gift.value, gift.n, gift.phase) == (Verdict.FAIL, None, 1, "gift")
    assert gift.reason == "gift/counted_twice: 2 in the ledger"


def test_a_session_lost_to_a_cut_is_told_by_the_cut_alone():
    facts = STORIES["cut and gone"][0].finish()
    assert check(facts, "reconnect cut view/whep").reason == "1 of 1 did not come back: reconnecting/timeout"
    assert check(facts, "stay view/whep").result is Verdict.PASS


def test_a_session_that_crashed_after_it_had_come_back_is_its_own_failure():
    story = played(healthy(), "x").cut("x").wait(NS).restored("x").resumed("x").window("x").crash("x")
    stay = check(story.finish(), "stay view/whep")
    assert (stay.result, stay.reason) == (Verdict.FAIL, "1 of 4 ended unplanned: playing/frozen")


def test_a_picture_that_was_away_when_its_stay_was_ended_is_a_warning_with_its_length():
    facts = healthy().begin("x").start("x").wait(4 * NS).away("x", 3 * NS).finish()
    stay = check(facts, "stay view/whep")
    assert (stay.result, stay.value) == (Verdict.WARN, 1.0)
    assert stay.reason == "1 of 4 were ended with the picture away, for 3 s by then"
    cut = next(s for s in fold(facts).sessions if s.name == "x").cuts[0]
    assert cut.ended is not None
    assert (cut.ended - cut.began, cut.so_far, cut.outage) == (3 * NS, 3 * NS, None)
    assert judge(fold(facts), (), NOW).result is Verdict.WARN


def test_a_picture_that_was_away_at_the_end_while_the_probe_was_unwell_is_not_held_against_it():
    facts = healthy().begin("x").start("x").wait(4 * NS).unwell(NS, "loop_lag").away("x", 3 * NS).finish()
    assert check(facts, "stay view/whep").result is Verdict.PASS


def test_optional_viewers_do_not_stand_in_for_those_that_are_not():
    story = Story().publisher().viewer("a", Skipped("unsupported")).viewer("b", optional=True)
    assert verdict(story) is Verdict.INCONCLUSIVE


def test_a_view_step_is_told_by_its_viewers_unless_it_broke_itself():
    names = [c.name for c in judge(fold(healthy().finish()), (), NOW).checks]
    assert "step view" not in names and "start view/whep" in names
    broken = Story().publisher().viewer("a").done("view", Aborted("bug"), kind="view")
    assert check(broken.finish(), "step view").result is Verdict.INCONCLUSIVE


def test_a_clean_failure_is_not_hidden_by_a_tainted_one():
    story = played(healthy(), "x", "y").cut("x").cut("y").wait(NS)
    story.resumed("x", CutOutcome.FAILED, failure=BACK).wait(NS).unwell(NS // 2, "lag").resumed("y", CutOutcome.FAILED)
    assert check(story.crash("x").crash("y").finish(), "reconnect cut view/whep").reason.startswith("1 of 2 did not come back")


def test_several_runs_have_the_worst_verdict_and_one_cause():
    good, bad = fold(healthy().finish()), fold(healthy().viewer("w9", ICE).finish())
    unknown = fold(healthy().finish(Cancelled()))
    warned = fold(healthy().viewer("w9", ICE, optional=True).finish())

    def joined(*results):
        return join([judge(r, (), NOW) for r in results], results)

    assert joined(good, good) == (Verdict.PASS, None)
    assert joined(good, bad, unknown)[0] is Verdict.FAIL
    cause = joined(good, bad)[1]
    assert cause is not None and cause.fields["protocol"] == "whep"
    assert joined(good, unknown)[1].words == "the run was cancelled"
    assert joined(good, warned)[1].words == "1 of 4 whep viewers failed: ice/timeout"
    assert join([], []) == (Verdict.INCONCLUSIVE, None)


def test_a_publishers_tainted_return_is_proven_by_its_viewers_and_a_viewers_by_nobody():
    def returned(role: Role) -> Verdict:
        story = Story().begin("x", "whip" if role is Role.PUBLISHER else "whep", role=role).start("x").wait(NS)
        story.cut("x", "restart").wait(NS).resumed("x", kind="restart", reconnect=None).unwell(NS // 2, "machine_busy").end("x")
        judged = judge(fold(story.finish()), [], Wall(0, None))
        return next(check.result for check in judged.checks if check.name.startswith("reconnect"))

    assert returned(Role.PUBLISHER) is Verdict.PASS
    assert returned(Role.VIEWER) is Verdict.INCONCLUSIVE
