"""Low-latency HLS, as a low-latency player plays it (RFC 8216bis, draft-pantos-hls-rfc8216bis).

Parts are fetched as they are listed, and the next one before it is: the request for the preload hint hangs at the server until
the part is there. The playlist is asked for the next part and answers when it has it (blocking reload), as a delta update where
the server makes them. What came by a hint is shown once it is listed: only then is it known what it is, and the list comes at
the same moment. A hint into a resource of unknown end is not followed: it would hang until the whole segment is made.

A server that offers no parts is played as plain HLS, as hls.js and Safari do, and `low_latency` in the facts says so; whether
its pictures are young enough for this protocol is for the verification to say. Where blocking reload fails twice it is asked
plainly from then on. Rendition reports are used when the rendition changes. Latency is controlled as hls.js does it by
default: no change of speed; after a stall that left it far behind, a jump.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar
from urllib.parse import urlsplit

from probe.drivers.base import SessionIO, Spec
from probe.drivers.hls_source import Piece, Source
from probe.drivers.hls_track import Sink, Track
from probe.drivers.hls_viewer import watching
from probe.errors import Failure, ProbeError
from probe.model.clock import NS
from probe.model.stage import Phase
from probe.wire.cmcd import Kind
from probe.wire.delivery import Meter
from probe.wire.delta import merged
from probe.wire.follow import Taken
from probe.wire.ll_follow import LowLatencyFollower
from probe.wire.playlist_facts import Hint, Init, Media, Segment
from probe.wire.playlist_values import ByteRange

T = TypeVar("T")

_BLOCKED_TARGETS = 3  # RFC 8216bis §6.2.5.2: a server holds a request no longer than that
_BLOCKED_MIN, _BLOCKED_MAX = 5.0, 30.0
_BUSIEST = 0.05  # seconds between loads, whatever a list says of its parts
_PATIENCE = 2  # failures of blocking reload, or of delta updates, before they are done without


class LlHlsViewer:
    """The SessionDriver for protocol ll-hls, role viewer."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … part, keyframe), Unsupported.

        The feed ends with Failure(playing, ended | frozen), (playlist, stale) or (auth, …)."""
        async with watching(spec, io, _track):
            yield


def _track(source: Source, io: SessionIO, sink: Sink, meter: Meter) -> Track:
    return PartTrack(source, LowLatencyFollower(), io, sink, meter)


@dataclass(slots=True)
class _Hinted:
    """A part asked for before it was listed."""

    hint: Hint
    task: asyncio.Task[None] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    piece: Piece | None = None

    def named(self, segment: Segment) -> bool:
        window, hint = segment.byterange, self.hint
        if segment.uri != hint.uri:
            return False
        if window is None:
            return hint.length is None and not hint.start
        return (window.offset, window.length) == (hint.start, hint.length)


class PartTrack(Track):
    """Follows and fetches by parts."""

    follower: LowLatencyFollower

    def __init__(self, source: Source, follower: LowLatencyFollower, io: SessionIO, sink: Sink, meter: Meter) -> None:
        super().__init__(source, follower, io, sink, meter)
        self._hinted: _Hinted | None = None
        self._unblocked = self._unmerged = 0  # failures of blocking reload, of delta updates
        self._foreseen: Init | None = None
        self._foreseeing: asyncio.Task[None] | None = None
        self._moved = False
        self._began = 0

    async def listed(self, source: Source) -> Media:
        known = self.follower.media
        query = self.follower.directives(self.io.clock.now(), skip=self._unmerged < _PATIENCE)
        if self._unblocked >= _PATIENCE:
            query.pop("_HLS_msn", None)
            query.pop("_HLS_part", None)
        target = known.target_duration if known else 0.0
        try:
            media = await source.load(query, min(_BLOCKED_MAX, max(_BLOCKED_MIN, _BLOCKED_TARGETS * target + 1.0)))
        except Failure:
            if "_HLS_msn" in query:
                self._give_in()
            raise
        whole = merged(known, media)
        if whole is None:
            self._unmerged += 1
            if "_HLS_skip" in query:
                self.sink.note("a delta update skipped what was never listed: the whole list was asked for")
                whole = merged(known, await source.load())
            if whole is None:
                raise Failure(Phase.PLAYLIST, "malformed", "a delta update against nothing")
        return whole

    def update(self, media: Media, began: int, skipped: int) -> bool:
        self._began = began
        self._moved = super().update(media, began, skipped)
        if self.source.kind is not Kind.AUDIO:
            self._describe(media)
        if media.init_hint not in (None, self._foreseen) and self.group is not None:
            self._leave_foreseen()
            self._foreseen = media.init_hint
            self._foreseeing = self.group.create_task(_quietly(self.source.prefetch, media.init_hint))
        return self._moved

    def _leave_foreseen(self) -> None:
        if self._foreseeing is not None:
            self._foreseeing.cancel()
            self._foreseeing = None

    def _describe(self, media: Media) -> None:
        parts = f"parts of {self.follower.pace:g} s" if self.follower.parted else "no parts: played as HLS"
        blocking = ", blocking reload" if media.can_block and self._unblocked < _PATIENCE else ""
        delta = ", delta updates" if media.skip_until and self._unmerged < _PATIENCE else ""
        self.io.facts["low_latency"] = f"{parts}{blocking}{delta}"

    @property
    def pause(self) -> float:
        media = self.follower.media
        blocking = media is not None and media.can_block and self._unblocked < _PATIENCE
        due = self._began + round(self.follower.pace * NS / 4) if blocking and self._moved else self.follower.reload_at
        return max(due - self.io.clock.now(), self._began + round(_BUSIEST * NS) - self.io.clock.now()) / NS

    async def piece(self, taken: Taken) -> Piece:
        hinted, self._hinted = self._hinted, None
        if hinted is not None and hinted.named(taken.segment):
            piece = await self._arrived(hinted, taken)
            if piece is not None:
                init = await self.source.section(taken.segment.init)
                self.source.given(taken.segment.init)
                return replace(piece, init=init, lead=taken.lead, wall=taken.wall)
        elif hinted is not None:
            self._drop(hinted)
            self.sink.note("what was hinted was not what was listed")
        return await super().piece(taken)

    async def wait(self) -> None:
        self._foresee()
        await super().wait()

    async def arrive(self, source: Source) -> Media:
        media = self.follower.media
        path = urlsplit(source.url).path
        report = next((r for r in media.reports if urlsplit(r.uri).path == path), None) if media and media.can_block else None
        read = await source.load(self.follower.along(report) if report else None)
        if read.skipped:
            raise Failure(Phase.PLAYLIST, "malformed", "a delta update nobody asked for")
        return read

    def retune(self, source: Source, media: Media, began: int) -> bool:
        self.close()
        self._moved, self._began = True, began
        return super().retune(source, media, began)

    def close(self) -> None:
        self._leave_foreseen()
        if self._hinted is not None:
            self._drop(self._hinted)
            self._hinted = None

    def _foresee(self) -> None:
        """Ask for the part that comes next, once."""
        hint = self.follower.hinted()
        if hint is None or self.group is None or (hint.start and hint.length is None):
            return
        if self._hinted is not None:
            if self._hinted.hint == hint:
                return
            self._drop(self._hinted)
        self._hinted = _Hinted(hint)
        self._hinted.task = self.group.create_task(_quietly(self._fetch_hinted, self._hinted))

    async def _fetch_hinted(self, hinted: _Hinted) -> None:
        hint = hinted.hint
        window = ByteRange(offset=hint.start, length=hint.length) if hint.length else None
        part = Segment(uri=hint.uri, duration=self.follower.pace, sequence=0, byterange=window)
        try:
            hinted.piece = await self.source.fetch(part, Phase.PART, buffered=self.sink.level)
        finally:
            hinted.done.set()

    async def _arrived(self, hinted: _Hinted, taken: Taken) -> Piece | None:
        """What the hint's request brought; None where it failed, or hangs although the part is listed."""
        try:
            async with asyncio.timeout(max(1.0, _BLOCKED_TARGETS * taken.segment.duration)):
                await hinted.done.wait()
        except TimeoutError:
            self._drop(hinted)
            self.sink.note("a hinted part was listed and did not come: it was asked for again")
        return hinted.piece

    def _drop(self, hinted: _Hinted) -> None:
        if hinted.task is not None:
            hinted.task.cancel()

    def _give_in(self) -> None:
        self._unblocked += 1
        if self._unblocked == _PATIENCE:
            self.sink.note("blocking reload failed twice: the list is asked for plainly")


async def _quietly(work: Callable[[T], Awaitable[None]], what: T) -> None:
    """What was only to save time may fail: it is asked for again when it is needed."""
    with contextlib.suppress(ProbeError):
        await work(what)
