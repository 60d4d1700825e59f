"""Following a low-latency playlist: parts of segments, the newest of them before their segment is whole (RFC 8216bis).

Where to start: PART-HOLD-BACK before the list's end (§4.4.3.8), as hls.js does. What is fetched begins at the last
independent part, or whole segment, before that place; what lies between is decoded and not shown (`Taken.lead`).
When to look again: a server that can block (§6.2.5.2) is asked for the next part at once and answers when it is there; one
that cannot is asked each part target. A list without parts is followed as plain HLS, which is what players do.

Where no part says INDEPENDENT the first of each segment is taken for it, as hls.js takes it. A list that has no whole
segment yet is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from probe.model.clock import NS
from probe.wire.delta import may_skip
from probe.wire.follow import Follower, Taken, hold_back, start_index
from probe.wire.playlist_facts import Hint, Media, Part, Report, Segment

_HOLD_BACK_PARTS = 3.0  # part targets, where PART-HOLD-BACK is not said: what the draft asks servers to say at least
_NEAR = 1e-3  # seconds: durations in a list are rounded


class LowLatencyFollower(Follower):
    """One per session; as Follower, by parts where there are some."""

    def __init__(self) -> None:
        super().__init__()
        self._part = 0
        self._lead = 0.0
        self._undo: tuple[tuple[int, int], tuple[int, int, bool, float]] | None = None
        self._loaded_at = 0
        self._unmarked = False  # no part says INDEPENDENT

    @property
    def parted(self) -> bool:
        """The list has parts."""
        return self.media is not None and _parted(self.media)

    @property
    def pace(self) -> float:
        if self.media is not None and self.parted and self.media.part_target is not None:
            return self.media.part_target
        return super().pace

    def update(self, media: Media, began: int, ended: int | None = None) -> bool:
        self._loaded_at = began
        self._unmarked = _unmarked(media)
        return super().update(media, began, ended)

    def directives(self, now: int, *, skip: bool = True) -> dict[str, str]:
        """The query of the next load (§6.2.5): wait for the next part, and leave out what is known."""
        media = self.media
        if media is None or media.endlist:
            return {}
        query = {}
        if media.can_block:
            sequence, part = self._edge_of(media) if media.segments else (media.media_sequence, 0)
            query["_HLS_msn"] = str(sequence)
            if _parted(media):
                query["_HLS_part"] = str(part)
        if skip and may_skip(media, (now - self._loaded_at) / NS):
            query["_HLS_skip"] = "YES"
        return query

    def hinted(self) -> Hint | None:
        """The part to ask for before it is listed: everything listed was taken and the server has named it."""
        media = self.media
        if media is None or media.hint is None or not media.segments or (self._next, self._part) < self._edge_of(media):
            return None
        return media.hint

    def take(self) -> Taken | None:
        """The next part or segment; None when none is listed yet."""
        before = self._next, self._part, self._anew, self._lead
        media = self.media
        while media is not None and (segment := self._segment(media, self._next)) is not None:
            closed = segment is not media.opening
            if not segment.parts:
                if not self._part and not segment.gap and closed:
                    taken = Taken(segment, self._anew or segment.discontinuity, None, self._lead, self._walls.get(self._next))
                    self._next += 1
                    return self._taken(taken, before)
                self._next, self._part = self._next + 1, 0  # a gap, or the rest is no longer there by parts
                self._lost(1)
            elif self._part < len(segment.parts):
                number, part = self._part, segment.parts[self._part]
                self._part += 1
                if part.gap or (self._anew and not _independent(segment, number, self._unmarked)):
                    self._anew = True
                    continue
                return self._taken(self._parted(segment, number), before)
            elif closed:
                self._next, self._part = self._next + 1, 0
            else:
                return None
        return None

    def put_back(self, taken: Taken) -> None:
        if self._undo is not None and self._undo[0] == (self._next, self._part):
            self._next, self._part, self._anew, self._lead = self._undo[1]
            self._jumped = taken.jumped

    def to_live(self) -> int:
        if self.media is None or not self.media.segments:
            return 0
        here = self._next, self._part
        self._place(self.media)
        self._lead = 0.0
        if (self._next, self._part) <= here:
            self._next, self._part = here
            return 0
        self._lost(left_out := max(1, self._next - here[0]))
        self._jumped = True
        return left_out

    def align(self, other: Follower) -> bool:
        if isinstance(other, LowLatencyFollower) and other._part and other.between:
            other._next, other._part = other._next + 1, 0
        aligned = super().align(other)
        if aligned:
            self._part, self._lead = 0, 0.0
        return aligned

    @property
    def between(self) -> bool:
        """Also where all parts of a whole segment were taken."""
        if self._part == 0 or self.media is None:
            return True
        segment = self._segment(self.media, self._next)
        return segment is not None and segment is not self.media.opening and self._part >= len(segment.parts)

    def far_behind(self) -> bool:
        media = self.media
        return media is not None and not media.endlist and self.behind > _behind(media) + media.target_duration

    @property
    def behind(self) -> float:
        if self.media is None:
            return 0.0
        ahead = self._ahead()
        taken = sum(part.duration for part in ahead[0].parts[: self._part]) if ahead else 0.0
        return sum(s.duration for s in ahead) - taken

    def along(self, report: Report) -> dict[str, str]:
        """The query of the first load of another rendition, whose list is known to be so far (§4.4.5.4)."""
        query = {"_HLS_msn": str(report.last_sequence)}
        if report.last_part is not None:
            query["_HLS_part"] = str(report.last_part)
        return query

    def _taken(self, taken: Taken, before: tuple[int, int, bool, float]) -> Taken:
        if self._jumped:
            taken = replace(taken, jumped=True)
        self._anew, self._jumped, self._lead = False, False, 0.0
        self._undo = (self._next, self._part), before
        return taken

    def _parted(self, segment: Segment, number: int) -> Taken:
        part = segment.parts[number]
        wall = self._walls.get(segment.sequence)
        if wall is not None:
            wall += round(sum(p.duration for p in segment.parts[:number]) * NS)
        begins = number == 0 and segment.discontinuity
        alone = Segment(
            uri=part.uri,
            duration=part.duration,
            sequence=segment.sequence,
            discontinuity=begins,
            byterange=part.byterange,
            init=segment.init,
        )
        return Taken(alone, self._anew or begins, number, self._lead, wall)

    def _ahead(self) -> tuple[Segment, ...]:
        ahead = super()._ahead()
        if self.media is not None and self.media.opening is not None and self.media.opening.sequence >= self._next:
            return (*ahead, self.media.opening)
        return ahead

    def _segment(self, media: Media, sequence: int) -> Segment | None:
        index = sequence - media.media_sequence
        if 0 <= index < len(media.segments):
            return media.segments[index]
        return media.opening if media.opening is not None and media.opening.sequence == sequence else None

    def _place(self, media: Media) -> None:
        if not _parted(media):
            self._next, self._part, self._lead = media.media_sequence + start_index(media), 0, 0.0
            return
        total = media.duration + (media.opening.duration if media.opening else 0.0)
        if media.start is not None:
            position = media.start if media.start >= 0 else total + media.start
        else:
            position = 0.0 if media.endlist else total - _behind(media)
        places = list(_beginnings(media)) or [(0.0, media.media_sequence, 0)]
        at, sequence, part = max((p for p in places if p[0] <= position + _NEAR), default=places[0])
        self._next, self._part = sequence, part
        self._lead = max(0.0, min(position, total) - at)

    def _edge_of(self, media: Media) -> tuple[int, int]:
        if media.opening is not None:
            return media.opening.sequence, len(media.opening.parts)
        return super()._edge_of(media)


def _parted(media: Media) -> bool:
    return media.opening is not None or any(segment.parts for segment in media.segments[-4:])


def _behind(media: Media) -> float:
    """Seconds from the end at which a viewer of this list plays; never nearer than one part."""
    if not _parted(media):
        return hold_back(media)
    target = media.part_target or max(part.duration for part in _parts(media))
    return max(target, media.part_hold_back if media.part_hold_back is not None else _HOLD_BACK_PARTS * target)


def _parts(media: Media) -> Iterator[Part]:
    for segment in (*media.segments, media.opening) if media.opening else media.segments:
        yield from segment.parts


def _unmarked(media: Media) -> bool:
    return not any(part.independent for part in _parts(media))


def _independent(segment: Segment, number: int, unmarked: bool) -> bool:
    return segment.parts[number].independent or (unmarked and number == 0)


def _beginnings(media: Media) -> Iterator[tuple[float, int, int]]:
    """Where one can begin: seconds from the list's beginning, sequence number, part."""
    at, unmarked = 0.0, _unmarked(media)
    for segment in (*media.segments, media.opening) if media.opening else media.segments:
        if not segment.parts:
            yield at, segment.sequence, 0
        within = at
        for number, part in enumerate(segment.parts):
            if not part.gap and _independent(segment, number, unmarked):
                yield within, segment.sequence, number
            within += part.duration
        at += segment.duration
