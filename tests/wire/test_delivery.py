"""A second of a segmented player's life: counts within it, and the wait beyond what a part lasts."""

from __future__ import annotations

import pytest

from probe.model.clock import MS, NS
from probe.model.observation import Delivery
from probe.wire.delivery import Meter


def tick(meter: Meter, now: int, pace: float = 0.2) -> Delivery:
    return meter.tick(now, pace=pace, unmoved=0.0, live_latency=None, buffered=None)


def test_counts_are_of_the_second_and_not_cumulative():
    meter = Meter()
    meter.reloaded(0)
    meter.reloaded(1)
    meter.discontinuity()
    told = tick(meter, NS)
    assert (told.reloads, told.discontinuities, told.backwards, told.part_gap) == (2, 1, 1, None)
    meter.reloaded(1)
    told = tick(meter, 2 * NS)
    assert (told.reloads, told.discontinuities, told.backwards) == (1, 0, 0)


def test_the_gap_is_the_longest_wait_beyond_the_parts_own_duration():
    meter = Meter()
    for at in (0, 200, 700, 900):
        meter.came(at * MS, 0.2)
    assert tick(meter, NS).part_gap == pytest.approx(0.3)


def test_parts_that_come_at_once_have_no_gap_and_none_is_not_0():
    meter = Meter()
    assert tick(meter, NS).part_gap is None
    for at in (1000, 1010, 1020):
        meter.came(at * MS, 0.2)
    assert tick(meter, 1030 * MS).part_gap == 0.0


def test_a_wait_under_way_is_told_as_far_as_it_has_come():
    meter = Meter()
    meter.came(0, 0.2)
    assert tick(meter, NS).part_gap == pytest.approx(0.8)
    assert tick(meter, 2 * NS).part_gap == pytest.approx(1.8)


def test_what_was_not_asked_for_was_not_waited_for():
    meter = Meter()
    meter.came(0, 0.2)
    meter.rested()
    assert tick(meter, 5 * NS).part_gap is None
