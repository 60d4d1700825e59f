"""Where an HLS viewer's bytes come from: one rendition's playlist, init sections, segments and parts.

Every request goes through net/, which times it, names its edge, limits it, checks the address a playlist made us go to and
sends the credential to its own origins only. CMCD goes along as request headers (never as a query), the device's user agent
where it has one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from probe.drivers.base import Spec
from probe.errors import Failure, ProbeError
from probe.model.clock import NS, Clock
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import Answer, Client
from probe.wire import playlist
from probe.wire.cmcd import Cmcd, Kind
from probe.wire.playlist_facts import Init, Master, Media, Segment
from probe.wire.playlist_values import ByteRange, whole

INIT_LIMIT = 1 << 20
SEGMENT_LIMIT = 32 << 20  # ten seconds at 25 Mbit/s; twice that is held while it is joined
_PARSED_HERE = 16 * 1024  # longer playlists are read in a thread: the loop has packets to stamp
_PLAYLIST_SECONDS = 10.0
_SEGMENT_SECONDS = 20.0
_PART_SECONDS = 10.0
_SEGMENT_DURATIONS = 4.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment or part fetched whole; `init` where it names another than the one before. `arrived`: its last byte, monotonic
    ns. `took`: seconds from its first byte to its last. `phase`: what it was fetched as. `lead` and `wall` as in Taken."""

    data: bytes
    init: bytes | None
    arrived: int
    rendition: str = ""
    phase: Phase = Phase.SEGMENT
    took: float = 0.0
    lead: float = 0.0
    wall: int | None = None


class Abandoned(ProbeError):
    """We gave a fetch up: `size` bytes had come in `passed` seconds."""

    def __init__(self, size: int, passed: float) -> None:
        self.size, self.passed = size, passed
        super().__init__(f"abandoned after {size} bytes and {passed:.1f} s")


Watch = Callable[[int, int | None, float], bool]  # bytes so far, bytes in all, seconds passed: give up?


@dataclass(slots=True, kw_only=True)
class Source:
    """One rendition of one viewer. `stages` is marked while it is there; take it away once the start is done."""

    url: str
    http: Client
    clock: Clock
    spec: Spec
    cmcd: Cmcd
    stages: StageTimer | None
    rendition: str = ""
    bandwidth: int | None = None  # of this rendition, and of the best we may choose, as declared
    top: int | None = None
    kind: Kind = Kind.MUXED
    _init: Init | None = None
    _ahead: dict[Init, bytes] = field(default_factory=dict)

    async def first(self) -> Master | Media:
        """What is at the URL."""
        return await _parse(await self._playlist(self.url, _PLAYLIST_SECONDS))

    async def load(self, query: Mapping[str, str] | None = None, timeout: float = _PLAYLIST_SECONDS) -> Media:
        """The media playlist as it is now, or as `query` asks for it."""
        url = self.url
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        read = await _parse(await self._playlist(url, timeout))
        if isinstance(read, Master):
            raise Failure(Phase.PLAYLIST, "malformed", "a master playlist where a media playlist was")
        return read

    async def fetch(
        self, segment: Segment, phase: Phase = Phase.SEGMENT, *, buffered: float | None = None, watch: Watch | None = None
    ) -> Piece:
        """A segment or part, and first its init section where that is another than the one before. Raises Abandoned where
        `watch` says so."""
        init = await self.section(segment.init)
        headers = self._headers(self.kind, segment.duration, buffered)
        least = _PART_SECONDS if phase is Phase.PART else _SEGMENT_SECONDS
        seconds = max(least, _SEGMENT_DURATIONS * segment.duration)
        window = segment.byterange
        async with self.http.stream(
            "GET", segment.uri, purpose=phase.value, phase=phase, headers=_ranged(headers, window), limit=SEGMENT_LIMIT,
            credential=self.spec.credential, stages=self.stages, stage=Stage(phase.value), timeout=seconds,
        ) as answer:  # fmt: skip
            declared = whole(answer.headers.get("Content-Length"))
            chunks: list[bytes] = []
            size, first, last = 0, None, self.clock.now()
            async for chunk, last in answer.chunks():
                chunks.append(chunk)
                size += len(chunk)
                first = last if first is None else first
                passed = (last - answer.began) / NS
                if watch is not None and watch(size, declared, passed):
                    raise Abandoned(size, passed)
            status, began = answer.status, answer.began
        if phase is Phase.SEGMENT:  # a part may have been waited for: that is no throughput
            self.cmcd.fetched(size, last - began)
        self.given(segment.init)
        took = (last - (first or last)) / NS
        return Piece(_cut(b"".join(chunks), status, window), init, last, self.rendition, phase, took)

    async def prefetch(self, init: Init) -> None:
        """An init section the server says will be needed."""
        if init != self._init:
            self._ahead = {init: await self._get_init(init)}

    async def section(self, init: Init | None) -> bytes | None:
        """An init section, where it is another than the one given before."""
        if init is None or init == self._init:
            return None
        return self._ahead.pop(init, None) or await self._get_init(init)

    def given(self, init: Init | None) -> None:
        """A piece went out with this init section, or continues with it."""
        self._init = init or self._init

    async def _get_init(self, init: Init) -> bytes:
        headers = _ranged(self._headers(Kind.INIT), init.byterange)
        answer = await self._get(init.uri, Phase.INIT, INIT_LIMIT, headers, _PLAYLIST_SECONDS)
        return _cut(answer.body, answer.status, init.byterange)

    async def _playlist(self, url: str, timeout: float) -> Answer:
        return await self._get(url, Phase.PLAYLIST, playlist.MAX_BYTES, self._headers(Kind.MANIFEST), timeout)

    async def _get(self, url: str, phase: Phase, limit: int, headers: Mapping[str, str], timeout: float) -> Answer:
        return await self.http.request(
            "GET", url, purpose=phase.value, phase=phase, headers=headers, credential=self.spec.credential, limit=limit,
            stages=self.stages, stage=Stage(phase.value), timeout=timeout,
        )  # fmt: skip

    def _headers(self, kind: Kind, duration: float | None = None, buffered: float | None = None) -> dict[str, str]:
        headers = self.cmcd.headers(
            kind, bitrate=self.bandwidth, top=self.top, duration=duration, buffered=buffered, startup=self.stages is not None
        )
        if self.spec.device.user_agent:
            headers["User-Agent"] = self.spec.device.user_agent
        return headers


@functools.lru_cache(maxsize=8)
def _parsed(body: bytes, url: str) -> Master | Media:
    """Viewers of one broadcast are given the same list, and one viewer the same again until a segment is added."""
    return playlist.parse(body, url)


async def _parse(answer: Answer) -> Master | Media:
    if len(answer.body) <= _PARSED_HERE:
        return _parsed(answer.body, answer.url)
    return await asyncio.to_thread(playlist.parse, answer.body, answer.url)


def _ranged(headers: Mapping[str, str], window: ByteRange | None) -> dict[str, str]:
    return {**headers, "Range": window.header} if window else dict(headers)


def _cut(body: bytes, status: int, window: ByteRange | None) -> bytes:
    """The range asked for, also from a server that sent the whole (RFC 9110 §14.2 lets it)."""
    if window is None or status == 206:
        return body
    return body[window.offset : window.offset + window.length]
