"""A room's HLS window: what came in, cut at keyframes into fMP4 segments of about a second (RFC 8216).

Media sequence numbers begin at twice the room's age in seconds, so that they go on rising over a restart of the server,
which keeps no segments. Each publisher, and each source a fault puts in its place, has its own initialization section
and begins with a discontinuity. Opus stays Opus.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from probe.media.mux import Segment, SegmentMuxer
from probe.model.clock import NS
from probe.sandbox.outlet import Outlet
from probe.sandbox.still import picture_size
from probe.sandbox.unit import RATES, Unit
from probe.wire.fmp4 import AudioTrack, split_annexb

if TYPE_CHECKING:
    from probe.sandbox.context import Platform
    from probe.sandbox.live import Live

LISTED = 6
KEPT = 12  # segments that a slow viewer may still fetch
LEAST = 0.5  # seconds: a keyframe nearer than this to the last cut does not cut
PLAYLIST = "application/vnd.apple.mpegurl"


@dataclass(frozen=True, slots=True)
class _Listed:
    number: int
    data: bytes
    duration: float
    unix_ns: int  # when its first picture arrived
    init: str  # file name
    discontinuity: bool

    @property
    def name(self) -> str:
        return f"{self.number}.m4s"


@dataclass(slots=True)
class _Source:
    """What is being muxed now. `origin`: monotonic instant of pts 0."""

    name: str
    muxer: SegmentMuxer
    origin: int
    audio: bool
    init: str = ""
    codec: str = ""
    size: tuple[int, int] = (0, 0)


class Window:
    """One room's. `put` takes the publisher's units."""

    def __init__(self, platform: Platform, live: Live, created: int, publishes: int) -> None:
        self._clock = platform.clock
        self._live = live
        self._outlet = Outlet(platform, live, f"hls-{live.room}", "hls", self._take)
        self._next = 2 * max(0, platform.clock.wall().unix_ns // NS - created)
        self._dropped_discontinuities = max(0, publishes - 1)
        self._source: _Source | None = None
        self._master: _Source | None = None
        self._segments: deque[_Listed] = deque()
        self._inits: dict[str, bytes] = {}
        self._target = 1
        self._bandwidth = 0

    @property
    def ready(self) -> bool:
        return bool(self._segments)

    @property
    def held(self) -> int:
        return len(self._segments)

    def put(self, unit: Unit) -> None:
        self._outlet.put(unit)

    def close(self) -> None:
        self._outlet.close()

    def file(self, name: str) -> bytes | None:
        """An initialization section or a segment still kept."""
        return self._inits.get(name) or next((s.data for s in self._segments if s.name == name), None)

    def master(self, media_url: str) -> str:
        """The master playlist: one variant, at `media_url`. Only when `ready`."""
        assert self._master is not None
        width, height = self._master.size
        codecs = self._master.codec + (",opus" if self._master.audio else "")
        attributes = f'BANDWIDTH={self._bandwidth},CODECS="{codecs}",RESOLUTION={width}x{height}'
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS", f"#EXT-X-STREAM-INF:{attributes}", media_url]
        return "\n".join(lines) + "\n"

    def playlist(self) -> str:
        """The media playlist: the last LISTED segments."""
        listed = list(self._segments)[-LISTED:]
        gone = sum(s.discontinuity for s in list(self._segments)[:-LISTED])
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{self._target}", "#EXT-X-INDEPENDENT-SEGMENTS"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number}"] if listed else []
        lines += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._dropped_discontinuities + gone}"]
        init = ""
        for segment in listed:
            lines += ["#EXT-X-DISCONTINUITY"] if segment.discontinuity else []
            lines += [f'#EXT-X-MAP:URI="{segment.init}"'] if segment.init != init else []
            init = segment.init
            date = datetime.fromtimestamp(segment.unix_ns / NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date}", f"#EXTINF:{segment.duration:.5f},", segment.name]
        return "\n".join(lines) + "\n"

    def _take(self, unit: Unit) -> bool:
        if self._source is None or unit.source != self._source.name:
            self._change(unit)
        source = self._source
        assert source is not None
        if unit.kind == "audio":
            source.muxer.push_audio(unit.data, unit.pts)
            return True
        done = source.muxer.push_video(unit.data, unit.pts, unit.keyframe)
        if not source.init and source.muxer.init is not None:
            source.init = f"init-{self._next}.mp4"
            source.codec, source.size = _codec(unit.data), picture_size(unit.data)
        if done is not None:
            self._list(source, done)
        return True

    def _change(self, unit: Unit) -> None:
        if self._source is not None and (rest := self._source.muxer.flush()) is not None:
            self._list(self._source, rest)
        origin = unit.arrived - unit.pts * NS // RATES[unit.kind]
        audio = AudioTrack("opus", 48_000, 2) if self._live.audio else None
        self._source = _Source(unit.source, SegmentMuxer(audio=audio, target=LEAST), origin, self._live.audio)

    def _list(self, source: _Source, segment: Segment) -> None:
        if not segment.independent or source.muxer.init is None:
            return
        first = source.init not in self._inits
        self._inits[source.init] = source.muxer.init
        self._master = source
        listed = _Listed(
            number=self._next,
            data=segment.data,
            duration=segment.duration,
            unix_ns=self._clock.wall(source.origin + int(segment.start * NS)).unix_ns,
            init=source.init,
            discontinuity=first and (bool(self._segments) or self._dropped_discontinuities > 0),
        )
        self._next += 1
        self._target = max(self._target, round(segment.duration))
        self._bandwidth = max(self._bandwidth, int(8 * len(segment.data) / max(0.1, segment.duration)))
        self._segments.append(listed)
        while len(self._segments) > KEPT:
            self._dropped_discontinuities += self._segments.popleft().discontinuity
        used = {s.init for s in self._segments} | {source.init}
        self._inits = {name: data for name, data in self._inits.items() if name in used}


def _codec(keyframe: bytes) -> str:
    """RFC 6381 name of the H.264 in an access unit that begins with its parameter sets."""
    sps = next(nal for nal in split_annexb(keyframe) if nal[0] & 31 == 7)
    return f"avc1.{sps[1:4].hex()}"
