"""A buffered player's clock: which instant each picture is shown at, and when the buffer ran dry.

Media is placed on one timeline of the player's own. What goes on where the last piece ended keeps its own spacing; a
discontinuity, a hole or an overlap is closed up, as players jump over holes, and its width is told. Playout starts with the
first piece. When the playhead reaches the end of what is there the picture stands (rebuffering) until the next piece comes,
and everything after is shown that much later: the player never hurries and never drops of its own accord; leaving out
media to come nearer to live is the caller's decision, and a hole here.

A start may have a lead: media before the place where play begins, needed to decode what follows. It lies before the
timeline's 0, and play starts when the first piece beyond it is there.

Pure; instants are monotonic ns, media times seconds of the stream.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from probe.model.clock import MS, NS

HOLE = 0.5  # seconds a stream's own clock may miss the end of what came before and still be believed
_DATED = 4096  # pieces whose wall clock is remembered
SHORTEST_REBUFFER = 100 * MS  # below it the picture stood no longer than a late frame does


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuffer:
    """The picture stood in `[began, began + took)`."""

    began: int
    took: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a piece lies: media time plus `offset` ns is the player's own time. `hole` is how many seconds of the stream's
    clock were closed up before it (negative: an overlap; None: the clock began anew). `rebuffer` is what it ended."""

    offset: int
    hole: float | None
    rebuffer: Rebuffer | None


class Player:
    """One per session. The timeline starts at 0 with the first piece, which is shown at once."""

    def __init__(self) -> None:
        self._placed = False
        self._dates: deque[tuple[int, int, int]] = deque(maxlen=_DATED)  # begin and end on the timeline, Unix ns of begin
        self._anchor_at: int | None = None  # the instant the timeline's 0 would have been shown, moved by each stall
        self._began = 0
        self._end = 0
        self._offset = 0
        self.rebuffers = 0
        self.rebuffered = 0

    @property
    def started(self) -> bool:
        return self._anchor_at is not None

    @property
    def began(self) -> int | None:
        """The instant the first picture was shown."""
        return self._began if self.started else None

    def append(
        self, begin: float, end: float, now: int, *, anew: bool = False, lead: float = 0.0, wall: int | None = None
    ) -> Placed:
        """A piece of media, `[begin, end)` of the stream's clock, is there at `now`. `anew`: its clock need not continue the
        one before it (a discontinuity, a jump). `lead`: of the first piece, how many seconds after its beginning play
        begins. `wall`: Unix ns of its beginning. ValueError for a piece that is empty or runs backwards."""
        if not begin < end:
            raise ValueError("a piece of media has a beginning and a later end")
        start, length = round(begin * NS), round((end - begin) * NS)
        if not self._placed:
            self._placed = True
            self._offset = -start - round(lead * NS)
            self._end = start + length + self._offset
            self._start(now)
            self._date(start, length, wall)
            return Placed(offset=self._offset, hole=0.0, rebuffer=None)
        rebuffer = self._resume(now) if self.started else None
        hole = (start + self._offset - self._end) / NS
        if anew or abs(hole) > HOLE:
            self._offset = self._end - start
        self._end = max(self._end, start + length + self._offset)
        self._start(now)
        self._date(start, length, wall)
        return Placed(
            offset=self._offset,
            hole=None if anew else hole if abs(hole) > HOLE else 0.0,
            rebuffer=rebuffer,
        )

    def due(self, at: int) -> int:
        """The instant at which the player's own time `at` (ns) is shown, if nothing stalls before."""
        assert self._anchor_at is not None
        return self._anchor_at + at

    def wall(self, now: int) -> int | None:
        """Unix ns the platform put on what is on screen at `now`; None where it said nothing, or nothing is shown yet."""
        if self._anchor_at is None:
            return None
        at = min(now - self._anchor_at, self._end)
        while len(self._dates) > 1 and self._dates[1][0] <= at:
            self._dates.popleft()
        for begin, end, wall in self._dates:
            if begin <= at <= end:
                return wall + at - begin
        return None

    def level(self, now: int) -> float:
        """Seconds of media not shown yet."""
        return 0.0 if self._anchor_at is None else max(0, self.due(self._end) - now) / NS

    def dry_at(self) -> int:
        """The instant at which everything there will have been shown."""
        return self.due(self._end)

    def standing(self, now: int) -> Rebuffer | None:
        """The rebuffering under way at `now`, as long as it has been."""
        if self._anchor_at is None or now - self.dry_at() < SHORTEST_REBUFFER:
            return None
        return Rebuffer(began=self.dry_at(), took=now - self.dry_at())

    def ratio(self, now: int) -> float | None:
        """Share of the time since the first picture in which the picture stood; None before it."""
        if self._anchor_at is None or now <= self._began:
            return None
        standing = self.standing(now)
        return (self.rebuffered + (standing.took if standing else 0)) / (now - self._began)

    def _start(self, now: int) -> None:
        if self._anchor_at is None and self._end > 0:
            self._anchor_at = self._began = now

    def _date(self, start: int, length: int, wall: int | None) -> None:
        if wall is not None:
            begin = start + self._offset
            self._dates.append((begin, begin + length, wall))

    def _resume(self, now: int) -> Rebuffer | None:
        late = now - self.dry_at()
        if late <= 0:
            return None
        rebuffer = self.standing(now)
        assert self._anchor_at is not None
        self._anchor_at += late
        if rebuffer is not None:
            self.rebuffers += 1
            self.rebuffered += rebuffer.took
        return rebuffer
