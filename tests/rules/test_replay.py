"""Replay against counting by hand, and how soon an alert notices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.model.clock import NS
from probe.rules.alerts import alerts
from probe.rules.conditions import Alert, Below, Burn, Condition, Kind, Silent
from probe.rules.detect import detect
from probe.rules.fleet import Severity, Slo
from probe.rules.replay import INTERVAL, Firing, Grid, Tally, firings, merged, spans
from tests.rules.fleets import DAY, HOUR, MINUTE, fleet, slos

SLO = replace(slos(("eu",), 60)[0], target=0.9)


def alert(*conditions: Condition, hold: int = 0, keep: int = 0, slo: Slo | None = SLO) -> Alert:
    return Alert(
        name="a", kind=Kind.BURN, severity=Severity.P1, slo=slo, by=(), conditions=conditions, hold=hold, keep=keep, expr=""
    )  # fmt: skip


def counted(grid: Grid, times: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return grid.counted(np.array(times, dtype=np.int64))


def by_hand(a: Alert, good: list[int], bad: list[int], grid: Grid) -> list[Firing]:
    """The same, one evaluation after the other, from the words of Prometheus' documentation."""
    out: list[Firing] = []
    pending: int | None = None
    over: int | None = None
    for step in range(grid.steps):
        now = grid.at(step)
        holds = any(_asked(c, good, bad, now, 1 - SLO.target) for c in a.conditions)
        last = out[-1] if out and out[-1].ended is None else None
        if not holds:
            pending = None
            over = now if over is None else over
            if last is not None and now - over >= a.keep:
                out[-1] = replace(last, ended=now)
            continue
        over = None
        pending = now if pending is None else pending
        if last is None and now - pending >= a.hold:
            out.append(Firing(pending, now, None))
    return out


def _asked(condition: Condition, good: list[int], bad: list[int], now: int, budget: float) -> bool:
    def within(times: list[int], window: int) -> int:
        return sum(now - window < at <= now for at in times)

    match condition:
        case Burn():
            every = [(within(bad, w), within(bad, w) + within(good, w)) for w in (condition.short, condition.long)]
            above = all(b > condition.factor * budget * n for b, n in every)
            return above and every[1][0] >= condition.bad and every[0][0] >= condition.fresh
        case Below():
            b, n = within(bad, condition.window), within(good, condition.window)
            return n + b >= condition.runs and b >= condition.bad and b > (1 - condition.ratio) * (n + b)
        case Silent():
            raise AssertionError


MOMENTS = st.lists(st.integers(1, 40 * INTERVAL), max_size=60)


@settings(max_examples=120, deadline=None)
@given(
    MOMENTS, MOMENTS, st.sampled_from([0, INTERVAL, 3 * INTERVAL]), st.sampled_from([0, INTERVAL, 5 * INTERVAL // 2]),
    st.integers(0, 3), st.integers(0, 2), st.sampled_from([2.0, 4.0]),
)  # fmt: skip
def test_a_replayed_alert_fires_as_counting_by_hand_says(
    good: list[int], bad: list[int], hold: int, keep: int, least: int, fresh: int, factor: float
) -> None:
    grid = Grid(began=0, steps=40)
    a = alert(
        Burn(short=2 * INTERVAL, long=8 * INTERVAL, factor=factor, bad=least, fresh=fresh),
        Below(window=5 * INTERVAL, ratio=0.6, runs=3, bad=least),
        hold=hold,
        keep=keep,
    )
    found = firings(a, Tally(grid, good=counted(grid, good), bad=counted(grid, bad)))
    assert found == by_hand(a, good, bad, grid)


def test_a_run_counts_from_the_first_evaluation_that_is_not_before_it_and_only_within_the_grid() -> None:
    grid = Grid(began=100, steps=3, interval=10)
    assert grid.ended == 130 and [grid.at(n) for n in range(3)] == [110, 120, 130]
    assert counted(grid, [100, 101, 110, 111, 130, 131]).tolist() == [0, 2, 3, 4]


def test_of_nothing_no_share_is_bad_and_no_alert_fires() -> None:
    grid = Grid(began=0, steps=4)
    tally = Tally(grid, good=counted(grid, []), bad=counted(grid, []))
    assert np.isnan(tally.bad_share(INTERVAL)).all()
    assert not firings(alert(Burn(short=INTERVAL, long=INTERVAL, factor=0)), tally)
    assert not firings(alert(Below(window=INTERVAL, ratio=1, runs=0)), tally)


def test_silence_is_what_was_due_and_not_made_and_without_an_inventory_there_is_none() -> None:
    grid = Grid(began=0, steps=60)
    due = [n * INTERVAL for n in range(1, 61)]
    made = [at for at in due if not 20 * INTERVAL < at <= 40 * INTERVAL]
    none = counted(grid, [])
    silent = alert(Silent(window=10 * INTERVAL, share=0.5), slo=None)
    (found,) = firings(silent, Tally(grid, good=none, bad=none, made=counted(grid, made), due=counted(grid, due)))
    assert found.began == 26 * INTERVAL and found.ended == 45 * INTERVAL
    assert not firings(silent, Tally(grid, good=none, bad=none))


def test_a_stretch_shorter_than_for_never_fires_and_one_at_the_end_has_no_end() -> None:
    grid = Grid(began=0, steps=8)
    flags = np.array([1, 1, 0, 1, 1, 1, 1, 1], dtype=np.bool_)
    assert spans(flags, grid, 2 * INTERVAL) == [Firing(4 * INTERVAL, 6 * INTERVAL, None)]
    assert spans(flags, grid) == [Firing(INTERVAL, INTERVAL, 3 * INTERVAL), Firing(4 * INTERVAL, 4 * INTERVAL, None)]


def test_what_comes_again_within_its_keeping_is_the_same_firing_without_waiting_anew() -> None:
    grid = Grid(began=0, steps=10)
    flags = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 1], dtype=np.bool_)
    first = Firing(INTERVAL, 2 * INTERVAL, 8 * INTERVAL)
    assert spans(flags, grid, INTERVAL, 2 * INTERVAL) == [first]
    assert spans(flags, grid, INTERVAL, INTERVAL) == [replace(first, ended=4 * INTERVAL)]
    assert spans(flags, grid, 0, 2 * INTERVAL)[-1] == Firing(10 * INTERVAL, 10 * INTERVAL, None)


def test_firings_that_overlap_or_follow_soon_are_one() -> None:
    first, second, third = Firing(0, 10, 20), Firing(15, 18, 30), Firing(33, 34, None)
    assert merged([third, first, second]) == [Firing(0, 10, 30), third]
    assert merged([first, second, third], 5) == [Firing(0, 10, None)]
    assert merged([Firing(0, 1, None), first]) == [Firing(0, 1, None)]
    assert merged([]) == []


@pytest.mark.parametrize(("strays", "pages"), [(1, 1), (2, 2)])
def test_after_an_incident_one_stray_failure_does_not_page_again_and_two_at_once_do(strays: int, pages: int) -> None:
    page = next(a for a in alerts(fleet(every=4 * MINUTE)) if a.severity is Severity.P1 and a.slo)
    grid = Grid(began=0, steps=12 * HOUR // INTERVAL)
    runs = range(4 * MINUTE, 12 * HOUR, 4 * MINUTE)
    down = [at for at in runs if 4 * HOUR <= at < 5 * HOUR]
    later = [at for at in runs if at >= 7 * HOUR][:strays]
    good = [at for at in runs if at not in (*down, *later)]
    assert len(firings(page, Tally(grid, good=counted(grid, good), bad=counted(grid, [*down, *later])))) == pages


@pytest.mark.parametrize("every", [MINUTE, 4 * MINUTE])
def test_total_loss_is_noticed_after_the_failures_the_rule_asks_for_and_a_loss_within_the_promise_never(every: int) -> None:
    page = next(a for a in alerts(fleet(every=every)) if a.severity is Severity.P1 and a.slo)
    rate = HOUR / every
    found = detect(page, rate)
    assert found is not None
    assert found.took == pytest.approx(found.failures * every, abs=every)
    assert 2 <= found.failures <= 8 and 0 < found.reset <= 2 * HOUR
    assert detect(page, rate, 0.002) is None


def test_a_slow_loss_takes_a_ticket_longer_and_silence_is_noticed_too() -> None:
    ticket = alert(Burn(short=2 * HOUR, long=DAY, factor=3), slo=replace(SLO, target=0.995))
    found = detect(ticket, 60, 0.02)
    assert found is not None and 10 * HOUR < found.took < 20 * HOUR and 10 <= found.failures <= 25
    silent = detect(alert(Silent(window=20 * MINUTE, share=0.5), slo=None), 60)
    assert silent is not None and 10 * MINUTE < silent.took <= 12 * MINUTE and 9 * MINUTE < silent.reset < 12 * MINUTE


def test_windows_that_need_a_coarser_look_still_fit() -> None:
    slow = alert(Burn(short=5 * DAY, long=60 * DAY, factor=1), slo=replace(SLO, target=0.99))
    found = detect(slow, 4, 0.05, interval=NS)
    assert found is not None and found.took > 5 * DAY
