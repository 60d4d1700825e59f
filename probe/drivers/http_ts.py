"""An HTTP-TS viewer: one GET whose answer is an MPEG-TS without end.

Stages after TLS: join (http_body), first_packet until the first packet of media, keyframe, then probe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.http_body import answered
from probe.drivers.streamed import Packets, Streamed, StreamViewer, unpacked
from probe.drivers.ts_packets import TsPackets


class HttpTsViewer(StreamViewer):
    """A SessionDriver."""

    @asynccontextmanager
    async def source(self, spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
        reader = TsPackets(streamed, io)
        try:
            async with (
                answered(spec, io) as answer,
                aclosing(unpacked(answer.chunks(), reader.feed, streamed)) as packets,
            ):
                yield packets
        finally:
            reader.tell()
