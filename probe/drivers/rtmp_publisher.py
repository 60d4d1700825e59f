"""An RTMP(S) publisher, as OBS is one: H.264 and AAC, the stream key after the server's address.

Stages after the join: probe until our own programme releases its first picture, then ack until the server has received it.
RTMP can say so (Acknowledgement): we ask for one every 2500 bytes at first. It counts once it covers everything up to the first
picture's end, the handshake's bytes included, since servers differ in whether they count them. A server that is silent for
1.5 s after the picture left is taken at its TCP's word (`rtmp_tcp`); facts["acknowledged_by"] says which it was, and through a
path of our own, whose TCP is not the server's, there is no such word.

A server that reads too slowly must not make us hold more than a second of media: like OBS we then drop whole pictures, up to
the next keyframe, count and tell them. The stay that drives us reconnects; a new attempt begins with a keyframe.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from probe.drivers.base import SessionIO, Spec
from probe.drivers.pump import Pump
from probe.drivers.rtmp_link import Link, joined
from probe.drivers.rtmp_tcp import TcpAcks
from probe.drivers.streamed import alongside
from probe.errors import Unsupported
from probe.media.programme import EncodedUnit, Programme, ProgrammeIds
from probe.model.stage import Phase
from probe.wire.amf import Value
from probe.wire.flv_tags import Tag, TagMaker, metadata_tag
from probe.wire.rtmp_peer import Acknowledged

SILENT = 1.5  # s after the first picture in which an RTMP acknowledgement is waited for
_LOOK = 0.25
_LEAST_BACKLOG = 256 << 10
_UNSENT_IN_KERNEL = 128 << 10  # more waits in this process, where it can be dropped


class RtmpPublisher:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: publishing was accepted. Raises Failure (resolve … join), Unsupported for a codec that RTMP has no place for."""
        if spec.codec != "h264":
            raise Unsupported(f"{spec.codec} over RTMP")
        async with joined(spec, io, publish=True) as link:
            ids = ProgrammeIds(run=spec.run_number, trace=spec.trace_low, publish=spec.publish)
            programme = Programme(
                spec.programme, clock=io.clock, ids=ids, bitrate=spec.bitrate, audio=spec.audio, audio_codec="aac"
            )
            outlet = _Outlet(link, programme, io)
            pump = Pump(io, programme, outlet.send, lambda: (link.session.sent, 0))
            try:
                pump.start()
                async with alongside(io, outlet.listen(pump), outlet.watch_tcp(pump)):
                    yield
            finally:
                pump.close()
                outlet.tell()
                io.feed.close()


class _Outlet:
    """Units into the link, and what comes back."""

    def __init__(self, link: Link, programme: Programme, io: SessionIO) -> None:
        self._link, self._programme, self._io = link, programme, io
        self._maker = TagMaker()
        self._most = max(_LEAST_BACKLOG, programme.bitrate // 8)
        self._began = asyncio.Event()  # the first picture was written
        self._mark = 0  # bytes sent up to its end
        self._by = ""  # rtmp | tcp
        self._congested = False
        self._dropped = 0
        sock = link.writer.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_IN_KERNEL)
        self._tcp = TcpAcks(sock) if io.path is None else None
        self._tcp_at: int | None = None
        io.facts["codec"] = programme.codec
        io.facts["audio"] = programme.audio_codec if programme.audio else "no"
        link.session.put(metadata_tag(_about(programme), publishing=True))

    def send(self, unit: EncodedUnit) -> bool:
        """One unit, unless it is to be dropped. Sound waits for the first picture."""
        if self._link.writer.is_closing() or not self._room(unit):
            return False
        if unit.kind == "audio":
            if self._began.is_set():
                self._put(self._maker.aac(unit.data, _ms(unit), self._programme.audio_config))
            return True
        self._put(self._maker.video(unit.data, _ms(unit), unit.keyframe))
        if not self._began.is_set():
            self._mark = self._link.session.sent
            self._began.set()
        if not self._by and self._tcp is not None and self._tcp_at is None and self._tcp.covers(self._link.unsent):
            self._tcp_at = self._io.clock.now()
        return True

    async def listen(self, pump: Pump) -> None:
        async for event, arrived in self._link.events:
            if not isinstance(event, Acknowledged) or self._by == "tcp":
                continue
            if self._mark and event.received >= self._mark:
                if not self._by:
                    self._settle("rtmp")
                    self._link.session.steady()
                pump.acknowledged(event.received, arrived)

    async def watch_tcp(self, pump: Pump) -> None:
        if self._tcp is None:
            return
        await self._began.wait()
        await asyncio.sleep(SILENT)
        while self._by != "rtmp":
            if self._tcp_at is not None:
                pump.acknowledged(self._tcp.acknowledged(), None if self._by else self._tcp_at)
                self._settle("tcp")
            await asyncio.sleep(_LOOK)

    def tell(self) -> None:
        if self._dropped:
            self._io.facts["dropped_pictures"] = str(self._dropped)

    def _settle(self, by: str) -> None:
        self._by = self._io.facts["acknowledged_by"] = by
        self._link.session.phase = Phase.PLAYING

    def _room(self, unit: EncodedUnit) -> bool:
        """False for what is dropped."""
        unsent, video = self._link.unsent, unit.kind == "video"
        if self._congested and video and unit.keyframe and unsent <= self._most // 2:
            self._congested = False
        elif not self._congested and unsent > self._most:
            self._congested = True
            if not self._dropped:
                self._io.note(f"the server takes our media too slowly: with {unsent >> 10} KiB waiting, pictures are dropped")
        if self._congested:
            self._dropped += video
            if unsent <= self._most // 2:
                self._programme.request_keyframe()
        return not self._congested

    def _put(self, tags: list[Tag]) -> None:
        for tag in tags:
            self._link.session.put(tag)
        self._link.flush()


def _ms(unit: EncodedUnit) -> int:
    return max(0, unit.pts * 1000 * unit.time_base.numerator // unit.time_base.denominator)


def _about(programme: Programme) -> dict[str, Value]:
    about: dict[str, Value] = {
        "width": float(programme.width),
        "height": float(programme.height),
        "framerate": 30.0,
        "videocodecid": 7.0,
        "videodatarate": programme.bitrate / 1000,
        "encoder": "stream-probe",
    }
    if programme.audio:
        about |= {"audiocodecid": 10.0, "audiosamplerate": 48_000.0, "audiosamplesize": 16.0, "stereo": programme.channels == 2}
    return about
