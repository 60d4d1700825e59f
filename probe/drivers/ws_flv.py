"""A WebSocket-FLV viewer: FLV in binary messages, cut anywhere.

Stages after TLS: join until the handshake is answered, first_packet until the first tag of media, keyframe, then probe. Text
messages, which some servers send about themselves, are passed over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.streamed import Packets, Pieces, Streamed, StreamViewer, unpacked
from probe.model.stage import Phase, Stage
from probe.net.sockets import Socket, next_bytes
from probe.wire.flv import MAX_TAG, FlvReader


class WsFlvViewer(StreamViewer):
    """A SessionDriver."""

    @asynccontextmanager
    async def source(self, spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
        reader = FlvReader()
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
                messages = _messages(socket, io)
                async with aclosing(unpacked(messages, lambda data, _: reader.feed(data), streamed)) as packets:
                    yield packets
        finally:
            await http.close()


async def _messages(socket: Socket, io: SessionIO) -> Pieces:
    """(bytes, when they came). Never ends but by raising Failure."""
    while True:
        data = await next_bytes(socket, Phase.JOIN)
        yield data, io.clock.now()
