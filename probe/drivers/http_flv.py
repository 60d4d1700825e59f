"""An HTTP-FLV viewer: one GET whose answer is an FLV without end.

Stages after TLS: join from the request written until the answer's headers, first_packet until the first tag of media, keyframe,
then probe. Redirects, edges, limits and secrets are net/'s. A body that ends is the stream's end; one that breaks off is too,
told as what it was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.streamed import Packets, Streamed, fitted, flowing, playing
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.net.client import Streaming
from probe.wire.flv import FlvReader
from probe.wire.packet import EncodedPacket

_ENDLESS = 1 << 62  # bytes: it is decoded as it comes, and nothing of it kept
_STAY = 30 * 86_400.0  # s; how long a viewer stays is not ours to say


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
    http = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)
    try:
        async with http.stream(
            "GET",
            spec.url,
            purpose=spec.protocol,
            phase=Phase.JOIN,
            credential=spec.credential,
            headers={"User-Agent": spec.device.user_agent} if spec.device.user_agent else None,
            ok={200},
            limit=_ENDLESS,
            stages=io.stages,
            stage=Stage.JOIN,
            timeout=_STAY,
        ) as answer:
            io.stages.enter(Stage.FIRST_PACKET, io.clock.now())
            if server := answer.headers.get("Server", ""):
                io.facts["server"] = server[:60]
            async with aclosing(_packets(answer, streamed)) as packets:
                yield packets
    finally:
        await http.close()


async def _packets(answer: Streaming, streamed: Streamed) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    reader = FlvReader()
    try:
        async with aclosing(answer.chunks()) as chunks:  # type: ignore[type-var]
            async for data, arrived in chunks:
                for packet in reader.feed(data):
                    yield packet, arrived
    except Failure as failure:
        raise fitted(failure, streamed.phase) from failure
    raise fitted(Failure(Phase.JOIN, "closed", "the body ended"), streamed.phase)
