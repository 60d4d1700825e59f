"""An HTTP-FLV viewer: one GET whose answer is an FLV without end.

Stages after TLS: join (http_body), first_packet until the first tag of media, keyframe, then probe. A body that ends is the
stream's end; one that breaks off is too, told as what it was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.http_body import answered
from probe.drivers.streamed import Packets, Streamed, fitted, flowing, playing
from probe.errors import Failure
from probe.model.stage import Phase
from probe.net.client import Streaming
from probe.wire.flv import FlvReader
from probe.wire.packet import EncodedPacket


class HttpFlvViewer:
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
    async with answered(spec, io) as answer, aclosing(_packets(answer, streamed)) as packets:
        yield packets


async def _packets(answer: Streaming, streamed: Streamed) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    reader = FlvReader()
    try:
        async with aclosing(answer.chunks()) as chunks:
            async for data, arrived in chunks:
                for packet in reader.feed(data):
                    yield packet, arrived
    except Failure as failure:
        raise fitted(failure, streamed.phase) from failure
    raise fitted(Failure(Phase.JOIN, "closed", "the body ended"), streamed.phase)
