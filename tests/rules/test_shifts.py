"""Shifts that follow the sun: at every moment somebody is on, and it is whoever began last, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.rules import coverage
from tests.rules.oncalls import SUN, YEAR, at, faults, on, oncall, remit, shifts

ZONES = ["Asia/Tokyo", "Europe/Berlin", "America/New_York", "Australia/Sydney", "America/Sao_Paulo", "Asia/Kolkata", "UTC"]


@st.composite
def rotations(draw: st.DrawFn) -> list[tuple[str, int, bool]]:
    """Zone, begin (minutes of its clock) and whether on workdays only, at least five hours apart whatever the clocks do."""
    count = draw(st.integers(1, 4))
    first = draw(st.integers(0, 1439))
    out = []
    for n in range(count):
        zone = draw(st.sampled_from(ZONES))
        offset = datetime(2026, 6, 1, tzinfo=ZoneInfo(zone)).utcoffset()
        assert offset is not None
        begin = (first + n * 330 + int(offset.total_seconds()) // 60) % 1440 // 15 * 15
        out.append((zone, begin, draw(st.booleans())))
    return out


def began_last(rotation: list[tuple[str, int, bool]], moment: int) -> int:
    """By the definition: whose turn began last."""
    begun = []
    for n, (zone, begin, workdays) in enumerate(rotation):
        today = datetime.fromtimestamp(moment, ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        for back in range(8):
            day = today - timedelta(days=back)
            wall = day + timedelta(minutes=begin)
            turn = int(wall.replace(tzinfo=ZoneInfo(zone)).timestamp())
            if turn <= moment and not (workdays and day.weekday() > 4):
                begun.append((turn, n))
    return max(begun)[1]


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(rotations(), st.data())
def test_whoever_began_last_is_on_and_nobody_else(rotation: list[tuple[str, int, bool]], data: st.DataObject) -> None:
    lines = [
        f'shift: s{n}, call: {("asia", "europe", "america", "lead")[n]}, tz: {zone}, from: "{begin // 60:02}:{begin % 60:02}"'
        + (", days: mon-fri" if workdays else "")
        for n, (zone, begin, workdays) in enumerate(rotation)
    ]
    found = oncall(shifts(*lines))
    assert faults(found) == []
    roster = coverage.Roster.of(found, remit(found), *YEAR)
    for moment in data.draw(st.lists(st.integers(YEAR[0], YEAR[1] - 1), min_size=20, max_size=20)):
        hours = {datetime.fromtimestamp(moment, ZoneInfo(zone)).hour for zone, _, _ in rotation}
        turn = roster.at(moment)
        assert turn is not None
        if not hours & {0, 1, 2, 3}:  # of which one may come twice, or never: whose that is goes by the wall clock
            assert turn.duty.name == f"s{began_last(rotation, moment)}", datetime.fromtimestamp(moment, UTC)


@pytest.mark.parametrize(
    ("moment", "who"),
    [
        ("2026-01-15T14:59Z", "europe"),  # winter: 10:00 in New York is 16:00 in Berlin
        ("2026-01-15T15:00Z", "america"),
        ("2026-03-10T13:59Z", "europe"),  # America has its summer, Europe not yet
        ("2026-03-10T14:00Z", "america"),
        ("2026-06-15T13:59Z", "europe"),
        ("2026-06-15T14:00Z", "america"),
        ("2026-10-28T13:59Z", "europe"),  # Europe's summer is over, America's not
        ("2026-10-28T14:00Z", "america"),
        ("2026-06-15T22:59Z", "america"),
        ("2026-06-15T23:00Z", "asia"),
        ("2026-06-15T06:00Z", "europe"),
        ("2026-01-15T06:59Z", "asia"),
    ],
)
def test_a_shift_ends_when_the_next_one_begins_by_the_next_ones_clock(moment: str, who: str) -> None:
    assert on(oncall(), moment) == who


def test_without_weekends_fridays_last_shift_lasts_until_monday() -> None:
    found = oncall(shifts('shift: a, from: "09:00", tz: Europe/Berlin, days: mon-fri, call: europe',
                          'shift: b, from: "09:00", tz: America/New_York, days: mon-fri, call: america'))  # fmt: skip
    assert faults(found) == []
    assert on(found, "2026-06-14T12:00Z") == "america"
    assert on(found, "2026-06-15T06:59Z") == "america"
    assert on(found, "2026-06-15T07:00Z") == "europe"


def test_a_shift_over_midnight_is_one_turn() -> None:
    found = oncall(shifts('shift: night, from: "20:00", to: "08:00", tz: Europe/Berlin, call: europe',
                          'shift: day, from: "08:00", to: "20:00", tz: Europe/Berlin, call: lead'))  # fmt: skip
    assert faults(found) == []
    roster = coverage.Roster.of(found, remit(found), *YEAR)
    lengths = {(turn.end - turn.begin) // 3600 for turn in roster.turns[1:-1] if turn.duty.name == "night"}
    assert lengths == {11, 12, 13}  # the nights in which the clock is changed


def test_regions_with_shifts_of_their_own_and_all_others() -> None:
    found = oncall(shifts('shift: eu, regions: [eu, uk], tz: Europe/Berlin, call: europe',
                          'shift: rest, regions: [us, apac], tz: UTC, call: america'))  # fmt: skip
    assert [on(found, "2026-06-15T12:00Z", region) for region in ("eu", "uk", "us", "mars")] == [
        "europe",
        "europe",
        "america",
        None,
    ]
    assert faults(found) == []  # what no shift names is nobody's, and nobody's is the fallback's


class TestExceptions:
    def test_a_turn_is_taken_over_whole_until_the_next_one_begins(self) -> None:
        found = oncall(SUN + "    overrides:\n      - {shift: eu, on: 2026-03-10, call: lead}\n")
        assert faults(found) == []
        expected = {"06:59": "asia", "07:00": "lead", "13:59": "lead", "14:00": "america"}
        assert {time: on(found, f"2026-03-10T{time}Z") for time in expected} == expected
        assert on(found, "2026-03-11T12:00Z") == "europe"

    def test_a_turn_of_a_shift_around_the_clock_is_a_day_of_it(self) -> None:
        found = oncall(
            shifts("shift: all, tz: Europe/Berlin, call: europe", overrides='shift: all, on: ["2026-12-25"], call: lead')
        )
        assert faults(found) == []
        times = ("2026-12-24T22:59Z", "2026-12-24T23:00Z", "2026-12-25T22:59Z", "2026-12-25T23:00Z")
        assert [on(found, time) for time in times] == ["europe", "lead", "lead", "europe"]

    def test_a_turn_over_midnight_ends_the_day_after(self) -> None:
        night = 'shift: night, from: "20:00", to: "08:00", tz: UTC, call: europe'
        found = oncall(shifts(night, overrides="shift: night, on: 2026-12-24, call: lead"))
        times = ("2026-12-24T19:59Z", "2026-12-24T20:00Z", "2026-12-25T07:59Z", "2026-12-25T20:00Z")
        assert [on(found, time) for time in times] == [None, "lead", "lead", "europe"]

    def test_whole_days_and_stretches_by_a_clock_of_their_own(self) -> None:
        lines = SUN + (
            "    overrides:\n      - {on: [2026-12-25, 2026-12-26], tz: Europe/Berlin, call: lead}\n"
            "      - {from: 2026-12-31T18:00, to: 2027-01-02T06:00, tz: Asia/Tokyo, regions: [eu], call: phone}\n"
        )
        found = oncall(lines)
        assert faults(found) == []
        assert on(found, "2026-12-25T12:00Z") == on(found, "2026-12-26T22:59Z") == "lead"
        assert on(found, "2026-12-26T23:00Z") != "lead"
        assert on(found, "2026-12-31T09:00Z") == on(found, "2027-01-01T20:59Z") == "phone"
        assert on(found, "2026-12-31T09:00Z", region="us") == "europe"

    def test_of_a_shift_that_does_not_take_an_alert_means_nothing_for_it(self) -> None:
        found = oncall(
            shifts(
                "shift: eu, regions: [eu], tz: UTC, call: europe",
                "shift: us, regions: [us], tz: UTC, call: america",
                overrides="shift: eu, on: 2026-12-25, call: lead",
            )
        )
        assert [on(found, "2026-12-25T12:00Z", region) for region in ("eu", "us")] == ["lead", "america"]

    def test_two_at_once_are_a_mistake(self) -> None:
        overrides = (
            "    overrides:\n      - {on: 2026-12-25, tz: UTC, call: lead}\n      - {on: 2026-12-25, tz: UTC, call: phone}\n"
        )
        (fault,) = faults(oncall(SUN + overrides))
        assert fault.path == ("queues", "media", "overrides", 1)
        assert "change its times" in fault.message


def test_the_horizon_is_two_years_from_the_first_of_january() -> None:
    assert [datetime.fromtimestamp(t, UTC).date().isoformat() for t in YEAR] == ["2026-01-01", "2028-01-01"]
    assert at("2026-06-01T00:00Z") in range(*YEAR)
