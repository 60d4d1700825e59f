"""An HTTP-FLV viewer: one GET whose answer is an FLV without end.

Stages after TLS: join (http_body), first_packet until the first tag of media, keyframe, then probe. A body that ends is the
stream's end; one that breaks off is too, told as what it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.http_body import answered
from probe.drivers.streamed import Packets, Streamed, StreamViewer, unpacked
from probe.wire.flv import FlvReader


class HttpFlvViewer(StreamViewer):
    """A SessionDriver."""

    @asynccontextmanager
    async def source(self, spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
        reader = FlvReader()
        async with (
            answered(spec, io) as answer,
            aclosing(unpacked(answer.chunks(), lambda data, _: reader.feed(data), streamed)) as packets,
        ):
            yield packets
