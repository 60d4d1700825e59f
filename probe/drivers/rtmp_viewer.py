"""An RTMP(S) viewer: plays as FFmpeg does, decodes what comes.

No buffer and no analysis: the first keyframe's last byte ends what is the platform's. A server that replays its last pictures
to whoever joins (a GOP cache) makes the first of them old; they are stale and not verified, nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.rtmp_link import Link, joined
from probe.drivers.streamed import Packets, Streamed, StreamViewer, fitted
from probe.errors import Failure
from probe.wire.amf import Broken
from probe.wire.flv_tags import TagReader
from probe.wire.packet import EncodedPacket
from probe.wire.rtmp_peer import Media


class RtmpViewer(StreamViewer):
    """A SessionDriver."""

    @asynccontextmanager
    async def source(self, spec: Spec, io: SessionIO, streamed: Streamed) -> AsyncIterator[Packets]:
        async with joined(spec, io, publish=False) as link, aclosing(_packets(link, streamed)) as packets:
            yield packets


async def _packets(link: Link, streamed: Streamed) -> AsyncGenerator[tuple[EncodedPacket, int], None]:
    tags = TagReader()
    try:
        async for event, arrived in link.events:
            if isinstance(event, Media):
                packet = tags.read(event.tag)
                if packet is not None:
                    yield packet, arrived
                    link.session.phase = streamed.phase
    except Broken as broken:
        raise Failure(streamed.phase, broken.reason, str(broken)) from broken
    except Failure as failure:
        raise fitted(failure, streamed.phase) from failure
