"""Shifts and exceptions → windows of wall time in which somebody is on: the one thing that routing writes, coverage checks and
`probe oncall` answers from.

A window has its begin and end on one clock. A shift that lasts until the next one begins, in another zone, ends on a clock that
is not its own: in the weeks in which Europe and America disagree about summer, by an hour. It is written as a window that is
long enough for the whole year, muted from the next one's begin, by that one's clock. What that comes to is not trusted: it is
laid over the calendar again (`coverage`).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from probe.rules.walltime import DAY, Spans, Window, between, local, openings, spans, weekly, without
from probe.scenario.oncall import DAY as MINUTES
from probe.scenario.oncall import OnCall, Override, Paged, Shift

_EDGE = 9 * DAY  # what begins before a horizon may last into it


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Somebody, and when: in `active` and not in `muted`. `path`: of its lines in the file; `exception`: overrides a shift;
    `handed`: ends when the next one begins."""

    name: str
    call: str
    backup: str
    tz: str
    path: tuple[str | int, ...]
    active: tuple[Window, ...]
    muted: tuple[Window, ...] = ()
    exception: bool = False
    handed: bool = False
    why: str = ""

    def on(self, begin: int, end: int) -> Spans:
        """When, between two Unix times."""
        return without(spans(self.active, begin, end), spans(self.muted, begin, end))


@dataclass(frozen=True, slots=True)
class Remit:
    """Alerts that the same people take: of one queue and severity, in these regions; empty: in every region that no other remit
    of that queue and severity names. `elsewhere`: there are such others."""

    queue: str
    severity: Paged
    regions: tuple[str, ...]
    elsewhere: bool

    @property
    def words(self) -> str:
        where = ", ".join(self.regions) or ("any other region" if self.elsewhere else "every region")
        return f"queue {self.queue}, {self.severity}, {where}"


def remits(oncall: OnCall, severity: Paged, queue: str) -> tuple[Remit, ...]:
    """Of a queue and severity, each region in one; the one of all regions not named comes last."""
    found = oncall.queues[queue]
    turns = [turn for turn in (*found.shifts, *found.overrides) if severity in turn.severities]
    named = sorted({region for turn in turns for region in turn.regions})
    groups: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    for region in named:
        groups[tuple(i for i, turn in enumerate(turns) if not turn.regions or region in turn.regions)].append(region)
    parts = [Remit(queue, severity, tuple(regions), True) for regions in groups.values()]
    return (*parts, Remit(queue, severity, (), bool(named)))


def remit_of(oncall: OnCall, severity: Paged, queue: str, region: str) -> Remit:
    """The one that a region's alerts belong to."""
    found = remits(oncall, severity, queue)
    return next((remit for remit in found if region in remit.regions), found[-1])


def duties(oncall: OnCall, remit: Remit, begin: int, end: int) -> tuple[Duty, ...]:
    """Everybody who is on in a remit. Clocks of different zones are compared over the horizon from `begin` to `end`."""
    queue = oncall.queues[remit.queue]
    shifts = taking(oncall, remit)
    here = [shift for _, shift in shifts]
    others = [(i, override) for i, override in enumerate(queue.overrides) if _takes(override, remit)]
    regular = [_duty(remit, i, shift, here, begin, end) for i, shift in shifts]
    made = (_exception(remit, i, override, here) for i, override in others)
    exceptions = [duty for duty in made if duty is not None]
    away = tuple(window for duty in exceptions for window in duty.active)
    return (*(replace(duty, muted=(*duty.muted, *away)) for duty in regular), *exceptions)


def taking(oncall: OnCall, remit: Remit) -> list[tuple[int, Shift]]:
    """The shifts that take a remit's alerts, by their place in the queue."""
    return [(i, shift) for i, shift in enumerate(oncall.queues[remit.queue].shifts) if _takes(shift, remit)]


def _takes(turn: Shift | Override, remit: Remit) -> bool:
    if remit.severity not in turn.severities:
        return False
    return not turn.regions or (bool(remit.regions) and remit.regions[0] in turn.regions)


def _duty(remit: Remit, index: int, shift: Shift, shifts: Sequence[Shift], begin: int, end: int) -> Duty:
    active: tuple[Window, ...]
    muted: tuple[Window, ...] = ()
    if shift.end is not None:
        active = weekly(shift.tz, shift.days, shift.begin, shift.end + (MINUTES if shift.end < shift.begin else 0))
    else:
        active, muted = _until_next(shift, shifts, begin - _EDGE, end + _EDGE)
    return Duty(
        name=shift.name,
        call=shift.call,
        backup=shift.backup or shift.call,
        tz=shift.tz,
        path=("queues", remit.queue, "shifts", index),
        active=active,
        muted=muted,
        handed=shift.end is None,
    )


def _until_next(shift: Shift, shifts: Sequence[Shift], begin: int, end: int) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """Windows of a shift that lasts until the next begins: long enough for every turn, and what of that is the next one's."""
    events = sorted((at, i) for i, one in enumerate(shifts) for at in begins(one, begin, end))
    me = shifts.index(shift)
    turns: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # by weekday: minutes it lasts to, event that ends it
    for n, (at, i) in enumerate(events[:-1]):
        if i == me:
            midnight = local(at, shift.tz).date()
            turns[midnight.weekday()].append((_minutes_since(midnight, events[n + 1][0], shift.tz), n + 1))
    longest = {weekday: max(lasts for lasts, _ in found) for weekday, found in turns.items()}
    mute: defaultdict[tuple[str, int, int], int] = defaultdict(int)  # zone, weekday and begin → end of what is the next one's
    for weekday, found in turns.items():
        for lasts, n in found:
            at, i = events[n]
            if lasts < longest[weekday] and i != me:
                day = local(at, shifts[i].tz).date()
                key = (shifts[i].tz, day.weekday(), shifts[i].begin)
                mute[key] = max(mute[key], shifts[i].begin + longest[weekday] - lasts)
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for weekday, lasts in longest.items():
        by_length[lasts].append(weekday)
    active = tuple(w for lasts, days in by_length.items() for w in weekly(shift.tz, days, shift.begin, lasts))
    by_times: defaultdict[tuple[str, int, int], list[int]] = defaultdict(list)
    for (tz, weekday, since), until in mute.items():
        by_times[tz, since, until].append(weekday)
    return active, tuple(w for (tz, since, until), days in by_times.items() for w in weekly(tz, days, since, until))


def begins(shift: Shift, begin: int, end: int) -> tuple[int, ...]:
    """When its turns begin, Unix seconds: the first moment of each of its days at which its clock is there or further."""
    return _begins(Window(shift.tz, shift.begin, MINUTES, shift.days), begin, end)


@functools.lru_cache(maxsize=256)  # asked for by every other shift of the queue
def _begins(window: Window, begin: int, end: int) -> tuple[int, ...]:
    found: dict[date, int] = {}
    for at, _ in openings(window, begin - 2 * DAY, end):
        found.setdefault(local(at, window.tz).date(), at)  # a clock set back passes twice
    return tuple(at for at in found.values() if at >= begin)


def _minutes_since(midnight: date, at: int, tz: str) -> int:
    """By the clock of the zone."""
    wall = local(at, tz).replace(tzinfo=None) - datetime.combine(midnight, time())
    return int(wall.total_seconds()) // 60


def _exception(remit: Remit, index: int, override: Override, shifts: Sequence[Shift]) -> Duty | None:
    """None where the shift that it is about takes none of the remit's alerts."""
    shift = next((shift for shift in shifts if shift.name == override.shift), None)
    if override.shift is not None and shift is None:
        return None
    tz = override.tz or (shift.tz if shift else "")
    first = override.on[0] if override.on else override.begin.date() if override.begin else None
    return Duty(
        name=f"{shift.name} {first}" if shift else str(first),
        call=override.call,
        backup=override.backup or override.call,
        tz=tz,
        path=("queues", remit.queue, "overrides", index),
        active=tuple(_windows(override, tz, shift, shifts)),
        exception=True,
        why=override.why,
    )


def _windows(override: Override, tz: str, shift: Shift | None, shifts: Sequence[Shift]) -> Iterator[Window]:
    if override.begin is not None and override.end is not None:
        yield from between(tz, override.begin, override.end)
    for day in override.on:
        if shift is None:
            yield Window(tz, 0, MINUTES, on=day)
        else:
            yield from between(tz, *_turn(shift, shifts, day))


def _turn(shift: Shift, shifts: Sequence[Shift], day: date) -> tuple[datetime, datetime]:
    """A shift's turn that begins on a day, by its own clock."""
    midnight = datetime.combine(day, time())
    begin = midnight + timedelta(minutes=shift.begin)
    if shift.end is not None:
        return begin, midnight + timedelta(minutes=shift.end + (MINUTES if shift.end < shift.begin else 0))
    around = int(midnight.replace(tzinfo=UTC).timestamp()) - DAY
    events = sorted((at, i) for i, one in enumerate(shifts) for at in begins(one, around, around + _EDGE))
    mine = next(n for n, (at, i) in enumerate(events) if shifts[i] is shift and local(at, shift.tz).date() == day)
    return begin, local(events[mine + 1][0], shift.tz).replace(tzinfo=None)
