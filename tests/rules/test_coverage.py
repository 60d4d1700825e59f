"""Holes and overlaps are named with their times, and whoever asks is told who is called, next, and after which step."""

from __future__ import annotations

from probe.rules.coverage import Answer, moment, nobodys, who
from probe.rules.shifts import remits
from probe.scenario.oncall import Paged
from tests.rules.oncalls import SUN, YEAR, at, faults, oncall, remit, shifts

OFFICE = """\
escalation:
  P1: {within: 15m, steps: [{}, {after: 15m, call: backup}, {after: 30m, call: lead}, {after: 45m, call: the boss, by: pager}]}
  P2: {within: 4h, clock: shifts}
"""


def one(queues: str, escalation: str = "escalation: {P1: {within: 5m}, P2: {within: 4h}}\n") -> tuple[tuple[str | int, ...], str]:
    (fault,) = faults(oncall(queues, escalation))
    return fault.path, fault.message


def test_the_weeks_in_which_clocks_disagree_are_named_in_utc_and_by_both_clocks() -> None:
    hole, overlap = faults(
        oncall(
            shifts(
                'shift: eu, from: "08:00", to: "16:00", tz: Europe/Berlin, call: europe',
                'shift: us, from: "10:00", to: "02:00", tz: America/New_York, call: america',
            )
        )
    )[::-1]
    remits = "(queue media, P1, every region; queue media, P2, every region)"
    assert (hole.path, overlap.path) == (("queues", "media", "shifts", 1),) * 2
    assert overlap.message == (
        "overlaps with eu, both are on from Sun 2026-03-08 14:00 UTC (15:00 Berlin, 10:00 New York) to Sun 2026-03-08 15:00 UTC "
        f"(16:00 Berlin, 11:00 New York), and 48 times more until Sat 2027-11-06 15:00 UTC {remits}: "
        "leave `to` of a shift away, and it lasts until the next one begins"
    )
    assert hole.message == (
        "nobody is on from Mon 2026-03-09 06:00 UTC (02:00 New York, 07:00 Berlin) to Mon 2026-03-09 07:00 UTC "
        f"(03:00 New York, 08:00 Berlin), and 46 times more until Sat 2027-11-06 07:00 UTC {remits}: "
        "leave `to` of a shift away, and it lasts until the next one begins"
    )


def test_a_hole_is_named() -> None:
    path, message = one(
        shifts(
            'shift: day, from: "08:00", to: "20:00", tz: Europe/Berlin, call: europe',
            'shift: night, from: "20:00", to: "07:30", tz: Europe/Berlin, call: lead',
        )
    )
    assert path == ("queues", "media", "shifts", 1)
    assert message.startswith(
        "nobody is on from Thu 2026-01-01 06:30 UTC (07:30 Berlin) to Thu 2026-01-01 07:00 UTC (08:00 Berlin), and 729"
    )
    assert "(queue media, P1, every region; queue media, P2, every region): leave `to` of a shift away" in message


def test_two_that_begin_at_once_are_a_mistake_even_if_only_for_a_part_of_the_year() -> None:
    path, message = one(
        shifts(
            'shift: eu, from: "08:00", tz: Europe/Berlin, call: europe',
            'shift: us, from: "07:00", tz: UTC, call: america',
        )
    )
    assert path == ("queues", "media", "shifts", 1)
    assert message.startswith("begins when shift eu does, first at Thu 2026-01-01 07:00 UTC (queue media, P1, every region; ")


def test_where_shifts_are_shorter_than_clocks_differ_the_remedy_is_one_zone() -> None:
    found = faults(
        oncall(
            shifts(
                'shift: a, from: "00:15", tz: Australia/Sydney, call: asia', 'shift: b, from: "22:00", tz: Asia/Tokyo, call: lead'
            )
        )
    )
    assert found
    assert all("give both one tz" in fault.message for fault in found)


def test_a_queue_without_anybody_is_a_hole_of_the_whole_year() -> None:
    path, message = one("  media: {owners: [media-sre]}\n")
    assert path == ("queues", "media")
    assert message.startswith("nobody is ever on (queue media, P1, every region; queue media, P2, every region)")


def test_who_calls_one_receiver_always_needs_no_shifts() -> None:
    fixed = "escalation:\n  P1: {within: 5m, steps: [{call: phone}]}\n  P2: {within: 4h, steps: [{call: lead}]}\n"
    assert faults(oncall("  media: {owners: [media-sre]}\n", fixed)) == []


def test_what_waits_for_a_shift_is_no_hole_and_what_pages_is() -> None:
    office = 'tz: UTC, days: mon-fri, from: "09:00", to: "17:00", call: lead, backup: lead'
    found = faults(oncall(shifts(f"shift: office, {office}"), OFFICE))
    assert found
    assert not any("P2" in fault.message for fault in found)


class TestWho:
    def answer(self, when: str, severity: Paged = "P1", queues: str = SUN) -> Answer:
        found = oncall(queues, OFFICE)
        return who(found, remit(found, severity=severity), at(when), YEAR)

    def test_is_on_and_comes_next(self) -> None:
        answer = self.answer("2026-03-10T13:50Z")
        assert answer.now is not None and answer.next is not None
        assert (answer.now.duty.name, answer.next.duty.name) == ("eu", "us")
        assert answer.now.end == answer.next.begin == at("2026-03-10T14:00Z")

    def test_is_called_at_each_step_by_whose_shift_it_is_then(self) -> None:
        answer = self.answer("2026-03-10T13:50Z")
        assert [(call.call, (call.at - answer.at) // 60, call.by) for call in answer.calls] == [
            ("europe", 0, "alertmanager"),
            ("lead", 15, "alertmanager"),
            ("lead", 30, "alertmanager"),
            ("the boss", 45, "pager"),
        ]
        assert answer.calls[1].duty is not None and answer.calls[1].duty.name == "us"  # handed over meanwhile
        assert answer.due == at("2026-03-10T14:05Z")

    def test_waits_until_somebody_is_on_and_hours_count_only_then(self) -> None:
        office = shifts('shift: office, days: mon-fri, from: "09:00", to: "17:00", tz: UTC, call: lead, backup: lead')
        friday = self.answer("2026-06-19T15:00Z", "P2", office)
        assert friday.due == at("2026-06-22T11:00Z")
        saturday = self.answer("2026-06-20T15:00Z", "P2", office)
        assert saturday.now is None and saturday.next is not None
        assert [(call.call, call.at) for call in saturday.calls] == [("lead", at("2026-06-22T09:00Z"))]
        assert self.answer("2027-12-31T16:00Z", "P2", office).due is None  # beyond the calendar

    def test_is_the_fallback_where_nobody_is_on_or_answers(self) -> None:
        hole = shifts('shift: day, from: "08:00", to: "20:00", tz: UTC, call: europe, backup: lead')
        assert [call.call for call in self.answer("2026-06-19T21:00Z", queues=hole).calls] == [
            "phone",
            "phone",
            "lead",
            "the boss",
        ]
        answer = nobodys(oncall(escalation=OFFICE), "P1", at("2026-06-19T21:00Z"))
        assert ([call.call for call in answer.calls], answer.due) == (["phone"], at("2026-06-19T21:15Z"))


def test_regions_that_the_same_people_take_are_one_scope() -> None:
    found = oncall(
        shifts(
            "shift: eu, regions: [eu, uk], tz: UTC, call: europe",
            "shift: us, regions: us, tz: UTC, call: america",
            'shift: all, tz: UTC, from: "12:00", call: lead',
        )
    )
    assert [remit.words for remit in remits(found, "P1", "media")] == [
        "queue media, P1, eu, uk",
        "queue media, P1, us",
        "queue media, P1, any other region",
    ]


def test_a_moment_is_told_by_other_clocks_with_their_day_where_it_differs() -> None:
    assert moment(at("2026-11-25T20:30Z"), ("Asia/Tokyo", "America/New_York", "UTC")) == (
        "Wed 2026-11-25 20:30 UTC (Thu 05:30 Tokyo, 15:30 New York)"
    )
