"""An SRT viewer: a caller that is sent MPEG-TS, decodes what comes.

A packet is released at its sender's stamp plus the agreed latency, as in any SRT player; that instant is its pictures'
arrival, so that the latency counts among what the platform's way costs, and none of it as the probe's own. first_packet ends
with the first data packet's true arrival.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.srt_link import Link, joined
from probe.drivers.streamed import Packets, Streamed, StreamViewer, fitted
from probe.drivers.ts_packets import TsPackets
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.wire.packet import EncodedPacket
from probe.wire.srt.caller import Arrived, Received


class SrtViewer(StreamViewer):
    """A SessionDriver."""

    @asynccontextmanager
    async def source(self, spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
        async with joined(spec, io) as link:
            io.stages.enter(Stage.FIRST_PACKET, io.clock.now())
            reader = TsPackets(streamed, io)
            try:
                async with aclosing(_packets(link, streamed, reader, io)) as packets:
                    yield packets
            finally:
                reader.tell()


async def _packets(
    link: Link, streamed: Streamed, reader: TsPackets, io: SessionIO
) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    arrived = False
    try:
        async with aclosing(link.events()) as events:
            async for event, at in events:
                match event:
                    case Arrived():
                        arrived = True
                        io.stages.enter(Stage.KEYFRAME, at)
                    case Received(payload, due):
                        for packet in reader.feed(payload, due):
                            yield packet, due
                    case _:
                        pass
    except Failure as failure:
        early = arrived and streamed.phase is Phase.FIRST_PACKET  # it came, but is not let go yet
        raise fitted(failure, Phase.KEYFRAME if early else streamed.phase) from failure
