"""When runs are due: the grid, cron across daylight saving, what holds a slot, and a clock that is stepped."""

from __future__ import annotations

import itertools
import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.agent.schedule import Cron, Entry, Every, Recurring, Room, Schedule, Span
from probe.model.clock import NS

MINUTE = 60 * NS
START = 1_700_000_000 * NS
PLENTY = Room(10)


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * NS


def entry(name: str = "a", **more) -> Entry:
    return Entry(**{"name": name, "scenario": name, "when": Every(MINUTE), "jitter": 0.0, **more})


def schedule(*entries: Entry, now: int = START, seed: int = 1, agent: str = "x") -> Schedule:
    return Schedule(entries, agent=agent, now=now, rng=random.Random(seed))


def run_through(plan: Schedule, start: int, seconds: int, running=(), room: Room = PLENTY) -> list[tuple[str, int]]:
    """Ask it whenever it wants to be asked, and return what it started, by Unix second."""
    started, now = [], start
    while (now := max(plan.next_at() or start + seconds * NS, now)) < start + seconds * NS:
        started += [(due.name, now // NS) for due in plan.due(now, running, room)]
    return started


def test_one_run_a_minute_at_a_phase_that_a_restart_keeps():
    first = run_through(schedule(entry()), START, 600)
    again = run_through(schedule(entry(), seed=2), START, 600)
    assert len(first) == 10
    assert {b - a for (_, a), (_, b) in itertools.pairwise(first)} == {60}
    assert first == again


def test_agents_have_phases_of_their_own():
    phases = {run_through(schedule(entry(), agent=f"agent-{n}"), START, 60)[0][1] for n in range(20)}
    assert len(phases) > 10


def test_jitter_moves_each_start_within_its_share_of_the_gap():
    plan = schedule(entry(jitter=0.5))
    grid = run_through(schedule(entry()), START, 3600)[0][1]
    moved = [(second - grid) % 60 for _, second in run_through(plan, START, 3600)]
    assert len(moved) >= 59
    assert 15 < max(moved) <= 30
    assert len(set(moved)) > 10


def test_cron_follows_its_zone_through_daylight_saving():
    """Every day at 08:30 in Cairo; on 2026-04-24 the clock goes from UTC+2 to UTC+3."""
    plan = schedule(entry(when=Cron("30 8 * * *", "Africa/Cairo")), now=at("2026-04-22T00:00"))
    hours = [datetime.fromtimestamp(s, ZoneInfo("UTC")).hour for _, s in run_through(plan, at("2026-04-22T00:00"), 4 * 86_400)]
    assert hours == [6, 6, 5, 5]


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("* * *", "UTC", "cron expression"),
        ("99 * * * *", "UTC", "cron expression"),
        ("0 0 30 2 *", "UTC", "cron expression|never comes"),
        ("* * * * *", "Mars/Olympus", "time zone"),
        ("* * * * *", "Africa", "time zone"),
        ("* * * * *", "../etc/passwd", "time zone"),
    ],
)
def test_what_is_no_schedule_says_so(expression, zone, words):
    with pytest.raises(ValueError, match=words):
        Cron(expression, zone)


def test_a_schedule_does_not_overlap_itself_and_never_piles_up():
    plan = schedule(entry())
    assert run_through(plan, START, 601, running={"a"}) == []
    assert plan.slots["a"] == 10
    assert plan.missed == {("a", "overlap"): 9}
    assert plan.waiting() == {"a": "overlap"}
    late = plan.due(START + 601 * NS, (), PLENTY)
    assert [due.name for due in late] == ["a"]
    assert 0 < late[0].late < MINUTE


def test_two_schedules_of_one_scenario_do_not_run_at_once():
    plan = schedule(entry("a", scenario="room", run_on_start=True), entry("b", scenario="room", run_on_start=True))
    assert len(plan.due(START + NS, (), PLENTY)) == 1
    assert list(plan.waiting().values()) == ["overlap"]


def test_the_budget_holds_runs_back_in_order_and_a_large_one_is_not_starved():
    big = entry("big", bandwidth=80, run_on_start=True)
    small = [entry(f"s{n}", bandwidth=10, run_on_start=True) for n in range(3)]
    plan = schedule(big, *small)
    plan.due(START, ("other",), Room(0))
    assert plan.waiting() == dict.fromkeys(("big", "s0", "s1", "s2"), "budget")
    assert plan.due(START + 1, (), Room(5, 50)) == []  # not the small ones before it
    assert [due.name for due in plan.due(START + 2, (), Room(5, 95))] == ["big", "s0"]
    assert [due.name for due in plan.due(START + 3, (), Room(1, 95))] == ["s1"]


def test_blackouts_count_and_windows_bound():
    dark = Recurring(Cron("0 3 * * *", "Asia/Jakarta"), 60 * MINUTE)
    plan = schedule(entry(blackouts=(dark,)), now=at("2026-03-01T02:00", "Asia/Jakarta"))
    started = run_through(plan, at("2026-03-01T02:00", "Asia/Jakarta"), 3 * 3600)
    assert len(started) == 120
    assert plan.missed == {("a", "blackout"): 60}
    event = Span(at("2026-03-02T10:00"), at("2026-03-02T10:30"))
    plan = schedule(entry(only=(event,)), now=at("2026-03-01T00:00"))
    started = run_through(plan, at("2026-03-01T00:00"), 4 * 86_400)
    assert len(started) == 30
    assert all(event.holds(second * NS) for _, second in started)
    assert plan.next_at() is None


def test_what_waits_when_a_blackout_begins_does_not_start_in_it():
    dark = Span(START + 90 * NS, START + 600 * NS)
    plan = schedule(entry(blackouts=(dark,), run_on_start=True, jitter=0.0))
    assert plan.due(START, (), Room(0)) == []
    assert plan.waiting() == {"a": "budget"}
    assert plan.due(START + 95 * NS, (), PLENTY) == []
    assert plan.waiting() == {}
    assert plan.missed["a", "blackout"] >= 1
    assert sum(plan.slots.values()) == sum(plan.missed.values())


def test_a_clock_stepped_forward_starts_one_run_and_counts_the_rest():
    plan = schedule(entry())
    now = START + 7200 * NS
    assert len(plan.due(now, (), PLENTY)) == 1
    assert plan.missed == {("a", "late"): 119}
    assert now < (plan.next_at() or 0) <= now + MINUTE


def test_a_clock_stepped_back_goes_on_within_one_period():
    plan = schedule(entry())
    plan.due(START + 3600 * NS, (), PLENTY)
    back = START - 86_400 * NS
    plan.due(back, (), PLENTY)
    assert back < (plan.next_at() or 0) <= back + MINUTE


def test_a_jump_of_a_year_costs_no_more_than_a_thousand_slots():
    plan = schedule(entry(when=Every(NS)), entry("cron", when=Cron("* * * * *")))
    assert len(plan.due(START + 366 * 86_400 * NS, (), PLENTY)) == 2
    assert plan.slots == {"a": 1000, "cron": 1000}


def test_a_new_configuration_keeps_what_did_not_change():
    plan = schedule(entry("a"), entry("b"))
    before = plan.next_at()
    plan.due(START + 61 * NS, {"a", "b"}, PLENTY)
    plan.replace([entry("a"), entry("b", when=Every(2 * MINUTE)), entry("c", run_on_start=True)], START + 62 * NS)
    assert plan.waiting() == {"a": "overlap"}
    assert plan.missed == {("b", "overlap"): 1}
    assert before is not None
    names = {name for name, _ in run_through(plan, START + 62 * NS, 200)}
    assert names == {"a", "b", "c"}
    plan.replace([], START + 300 * NS)
    assert plan.next_at() is None


@given(
    steps=st.lists(st.integers(-(10**12), 10**12), max_size=30),
    busy=st.lists(st.booleans(), min_size=30, max_size=30),
    runs=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_every_slot_is_started_missed_or_waiting_whatever_the_clock_does(steps, busy, runs, seed):
    entries = [entry("a", jitter=0.5), entry("b", scenario="a", when=Cron("*/7 * * * *")), entry("c", when=Every(3 * NS))]
    plan = schedule(*entries, seed=seed)
    now, started = START, 0
    for step, taken in zip(steps, busy, strict=False):
        now = max(now + step, NS)
        started += len(plan.due(now, {"a"} if taken else (), Room(runs)))
        assert sum(plan.slots.values()) == started + sum(plan.missed.values()) + len(plan.waiting())
        upcoming = plan.next_at()
        assert upcoming is not None and upcoming > now


# -- what was due before


def test_the_slots_before_are_those_that_came_before():
    made = schedule(entry(), entry("b", when=Cron("*/5 * * * *")))
    ran = [second for name, second in run_through(made, START, 1800) if name == "a"]
    later = START + 1800 * NS
    assert [slot // NS for slot in made.past("a", START, later)] == ran
    assert len(made.past("b", START, later)) == 6
    assert made.past("nobody", START, later) == [] and made.past("a", later, START) == []


def test_no_slot_before_was_in_a_blackout_or_outside_the_hours_a_run_is_wanted_in():
    hour = 3600 * NS
    made = schedule(
        entry(only=(Span(START, START + hour),), blackouts=(Span(START + 600 * NS, START + 1200 * NS),)), now=START + 2 * hour
    )
    slots = made.past("a", START - hour, START + 2 * hour)
    assert len(slots) == 50 and all(START <= slot < START + hour for slot in slots)


def test_of_very_many_slots_before_the_latest_are_told():
    made = schedule(entry(when=Every(NS)))
    slots = made.past("a", 0, START)
    assert len(slots) <= 20_000 and START - slots[-1] <= NS
