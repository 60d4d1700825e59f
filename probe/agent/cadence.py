"""How often a schedule asks for runs, as rules must know it: how dense they are while they come, and for what share of the time.

Both are looked at over one week, a Monday to a Sunday that has no change of clocks anywhere: rules are made once, and a schedule
of working hours is the same to them in June. Blackouts and `only` of one date are no habit and count as if they were not there,
unless the schedule has nothing else. Chosen not to: a calendar of what is due when, which Prometheus could not hold anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from probe.agent.schedule import Cron, Entry, Every, Recurring
from probe.model.clock import NS

HOUR, WEEK = 3_600 * NS, 7 * 86_400 * NS
_MONDAY = 1_767_571_200 * NS  # 2026-01-05 00:00 UTC
_LOOK = 600 * NS  # between looks at windows
_GAP = 1.5  # times the usual gap between slots: longer is a pause


@dataclass(frozen=True, slots=True)
class Cadence:
    """`runs_per_hour` while they come; `share` of a week in which they do, 0 < share ≤ 1."""

    runs_per_hour: float
    share: float


def cadence(entry: Entry) -> Cadence:
    """Of one schedule."""
    per_hour, share = _slots(entry.when)
    return Cadence(per_hour, share * _wanted(entry))


def _slots(when: Every | Cron) -> tuple[float, float]:
    if isinstance(when, Every):
        return HOUR / when.period, 1.0
    slots = [when.after(_MONDAY - 1)]
    while slots[-1] < _MONDAY + WEEK:  # the first one behind it too: its gap is the week's last
        slots.append(when.after(slots[-1]))
    gaps = [later - earlier for earlier, later in pairwise(slots)]
    if not gaps:  # less than once a week
        return HOUR / (when.after(slots[0]) - slots[0]), 1.0
    usual = median(gaps)
    paused = sum(gap - usual for gap in gaps if gap > _GAP * usual)
    return HOUR / usual, max(0.0, 1 - paused / sum(gaps))


def _wanted(entry: Entry) -> float:
    """The share of a week that `only` and blackouts leave."""
    only = [window for window in entry.only if isinstance(window, Recurring)]
    blackouts = [window for window in entry.blackouts if isinstance(window, Recurring)]
    if not only and not blackouts:
        return 1.0
    looks = range(_MONDAY, _MONDAY + WEEK, _LOOK)
    wanted = sum((not only or any(w.holds(at) for w in only)) and not any(w.holds(at) for w in blackouts) for at in looks)
    return max(wanted, 1) / len(looks)
