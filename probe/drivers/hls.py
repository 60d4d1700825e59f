"""HLS, as a viewer's player plays it (RFC 8216).

A start is: master playlist, variant, media playlist, init section, the segment at the live position, its first picture.
From then on three things run side by side: the playlist is followed, segments are fetched ahead of need, pictures are shown
when they are due. A player heals itself: an edge that answers 503 or a path that is gone costs buffer, then stands the
picture, and ends nothing; what ends a stay is a token refused, a playlist that no longer moves, or the stream's own end.

Before the first picture, what a platform that has only just begun does wrong (404, nothing listed, an empty segment) is
tried again, five times in three seconds; what no repetition mends is told at once.

Not here: LL-HLS, DASH, renditions of their own for sound, switching between renditions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from probe.drivers.base import SessionIO, Spec
from probe.drivers.hls_screen import Screen
from probe.drivers.hls_source import Source
from probe.errors import Failure, Unsupported
from probe.model.clock import NS
from probe.model.frames import Refill
from probe.model.stage import Phase, Stage
from probe.wire.follow import Follower, Taken

T = TypeVar("T")

_START_PAUSES = (0.25, 0.5, 0.75, 1.5)  # seconds between the attempts at a start's playlist, and at its first segment
_BACKOFF_FIRST, _BACKOFF_MAX = 0.25, 2.0
_STRIKES = 5  # answers that are no segment before it is left out
_ROOM_PAUSE = 0.25
_STALE_TARGETS = 3
_FROZEN = 10 * NS
_MAX_NOTES = 20

_AGAIN_STATUSES = frozenset({"http_404", "http_408", "http_425", "http_429"})
_NEVER_PHASES = frozenset({Phase.AUTH, Phase.RESOLVE, Phase.TLS})
_NEVER_REASONS = frozenset(
    {
        "not_a_playlist",
        "too_large",
        "too_many_lines",
        "unsupported",
        "no_variant",
        "address_refused",
        "redirect_loop",
        "redirect_refused",
    }
)
_WIRE = frozenset({"timeout", "reset", "closed", "refused", "unreachable", "failed"})


class HlsViewer:
    """The SessionDriver for protocol hls, role viewer."""

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        """Enter: the first picture is being decoded. Raises Failure (resolve … segment, keyframe), Unsupported.

        The feed ends with Failure(playing, ended | frozen), (playlist, stale) or (auth, …)."""
        http = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)
        viewer = _Viewer(Source.of(spec, io, http), Screen(io), io)
        try:
            await viewer.start()
            failed: Exception | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(part()) for part in (viewer.follow, viewer.fetch, viewer.screen.present)]
                    try:
                        yield
                    except Exception as error:  # the caller's own: it is not to come out as the group's
                        failed = error
                    finally:
                        for task in tasks:
                            task.cancel()
            except ExceptionGroup as bugs:
                failed = bugs.exceptions[0]
            if failed is not None:
                raise failed
        finally:
            viewer.close()
            await http.close()


async def scout(spec: Spec, io: SessionIO) -> bool:
    """Whether a viewer could start: at least one segment is listed. Raises Failure where the playlist cannot be had."""
    http = io.http.using(own_pool=True)
    try:
        return bool((await Source.of(spec, io, http).load()).segments)
    except Unsupported:
        return True  # there is something, though not for us: the viewers will say so
    finally:
        await http.close()


class _Viewer:
    def __init__(self, source: Source, screen: Screen, io: SessionIO) -> None:
        self.source, self.screen, self.io = source, screen, io
        self.follower = Follower()
        self._news = asyncio.Event()
        self._notes = 0
        self._useless: Failure | None = None  # why the last segment fetched for the start was of no use

    # -- the start

    async def start(self) -> None:
        await _persist(self._first_list)
        arrived = await _persist(self._first_picture)
        self.io.stages.enter(Stage.PROBE, arrived)
        self.source.stages = None

    async def _first_list(self) -> None:
        await self._load()
        if self.follower.media is None or not self.follower.media.segments:
            raise Failure(Phase.PLAYLIST, "empty", "no segment is listed")
        self.screen.rendition = self.source.rendition

    async def _first_picture(self) -> int:
        if self.io.clock.now() >= self.follower.reload_at:
            await self._load()
        taken = self.follower.take()
        if taken is None:
            raise self._useless or Failure(Phase.PLAYLIST, "empty", "no segment is listed that is there")
        try:
            piece = await self.source.fetch(taken.segment)
        except Failure:
            self.follower.put_back(taken)
            raise
        try:
            await self.screen.take(piece, taken.segment.duration, taken.anew)
        except Failure as failure:
            self.follower.give_up()
            self._useless = failure
            raise
        self.io.feed.post(Refill(at=piece.arrived))
        return piece.arrived

    # -- the life of it

    async def follow(self) -> None:
        """Reload the playlist as it falls due, until its end or ours."""
        tries = 0
        while self.screen.ending is None and self.follower.media is not None and not self.follower.media.endlist:
            wait = (self.follower.reload_at - self.io.clock.now()) / NS if not tries else _backoff(tries)
            await asyncio.sleep(max(0, wait))
            try:
                await self._load()
            except Unsupported as unsupported:
                self.screen.end(Failure(Phase.PLAYING, "undecodable", str(unsupported)))
            except Failure as failure:
                tries += 1
                self.follower.unreachable()
                self._fatal(failure)
            else:
                tries = 0
                self._look_for_life()

    async def fetch(self) -> None:
        """Fetch what is listed, as far ahead as a player would."""
        tries = strikes = 0
        while self.screen.ending is None:
            await self._room()
            taken = self._next()
            if taken is None:
                if self.follower.ended:
                    self.screen.end(Failure(Phase.PLAYING, "ended", "EXT-X-ENDLIST"))
                self._news.clear()
                await self._news.wait()
                continue
            try:
                await self._take(taken)
                tries = strikes = 0
                continue
            except Unsupported as unsupported:
                self.screen.end(Failure(Phase.PLAYING, "undecodable", str(unsupported)))
                return
            except Failure as failure:
                self._fatal(failure)
                tries += 1
                strikes += failure.reason not in _WIRE
                if strikes < _STRIKES:
                    self.follower.put_back(taken)
                else:
                    self.follower.give_up()
                    self._note(f"segment {taken.segment.sequence} was left out: {failure}")
                    tries = strikes = 0
            await asyncio.sleep(_backoff(tries))

    def close(self) -> None:
        self.screen.close()
        if self.follower.skipped:
            self.io.facts["skipped_segments"] = str(self.follower.skipped)
        if self.follower.restarts:
            self.io.facts["playlist_restarts"] = str(self.follower.restarts)

    async def _load(self) -> None:
        began, skipped = self.io.clock.now(), self.follower.skipped
        if self.follower.update(await self.source.load(), began):
            self._news.set()
        if left := self.follower.skipped - skipped:
            self._note(f"{left} segments were left out: the playlist no longer lists what came next")

    async def _take(self, taken: Taken) -> None:
        piece = await self.source.fetch(taken.segment)
        await self.screen.take(piece, taken.segment.duration, taken.anew)
        self.io.feed.post(Refill(at=piece.arrived))

    def _next(self) -> Taken | None:
        """The next segment; after the picture stood for long, one nearer to live, and that is told."""
        if self.screen.standing and self.follower.far_behind():
            behind = self.follower.behind
            left_out = self.follower.to_live()
            self._note(f"{left_out} segments were left out after rebuffering, {behind:.1f} s behind the playlist's end")
        return self.follower.take()

    async def _room(self) -> None:
        while self.screen.full:  # noqa: ASYNC110 (it drains as time passes, and no event says so)
            await asyncio.sleep(_ROOM_PAUSE)

    def _look_for_life(self) -> None:
        media = self.follower.media
        assert media is not None
        unmoved = self.follower.unmoved(self.io.clock.now())
        limit = round(_STALE_TARGETS * media.target_duration * NS)
        if media.endlist:
            self._news.set()
        elif not self.io.stages.ended and unmoved >= limit:
            self.io.feed.close(Failure(Phase.PLAYLIST, "stale", f"the same list for {unmoved / NS:.1f} s"))
        elif unmoved >= max(limit, _FROZEN):
            self.screen.end(Failure(Phase.PLAYING, "frozen", f"the same list for {unmoved / NS:.1f} s"))

    def _fatal(self, failure: Failure) -> None:
        if failure.phase is Phase.AUTH:
            self.screen.end(failure)
            self._news.set()

    def _note(self, text: str) -> None:
        self._notes += 1
        if self._notes <= _MAX_NOTES:
            self.io.note(text)


async def _persist(attempt: Callable[[], Awaitable[T]]) -> T:
    for pause in _START_PAUSES:
        try:
            return await attempt()
        except Failure as failure:
            if not _passing(failure):
                raise
        await asyncio.sleep(pause)
    return await attempt()


def _passing(failure: Failure) -> bool:
    """Whether a platform that has only just begun may do better the next time."""
    phase, reason = failure.phase, failure.reason
    if phase in _NEVER_PHASES or reason in _NEVER_REASONS or (phase is Phase.PLAYLIST and reason == "malformed"):
        return False
    return not reason.startswith("http_4") or reason in _AGAIN_STATUSES


def _backoff(tries: int) -> float:
    return min(_BACKOFF_MAX, _BACKOFF_FIRST * 2.0 ** (min(max(tries, 1), 8) - 1))
