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

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from probe.model.clock import NS
from probe.wire.playlist import Media, Segment

HOLD_BACK_TARGETS = 3
_PATIENCE_TARGETS = 2  # an older list that moves is a restarted packager once the newer one stood for so long
_REMEMBERED = 256  # segments whose paths are kept to tell a lagging edge from a restarted packager


@dataclass(frozen=True, slots=True)
class Taken:
    """A segment to fetch. `anew`: it does not continue what was taken before it."""

    segment: Segment
    anew: bool


class Follower:
    """One per session. `update` with each playlist loaded; `take` walks through its segments.

    `skipped` counts segments that were left out, `restarts` how often the numbering began anew."""

    def __init__(self) -> None:
        self.media: Media | None = None
        self.skipped = 0
        self.restarts = 0
        self.reload_at = 0
        self._next = 0
        self._anew = True
        self._paths: dict[int, str] = {}
        self._last = -1
        self._older: int | None = None  # the end of the last list seen that was older than ours
        self._unmoved_since: int | None = None

    def update(self, media: Media, began: int) -> bool:
        """Take a playlist whose load began at `began` (monotonic ns); True when it brought something new."""
        target = round(media.target_duration * NS)
        moved = self._update(media, patient=self.unmoved(began) < _PATIENCE_TARGETS * target)
        self.reload_at = began + (target if moved else target // 2)
        if moved:
            self._unmoved_since = self._older = None
        elif self._unmoved_since is None:
            self._unmoved_since = began
        return moved

    def unreachable(self) -> None:
        """A load failed: what we cannot see we cannot call still."""
        self._unmoved_since = None

    def unmoved(self, now: int) -> int:
        """ns for which every load brought the same list; 0 when the last one brought news."""
        return 0 if self._unmoved_since is None else now - self._unmoved_since

    def take(self) -> Taken | None:
        """The next segment to fetch; None when none is listed yet."""
        for segment in self._ahead():
            if not segment.gap:
                break
            self._next = segment.sequence + 1
            self._lost(1)
        else:
            return None
        taken = Taken(segment, self._anew or segment.discontinuity)
        self._next = segment.sequence + 1
        self._anew = False
        return taken

    def put_back(self, taken: Taken) -> None:
        """It could not be fetched: `take` gives it again, unless we have gone elsewhere meanwhile."""
        if self._next == taken.segment.sequence + 1:
            self._next = taken.segment.sequence
            self._anew = taken.anew

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
        return left_out

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
        moved = last > self._last or ends
        self.media, self._last = media, last
        self._remember(media)
        if self._next < media.media_sequence:
            self.to_live()
        return moved

    def _begin(self, media: Media) -> None:
        self.restarts += self._last >= 0
        self._paths.clear()
        self._last = -1
        self._next = media.media_sequence + start_index(media)
        self._anew = True

    def _restarted(self, media: Media) -> bool:
        last = media.segments[-1]
        if last.sequence > self._last:
            known = [s for s in media.segments if s.sequence in self._paths]
            return bool(known) and all(_path(s) != self._paths[s.sequence] for s in known)
        return self._paths.get(last.sequence) != _path(last)

    def _remember(self, media: Media) -> None:
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


def _path(segment: Segment) -> str:
    """What names a segment: signatures in the query change from load to load, and a range is part of the name."""
    path = urlsplit(segment.uri).path
    return path if segment.byterange is None else f"{path}#{segment.byterange.offset}"
