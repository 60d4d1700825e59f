"""Following a playlist as it moves: where to start, what comes next, when to look again, whether it still moves.

Sources: RFC 8216 §6.3.3 (start three target durations before the end) and §6.3.4 (reload after one target duration, or
half of one when nothing changed), both counted from when the last load began. Real platforms add: two edges of which one
lags, so a list older than one already seen is no news; a packager that restarts and counts anew, seen by other paths
under known numbers, or by an old list that alone goes on; segments that left the window while we could not come, which
are skipped and counted.

We start at the segment boundary nearest to the live position. hls.js seeks inside a segment for it; that would be
decoding what nobody sees, and the difference is at most half a segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from urllib.parse import urlsplit

from probe.model.clock import NS
from probe.wire.playlist_facts import Media, Segment

HOLD_BACK_TARGETS = 3
_PATIENCE_TARGETS = 2  # an older list that moves is a restarted packager once the newer one stood for so long
_REMEMBERED = 256  # segments whose paths are kept to tell a lagging edge from a restarted packager


@dataclass(frozen=True, slots=True)
class Taken:
    """A segment to fetch, or one of its parts as if it were one (`part`: its number in the segment).

    `anew`: it does not continue what was taken before it; `jumped`: because we left out what lay between, to come nearer to
    live or for we came too late for it. `lead`: seconds into it at which a viewer begins to see. `wall`: Unix ns the platform
    puts on its beginning (PROGRAM-DATE-TIME, carried on); None where it says none."""

    segment: Segment
    anew: bool
    part: int | None = None
    lead: float = 0.0
    wall: int | None = None
    jumped: bool = False


class Follower:
    """One per session. `update` with each playlist loaded; `take` walks through its segments.

    `skipped` counts segments that were left out, `restarts` how often the numbering began anew, `backwards` how often a load
    had lower numbers than the one before it."""

    def __init__(self) -> None:
        self.media: Media | None = None
        self.skipped = 0
        self.restarts = 0
        self.backwards = 0
        self.reload_at = 0
        self._next = 0
        self._anew = True
        self._jumped = False
        self._paths: dict[int, str] = {}
        self._last = -1
        self._edge = (-1, 0)
        self._walls: dict[int, int] = {}
        self._loaded = 0  # EXT-X-MEDIA-SEQUENCE of the last load
        self._older: int | None = None  # the end of the last list seen that was older than ours
        self._unmoved_since: int | None = None
        self._moved_at: int | None = None

    def update(self, media: Media, began: int, ended: int | None = None) -> bool:
        """Take a playlist whose load lasted from `began` to `ended` (monotonic ns); True when it brought something new."""
        target = round(media.target_duration * NS)
        self.backwards += media.media_sequence < self._loaded
        self._loaded = media.media_sequence
        moved = self._update(media, patient=self.unmoved(began) < _PATIENCE_TARGETS * target)
        pace = round(self.pace * NS)
        self.reload_at = began + (pace if moved else pace // 2)
        if moved:
            self._unmoved_since = self._older = None
            self._moved_at = began if ended is None else ended
        elif self._unmoved_since is None:
            self._unmoved_since = began
        return moved

    def unreachable(self) -> None:
        """A load failed: what we cannot see we cannot call still."""
        self._unmoved_since = None

    def unmoved(self, now: int) -> int:
        """ns for which every load brought the same list; 0 when the last one brought news."""
        return 0 if self._unmoved_since is None else now - self._unmoved_since

    def overdue(self, now: int) -> int:
        """ns for which news should have been there: since the list last moved, less the time it may take to move again."""
        if self.media is None or self.media.endlist or self._moved_at is None:
            return 0
        return max(0, now - self._moved_at - round(self.pace * NS))

    @property
    def pace(self) -> float:
        """Seconds after which a list that moves is expected to have moved."""
        return self.media.target_duration if self.media is not None else 1.0

    def take(self) -> Taken | None:
        """The next segment to fetch; None when none is listed yet."""
        for segment in self._ahead():
            if not segment.gap:
                break
            self._next = segment.sequence + 1
            self._lost(1)
        else:
            return None
        taken = Taken(segment, self._anew or segment.discontinuity, wall=self._walls.get(segment.sequence), jumped=self._jumped)
        self._next = segment.sequence + 1
        self._anew = self._jumped = False
        return taken

    def put_back(self, taken: Taken) -> None:
        """It could not be fetched: `take` gives it again, unless we have gone elsewhere meanwhile."""
        if self._next == taken.segment.sequence + 1:
            self._next = taken.segment.sequence
            self._anew, self._jumped = taken.anew, taken.jumped

    def give_up(self) -> None:
        """What was taken last will not be fetched."""
        self._lost(1)

    @property
    def ended(self) -> bool:
        """No more will be listed, and everything listed was taken."""
        return self.media is not None and self.media.endlist and not self._ahead()

    @property
    def behind(self) -> float:
        """Seconds of media from the next segment's beginning to the list's end."""
        return sum(s.duration for s in self._ahead())

    def far_behind(self) -> bool:
        """More than one target duration behind where a new viewer would start."""
        return (
            self.media is not None and not self.media.endlist and self.behind > hold_back(self.media) + self.media.target_duration
        )

    def to_live(self) -> int:
        """Go to where a new viewer would start, never backwards; how many segments that left out."""
        if self.media is None:
            return 0
        left_out = max(0, self.media.media_sequence + start_index(self.media) - self._next)
        if left_out:
            self._next += left_out
            self._lost(left_out)
            self._jumped = True
        return left_out

    def align(self, other: Follower) -> bool:
        """Go on where `other`, of another rendition of the same stream, would: by the wall clock where both lists have one, else
        by number. False where that place is not listed here: then as a new viewer."""
        self.skipped, self.restarts, self.backwards = other.skipped, other.restarts, other.backwards
        self._jumped = True  # unless it goes on there
        if self.media is None or not self.media.segments:
            return False
        first, last = self.media.segments[0], self.media.segments[-1]
        wanted, here = other._wall_ahead(), self._walls.get(last.sequence)
        place = other._next
        if wanted is not None and here is not None:
            walls = {s.sequence: self._walls[s.sequence] for s in self.media.segments if s.sequence in self._walls}
            walls[last.sequence + 1] = here + round(last.duration * NS)
            place = min(walls, key=lambda sequence: abs(walls[sequence] - wanted))
            if abs(walls[place] - wanted) > round(last.duration * NS / 2):
                return False
        if not first.sequence <= place <= last.sequence + 1:
            return False
        self._next, self._anew, self._jumped = place, other._anew, other._jumped
        return True

    def _wall_ahead(self) -> int | None:
        """Unix ns of the beginning of what comes next."""
        if self._next in self._walls or self.media is None or not self.media.segments:
            return self._walls.get(self._next)
        last = self.media.segments[-1]
        wall = self._walls.get(last.sequence)
        return wall + round(last.duration * NS) if wall is not None and self._next == last.sequence + 1 else None

    @property
    def between(self) -> bool:
        """What comes next begins a segment: the place to change rendition."""
        return True

    def _lost(self, count: int) -> None:
        self.skipped += count
        self._anew = True

    def _ahead(self) -> tuple[Segment, ...]:
        if self.media is None:
            return ()
        return self.media.segments[max(0, self._next - self.media.media_sequence) :]

    def _update(self, media: Media, patient: bool) -> bool:
        known = self.media
        ends = media.endlist and (known is None or not known.endlist)
        if not media.segments:
            if known is None or not known.segments:
                self.media = media
            elif ends:
                self.media = replace(known, endlist=True)
            return ends
        last = media.segments[-1].sequence
        if self._last >= 0 and last < self._last and self._paths.get(last) == _path(media.segments[-1]):
            moving = self._older is not None and last > self._older
            self._older = last
            if patient or not moving:
                return False
            self._begin(media)
        elif self._last < 0 or self._restarted(media):
            self._begin(media)
        edge = self._edge_of(media)
        if edge < self._edge and not ends:  # of the segment that is being made an older state
            return False
        moved = edge > self._edge or ends
        self.media, self._last, self._edge = media, last, edge
        self._remember(media)
        if self._next < media.media_sequence:
            self.to_live()
        return moved

    def _begin(self, media: Media) -> None:
        self.restarts += self._last >= 0
        self._paths.clear()
        self._walls.clear()
        self._last, self._edge = -1, (-1, 0)
        self._anew = True
        self._place(media)

    def _place(self, media: Media) -> None:
        """Go to where a viewer starts."""
        self._next = media.media_sequence + start_index(media)

    def _edge_of(self, media: Media) -> tuple[int, int]:
        """How far the list has come: number of the segment that comes next, and how many parts of it are there."""
        return media.segments[-1].sequence + 1, 0

    def _restarted(self, media: Media) -> bool:
        last = media.segments[-1]
        if last.sequence > self._last:
            known = [s for s in media.segments if s.sequence in self._paths]
            return bool(known) and all(_path(s) != self._paths[s.sequence] for s in known)
        return self._paths.get(last.sequence) != _path(last)

    def _remember(self, media: Media) -> None:
        self._walls = _walls(media, self._walls)
        for segment in media.segments[-_REMEMBERED:]:
            self._paths[segment.sequence] = _path(segment)
        for sequence in sorted(self._paths)[:-_REMEMBERED]:
            del self._paths[sequence]


def hold_back(media: Media) -> float:
    """Seconds from the end at which a live viewer plays."""
    return media.hold_back if media.hold_back is not None and media.hold_back > 0 else HOLD_BACK_TARGETS * media.target_duration


def start_index(media: Media) -> int:
    """Which segment a viewer starts with: EXT-X-START if there is one, else the beginning of what has ended and the live
    position of what has not; bounded by what is listed."""
    total = media.duration
    if media.start is not None:
        position = media.start if media.start >= 0 else total + media.start
    else:
        position = 0.0 if media.endlist else total - hold_back(media)
    starts = []
    at = 0.0
    for segment in media.segments:
        starts.append(at)
        at += segment.duration
    return min(range(len(starts)), key=lambda n: (abs(starts[n] - position), n), default=0)


def _walls(media: Media, known: Mapping[int, int]) -> dict[int, int]:
    """Unix ns of each segment's beginning, as far as they can be told: PROGRAM-DATE-TIME where it stands, carried on through
    what follows it and back through what precedes it, up to a discontinuity (RFC 8216 §6.3.3), or known from lists before."""
    listed = (*media.segments, media.opening) if media.opening else media.segments
    walls: dict[int, int] = {}
    before: Segment | None = None
    for segment in listed:
        wall = segment.program_date_time
        if wall is None and before is not None and before.sequence in walls and not segment.discontinuity:
            wall = walls[before.sequence] + round(before.duration * NS)
        wall = known.get(segment.sequence) if wall is None else wall
        if wall is not None:
            walls[segment.sequence] = wall
        before = segment
    for segment, after in reversed(list(pairwise(listed))):
        if segment.sequence not in walls and after.sequence in walls and not after.discontinuity:
            walls[segment.sequence] = walls[after.sequence] - round(segment.duration * NS)
    return walls


def _path(segment: Segment) -> str:
    """What names a segment: signatures in the query change from load to load, and a range is part of the name."""
    path = urlsplit(segment.uri).path
    return path if segment.byterange is None else f"{path}#{segment.byterange.offset}"
