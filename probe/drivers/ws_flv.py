"""A WebSocket-FLV viewer: FLV in binary messages, cut anywhere.

Stages after TLS: join until the handshake is answered, first_packet until the first tag of media, keyframe, then probe. Text
messages, which some servers send about themselves, are passed over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.streamed import Packets, Streamed, fitted, flowing, playing
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.net.sockets import Socket, next_bytes
from probe.wire.flv import MAX_TAG, FlvReader
from probe.wire.packet import EncodedPacket


class WsFlvViewer:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … keyframe, auth), Unsupported."""
        streamed = Streamed(io)
        async with _opened(spec, io, streamed) as packets, playing(io, streamed, packets):
            yield


async def scout(spec: Spec, io: SessionIO) -> bool:
    """Whether a first viewer could start. Raises Failure."""
    return await flowing(_opened, spec, io)


@asynccontextmanager
async def _opened(spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
    http = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)
    try:
        async with http.websocket(
            spec.url,
            purpose=spec.protocol,
            phase=Phase.JOIN,
            credential=spec.credential,
            headers={"User-Agent": spec.device.user_agent} if spec.device.user_agent else None,
            stages=io.stages,
            stage=Stage.JOIN,
            max_message=MAX_TAG,
        ) as socket:
            io.stages.enter(Stage.FIRST_PACKET, io.clock.now())
            async with aclosing(_packets(socket, io, streamed)) as packets:
                yield packets
    finally:
        await http.close()


async def _packets(socket: Socket, io: SessionIO, streamed: Streamed) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    reader = FlvReader()
    try:
        while True:
            data = await next_bytes(socket, Phase.JOIN)
            arrived = io.clock.now()
            for packet in reader.feed(data):
                yield packet, arrived
    except Failure as failure:
        raise fitted(failure, streamed.phase) from failure
