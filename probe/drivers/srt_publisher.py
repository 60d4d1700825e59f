"""An SRT publisher: a caller that sends H.264 and AAC in MPEG-TS, as FFmpeg and OBS do.

Stages after the handshake: probe until our own programme releases its first picture, then ack until the server has
acknowledged every packet of it. An SRT acknowledgement also covers what the receiver gave up as too late; the facts say how
much it asked for again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.pump import Pump
from probe.drivers.srt_link import Link, joined
from probe.drivers.streamed import alongside, fitted
from probe.errors import Failure, Unsupported
from probe.media.programme import EncodedUnit, Programme, ProgrammeIds
from probe.model.stage import Phase, Stage
from probe.wire.srt.caller import Acknowledged
from probe.wire.ts_writer import TsWriter

_CLOCK = 90_000


class SrtPublisher:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the connection stands. Raises Failure (resolve, handshake, auth), Unsupported."""
        if spec.codec != "h264":
            raise Unsupported(f"{spec.codec} over SRT")
        async with joined(spec, io) as link:
            io.stages.enter(Stage.PROBE, io.clock.now())
            ids = ProgrammeIds(run=spec.run_number, trace=spec.trace_low, publish=spec.publish)
            programme = Programme(
                spec.programme, clock=io.clock, ids=ids, bitrate=spec.bitrate, audio=spec.audio, audio_codec="aac"
            )
            outlet = _Outlet(link, programme)
            io.facts["codec"] = programme.codec
            io.facts["audio"] = programme.audio_codec if programme.audio else "no"
            pump = Pump(io, programme, outlet.send, outlet.sent)
            try:
                pump.start()
                async with alongside(io, outlet.listen(pump)):
                    yield
            finally:
                pump.close()
                io.feed.close()


class _Outlet:
    """Units into the connection, and what is acknowledged of them."""

    def __init__(self, link: Link, programme: Programme) -> None:
        self._link = link
        self._writer = TsWriter(programme.audio_config)
        self._mark: int | None = None  # packets given up to the end of the first picture
        self._phase = Phase.ACK

    def send(self, unit: EncodedUnit) -> bool:
        """Sound waits for the first picture."""
        if not self._link.up:
            return False
        pts = unit.pts * _CLOCK * unit.time_base.numerator // unit.time_base.denominator
        if unit.kind == "audio":
            if self._mark is not None:
                self._link.send(self._writer.aac(unit.data, pts))
            return True
        self._link.send(self._writer.video(unit.data, pts, unit.keyframe))
        if self._mark is None and self._link.caller.sender is not None:
            self._mark = self._link.caller.sender.given
        return True

    def sent(self) -> tuple[int, int]:
        sender = self._link.caller.sender
        return (sender.count.bytes if sender else 0), 0

    async def listen(self, pump: Pump) -> None:
        try:
            async with aclosing(self._link.events()) as events:
                async for event, at in events:
                    if isinstance(event, Acknowledged) and self._mark is not None and event.packets >= self._mark:
                        self._phase = Phase.PLAYING
                        pump.acknowledged(event.packets, at)
        except Failure as failure:
            raise fitted(failure, self._phase) from failure
