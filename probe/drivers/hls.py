"""HLS, as a viewer's player plays it (RFC 8216): whole segments, of a playlist that is loaded again as it falls due.

A low-latency playlist reads as the plain one it also is: parts are not looked at. The rest is hls_viewer.py's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.hls_source import Source
from probe.drivers.hls_track import Sink, Track
from probe.drivers.hls_viewer import listed, watching
from probe.wire.delivery import Meter
from probe.wire.follow import Follower


class HlsViewer:
    """The SessionDriver for protocol hls, role viewer."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … segment, keyframe), Unsupported.

        The feed ends with Failure(playing, ended | frozen), (playlist, stale) or (auth, …)."""
        async with watching(spec, io, _track):
            yield


def _track(source: Source, io: SessionIO, sink: Sink, meter: Meter) -> Track:
    return Track(source, Follower(), io, sink, meter)


async def scout(spec: Spec, io: SessionIO) -> bool:
    """Whether a viewer could start: at least one segment is listed, or something that is not for us, which the viewers will
    say. Raises Failure where the playlist cannot be had."""
    media = await listed(spec, io)
    return media is None or bool(media.segments)
