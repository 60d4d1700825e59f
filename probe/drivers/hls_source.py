"""Where an HLS viewer's bytes come from: master → variant → media playlist, init sections, segments.

Every request goes through net/, which times it, names its edge, limits it, checks the address a playlist made us go to and
sends the credential to its own origins only. Among variants we take the one with most bits per second whose picture is
H.264, or of which nothing is said: that is what browsers play everywhere. No switching between renditions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from probe.drivers.base import SessionIO, Spec
from probe.errors import Failure, Unsupported
from probe.model.clock import Clock
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import Answer, Client
from probe.wire import playlist
from probe.wire.playlist import ByteRange, Init, Master, Media, Segment, Variant

INIT_LIMIT = 1 << 20
SEGMENT_LIMIT = 32 << 20  # ten seconds at 25 Mbit/s; twice that is held while it is joined
_PARSED_HERE = 16 * 1024  # longer playlists are read in a thread: the loop has packets to stamp
_AVC = ("avc1", "avc3")
_VIDEO = (*_AVC, "hvc1", "hev1", "dvh1", "dvhe", "dva1", "dvav", "vp08", "vp8", "vp09", "vp9", "av01", "vvc1", "vvi1", "mp4v")
_PLAYLIST_SECONDS = 10.0
_SEGMENT_SECONDS = 20.0
_SEGMENT_DURATIONS = 4.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment fetched whole; `init` where it names another than the one before. `arrived`: its last byte, monotonic ns."""

    data: bytes
    init: bytes | None
    arrived: int


@dataclass(slots=True)
class Source:
    """One viewer's. `stages` is marked while it is there; take it away once the start is done."""

    http: Client
    clock: Clock
    spec: Spec
    facts: dict[str, str]
    stages: StageTimer | None
    rendition: str = ""
    _media_url: str = ""
    _init: Init | None = None

    @classmethod
    def of(cls, spec: Spec, io: SessionIO, http: Client) -> Source:
        return cls(http, io.clock, spec, io.facts, io.stages)

    async def load(self) -> Media:
        """The media playlist as it is now; the first time by way of the master, whose choice is kept."""
        answer = await self._get(self._media_url or self.spec.url, Phase.PLAYLIST, playlist.MAX_BYTES)
        read = await _parse(answer)
        if isinstance(read, Master):
            if self._media_url:
                raise Failure(Phase.PLAYLIST, "malformed", "a master playlist where a media playlist was")
            variant = choose(read)
            self._tell(variant, read)
            self._media_url = variant.uri
            read = await _parse(await self._get(variant.uri, Phase.PLAYLIST, playlist.MAX_BYTES))
            if isinstance(read, Master):
                raise Failure(Phase.PLAYLIST, "malformed", "a master playlist that lists master playlists")
        self._media_url = self._media_url or self.spec.url
        self.facts["target_duration"] = f"{read.target_duration:g} s"
        return read

    async def fetch(self, segment: Segment) -> Piece:
        """A segment, and first its init section where that is another than the one before."""
        init = None
        if segment.init is not None and segment.init != self._init:
            answer = await self._get(segment.init.uri, Phase.INIT, INIT_LIMIT, segment.init.byterange)
            init = _part(answer, segment.init.byterange)
        seconds = max(_SEGMENT_SECONDS, _SEGMENT_DURATIONS * segment.duration)
        answer = await self._get(segment.uri, Phase.SEGMENT, SEGMENT_LIMIT, segment.byterange, seconds)
        self._init = segment.init
        return Piece(_part(answer, segment.byterange), init, answer.began + answer.took)

    async def _get(
        self, url: str, phase: Phase, limit: int, byterange: ByteRange | None = None, timeout: float = _PLAYLIST_SECONDS
    ) -> Answer:
        return await self.http.request(
            "GET",
            url,
            purpose=phase.value,
            phase=phase,
            headers={"Range": byterange.header} if byterange else None,
            credential=self.spec.credential,
            limit=limit,
            stages=self.stages,
            stage=Stage(phase.value),
            timeout=timeout,
        )

    def _tell(self, variant: Variant, master: Master) -> None:
        self.facts["variants"] = str(len(master.variants))
        self.facts["variant"] = describe(variant)
        if variant.resolution:
            self.rendition = f"{min(variant.resolution)}p"


def choose(master: Master) -> Variant:
    """The variant with the highest bandwidth that is H.264 or says nothing.

    Raises Unsupported with what was offered; Failure(playlist, no_variant) where no variant has a picture."""
    pictured = [v for v in master.variants if not v.codecs or any(c.startswith(_VIDEO) for c in v.codecs)]
    playable = [v for v in pictured if not v.codecs or any(c.startswith(_AVC) for c in v.codecs)]
    if playable:
        return max(playable, key=lambda v: v.bandwidth or 0)
    if pictured:
        raise Unsupported(f"no H.264 among the variants: {'; '.join(describe(v) for v in pictured[:8])}")
    raise Failure(Phase.PLAYLIST, "no_variant", f"{len(master.variants)} variants, none with a picture")


def describe(variant: Variant) -> str:
    """`640x360 avc1.42e01e,opus 800000 bit/s`, as far as it is known."""
    size = "x".join(map(str, variant.resolution)) if variant.resolution else ""
    bits = "" if variant.bandwidth is None else f"{variant.bandwidth} bit/s"
    return " ".join(filter(None, (size, ",".join(variant.codecs)[:80], bits)))


async def _parse(answer: Answer) -> Master | Media:
    if len(answer.body) <= _PARSED_HERE:
        return playlist.parse(answer.body, answer.url)
    return await asyncio.to_thread(playlist.parse, answer.body, answer.url)


def _part(answer: Answer, byterange: ByteRange | None) -> bytes:
    """The range asked for, also from a server that sent the whole (RFC 9110 §14.2 lets it)."""
    if byterange is None or answer.status == 206:
        return answer.body
    return answer.body[byterange.offset : byterange.offset + byterange.length]
