"""A room's HLS windows: what came in, cut at keyframes into fMP4 segments of about a second (RFC 8216), and for low
latency into parts of a fifth of one (RFC 8216bis).

Media sequence numbers begin at twice the room's age in seconds, so that they go on rising over a restart of the server,
which keeps no segments. Each publisher, and each source a fault puts in its place, has its own initialization section
and begins with a discontinuity. A small rendition's window takes the numbers of the source's, segment by segment.
Parts are numbered through, whatever their segment, so that the part hinted at is always the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe.media.mux import Part, Segment, SegmentMuxer
from probe.model.clock import NS
from probe.sandbox.outlet import Outlet
from probe.sandbox.playlists import PART_TARGET, Listed, ListedPart, Report, Variant, low_latency, media
from probe.sandbox.still import picture_size
from probe.sandbox.timeline import Timeline
from probe.sandbox.unit import RATES, Unit
from probe.wire.fmp4 import split_annexb

if TYPE_CHECKING:
    from probe.sandbox.context import Platform
    from probe.sandbox.live import Live

LISTED = {"hls": 6, "ll-hls": 14}
KEPT = 6  # segments no longer listed that a slow viewer may still fetch
WITH_PARTS = 5  # segments whose parts are kept too
LEAST = 0.5  # seconds: a keyframe nearer than this to the last cut does not cut
AHEAD = 3  # parts beyond the last one that may be asked for: the Advance Part Limit (6.2.5.2)
PARTS = 64  # part numbers begin at so many a segment, for the same reason as the segments' own do
SOUND = "mp4a.40.2"


@dataclass(slots=True)
class _Source:
    """What is being muxed now."""

    name: str
    muxer: SegmentMuxer
    audio: bool
    init: str = ""
    codec: str = ""
    size: tuple[int, int] = (0, 0)


class Window:
    """One room's, for one `way` (hls, ll-hls) and one rendition. `put` takes units; `sibling` is the source's window, for a
    small one."""

    def __init__(self, platform: Platform, live: Live, way: str, timeline: Timeline, first: int, publishes: int,
                 sibling: Window | None = None) -> None:  # fmt: skip
        self._clock = platform.clock
        self._live = live
        self._way = way
        self._timeline = timeline
        self._sibling = sibling
        self._prefix = "small-" if sibling else ""
        session = f"{way}-{live.room}{'-small' if sibling else ''}"
        self._outlet = Outlet(platform, live, session, way, self._take, timeline=timeline)
        self._next = first
        self._next_part = PARTS * first
        self._dropped_discontinuities = max(0, publishes - 1)
        self._source: _Source | None = None
        self._shown: _Source | None = None
        self._segments: deque[Listed] = deque()
        self._growing: Listed | None = None
        self._inits: dict[str, bytes] = {}
        self._starts: deque[tuple[int, int]] = deque(maxlen=8)  # (pts, number) of the last segments begun
        self._target = 1
        self._bandwidth = 0
        self._average = 0
        self._frame_rate = 30.0
        self._changed = asyncio.Event()
        self.closed = False

    @property
    def ready(self) -> bool:
        return bool(self._segments)

    @property
    def held(self) -> int:
        return len(self._segments)

    @property
    def patience(self) -> float:
        """Seconds a blocked request waits (6.2.5.2)."""
        return 3.0 * self._target

    @property
    def hint(self) -> str:
        """Name of the part to come."""
        return f"{self._prefix}part-{self._next_part}.m4s"

    def put(self, unit: Unit) -> None:
        self._outlet.put(unit)

    def close(self) -> None:
        self.closed = True
        self._outlet.close()
        self._tell()

    async def until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait for `ready`, asked at each change."""
        try:
            async with asyncio.timeout(seconds):
                while not ready() and not self.closed:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return ready()

    def file(self, name: str) -> bytes | None:
        """An initialization section, a segment or a part still kept."""
        if name in self._inits:
            return self._inits[name]
        if "part-" in name:
            growing = [self._growing] if self._growing else []
            held = [*growing, *reversed(self._segments)]
            return next((part.data for segment in held for part in segment.parts if part.name == name), None)
        return next((s.data for s in self._segments if s.name == name), None)

    def has(self, msn: int, part: int | None) -> bool:
        """Is segment `msn`, or its part `part`, in the playlist? A part past a segment's end is the next one's first."""
        if msn >= self._next:
            return msn == self._next and part is not None and self._growing is not None and part < len(self._growing.parts)
        whole = next((s for s in self._segments if s.number == msn), None)
        return True if part is None or whole is None or part < whole.part_count else self.has(msn + 1, 0)

    def too_far(self, msn: int, part: int | None) -> bool:
        """Is it further ahead than a client may ask for?"""
        if msn >= self._next + 2:
            return True
        return msn == self._next and part is not None and part >= AHEAD + (len(self._growing.parts) if self._growing else 0)

    def variant(self, url: str) -> Variant:
        """Its line in a master playlist. Only when `ready`."""
        assert self._shown is not None
        codecs = self._shown.codec + (f",{SOUND}" if self._shown.audio else "")
        return Variant(url=url, bandwidth=self._bandwidth, average=self._average, codecs=codecs, size=self._shown.size,
                       frame_rate=self._frame_rate)  # fmt: skip

    def report(self, uri: str) -> Report | None:
        """Where this rendition is."""
        if self._growing is not None and self._growing.parts:
            return Report(uri=uri, msn=self._growing.number, part=len(self._growing.parts) - 1)
        last = self._segments[-1] if self._segments else None
        return Report(uri=uri, msn=last.number, part=last.part_count - 1) if last else None

    def playlist(self, *, skip: bool = False, reports: tuple[Report, ...] = ()) -> str:
        """The media playlist now; `skip`: a delta update will do."""
        listed = list(self._segments)[-LISTED[self._way] :]
        gone = sum(s.discontinuity for s in list(self._segments)[: -LISTED[self._way]])
        before = self._dropped_discontinuities + gone
        if self._way == "hls":
            return media(listed, target=self._target, discontinuities=before)
        return low_latency(listed, self._growing, target=self._target, discontinuities=before, hint=self.hint,
                           reports=reports, skip=skip)  # fmt: skip

    def _take(self, unit: Unit) -> bool:
        if self._source is None or unit.source != self._source.name:
            if self._sibling is not None and (unit.kind == "audio" or not self._follow(unit.pts)):
                return False
            self._change(unit)
        source = self._source
        assert source is not None
        if unit.kind == "audio":
            source.muxer.push_audio(unit.data, unit.pts)
            return True
        done = source.muxer.push_video(unit.data, unit.pts, unit.keyframe)
        if not source.init and source.muxer.init is not None:
            source.init = f"{self._prefix}init-{self._next}.mp4"
            source.codec, source.size = codec_of(unit.data), picture_size(unit.data)
        if done is not None:
            self._finish(source, done)
        if source.muxer.began == unit.pts:
            self._starts.append((unit.pts, self._next))
        self._grow(source, source.muxer.open_parts)
        return True

    def _change(self, unit: Unit) -> None:
        if self._source is not None and (rest := self._source.muxer.flush()) is not None:
            self._finish(self._source, rest)
        audio = self._live.audio
        part = PART_TARGET if self._way == "ll-hls" else None
        self._source = _Source(unit.source, SegmentMuxer(audio=audio, target=LEAST, part=part), audio is not None)

    def _follow(self, pts: int) -> bool:
        """Take the number that the source's window gave the segment beginning here; False where none begins."""
        assert self._sibling is not None
        number = next((n for start, n in self._sibling._starts if abs(start - pts) < RATES["video"] // 100), None)
        if number is None:
            return False
        self._next = max(self._next, number)
        self._next_part = self._next_part or PARTS * self._next
        return True

    def _grow(self, source: _Source, parts: list[Part]) -> None:
        """Announce parts of the open segment."""
        if self._way != "ll-hls" or not parts or not parts[0].independent or not source.init:
            return
        if self._growing is None:
            self._growing = self._begin(source, parts[0].start)
        for part in parts[len(self._growing.parts) :]:
            self._growing.parts.append(ListedPart(self.hint, part.data, part.duration, part.independent))
            self._next_part += 1
            self._tell()

    def _begin(self, source: _Source, start: float) -> Listed:
        assert source.muxer.init is not None and self._timeline.began is not None
        first = source.init not in self._inits
        self._inits[source.init] = source.muxer.init
        return Listed(
            number=self._next,
            name=f"{self._prefix}{self._next}.m4s",
            unix_ns=self._clock.wall(self._timeline.began + int(start * NS)).unix_ns,
            init=source.init,
            discontinuity=first and (bool(self._segments) or self._dropped_discontinuities > 0),
        )

    def _finish(self, source: _Source, segment: Segment) -> None:
        """List a whole segment. One that begins without a keyframe is left out."""
        if not segment.independent or source.muxer.init is None:
            return
        self._grow(source, list(segment.parts))
        listed = self._growing or self._begin(source, segment.start)
        self._growing = None
        listed.data, listed.duration, listed.part_count = segment.data, segment.duration, len(listed.parts)
        self._shown = source
        self._next += 1
        rate = int(8 * len(segment.data) / max(0.1, segment.duration))
        self._target = max(self._target, round(segment.duration))
        self._bandwidth = max(self._bandwidth, rate)
        self._average = rate if not self._average else (3 * self._average + rate) // 4
        if segment.duration >= LEAST:
            self._frame_rate = _plain_rate(segment.pictures / segment.duration)
        self._segments.append(listed)
        for old in list(self._segments)[:-WITH_PARTS]:
            old.parts = []
        while len(self._segments) > LISTED[self._way] + KEPT:
            self._dropped_discontinuities += self._segments.popleft().discontinuity
        used = {s.init for s in self._segments} | {source.init}
        self._inits = {name: data for name, data in self._inits.items() if name in used}
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _plain_rate(measured: float) -> float:
    """A frame rate as people say it: whole where it is within a fiftieth of that."""
    whole = round(measured)
    return float(whole) if whole and abs(measured - whole) <= whole / 50 else round(measured, 3)


def codec_of(keyframe: bytes) -> str:
    """RFC 6381 name of the H.264 in an access unit that begins with its parameter sets."""
    sps = next(nal for nal in split_annexb(keyframe) if nal[0] & 31 == 7)
    return f"avc1.{sps[1:4].hex()}"
