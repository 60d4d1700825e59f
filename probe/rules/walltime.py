"""Stretches of wall time, and what they come to in Unix time: exactly what Alertmanager's `time_intervals` mean.

Alertmanager (timeinterval.go) looks at the wall clock of a `location`, to the minute: a time is in if start ≤ HH:MM < end, on
these weekdays or that date. So where a clock is set back, 02:30 comes twice and is in twice; where it is set forward, it never
comes. The same is done here: over each stretch of constant offset, wall time is Unix time shifted, and nothing is guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
Spans = tuple[tuple[int, int], ...]  # Unix seconds, sorted, apart from each other; ends are not in them


@dataclass(frozen=True, slots=True)
class Window:
    """`start` to `end`, minutes of the day (end at most 1440), on weekdays (0: Monday) or on one date, by the clock of `tz`."""

    tz: str
    start: int
    end: int
    weekdays: tuple[int, ...] = ()
    on: date | None = None


def spans(windows: Iterable[Window], begin: int, end: int) -> Spans:
    """When any of the windows is open, between two Unix times."""
    return joined(span for window in windows for span in openings(window, begin, end))


def openings(window: Window, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """When it is open, a stretch a day; two where a clock set back passes it twice."""
    for since, until, offset in _offsets(window.tz, begin, end):
        first, last = (since + offset) // DAY, (until + offset - 1) // DAY
        if window.on is not None:
            day = window.on.toordinal() - _EPOCH
            days: Iterable[int] = (day,) if first <= day <= last else ()
        else:
            days = (day for day in range(first, last + 1) if (day + 3) % 7 in window.weekdays)  # 1970 began on a Thursday
        for day in days:
            opens = max(since, day * DAY + window.start * 60 - offset)
            closes = min(until, day * DAY + window.end * 60 - offset)
            if opens < closes:
                yield opens, closes


@functools.lru_cache(maxsize=256)
def _offsets(tz: str, begin: int, end: int) -> tuple[tuple[int, int, int], ...]:
    """Stretches of constant offset: since, until, seconds to add to Unix time."""
    zone = ZoneInfo(tz)

    def offset(at: int) -> int:
        found = datetime.fromtimestamp(at, zone).utcoffset()
        assert found is not None
        return int(found.total_seconds())

    out, since, now = [], begin, offset(begin)
    for at in range(begin + DAY, end + DAY, DAY):  # no zone changes twice within a day
        at = min(at, end)
        if offset(at) != now:
            low, high = at - DAY, at
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == now else (low, middle)
            out.append((since, high, now))
            since, now = high, offset(high)
    return (*out, (since, end, now))


def joined(parts: Iterable[tuple[int, int]]) -> Spans:
    """Their union."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(parts):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return tuple(out)


def without(these: Spans, those: Spans) -> Spans:
    """What of these is in none of those."""
    out: list[tuple[int, int]] = []
    first = 0  # of those that may still touch what comes
    for begin, end in these:
        while first < len(those) and those[first][1] <= begin:
            first += 1
        at = first
        while at < len(those) and those[at][0] < end:
            low, high = those[at]
            if low > begin:
                out.append((begin, low))
            begin, at = max(begin, high), at + 1
        if begin < end:
            out.append((begin, end))
    return tuple(out)


def between(tz: str, begin: datetime, end: datetime) -> tuple[Window, ...]:
    """From one local moment to another, a window a day."""
    out, day = [], begin.date()
    while day <= end.date():
        start = _minutes(begin) if day == begin.date() else 0
        stop = _minutes(end) if day == end.date() else 1440
        if start < stop:
            out.append(Window(tz, start, stop, on=day))
        day += timedelta(days=1)
    return tuple(out)


def weekly(tz: str, weekdays: Sequence[int], start: int, end: int) -> tuple[Window, ...]:
    """From `start` on these days to `end`, minutes since that day's midnight and beyond it where over 1440; a window a day."""
    out = []
    for later in range((end - 1) // 1440 + 1):
        low, high = max(start - later * 1440, 0), min(end - later * 1440, 1440)
        if low < high:
            out.append(Window(tz, low, high, tuple(sorted((day + later) % 7 for day in weekdays))))
    return tuple(out)


def local(at: int, tz: str) -> datetime:
    """A Unix time by the clock of a zone."""
    return datetime.fromtimestamp(at, ZoneInfo(tz))


def year(of: int) -> tuple[int, int]:
    """Two years of Unix time, from the first moment (UTC) of the one that `of` lies in: every change of clocks at least once."""
    first = datetime.fromtimestamp(of, UTC).year
    return int(datetime(first, 1, 1, tzinfo=UTC).timestamp()), int(datetime(first + 2, 1, 1, tzinfo=UTC).timestamp())


def _minutes(moment: datetime) -> int:
    return moment.hour * 60 + moment.minute
