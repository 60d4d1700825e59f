"""An HTTP-TS viewer: one GET whose body is an endless MPEG-TS. Stages as HTTP has them, first_packet from the request written
to the first media packet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import cast

from probe.drivers.base import SessionIO, Spec
from probe.drivers.streamed import Streamed, fitted, playing
from probe.drivers.ts_packets import TsPackets
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.net.client import Client
from probe.wire.packet import EncodedPacket

_ENDLESS = 1 << 50  # bytes
_FOREVER = float(1 << 30)  # seconds: how long it may last is the stay's to say


class HttpTsViewer:
    """A SessionDriver."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … keyframe, auth), Unsupported."""
        client = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)
        streamed = Streamed(io)
        reader = TsPackets(streamed, io)
        try:
            async with aclosing(_packets(client, spec, streamed, reader, io)) as packets, playing(io, streamed, packets):
                yield
        finally:
            reader.tell()
            await client.close()


async def _packets(
    client: Client, spec: Spec, streamed: Streamed, reader: TsPackets, io: SessionIO
) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    try:
        async with client.stream(
            "GET", spec.url, purpose=spec.protocol, phase=Phase.FIRST_PACKET, credential=spec.credential, limit=_ENDLESS,
            stages=io.stages, stage=Stage.FIRST_PACKET, timeout=_FOREVER,
        ) as answer:  # fmt: skip
            server = answer.headers.get("Server", "")
            if server:
                io.facts["server"] = server[:60]
            async with aclosing(cast("AsyncGenerator[tuple[bytes, int]]", answer.chunks())) as chunks:
                async for data, arrived in chunks:
                    for packet in reader.feed(data, arrived):
                        yield packet
        raise Failure(Phase.FIRST_PACKET, "closed", "the server ended the stream")
    except Failure as failure:
        if failure.phase is not Phase.FIRST_PACKET:
            raise
        raise fitted(failure, streamed.phase) from failure
