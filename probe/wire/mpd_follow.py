"""Following a live manifest: where to start, which segment is next and from when on, whether the manifest still moves.

Two ways of saying what is there (ISO/IEC 23009-1 §5.3.9.5, DASH-IF IOP part 5). A timeline lists it: what is listed can be had,
and the list has to be loaded again and again. A duration computes it: a segment is there from the moment its end (less
availabilityTimeOffset) has passed on the wall clock, and the manifest may stand still for hours.

We start at the segment boundary nearest to the position the manifest asks for (ServiceDescription's latency where segments
come in chunks, else suggestedPresentationDelay, else three segments behind), of what is there by then. What left the window
before we came is skipped and counted; a timeline that ends before what was already taken is a lagging edge, until it goes on
by itself: then it is the stream, begun anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from probe.model.clock import NS
from probe.wire.mpd_facts import Manifest, Period, Representation, Spot, Template

_BEHIND = 3  # segments, where the manifest says nothing
_LEAST = 2  # segments: one is being made and one is being listed; FFmpeg asks for one, with which no buffer ever fills
_PATIENCE = 2  # segments' time that an older list is taken for a lagging edge's
_RESTART = 1 * NS  # availabilityStartTime moved by more: another presentation

Choose = Callable[[Period], Representation | None]


@dataclass(frozen=True, slots=True)
class Due:
    """A segment, and the Unix ns from which it can be had. `anew`: it does not continue what was taken before it;
    `jumped`: because we left out what lay between, to come nearer to live or for we came too late for it."""

    period: Period
    representation: Representation
    spot: Spot
    at: int
    anew: bool
    jumped: bool = False

    @property
    def duration(self) -> float:
        return self.representation.template.seconds(self.spot.duration)

    @property
    def start(self) -> float:
        """Seconds of the presentation at which it begins."""
        template = self.representation.template
        return self.period.start + template.seconds(self.spot.time - template.offset)


class Follower:
    """One kind of media of one session. `choose` picks the representation of a period, None where it has none.

    `skipped` counts segments that were left out, `backwards` how often the manifest went back, `restarts` how often we
    therefore began anew."""

    def __init__(self, choose: Choose) -> None:
        self.manifest: Manifest | None = None
        self.skipped = self.backwards = self.restarts = 0
        self._choose = choose
        self._period: Period | None = None
        self._representation: Representation | None = None
        self._last: Spot | None = None
        self._anew = True
        self._jumped = False
        self._end: tuple[float, int] | None = None  # where the newest list ended: (the period's start, ticks)
        self._older: tuple[float, int] | None = None
        self._older_since = 0
        self._unmoved_since: int | None = None

    @property
    def listed(self) -> bool:
        """What is there is listed, so the manifest has to move."""
        return self._representation is not None and self._representation.template.spans is not None

    @property
    def longest(self) -> float:
        """Seconds of the longest segment; 1.0 before anything is known."""
        return (self._representation.template.longest if self._representation else 0.0) or 1.0

    def update(self, manifest: Manifest, now: int) -> bool:
        """Take a manifest loaded at `now` (Unix ns); True when it brought something new."""
        known, self.manifest = self.manifest, manifest
        if known is not None and _another(known, manifest):
            self._begin_anew()
        newest = self._newest(manifest) or self._end  # an empty list says nothing
        if newest is None or self._end is None:
            moved = True
        else:
            moved = newest > self._end or manifest.dynamic is not (known is None or known.dynamic)
            if newest < self._end:
                moved = self._older_list(newest, now)
                if not moved:
                    self.manifest = known  # what we knew is still the most there is
        if moved:
            self._end, self._older = newest, None
        self._unmoved_since = None if moved else self._unmoved_since or now
        self._settle()
        return moved

    def unreachable(self) -> None:
        """A load failed: what we cannot see we cannot call still."""
        self._unmoved_since = None

    def unmoved(self, now: int) -> int:
        """ns for which every load brought the same list; 0 when the last brought news, or where none need come."""
        return now - self._unmoved_since if self._unmoved_since is not None and self.listed else 0

    def to_live(self, now: int) -> int:
        """Go to where a new viewer would start, never backwards; how many segments that left out."""
        manifest, last, before = self.manifest, self._last, self._period
        if manifest is None:
            return 0
        found: tuple[Period, Representation, Spot] | None = None
        for period in reversed(manifest.periods):
            representation = self._choose(period)
            spot = None if representation is None else _start(manifest, period, representation.template, now)
            if representation is not None and spot is not None:
                found = period, representation, spot
                if not _before(manifest, period, representation.template, now):
                    break
        if found is None or (before is not None and found[0].start < before.start):
            return 0
        period, representation, spot = found
        left_out = 0
        if last is not None and before is not None and before.start == period.start:
            if spot.time < last.time + 2 * last.duration - last.duration // 2:
                return 0
            left_out = max(1, spot.number - last.number - 1)
            self.skipped += left_out
            self._jumped = True
        self._at(period, representation, spot)
        return left_out

    def far_behind(self, now: int) -> bool:
        """More than two segments behind where a new viewer would start."""
        due = self._next(now)
        if due is None or self.manifest is None or not self.manifest.dynamic:
            return False
        template = due.representation.template
        live = _start(self.manifest, due.period, template, now)
        return live is not None and live.time - due.spot.time > 2 * due.spot.duration

    def begin_with(self, due: Due) -> None:
        """Start at the segment in which `due`, of another kind of media, begins."""
        for period in self.manifest.periods if self.manifest else ():
            representation = self._choose(period) if period.start == due.period.start else None
            if representation is None:
                continue
            template = representation.template
            ticks = template.offset + round((due.start - period.start) * template.timescale)
            spot = template.at_or_before(ticks)
            if spot is None or spot.time + spot.duration <= ticks:
                spot = template.at_or_after(ticks)
            if spot is not None:
                self._at(period, representation, spot)

    def next(self, now: int) -> Due | None:
        """The next segment to fetch, also before it can be had; None when none is known of yet. Taken with `take`."""
        if self._last is None:
            self.to_live(now)
        due = self._next(now)
        if due is not None and self.manifest is not None and self._left_behind(self.manifest, due, now) and self.to_live(now):
            return self._next(now)
        return due

    def _next(self, now: int) -> Due | None:
        manifest, period, representation = self.manifest, self._period, self._representation
        if manifest is None or period is None or representation is None or self._last is None:
            return None
        template, last = representation.template, self._last
        spot = template.at_or_after(max(last.time + 1, last.time + last.duration - last.duration // 2))
        if spot is not None and _beyond(period, template, spot):
            spot = None
        if spot is None:
            return self._following(manifest, period, now)
        hole = spot.time - last.time - last.duration > last.duration // 2
        due = self._due(manifest, period, representation, spot, now, self._anew or hole)
        gone = hole and template.at_or_after(0) == spot
        return replace(due, jumped=True) if self._jumped or gone else due

    def take(self, due: Due) -> None:
        """`due` is being fetched: what comes after it is next."""
        if self._representation is not None and due.spot.number > self._expected(due) and due.period is self._period:
            self.skipped += due.spot.number - self._expected(due)
        self._period, self._representation, self._last, self._anew = due.period, due.representation, due.spot, False
        self._jumped = False

    def give_up(self) -> None:
        """What was taken last will not be had."""
        self.skipped += 1
        self._anew = True

    def beyond(self, due: Due) -> bool:
        """The manifest, as it is by now, ends before `due`."""
        manifest, period, representation = self.manifest, self._period, self._representation
        if manifest is None or manifest.dynamic or period is None or representation is None or period.start != due.period.start:
            return False
        end = representation.template.end
        return _beyond(period, representation.template, due.spot) or (end is not None and due.spot.time >= end)

    def ended(self, now: int) -> bool:
        """No more will come, and everything there is was taken."""
        return self.manifest is not None and not self.manifest.dynamic and self.next(now) is None

    def _expected(self, due: Due) -> int:
        return due.spot.number if self._last is None else self._last.number + 1

    def _due(self, manifest: Manifest, period: Period, representation: Representation, spot: Spot, now: int, anew: bool) -> Due:
        template = representation.template
        at = now
        if template.spans is None and manifest.dynamic:
            at = manifest.wall(period, template, spot.time + spot.duration) - round(template.early * NS)
        return Due(period, representation, spot, at, anew)

    def _following(self, manifest: Manifest, period: Period, now: int) -> Due | None:
        """The first segment of the next period that has this kind of media."""
        for later in manifest.periods:
            if later.start <= period.start or (representation := self._choose(later)) is None:
                continue
            spot = representation.template.at_or_after(representation.template.offset)
            if spot is None:
                return None
            return self._due(manifest, later, representation, spot, now, True)
        return None

    def _left_behind(self, manifest: Manifest, due: Due, now: int) -> bool:
        template = due.representation.template
        if not manifest.dynamic:
            return False
        if template.spans is not None:
            first = template.first
            return first is not None and self._last is not None and first > self._last.time + 2 * self._last.duration
        if manifest.window is None:
            return False
        ends = manifest.wall(due.period, template, due.spot.time + due.spot.duration)
        return ends + round((manifest.window + template.longest) * NS) < now

    def _newest(self, manifest: Manifest) -> tuple[float, int] | None:
        for period in reversed(manifest.periods):
            representation = self._choose(period)
            if representation is not None and (end := representation.template.end) is not None:
                return period.start, end
        return None

    def _older_list(self, newest: tuple[float, int], now: int) -> bool:
        """A list that ends before what we know: True once it is to be believed."""
        if self._older is None:
            self.backwards += 1
            self._older, self._older_since = newest, now
            return False
        moving, self._older = newest > self._older, newest
        if not moving or now - self._older_since < _PATIENCE * self.longest * NS:
            return False
        self._begin_anew()
        return True

    def _begin_anew(self) -> None:
        self.restarts += self._last is not None
        self._period = self._representation = self._last = self._end = None
        self._anew = True

    def _settle(self) -> None:
        """The period we are in, as the newest manifest tells it."""
        if self.manifest is None or self._period is None or self._representation is None:
            return
        for period in self.manifest.periods:
            if period.start == self._period.start and (representation := self._choose(period)) is not None:
                if representation.id != self._representation.id and self._last is not None:
                    self._last = _scaled(self._last, self._representation.template, representation.template)
                    self._anew = True
                self._period, self._representation = period, representation

    def _at(self, period: Period, representation: Representation, spot: Spot) -> None:
        """So that `spot` comes next."""
        self._period, self._representation, self._anew = period, representation, True
        self._last = Spot(spot.number - 1, spot.time - spot.duration, spot.duration)


def delay(manifest: Manifest, template: Template) -> float:
    """Seconds behind the live edge at which a viewer is to play."""
    if template.chunked and manifest.latency is not None:
        return manifest.latency
    asked = manifest.delay if manifest.delay is not None else max(manifest.buffer or 0.0, _BEHIND * template.longest)
    return asked if template.chunked else max(asked, _LEAST * template.longest)


def _start(manifest: Manifest, period: Period, template: Template, now: int) -> Spot | None:
    """The segment a viewer who comes now starts with; None where nothing is there yet."""
    behind = delay(manifest, template)
    if not manifest.dynamic:
        return template.at_or_after(template.offset if template.spans is None else template.first or 0)
    scale, from_wall = template.timescale, _edge(manifest, period, template, now)
    position = from_wall - round(behind * scale)
    if template.spans is not None:
        first, end = template.first, template.end
        if first is None or end is None:
            return None
        if manifest.delay is None and not (template.chunked and manifest.latency is not None):
            position = end - round(behind * scale)
        last = template.spans[-1]
        return _nearest(template, min(max(position, first), last.end - last.duration))
    assert template.duration is not None
    there = from_wall + round(template.early * scale) - template.duration  # the newest one begins here or before
    newest = template.offset + (there - template.offset) // template.duration * template.duration
    if period.duration is not None:
        count = max(1, math.ceil((period.duration - 1e-3) * scale / template.duration))
        newest = min(newest, template.offset + (count - 1) * template.duration)
    if newest < template.offset:
        return None
    oldest = template.offset if manifest.window is None else max(template.offset, from_wall - round(manifest.window * scale))
    return _nearest(template, min(max(position, oldest), newest))


def _edge(manifest: Manifest, period: Period, template: Template, now: int) -> int:
    """The ticks that are live at `now`."""
    return template.offset + round((now - manifest.wall(period, template, template.offset)) * template.timescale / NS)


def _before(manifest: Manifest, period: Period, template: Template, now: int) -> bool:
    """Where a viewer is to play lies in the period before this one, as far as the clock tells."""
    position = _edge(manifest, period, template, now) - round(delay(manifest, template) * template.timescale)
    return manifest.dynamic and template.spans is None and position < template.offset


def _nearest(template: Template, ticks: int) -> Spot | None:
    """The segment whose beginning is nearest."""
    found = [spot for spot in (template.at_or_before(ticks), template.at_or_after(ticks)) if spot is not None]
    return min(found, key=lambda spot: abs(spot.time - ticks), default=None)


def _beyond(period: Period, template: Template, spot: Spot) -> bool:
    """It begins where its period has ended."""
    return period.duration is not None and template.seconds(spot.time - template.offset) >= period.duration - 1e-3


def _another(known: Manifest, manifest: Manifest) -> bool:
    before, after = known.availability_start, manifest.availability_start
    return before is not None and after is not None and manifest.dynamic and abs(after - before) > _RESTART


def _scaled(spot: Spot, before: Template, after: Template) -> Spot:
    def ticks(value: int) -> int:
        return round((value - before.offset) * after.timescale / before.timescale) + after.offset

    time = ticks(spot.time)
    return Spot(spot.number, time, max(1, ticks(spot.time + spot.duration) - time))
