"""Decoding, on threads of its own, so that the loop that receives never waits for a codec.

Units go in from the loop, records come out through the feed. The queue is bounded in units and bytes; when it is full
the oldest go, up to the next keyframe that waits, for nothing can be decoded from the middle. What a codec refuses is
Undecodable; what it swallows without a picture is too, once enough others have come out.

One decoder thread, no frame threads: a picture comes out for each unit that goes in. A stream with B frames delays
itself by its own reordering and by nothing else. Not attempted: hardware decoders.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import av

from probe.errors import Unsupported
from probe.media.encode import H264Encoder
from probe.media.feed import Feed
from probe.media.inspect import Inspector
from probe.media.picture import Painter
from probe.media.workers import workers
from probe.model.clock import NS, Clock
from probe.model.frames import FrameCode, Record, Undecodable
from probe.model.text import quoted

_UNITS = 1024
_BYTES = 32 << 20
_MAX_PIXELS = 4096 * 2304  # a hostile stream may name any size
_SILENT = 32  # units inside the codec before the oldest counts as swallowed; H.264 reorders at most 16
_TOGETHER = 8  # units of sound decoded at a time, a sixth of a second: a thread's visit costs more than decoding one
_BURST = 32  # units decoded in one visit where a player shows them later and nobody is in a hurry: its pictures are in the cache
_SOON = 50_000_000  # ns to the instant it is shown at, from which on a unit is for later
_LONGER = 16  # units of sound that a thread is woken for; fewer wait until one comes for a picture, somebody's
_TICK = Fraction(1, 1000)
_START = b"\0\0\1"
_MOST_NALS = 4096  # of a picture: FFmpeg takes seconds over a million of them, and nobody else is decoded meanwhile


@dataclass(slots=True)
class Unit:
    """`due`: when a buffered player would show it. `size`: its bytes on the wire. `handed`: when the decoder was given it."""

    data: bytes
    pts: float | None
    arrived: int
    size: int
    keyframe: bool
    due: int | None
    rendition: str
    handed: int


class DecoderThread:
    """Decodes one elementary stream. `codec` is FFmpeg's name (h264, vp8, opus, aac); `extradata` what its container
    carried. Raises Unsupported for a codec this build has not. `submit` and `pending` belong to the loop."""

    def __init__(
        self,
        codec: str,
        feed: Feed,
        clock: Clock,
        extradata: bytes | None = None,
        *,
        limit: int = _UNITS,
        sample_rate: int = 48_000,
        channels: int = 2,
    ) -> None:
        self._context = _open(codec, extradata, sample_rate, channels)
        self._feed, self._clock = feed, clock
        self._inspector = Inspector(clock)
        self._limit = limit
        self._units: deque[Unit] = deque()
        self._bytes = 0
        self._lock = threading.RLock()
        self._enlisted = False
        self._together = 1 if isinstance(self._context, av.VideoCodecContext) else _TOGETHER
        self._visit = self._together  # units decoded before others have their turn
        self._busy: int | None = None  # arrival of the unit being decoded
        self._by: threading.Thread | None = None  # who decodes it
        self._stop = False
        self._resync = True
        self._inside: dict[int, Unit] = {}
        self._count = 0
        self.dropped = 0  # units that did not fit
        self.skipped = 0  # units before the first keyframe, or between a drop and the next one
        workers.attend()

    def submit(
        self,
        data: bytes,
        pts_seconds: float | None,
        arrived_ns: int,
        size: int,
        keyframe: bool,
        due_ns: int | None = None,
        rendition: str = "",
    ) -> None:
        """Hand over one unit; never blocks. As in Unit."""
        self.submit_all([Unit(data, pts_seconds, arrived_ns, size, keyframe, due_ns, rendition, self._clock.now())])

    def submit_all(self, units: Iterable[Unit]) -> None:
        """Hand over some together, in decoding order; never blocks."""
        with self._lock:
            if self._stop:
                return
            for unit in units:
                self._put(unit)
            if len(self._units) >= self._together:
                self._ring()

    def _put(self, unit: Unit) -> None:
        """Called with the lock held."""
        if self._resync and not unit.keyframe:
            self.skipped += 1
            return
        self._resync = False
        if unit.due is not None:
            self._visit = _BURST
        self._units.append(unit)
        self._bytes += len(unit.data)
        while len(self._units) > self._limit or self._bytes > _BYTES:
            self._drop_oldest()

    def pending(self) -> float:
        """Age in seconds of the oldest unit not decoded yet; 0.0 when none waits."""
        with self._lock:
            oldest = self._busy if self._busy is not None else self._units[0].arrived if self._units else None
        return 0.0 if oldest is None else max(0.0, (self._clock.now() - oldest) / NS)

    def close(self) -> None:
        """Drop what waits, and stop; never waits, for the loop is not to stand still for a codec that does not come back. A
        worker that is decoding for us is given up; what comes of it is nobody's. Safe to call twice."""
        with self._lock:
            if self._stop:
                return
            self._stop = True
            self._units.clear()
            self._bytes = 0
            by = self._by
        if by is not None:
            workers.give_up(by)
        workers.leave()

    def _ring(self) -> None:
        """Called with the lock held: there is something to do."""
        if not self._enlisted:
            self._enlisted = True
            due = self._units[0].due
            workers.enlist(self._next, patient=self._together > 1, later=due is not None and due - self._clock.now() > _SOON)
        elif len(self._units) >= _LONGER and self._together > 1:
            workers.rouse()

    def _drop_oldest(self) -> None:
        """Called with the lock held: the oldest unit, and those that cannot be decoded without it."""
        first = True
        while self._units and (first or not self._units[0].keyframe):
            self._bytes -= len(self._units.popleft().data)
            self.dropped += 1
            first = False
        if not self._units:
            self._resync = True

    def _next(self) -> bool:
        """A worker's: decode one picture, or those that are shown later, or all the sound there is; whether more wait."""
        me = threading.current_thread()
        for done in range(self._visit):
            with self._lock:
                if not self._units or (done >= self._together and workers.pressed):
                    break
                unit = self._units.popleft()
                self._bytes -= len(unit.data)
                self._busy, self._by = unit.arrived, me
            try:
                self._decode(unit)
            except (av.error.FFmpegError, ValueError) as error:
                self._inside.pop(self._count, None)
                self._tell(Undecodable(at=self._clock.now(), detail=_line(error)))
        with self._lock:
            self._busy = self._by = None
            self._enlisted = bool(self._units) and not self._stop
            return self._enlisted

    def _tell(self, record: Record) -> None:
        with self._lock:
            if not self._stop:
                self._feed.put(record)
                workers.afterwards(self._feed.ring)

    def _decode(self, unit: Unit) -> None:
        if not unit.data:  # FFmpeg takes an empty packet for the end of the stream
            raise ValueError("an empty unit")
        many = len(unit.data) > _MOST_NALS * len(_START)  # else there is no room for so many
        if many and self._context.name == "h264" and (count := unit.data.count(_START)) > _MOST_NALS:
            raise ValueError(f"a picture of {count} NAL units")
        self._count += 1
        self._inside[self._count] = unit
        packet = av.Packet(unit.data)
        packet.pts = packet.dts = self._count
        packet.time_base = _TICK
        for frame in self._context.decode(packet):
            whose = self._inside.pop(frame.pts if frame.pts is not None else self._count, unit)
            if isinstance(frame, av.VideoFrame):
                self._show(frame, whose)
            elif isinstance(frame, av.AudioFrame):
                self._sound(frame, whose)
        if len(self._inside) > _SILENT:
            del self._inside[next(iter(self._inside))]
            self._tell(Undecodable(at=self._clock.now(), detail="no picture came of it"))

    def _show(self, frame: av.VideoFrame, unit: Unit) -> None:
        record = self._inspector.picture(
            frame,
            arrived=unit.arrived,
            size=unit.size,
            keyframe=unit.keyframe,
            due=unit.due,
            media_time=unit.pts,
            rendition=unit.rendition,
        )
        self._tell(record)

    def _sound(self, frame: av.AudioFrame, unit: Unit) -> None:
        shown = unit.handed if unit.due is None else max(unit.handed, unit.due)  # not when we come to listen to it
        for chirp in self._inspector.sound(frame, shown=shown, media_time=unit.pts):
            self._tell(chirp)


def _open(codec: str, extradata: bytes | None, sample_rate: int, channels: int) -> av.VideoCodecContext | av.AudioCodecContext:
    try:
        context = av.CodecContext.create(codec, "r")
    except (ValueError, av.error.FFmpegError) as error:
        raise Unsupported(f"no decoder for {codec}") from error
    if extradata:
        context.extradata = extradata
    if isinstance(context, av.VideoCodecContext):
        context.thread_count = 1
        context.options = {"max_pixels": str(_MAX_PIXELS)}
        return context
    if isinstance(context, av.AudioCodecContext):
        context.sample_rate = sample_rate
        context.layout = "stereo" if channels == 2 else "mono"
        return context
    raise Unsupported(f"{codec} is neither picture nor sound")


def _line(error: Exception) -> str:
    return quoted(" ".join(str(error).split()), 200)


def warm_up(clock: Clock) -> None:
    """Pay once, before the first viewer, what a process's first decoding and reading cost (tens of ms). Call at start."""
    width, height = 640, 360
    code = FrameCode(run=1, trace=1, publish=0, sequence=0, stamp_ms=0)
    encoder = H264Encoder(width, height, 30, 300_000)
    data, _ = encoder.encode(Painter(width, height).paint(0, code, black=False), 0, keyframe=True)
    inspector = Inspector(clock)
    for frame in _open("h264", None, 0, 0).decode(av.Packet(data)):
        assert isinstance(frame, av.VideoFrame)
        inspector.picture(frame, arrived=0, size=len(data), keyframe=True)
    _open("opus", None, 48_000, 2)
