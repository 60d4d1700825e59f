"""A WHIP publisher (RFC 9725): the test programme, sent as it was encoded.

Stages after the transport is up: probe until our own programme releases its first picture, then ack until the server
reports having received some of it (RFC 3550 receiver reports; how soon it does is the server's).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.webrtc import connected
from probe.errors import Failure
from probe.media.programme import EncodedUnit, Programme, ProgrammeIds
from probe.model.clock import MS
from probe.model.frames import PublishRecord
from probe.model.stage import Phase, Stage
from probe.rtc.peer import new_peer, prefer
from probe.rtc.sender import Report, UnitSender, UnitTrack, on_keyframe_request, on_report, ours

EVERY = 1.0
LATE = 50 * MS  # a picture later than this is told at once: it spoils what happens now, not the second to come


class WhipPublisher:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        peer = new_peer(loopback=spec.loopback, ice_servers=spec.ice_servers)
        tracks = {"video": UnitTrack("video")}
        video = peer.addTransceiver(tracks["video"], direction="sendonly")
        prefer(video, "h264")  # the one thing the programme is encoded in
        if spec.audio:
            tracks["audio"] = UnitTrack("audio")
            prefer(peer.addTransceiver(tracks["audio"], direction="sendonly"), "opus")
        ids = ProgrammeIds(run=spec.run_number, trace=spec.trace_low, publish=spec.publish)
        programme = Programme(spec.programme, clock=io.clock, ids=ids, bitrate=spec.bitrate, audio=spec.audio)
        pump = _Pump(io, programme, tracks, ours(video.sender))
        on_keyframe_request(video.sender, programme.request_keyframe)
        on_report(video.sender, pump.acknowledged)
        try:
            async with connected(peer, spec, io, sending=True):
                io.stages.enter(Stage.PROBE, io.clock.now())
                pump.start()
                yield
        finally:
            pump.close()
            io.feed.close()


class _Pump:
    """Units from the programme's threads into the tracks, and what the server says of them into the feed."""

    def __init__(self, io: SessionIO, programme: Programme, tracks: dict[str, UnitTrack], sender: UnitSender) -> None:
        self._io = io
        self._programme = programme
        self._tracks = tracks
        self._sender = sender
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._frames = 0
        self._late = 0
        self._received = 0
        self._last_ack: int | None = None

    def start(self) -> None:
        self._running = True
        self._programme.start(self._hand_over)
        self._timer = self._loop.call_later(EVERY, self._each_second)

    def close(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        self._programme.close()

    def acknowledged(self, report: Report) -> None:
        """The server reported; it counts when it has more of ours than before."""
        if self._running and report.received > self._received:
            self._received = report.received
            self._last_ack = self._io.clock.now()
            self._record()

    def _hand_over(self, item: EncodedUnit | BaseException | None) -> None:
        """On the programme's threads."""
        try:
            self._loop.call_soon_threadsafe(self._take, item)
        except RuntimeError:  # the loop is closed: nobody sends any more
            pass

    def _take(self, item: EncodedUnit | BaseException | None) -> None:
        if not self._running or item is None:
            return
        if isinstance(item, BaseException):
            self._io.feed.close(Failure(Phase.PROBE, "crashed", f"the programme broke: {type(item).__name__}"))
            return
        sent = self._tracks[item.kind].push(item.data, item.pts, item.time_base, item.keyframe)
        if item.kind == "video" and sent:
            now = self._io.clock.now()
            if not self._frames:
                self._io.stages.enter(Stage.ACK, now)
            self._frames += 1
            self._late = max(self._late, now - item.due)
            if self._late > LATE:
                self._record()

    def _each_second(self) -> None:
        self._record()
        self._timer = self._loop.call_later(EVERY, self._each_second)

    def _record(self) -> None:
        late, self._late = self._late, 0
        self._io.feed.post(
            PublishRecord(
                at=self._io.clock.now(),
                frames=self._frames,
                bytes=self._sender.bytes,
                keyframe_requests=self._sender.keyframe_requests,
                acknowledged=self._last_ack is not None,
                late_ns=late,
                last_ack=self._last_ack,
            )
        )
