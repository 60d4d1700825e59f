"""A WHIP publisher (RFC 9725): the test programme, sent as it was encoded.

Stages after the transport is up: probe until our own programme releases its first picture, then ack until the server
reports having received some of it (RFC 3550 receiver reports; how soon it does is the server's).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.ice import peer_for
from probe.drivers.pump import Pump
from probe.drivers.webrtc import connected
from probe.media.programme import EncodedUnit, Programme, ProgrammeIds
from probe.model.stage import Stage
from probe.rtc.peer import prefer
from probe.rtc.sender import Report, UnitTrack, on_keyframe_request, on_report, ours


class WhipPublisher:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        peer = peer_for(spec)
        tracks = {"video": UnitTrack("video")}
        video = peer.addTransceiver(tracks["video"], direction="sendonly")
        prefer(video, spec.codec)  # the one thing the programme is encoded in
        if spec.audio:
            tracks["audio"] = UnitTrack("audio")
            prefer(peer.addTransceiver(tracks["audio"], direction="sendonly"), "opus")
        ids = ProgrammeIds(run=spec.run_number, trace=spec.trace_low, publish=spec.publish)
        programme = Programme(spec.programme, clock=io.clock, ids=ids, bitrate=spec.bitrate, audio=spec.audio, codec=spec.codec)
        sender = ours(video.sender)

        def send(unit: EncodedUnit) -> bool:
            return tracks[unit.kind].push(unit.data, unit.pts, unit.time_base, unit.keyframe)

        def reported(report: Report) -> None:
            pump.acknowledged(report.received)

        pump = Pump(io, programme, send, lambda: (sender.bytes, sender.keyframe_requests))
        on_keyframe_request(video.sender, programme.request_keyframe)
        on_report(video.sender, reported)
        try:
            async with connected(peer, spec, io, sending=True):
                io.stages.enter(Stage.PROBE, io.clock.now())
                pump.start()
                yield
        finally:
            pump.close()
            io.feed.close()
