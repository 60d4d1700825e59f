"""An HTTP-TS viewer: one GET whose answer is an MPEG-TS without end.

Stages after TLS: join (http_body), first_packet until the first packet of media, keyframe, then probe.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.http_body import answered
from probe.drivers.streamed import Packets, Streamed, fitted, flowing, playing
from probe.drivers.ts_packets import TsPackets
from probe.errors import Failure
from probe.model.stage import Phase
from probe.net.client import Streaming
from probe.wire.packet import EncodedPacket


class HttpTsViewer:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … keyframe, auth), Unsupported."""
        streamed = Streamed(io)
        async with _answered(spec, io, streamed) as packets, playing(io, streamed, packets):
            yield


async def scout(spec: Spec, io: SessionIO) -> bool:
    """Whether a first viewer could start. Raises Failure."""
    return await flowing(_answered, spec, io)


@asynccontextmanager
async def _answered(spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
    reader = TsPackets(streamed, io)
    try:
        async with answered(spec, io) as answer, aclosing(_packets(answer, streamed, reader)) as packets:
            yield packets
    finally:
        reader.tell()


async def _packets(answer: Streaming, streamed: Streamed, reader: TsPackets) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    try:
        async with aclosing(answer.chunks()) as chunks:
            async for data, arrived in chunks:
                for packet in reader.feed(data, arrived):
                    yield packet
    except Failure as failure:
        raise fitted(failure, streamed.phase) from failure
    raise fitted(Failure(Phase.JOIN, "closed", "the body ended"), streamed.phase)
