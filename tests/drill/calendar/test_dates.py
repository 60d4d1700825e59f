"""What is due when, and which run covers it."""

from __future__ import annotations

import pytest

from probe.drill.core.calendar import Due, State, dues, review_lines
from tests.drill.calendar.support import DAY, GIFTS, KNOWN, NOW, ORIGIN, ROOM, S, at, calendar, campaign, done

NOTHING = calendar(policy=[])


def of(found: tuple[Due, ...], name: str) -> Due:
    (one,) = (due for due in found if due.name == name)
    return one


def test_a_drill_is_due_again_so_long_after_it_was_done():
    found = dues(calendar(), KNOWN, [done("origin", "2026-11-20T12:00"), done("gifts", "2026-10-20T12:00")], NOW)
    assert (of(found, "origin").state, of(found, "origin").due) == (State.DONE, at("2026-12-20T12:00"))
    assert (of(found, "gifts").state, of(found, "gifts").due) == (State.OVERDUE, at("2026-11-19T12:00"))
    assert [due.name for due in found] == ["gifts", "origin"]  # the most urgent first; a rehearsal is asked for by its own rule


def test_it_is_told_a_week_before_it_is_overdue():
    one = done("origin", "2026-11-20T12:00")
    for now, state in (
        ("2026-12-13T11:59", State.DONE), ("2026-12-13T12:00", State.DUE), ("2026-12-20T11:59", State.DUE),
        ("2026-12-20T12:00", State.OVERDUE),
    ):  # fmt: skip
        assert dues(calendar(), [ORIGIN], [one], at(now))[0].state is state, now


def test_one_that_is_due_every_few_days_is_told_a_quarter_of_that_before():
    often = calendar(policy=[{"every": "4d"}])
    assert dues(often, [ORIGIN], [done("origin", "2026-11-29T12:00")], NOW)[0].state is State.DONE
    assert dues(often, [ORIGIN], [done("origin", "2026-11-28T12:00")], NOW)[0].state is State.DUE


def test_one_that_was_never_done_is_overdue():
    (found,) = dues(calendar(), [ORIGIN], [], NOW)
    assert (found.state, found.due, found.by, found.owner, found.why) == (State.OVERDUE, 0, None, "media-sre", "every 30d")


@pytest.mark.parametrize("verdict", ["invalid", "inconclusive", "aborted", "not_restored", ""])
def test_what_showed_nothing_moves_no_date(verdict: str):
    (found,) = dues(calendar(), [ORIGIN], [done("origin", "2026-11-30T12:00", verdict)], NOW)
    assert (found.state, found.by) == (State.OVERDUE, None)


def test_a_weakness_that_was_found_is_a_drill_that_was_done():
    one = done("origin", "2026-11-30T12:00", "weakness")
    (found,) = dues(calendar(), [ORIGIN], [one, done("origin", "2026-12-01T10:00", "invalid")], NOW)
    assert (found.state, found.by) == (State.DONE, one)


def test_what_has_the_name_and_is_another_kind_covers_nothing():
    assert dues(calendar(), [ORIGIN], [done("origin", "2026-11-30T12:00", kind="people")], NOW)[0].state is State.OVERDUE


def test_what_is_said_to_be_done_in_the_future_is_not_done():
    assert dues(calendar(), [ORIGIN], [done("origin", "2027-11-30T12:00")], NOW)[0].state is State.OVERDUE


def test_any_one_drill_of_a_tag_is_enough():
    tagged = calendar(policy=[{"every": "14d", "tag": "payment"}])
    (found,) = dues(tagged, KNOWN, [done("gifts", "2026-11-25T12:00")], NOW)
    assert (found.name, found.state, found.due) == ("tag:payment", State.DONE, at("2026-12-09T12:00"))
    assert found.owner == "media-sre, growth"


def test_a_rule_of_some_drills_asks_for_these_only():
    found = dues(calendar(policy=[{"every": "7d", "drills": "gifts"}]), KNOWN, [], NOW)
    assert [due.name for due in found] == ["gifts"]


def test_people_are_asked_for_by_a_rule_of_theirs_and_whatever_they_did_counts():
    people = calendar(policy=[{"every": "30d", "kind": "people"}])
    assert [(due.name, due.state) for due in dues(people, KNOWN, [], NOW)] == [("war-room", State.OVERDUE)]
    held = done("war-room", "2026-11-30T12:00", kind="people", people=("anna",), learned=("nothing new",))
    assert dues(people, KNOWN, [held], NOW)[0].by == held


def test_before_a_campaign_only_what_was_done_lately_counts():
    show = calendar(policy=[], campaigns={"show": campaign()}, before={"earliest": "14d", "latest": "2d"})
    opens, due = at("2026-11-26T18:00"), at("2026-12-08T18:00")
    old = done("origin", "2026-11-26T17:59")
    for now, state in ((opens - S, State.LATER), (opens, State.DUE), (due - S, State.DUE), (due, State.OVERDUE)):
        (found,) = dues(show, KNOWN, [old], now)
        assert (found.state, found.due, found.counts_from, found.by) == (state, due, opens, None), now
    fresh = done("origin", "2026-11-26T18:00")
    (found,) = dues(show, KNOWN, [old, fresh], NOW)
    assert (found.state, found.by, found.campaign) == (State.DONE, fresh, "show")
    assert (found.owner, found.why) == ("sre-on-duty", "before show: The origin dies")


def test_what_is_done_late_still_covers_the_campaign():
    show = calendar(policy=[], campaigns={"show": campaign()})
    late = done("origin", "2026-12-10T12:00")
    assert dues(show, KNOWN, [], at("2026-12-10T13:00"))[0].state is State.OVERDUE
    assert dues(show, KNOWN, [late], at("2026-12-10T13:00"))[0].state is State.DONE


def test_a_campaign_that_has_begun_asks_for_nothing():
    show = calendar(policy=[], campaigns={"show": campaign()})
    assert dues(show, KNOWN, [], at("2026-12-10T18:00")) == ()


def test_a_campaign_may_have_its_own_times_and_is_by_the_clock_of_its_zone():
    own = campaign(tz="Asia/Tokyo", before={"earliest": "3d", "latest": "1d"})
    (found,) = dues(calendar(policy=[], campaigns={"show": own}), KNOWN, [], NOW)
    assert (found.due, found.counts_from) == (at("2026-12-09T09:00"), at("2026-12-07T09:00"))


def test_rehearsals_of_a_campaign_are_dates_of_its_owner():
    show = calendar(policy=[], campaigns={"show": campaign(failures=[], people="war-room")})
    (found,) = dues(show, KNOWN, [], NOW)
    assert (found.name, found.kind, found.owner, found.why) == ("war-room", "people", "growth-lead", "before show")


def test_a_review_says_what_is_overdue_what_was_done_and_what_was_learned():
    deeds = [
        done("origin", "2026-11-28T12:00", "weakness", reason="viewers came back after 22 s"),
        done("gifts", "2026-11-29T12:00", "invalid", reason="never seen injected"),
        done("war-room", "2026-11-30T12:00", kind="people", people=("anna=on-call", "ben"), learned=("no runbook", "no phone")),
        done("gifts", "2026-10-01T12:00"),
    ]
    found = dues(calendar(), [ORIGIN, GIFTS, ROOM], deeds, NOW)
    assert review_lines(found, deeds, NOW - 7 * DAY, NOW) == [
        "overdue: gifts, due since 2026-10-31; every 30d; growth answers for it",
        "drilled: origin on 2026-11-28: weakness (viewers came back after 22 s)",
        "drilled: gifts on 2026-11-29: invalid (never seen injected); it showed nothing, and stays due",
        "rehearsed: war-room on 2026-11-30 with anna=on-call, ben",
        "learned: no runbook (war-room)",
        "learned: no phone (war-room)",
    ]
    assert review_lines(dues(NOTHING, KNOWN, [], NOW), [], NOW - DAY, NOW) == []
    (never,) = review_lines(dues(calendar(), [ORIGIN], [], NOW), [], NOW, NOW)
    assert never == "overdue: origin, never done; every 30d; media-sre answers for it"
